//! When dirty pages of mapped files should be written: nobody maps their file any more, or they are
//! in the way of others. The kernel's writers wait for that here (`file::mapped`).
#![forbid(unsafe_code)]

use crate::sync::WaitQueue;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether some file is to be looked at.
static IS_WANTED: AtomicBool = AtomicBool::new(false);
/// Where writers wait.
pub static WRITERS: WaitQueue = WaitQueue::new();

/// Some file is to be looked at. Allocates nothing and locks nothing.
pub(super) fn set() {
    IS_WANTED.store(true, Ordering::Release);
}

/// Wakes the writers if some file is to be looked at. Called with no lock held that is inside those
/// of wait queues.
pub fn wake() {
    if IS_WANTED.swap(false, Ordering::AcqRel) {
        WRITERS.wake_all();
    }
}
