//! Failures of write-back are reported once to each open file, by msync, fsync or close.

use crate::mem::file_pages::Opened;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use foundation::Errno;

/// The number of the last failure of any file.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The last failure so far: to a file that is opened now, later ones only are reported.
pub fn latest() -> u64 {
    LAST.load(Ordering::Relaxed)
}

/// The last failure of a file: its number, 0 for none, and the error.
#[derive(Default)]
pub struct Failures {
    number: AtomicU64,
    error: AtomicU16,
}

impl Failures {
    /// Notes that pages could not be written.
    pub fn note(&self, error: Errno) {
        self.error.store(error.0, Ordering::Relaxed);
        self.number.store(LAST.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// The last failure, unless it was reported to this open file.
    pub fn report(&self, to: &dyn Opened) -> Result<(), Errno> {
        let number = self.number.load(Ordering::Acquire);
        if to.last_failure().fetch_max(number, Ordering::Relaxed) >= number {
            return Ok(());
        }
        Err(Errno(self.error.load(Ordering::Relaxed)))
    }
}
