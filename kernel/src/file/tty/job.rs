//! Job control: which session a terminal controls, and which process group is in its foreground.

use super::super::buffers::{load, store};
use super::super::{IoCaller, tasks};
use super::{Tty, registry};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::vec::Vec;
use foundation::Errno;
use linux_raw_sys::general as linux;

const SIGHUP: u8 = linux::SIGHUP as u8;
const SIGCONT: u8 = linux::SIGCONT as u8;
const SIGTTIN: u8 = linux::SIGTTIN as u8;
const SIGTTOU: u8 = linux::SIGTTOU as u8;
pub(super) const SIGWINCH: u8 = linux::SIGWINCH as u8;

/// An operation of a background process on its controlling terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Change,
}

impl Tty {
    /// The session whose controlling terminal it is.
    pub(in crate::file) fn session(&self) -> Option<u32> {
        self.state.lock().session
    }

    /// Whether it is the caller's controlling terminal.
    fn controls(&self, caller: &dyn IoCaller) -> bool {
        self.state.lock().session == Some(caller.sid())
    }

    /// Opened by a session leader: becomes the session's controlling terminal, if the session has
    /// none and the terminal has no session.
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

    /// TIOCSCTTY: a session leader without a terminal makes this one its controlling terminal. The
    /// argument 1 takes it from another session.
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

    /// Ends the control of a session. Returns the foreground group.
    fn release(&self, session: u32) -> Option<u32> {
        let mut state = self.state.lock();
        if state.session != Some(session) {
            return None;
        }
        state.session = None;
        state.foreground.take()
    }

    /// The line was closed: sends SIGHUP to the session's leader. The foreground group gets SIGHUP
    /// when the leader ends.
    pub(super) fn line_is_gone(&self) {
        let session = self.session();
        let Some((session, tasks)) = session.zip(tasks()) else { return };
        if let Some(group) = self.release(session) {
            let mut lost = LOST.lock();
            // Without memory, that group gets no signal.
            if fallible::reserve(&mut *lost, 1).is_ok() {
                lost.push(Lost { session, group });
            }
        }
        tasks.signal_process(session, SIGHUP);
        tasks.signal_process(session, SIGCONT);
    }

    /// TIOCSIG on the master: SIGINT, SIGQUIT or SIGTSTP.
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

    /// Stops a background process that reads; EIO where it blocks or ignores SIGTTIN.
    pub(super) fn require_foreground_to_read(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        self.require_foreground(caller, SIGTTIN, Operation::Read)
    }

    /// Stops a background process that changes the terminal, unless it blocks or ignores SIGTTOU.
    pub(super) fn require_foreground_to_change(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        self.require_foreground(caller, SIGTTOU, Operation::Change)
    }

    /// The same for a process that writes, where `TOSTOP` is set.
    pub(super) fn require_foreground_to_write(&self, caller: &dyn IoCaller) -> Result<(), Errno> {
        let stops = self.state.lock().discipline.termios.has_local(linux::TOSTOP);
        if stops { self.require_foreground_to_change(caller) } else { Ok(()) }
    }

    fn require_foreground(
        &self,
        caller: &dyn IoCaller,
        signal: u8,
        operation: Operation,
    ) -> Result<(), Errno> {
        if !self.in_background(caller) {
            return Ok(());
        }
        if caller.is_masked(signal) {
            return if operation == Operation::Read { Err(Errno::EIO) } else { Ok(()) };
        }
        // No shell could continue it.
        if tasks().is_some_and(|tasks| tasks.is_orphaned(caller.pgid())) {
            return Err(Errno::EIO);
        }
        signal_group(caller.pgid(), signal);
        Err(Errno::EINTR)
    }
}

/// A session that lost its terminal by a hang-up, and the foreground group at that time.
struct Lost {
    session: u32,
    group: u32,
}

/// All of them, until the session's leader ends or gets another terminal.
static LOST: Mutex<Vec<Lost>, rank::LostTerminals> = Mutex::new(Vec::new());

/// Removes a session's entry, and returns its group.
fn take_lost(session: u32) -> Option<u32> {
    let mut lost = LOST.lock();
    let at = lost.iter().position(|lost| lost.session == session)?;
    let group = lost.swap_remove(at).group;
    if lost.is_empty() {
        *lost = Vec::new();
    }
    Some(group)
}

/// A session leader ended: sends SIGHUP to the foreground group, and frees the terminal.
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
