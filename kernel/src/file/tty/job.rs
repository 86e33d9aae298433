//! Job control: which session a terminal controls, and which process group is in its foreground.

use super::super::buffers::{load, store};
use super::super::{IoCaller, tasks};
use super::{Tty, registry};
use crate::sync::{Mutex, rank};
use alloc::vec::Vec;
use foundation::Errno;
use linux_raw_sys::general as linux;

const SIGHUP: u8 = linux::SIGHUP as u8;
const SIGCONT: u8 = linux::SIGCONT as u8;
const SIGTTIN: u8 = linux::SIGTTIN as u8;
const SIGTTOU: u8 = linux::SIGTTOU as u8;
pub(super) const SIGWINCH: u8 = linux::SIGWINCH as u8;

/// What background processes do to their terminal only when they are allowed to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Read,
    Change,
}

impl Tty {
    /// The session it controls.
    pub(in crate::file) fn session(&self) -> Option<u32> {
        self.state.lock().session
    }

    /// Whether it is the caller's controlling terminal.
    fn controls(&self, caller: &dyn IoCaller) -> bool {
        self.state.lock().session == Some(caller.sid())
    }

    /// The session leader opened it: it becomes the session's terminal, if neither has another.
    pub fn opened(&self, caller: &dyn IoCaller) {
        if caller.pid() != caller.sid() || registry::controlling(caller.sid()).is_some() {
            return;
        }
        let mut state = self.state.lock();
        if state.session.is_none() {
            state.session = Some(caller.sid());
            state.foreground = Some(caller.pgid());
            drop(state);
            take_lost(caller.sid());
        }
    }

    /// TIOCSCTTY: the caller, a leader without a terminal, makes it its session's; with 1 it takes
    /// it from another session.
    pub(super) fn make_controlling(
        &self,
        caller: &dyn IoCaller,
        argument: u64,
    ) -> Result<u64, Errno> {
        const STEAL: u64 = 1;
        if self.controls(caller) {
            return Ok(0);
        }
        if argument == STEAL
            && caller.pid() == caller.sid()
            && registry::controlling(caller.sid()).is_none()
        {
            self.state.lock().session = None;
        }
        self.opened(caller);
        if self.controls(caller) { Ok(0) } else { Err(Errno::EPERM) }
    }

    pub(super) fn give_up(&self, caller: &dyn IoCaller) -> Result<u64, Errno> {
        if !self.controls(caller) {
            return Err(Errno::ENOTTY);
        }
        if caller.pid() == caller.sid()
            && let Some(group) = self.release(caller.sid())
        {
            signal_group(group, SIGHUP);
            signal_group(group, SIGCONT);
        }
        Ok(0)
    }

    /// It is this session's no more. Returns what was its foreground group.
    fn release(&self, session: u32) -> Option<u32> {
        let mut state = self.state.lock();
        if state.session != Some(session) {
            return None;
        }
        state.session = None;
        state.foreground.take()
    }

    /// The line is gone: the session's leader hears of it, and when that one ends the group that
    /// was in the foreground does.
    pub(super) fn line_is_gone(&self) {
        let session = self.session();
        let Some((session, tasks)) = session.zip(tasks()) else { return };
        if let Some(group) = self.release(session) {
            let mut lost = LOST.lock();
            // Without memory that group hears of nothing but ends of files.
            if lost.try_reserve(1).is_ok() {
                lost.push(Lost { session, group });
            }
        }
        tasks.signal_process(session, SIGHUP);
        tasks.signal_process(session, SIGCONT);
    }

    /// TIOCSIG on the master: one of the keys' signals.
    pub(super) fn signal_from_master(&self, signal: u64) -> Result<u64, Errno> {
        const KEYS: [u32; 3] = [linux::SIGINT, linux::SIGQUIT, linux::SIGTSTP];
        let signal = u8::try_from(signal)
            .ok()
            .filter(|&signal| KEYS.contains(&signal.into()))
            .ok_or(Errno::EINVAL)?;
        let foreground = self.state.lock().foreground;
        if let Some(group) = foreground {
            signal_group(group, signal);
        }
        Ok(0)
    }

    pub(super) fn foreground_group(
        &self,
        caller: &dyn IoCaller,
        argument: u64,
    ) -> Result<u64, Errno> {
        if !self.controls(caller) {
            return Err(Errno::ENOTTY);
        }
        let group = self.state.lock().foreground.unwrap_or(0);
        store(caller.space(), argument, &group.to_le_bytes())
    }

    pub(super) fn set_foreground_group(
        &self,
        caller: &dyn IoCaller,
        argument: u64,
    ) -> Result<u64, Errno> {
        if !self.controls(caller) {
            return Err(Errno::ENOTTY);
        }
        self.require_foreground_to_change(caller)?;
        let mut bytes = [0; 4];
        load(caller.space(), argument, &mut bytes)?;
        let group = u32::try_from(i32::from_le_bytes(bytes)).map_err(|_| Errno::EINVAL)?;
        match tasks().and_then(|tasks| tasks.session_of_group(group)) {
            None => return Err(Errno::ESRCH),
            Some(session) if session != caller.sid() => return Err(Errno::EPERM),
            Some(_) => {}
        }
        self.state.lock().foreground = Some(group);
        Ok(0)
    }

    pub(super) fn session_number(
        &self,
        caller: &dyn IoCaller,
        argument: u64,
    ) -> Result<u64, Errno> {
        if !self.controls(caller) {
            return Err(Errno::ENOTTY);
        }
        store(caller.space(), argument, &caller.sid().to_le_bytes())
    }

    fn in_background(&self, caller: &dyn IoCaller) -> bool {
        let state = self.state.lock();
        state.session == Some(caller.sid())
            && state.foreground.is_some_and(|group| group != caller.pgid())
    }

    /// A background process that reads is stopped, or gets EIO where it does not want to be.
    pub(super) fn require_foreground_to_read(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        self.require_foreground(caller, SIGTTIN, Deed::Read)
    }

    /// A background process that changes the terminal is stopped, unless it blocks or ignores that.
    pub(super) fn require_foreground_to_change(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        self.require_foreground(caller, SIGTTOU, Deed::Change)
    }

    /// Likewise one that writes, where `TOSTOP` is set.
    pub(super) fn require_foreground_to_write(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        let stops = self.state.lock().discipline.termios.has_local(linux::TOSTOP);
        if stops { self.require_foreground_to_change(caller) } else { Ok(()) }
    }

    fn require_foreground(
        &self,
        caller: &dyn IoCaller,
        signal: u8,
        deed: Deed,
    ) -> Result<(), Errno> {
        if !self.in_background(caller) {
            return Ok(());
        }
        if caller.is_masked(signal) {
            return if deed == Deed::Read { Err(Errno::EIO) } else { Ok(()) };
        }
        // Nobody could let it go on.
        if tasks().is_some_and(|tasks| tasks.is_orphaned(caller.pgid())) {
            return Err(Errno::EIO);
        }
        signal_group(caller.pgid(), signal);
        Err(Errno::EINTR)
    }
}

/// A session that lost its terminal, and which group was in the foreground there.
struct Lost {
    session: u32,
    group: u32,
}

/// All of them, until their leaders end or get another terminal.
static LOST: Mutex<Vec<Lost>, rank::LostTerminals> = Mutex::new(Vec::new());

fn take_lost(session: u32) -> Option<u32> {
    let mut lost = LOST.lock();
    let at = lost.iter().position(|lost| lost.session == session)?;
    let group = lost.swap_remove(at).group;
    if lost.is_empty() {
        *lost = Vec::new();
    }
    Some(group)
}

/// A session leader ended: its foreground group hears of it, and the terminal is free again.
pub fn session_ended(session: u32) {
    let group = match registry::controlling(session) {
        Some(tty) => tty.release(session),
        None => take_lost(session),
    };
    if let Some(group) = group {
        signal_group(group, SIGHUP);
    }
}

pub(super) fn signal_group(group: u32, signal: u8) {
    if let Some(tasks) = tasks() {
        tasks.signal_group(group, signal);
    }
}
