//! Signals when a file becomes ready: `O_ASYNC`, and who gets them (`F_SETOWN`, `F_SETSIG`).
//!
//! While `O_ASYNC` is set, the open file's [`SignalIo`] is a watcher of its object. Each change
//! after which the object is ready sends one signal.
//!
//! Lock: `setting`, not held while the object is looked at or a signal is sent.

use super::FileType::{CharacterDevice, Pipe, Socket};
use super::notify::{self, Change, Wake, Watched, Watcher};
use super::{Fd, IoOwner, IoSignal, OpenFile, Ready, Status, tasks};
use crate::mem::account::{Account, Charge, Kind};
use crate::sync::{Mutex, rank};
use alloc::sync::{Arc, Weak};
use foundation::Errno;

/// What it takes, with its places in lists.
const BYTES: usize = 256;
/// The signal where none was chosen.
const SIGIO: u8 = linux_raw_sys::general::SIGIO as u8;
/// `POLL_IN`, `POLL_OUT`, `POLL_ERR` and `POLL_HUP`, for what is reported first.
const CODES: [(Ready, i32); 4] =
    [(Ready::READ, 1), (Ready::WRITE, 2), (Ready::ERROR, 4), (Ready::HANG_UP, 6)];

#[derive(Clone, Copy)]
struct Setting {
    owner: Option<IoOwner>,
    /// A number; 0 for SIGIO without information.
    signal: u8,
    /// The descriptor by which `O_ASYNC` was set, which the information contains.
    fd: Fd,
}

/// Who gets which signal of an open file.
pub struct SignalIo {
    file: Weak<OpenFile>,
    setting: Mutex<Setting, rank::SignalIo>,
    _charge: Charge,
}

impl SignalIo {
    /// That of an open file; `account` pays for a new one.
    pub fn of(file: &Arc<OpenFile>, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        if let Some(found) = Self::existing(file) {
            return Ok(found);
        }
        let charge = Charge::take(account, Kind::Files, BYTES)?;
        let setting = Setting { owner: None, signal: 0, fd: Fd(-1) };
        let (file_of, setting) = (Arc::downgrade(file), Mutex::new(setting));
        let new = Arc::new(Self { file: file_of, setting, _charge: charge });
        file.keep_signal_io(new.clone());
        Ok(Self::existing(file).unwrap_or(new))
    }

    fn existing(file: &OpenFile) -> Option<Arc<Self>> {
        file.signal_io()?.downcast().ok()
    }

    /// Who gets the signals of an open file.
    pub fn owner(file: &OpenFile) -> Option<IoOwner> {
        Self::existing(file)?.setting.lock().owner
    }

    /// The number of the signal of an open file; 0 for SIGIO without information.
    pub fn signal(file: &OpenFile) -> u8 {
        Self::existing(file).map_or(0, |own| own.setting.lock().signal)
    }

    /// Changes who gets the signals.
    pub fn set_owner(&self, owner: Option<IoOwner>) {
        self.setting.lock().owner = owner;
    }

    /// Changes the signal.
    pub fn set_signal(&self, signal: u8) {
        self.setting.lock().signal = signal;
    }
}

/// Sets or clears `O_ASYNC` by a descriptor. False where the object never sends signals: it is
/// always ready, or has no type, such as an epoll.
pub fn set_async(
    file: &Arc<OpenFile>,
    fd: Fd,
    is_on: bool,
    account: &Arc<Account>,
) -> Result<bool, Errno> {
    if !matches!(file.object().type_and_mode()?.0, Pipe | Socket | CharacterDevice) {
        return Ok(false);
    }
    let mut status = file.status();
    if status.contains(Status::ASYNC) == is_on {
        return Ok(true);
    }
    if !is_on {
        if let Some(own) = SignalIo::existing(file) {
            notify::unwatch(&**file, &own);
            file.unwatch(&own);
        }
    } else {
        let own = SignalIo::of(file, account)?;
        own.setting.lock().fd = fd;
        match notify::watch(&**file, &own) {
            Err(Errno::EPERM) => return Ok(false),
            watched => watched?,
        }
        if let Err(error) = file.watch(&own) {
            notify::unwatch(&**file, &own);
            return Err(error.into());
        }
    }
    status.set(Status::ASYNC, is_on);
    file.set_status(status);
    Ok(true)
}

impl Watcher for SignalIo {
    fn changed(self: Arc<Self>, ready: Ready, _: Wake, _: Change) -> bool {
        let Setting { owner, signal, fd } = *self.setting.lock();
        let (Some(owner), Some(file)) = (owner, self.file.upgrade()) else { return false };
        let found = file.object().poll() & ready;
        let first = CODES.into_iter().find(|&(kind, _)| found.contains(kind));
        if let (Some((kind, code)), Some(tasks)) = (first, tasks()) {
            let sent = if signal == 0 {
                IoSignal { number: SIGIO, code: None, band: 0, fd }
            } else {
                IoSignal { number: signal, code: Some(code), band: kind.events(), fd }
            };
            tasks.signal_io(owner, sent);
        }
        false
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn closed(self: Arc<Self>, file: &dyn Watched) {
        notify::unwatch(file, &self);
    }
}
