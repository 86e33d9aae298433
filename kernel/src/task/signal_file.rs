//! signalfd: pending signals are read from a descriptor.
//!
//! A read takes the signals of the thread that reads, as sigtimedwait(2) does, so one descriptor
//! shows each process its own. Readers and watchers of all these descriptors share one notifier: it
//! is rare that there are several.
#![forbid(unsafe_code)]

use super::sent::{OPEN, SENT};
use super::signal::{SIGCHLD, SignalInfo, SignalSet};
use super::{Thread, current_thread, posix_timer};
use crate::file::{FileObject, FileType, Io, Notifier, Ready, Stat, UserBuffers, nameless_stat};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::{ByteCount, Errno, FileOffset};

/// Size of a `struct signalfd_siginfo`, in bytes.
const BYTES: usize = 128;

/// The open file.
pub struct SignalFile {
    /// A set of signals.
    set: AtomicU64,
    inode: u64,
}

impl SignalFile {
    /// A file from which signals of a set are read.
    pub fn new(set: SignalSet) -> Arc<Self> {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { set: AtomicU64::new(set.0), inode: crate::file::next_inode() })
    }

    /// Changes the set.
    pub fn set(&self, set: SignalSet) {
        self.set.store(set.0, Ordering::Relaxed);
        SENT.notify_of(Ready::READ);
    }

    fn signals(&self) -> SignalSet {
        SignalSet(self.set.load(Ordering::Relaxed))
    }

    /// Takes a signal that is pending for a thread, its own ones first.
    fn take(&self, thread: &Thread) -> Option<SignalInfo> {
        let others = SignalSet(!self.signals().0);
        let own = thread.signals.lock().pending.take(others);
        let taken = own.or_else(|| thread.process.pending.lock().take(others))?;
        Some(posix_timer::delivered(&thread.process, taken))
    }
}

impl Drop for SignalFile {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `struct signalfd_siginfo`.
fn record(info: SignalInfo) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut put = |at: usize, value: &[u8]| {
        bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
    };
    put(0, &u32::from(info.signal.0).to_le_bytes());
    put(8, &info.code.to_le_bytes());
    let value = info.value.to_le_bytes();
    let low = value.first_chunk::<4>().copied().unwrap_or_default();
    if is_poll(info) {
        // ssi_fd and ssi_band.
        put(20, &low);
        put(28, &info.pid.to_le_bytes());
        return bytes;
    }
    if info.is_fault() {
        put(72, &value);
        return bytes;
    }
    if info.is_of_timer {
        // ssi_tid and ssi_overrun.
        put(24, &info.pid.to_le_bytes());
        put(32, &info.extra.to_le_bytes());
    } else {
        put(12, &info.pid.to_le_bytes());
        put(16, &info.extra.to_le_bytes());
    }
    if info.signal == SIGCHLD && info.code > 0 {
        put(40, &low);
    } else if info.code < 0 {
        put(44, &low);
        put(48, &value);
    }
    bytes
}

/// Whether it reports that a descriptor is ready (`POLL_IN` to `POLL_HUP`).
fn is_poll(info: SignalInfo) -> bool {
    let kinds = 1..=6;
    kinds.contains(&info.code) && !info.is_fault() && info.signal != SIGCHLD
}

impl FileObject for SignalFile {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Nameless, self.inode))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        if to.remaining() < ByteCount::of_len(BYTES) {
            return Err(Errno::EINVAL);
        }
        let thread = current_thread();
        let mut next = if io.nonblocking {
            Some(self.take(&thread).ok_or(Errno::EAGAIN)?)
        } else {
            Some(SENT.wait(|| self.take(&thread))?)
        };
        let mut done = ByteCount::ZERO;
        while let Some(info) = next {
            match to.put(io.space, &record(info)) {
                Ok(BYTES) => done += ByteCount::of_len(BYTES),
                _ if done.is_zero() => return Err(Errno::EFAULT),
                _ => break,
            }
            let fits = to.remaining() >= ByteCount::of_len(BYTES);
            next = if fits { self.take(&thread) } else { None };
        }
        Ok(done)
    }

    fn poll(&self) -> Ready {
        let thread = current_thread();
        let own = thread.signals.lock().pending.set();
        let pending = own.union(thread.process.pending.lock().set());
        let mut ready = Ready::empty();
        ready.set(Ready::READ, pending.0 & self.signals().0 != 0);
        ready
    }

    fn is_per_caller(&self) -> bool {
        true
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&SENT, Ready::READ);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::signal::{SIGSEGV, Signal};
    use crate::task::word;

    #[test]
    fn records_have_the_fields_of_their_kind() {
        let info = |signal, code| {
            record(SignalInfo {
                signal,
                code,
                pid: 7,
                value: 0x1_0000_0009,
                ..SignalInfo::default()
            })
        };
        let child = info(SIGCHLD, 1);
        assert_eq!((word(&child, 0), word(&child, 8)), (17, 7 << 32 | 1));
        assert_eq!((word(&child, 40), word(&child, 48)), (9, 0));
        let queued = info(Signal(40), -1);
        assert_eq!((word(&queued, 12) as u32, word(&queued, 48)), (7, 0x1_0000_0009));
        assert_eq!(word(&queued, 40) >> 32, 9);
        let fault = info(SIGSEGV, 1);
        assert_eq!((word(&fault, 12) as u32, word(&fault, 72)), (0, 0x1_0000_0009));
        let poll = info(Signal(29), 1);
        assert_eq!((word(&poll, 20) as u32, word(&poll, 28) as u32), (9, 7));
    }
}
