//! Signals that ask xtask to stop, recorded and visible to `poll`.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A handler for SIGINT, SIGTERM and SIGHUP, which then no longer end xtask by themselves.
pub struct Interrupts {
    /// Becomes readable at the first signal and stays readable.
    readable: UnixStream,
    signal: Arc<AtomicUsize>,
}

impl Interrupts {
    /// Installs the handler.
    pub fn listen() -> Result<Self> {
        let (readable, writable) = UnixStream::pair().context("cannot create a socket pair")?;
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            signal_hook::low_level::pipe::register(number, writable.try_clone()?)?;
        }
        Ok(Self { readable, signal })
    }

    /// The last signal received, if any.
    pub fn pending(&self) -> Option<i32> {
        let signal = self.signal.load(Ordering::SeqCst);
        i32::try_from(signal).ok().filter(|&signal| signal != 0)
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}
