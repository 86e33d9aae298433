//! Pseudo-terminals (ptys): writes to the master are input of the terminal `/dev/pts/N`, and the
//! terminal's output is read from the master.
//!
//! Opening `/dev/ptmx` creates a pty; its number is free again when both ends are closed. Closing
//! the master hangs the terminal up, and removes its name.
//!
//! Locks: `PAIRS`, then a terminal's `state`. A terminal is not dropped while `PAIRS` is held.

use super::discipline::{Discipline, MAX_INPUT};
use super::{Line, Terminal, Tty, store};
use crate::file::buffers::load;
use crate::file::pipe::FIONREAD;
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::{OutOfMemory, fallible};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;

/// Ptys at once, at most: ENOSPC beyond, as on Linux.
pub const MAX_PAIRS: usize = 64;
/// Major number of pty terminals.
const MAJOR: u64 = 136;
/// Device number of `/dev/ptmx`.
pub(in crate::file) const MASTER_NUMBER: u64 = 5 << 8 | 2;
/// Bytes of output that the master has not read; a program that writes more waits.
const MAX_OUTPUT: usize = 8192;
/// Bytes of echo beyond that, which is dropped when this is full.
const MAX_ECHO: usize = MAX_INPUT;
/// Bytes of memory that a pty takes: input as bytes of a line and as slots, and output.
const BYTES: usize = 3 * MAX_INPUT + 2 * (MAX_OUTPUT + MAX_ECHO);
/// Bytes of input processed at once.
const CHUNK: usize = 512;

/// The state of a pty's number.
#[derive(Clone)]
enum Number {
    Free,
    /// The master is closed, but the terminal is still open.
    Nameless,
    Named(Arc<Tty>),
}

static PAIRS: Mutex<[Number; MAX_PAIRS], rank::Ptys> =
    Mutex::new([const { Number::Free }; MAX_PAIRS]);

/// All terminals that have a name, with their numbers.
pub(in crate::file) fn all() -> Vec<(usize, Arc<Tty>)> {
    let pairs = PAIRS.lock();
    let named = pairs.iter().enumerate().filter_map(|(index, number)| match number {
        Number::Named(tty) => Some((index, tty.clone())),
        _ => None,
    });
    named.collect()
}

/// The terminal of this number.
pub(in crate::file) fn find(index: usize) -> Option<Arc<Tty>> {
    match PAIRS.lock().get(index) {
        Some(Number::Named(tty)) => Some(tty.clone()),
        _ => None,
    }
}

/// The connection between a pty's terminal and its master. Unused for terminals on serial ports.
#[derive(Default)]
pub(super) struct Ends {
    /// Output that the master has not read.
    pub(super) output: VecDeque<u8>,
    /// Bytes of output that readers took and may put back: their places are kept.
    held: usize,
    /// Whether the terminal cannot be opened (`TIOCSPTLCK`).
    is_locked: bool,
    /// How often the terminal is open.
    opens: usize,
    /// Whether the terminal was open, and is closed now.
    was_left: bool,
    /// Whether the master is closed.
    pub(super) hung_up: bool,
}

impl Ends {
    pub(super) fn open(&mut self) -> Result<(), Errno> {
        if self.is_locked || self.hung_up {
            return Err(Errno::EIO);
        }
        self.opens += 1;
        self.was_left = false;
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.opens -= 1;
        self.was_left = self.opens == 0;
    }

    /// Whether there is space for a program's output.
    pub(super) fn has_space(&self) -> bool {
        self.used() <= MAX_OUTPUT / 2
    }

    /// Queues output. `None` where it does not fit as a whole.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<Result<(), Errno>> {
        if self.used() + bytes.len() > MAX_OUTPUT {
            return None;
        }
        if fallible::reserve(&mut self.output, self.held + bytes.len()).is_err() {
            return Some(Err(Errno::ENOMEM));
        }
        self.output.extend(bytes);
        Some(Ok(()))
    }

    /// Queues as much of an echo as fits.
    pub(super) fn put_echo(&mut self, bytes: &[u8]) {
        let count = (MAX_OUTPUT + MAX_ECHO).saturating_sub(self.used()).min(bytes.len());
        if fallible::reserve(&mut self.output, self.held + count).is_ok() {
            self.output.extend(bytes.iter().take(count));
        }
    }

    /// Bytes that are queued, or may be put back.
    fn used(&self) -> usize {
        self.output.len() + self.held
    }

    /// Takes at most `max` bytes, for a reader that [delivers](Self::settle) them.
    fn take(&mut self, max: usize) -> Result<Vec<u8>, OutOfMemory> {
        let mut bytes = fallible::with_capacity(max.min(self.output.len()))?;
        bytes.extend(self.output.drain(..max.min(self.output.len())));
        self.held += bytes.len();
        Ok(bytes)
    }

    /// Of the bytes that were taken, puts back those that could not be delivered (F4): all but the
    /// first `delivered`. Needs no memory.
    fn settle(&mut self, bytes: &[u8], delivered: usize) {
        self.held -= bytes.len();
        let left = bytes.get(delivered..).unwrap_or_default();
        debug_assert!(self.output.len() + left.len() <= self.output.capacity(), "kept places");
        left.iter().rev().for_each(|&byte| self.output.push_front(byte));
    }
}

/// The master of a pty. It has one open file.
pub struct Master {
    tty: Arc<Tty>,
    index: usize,
    _charge: Charge,
}

impl Master {
    /// A new pty, whose terminal is locked. `account` pays.
    pub(in crate::file) fn open(account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        let charge = Charge::take(account, Kind::Files, BYTES)?;
        let mut pairs = PAIRS.lock();
        let (index, number) = pairs
            .iter_mut()
            .enumerate()
            .find(|(_, number)| matches!(number, Number::Free))
            .ok_or(Errno::ENOSPC)?;
        let tty =
            Tty::new(Line::Pair(index), MAJOR << 8 | index as u64, super::Termios::pair(), [0; 4])?;
        tty.state.lock().ends.is_locked = true;
        let tty = Arc::new(tty);
        *number = Number::Named(tty.clone());
        Ok(Arc::new(Self { tty, index, _charge: charge }))
    }

    /// Opens the terminal. Returns it with its path.
    pub fn open_terminal(&self, flags: OpenFlags) -> Result<(Arc<Terminal>, Vec<u8>), Errno> {
        Ok((
            Terminal::open(self.tty.clone(), flags)?,
            format!("/dev/pts/{}", self.index).into_bytes(),
        ))
    }

    /// The terminal's output. EIO once the terminal is closed and all output was read.
    fn output(&self, max: usize) -> Option<Result<Vec<u8>, Errno>> {
        let ends = &mut self.tty.state.lock().ends;
        match ends.output.len() {
            0 => ends.was_left.then_some(Err(Errno::EIO)),
            _ => Some(ends.take(max).map_err(Errno::from)),
        }
    }

    fn lock_terminal(&self, caller: &dyn IoCaller, argument: u64) -> Result<u64, Errno> {
        let mut wanted = [0; 4];
        load(caller.space(), argument, &mut wanted)?;
        self.tty.state.lock().ends.is_locked = wanted != [0; 4];
        Ok(0)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let named = PAIRS
            .lock()
            .get_mut(self.index)
            .map(|number| core::mem::replace(number, Number::Nameless));
        drop(named);
        self.tty.state.lock().ends.hung_up = true;
        self.tty.line_is_gone();
        self.tty.changed.notify();
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if let Line::Pair(index) = self.line {
            PAIRS.lock().iter_mut().skip(index).take(1).for_each(|number| *number = Number::Free);
        }
    }
}

impl FileObject for Master {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(master_stat())
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        let max = to.remaining().to_usize().min(MAX_OUTPUT + MAX_ECHO);
        if max == 0 {
            return Ok(ByteCount::ZERO);
        }
        let attempt = || self.output(max);
        let bytes = if io.nonblocking {
            attempt().unwrap_or(Err(Errno::EAGAIN))
        } else {
            self.tty.changed.wait(attempt)?
        }?;
        let put = to.put(io.space, &bytes);
        self.tty.state.lock().ends.settle(&bytes, put.unwrap_or(0));
        // A writer of the terminal may be waiting for space, and another reader for what is back.
        self.tty.changed.notify();
        put.map(ByteCount::of_len)
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let mut written = ByteCount::ZERO;
        let mut chunk = [0; CHUNK];
        let result = loop {
            let taken = match from.take(io.space, &mut chunk) {
                Ok(0) => break Ok(()),
                Ok(taken) => taken,
                Err(error) => break Err(error),
            };
            let mut left = chunk.get(..taken).unwrap_or_default();
            let mut attempt = || {
                let count = self.tty.receive_while(left, Discipline::has_space);
                written += ByteCount::of_len(count);
                left = left.get(count..).unwrap_or_default();
                left.is_empty().then_some(())
            };
            if io.nonblocking && attempt().is_none() {
                break Err(Errno::EAGAIN);
            } else if !io.nonblocking
                && let Err(error) = self.tty.changed.wait(attempt)
            {
                break Err(error.into());
            }
            // Input that is dropped needs no space: a signal ends a long write between two chunks.
            if let Err(error) = relax(Interrupt::Signal) {
                break Err(error.into());
            }
        };
        match result {
            Err(error) if written.is_zero() => Err(error),
            _ => Ok(WriteOutcome::without_position(written)),
        }
    }

    fn poll(&self) -> Ready {
        let state = self.tty.state.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::READ, !state.ends.output.is_empty());
        ready.set(Ready::WRITE, state.discipline.has_space());
        ready.set(Ready::HANG_UP, state.ends.was_left);
        ready
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.tty.changed, Ready::all());
    }

    /// Requests that are not about the master are passed to the terminal. It refuses those that
    /// need the caller's controlling terminal, which a master never is.
    fn ioctl(&self, caller: &dyn IoCaller, number: u32, argument: u64) -> Result<u64, Errno> {
        let report = |value: u32| store(caller.space(), argument, &value.to_le_bytes());
        match number {
            request::TIOCGPTN => report(self.index as u32),
            request::TIOCSPTLCK => self.lock_terminal(caller, argument),
            request::TIOCGPTLCK => {
                let is_locked = self.tty.state.lock().ends.is_locked;
                report(is_locked.into())
            }
            FIONREAD => {
                let bytes = self.tty.state.lock().ends.output.len();
                report(bytes as u32)
            }
            request::TIOCGPGRP => {
                let group = self.tty.state.lock().foreground;
                report(group.unwrap_or(0))
            }
            request::TIOCGSID => {
                let session = self.tty.state.lock().session;
                report(session.ok_or(Errno::ENOTTY)?)
            }
            request::TCFLSH => self.tty.flush(argument, linux::TCOFLUSH, linux::TCIFLUSH),
            request::TIOCSIG => self.tty.signal_from_master(argument),
            request::TIOCSCTTY | request::TIOCNOTTY => Err(Errno::ENOTTY),
            _ => self.tty.ioctl(caller, number, argument),
        }
    }
}

/// The attributes of every master.
pub(in crate::file) fn master_stat() -> Stat {
    let number = MASTER_NUMBER;
    Stat {
        file_type: FileType::CharacterDevice,
        mode: 0o666,
        links: 1,
        inode: number,
        device_number: number,
        ..Stat::of_device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::host::{self, failure};

    #[test]
    fn output_that_is_not_delivered_is_kept_without_memory() {
        let _alone = host::exclusive();
        let mut ends = Ends::default();
        ends.put(&[1; 3000]).unwrap().unwrap();
        let taken = [ends.take(2000).unwrap(), ends.take(2000).unwrap()];
        // Others write in the meantime, as much as fits.
        ends.put(&[2; 5000]).unwrap().unwrap();
        assert_eq!(ends.put(&[2; 1000]), None, "the places are kept");
        ends.put_echo(&[3; 1]);
        let before = ends.output.capacity();
        let ((), claims) = failure::during(Some(0), || {
            taken.iter().rev().for_each(|bytes| ends.settle(bytes, 0));
        });
        assert_eq!((claims, ends.output.capacity(), ends.held), (0, before, 0));
        let expected = [[1; 3000].as_slice(), &[2; 5000], &[3; 1]].concat();
        assert_eq!(ends.take(9000).unwrap(), expected);
        ends.settle(&expected, 8000);
        assert_eq!(ends.take(9000).unwrap(), [3]);
    }
}
