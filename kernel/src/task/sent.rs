//! Who waits for any signal to become pending: readers and watchers of signalfds.
#![forbid(unsafe_code)]

use crate::file::{Notifier, Ready};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Notified when a signal becomes pending, while a signalfd is open.
pub(super) static SENT: Notifier = Notifier::new();
/// The number of signalfds that are open.
pub(super) static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A signal became pending. The caller holds no lock.
pub(super) fn sent() {
    if OPEN.load(Ordering::Relaxed) > 0 {
        SENT.notify_of(Ready::READ);
    }
}
