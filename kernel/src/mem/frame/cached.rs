//! References to frames that the frame cache holds, which are counted apart from all others.
#![forbid(unsafe_code)]

use super::{Frame, ONE_CACHED, count_of};
use core::sync::atomic::Ordering;

/// Maximum of references by the cache to one frame.
const MAX_CACHED: u64 = 16;

/// A reference to a frame that the frame cache holds.
pub(in crate::mem) struct CachedFrame(Frame);

impl CachedFrame {
    /// Adds a reference; `None` where the cache has the maximum for this frame.
    #[inline]
    pub fn new(frame: &Frame) -> Option<Self> {
        if frame.is_zero_page() {
            return Some(Self(frame.clone()));
        }
        let count = count_of(frame.address);
        if count.load(Ordering::Relaxed) / ONE_CACHED >= MAX_CACHED {
            return None;
        }
        count.fetch_add(ONE_CACHED + 1, Ordering::Relaxed);
        Some(Self(Frame { address: frame.address }))
    }

    /// `None` where something besides the cache holds the frame, else whether this is the last
    /// reference.
    pub fn is_only_cached(&self) -> Option<bool> {
        if self.0.is_zero_page() {
            return None;
        }
        let count = count_of(self.0.address).load(Ordering::Acquire);
        let (references, cached) = (count % ONE_CACHED, count / ONE_CACHED);
        debug_assert!(0 < cached && cached <= references && cached <= MAX_CACHED);
        (references == cached).then_some(references == 1)
    }
}

impl core::ops::Deref for CachedFrame {
    type Target = Frame;
    fn deref(&self) -> &Frame {
        &self.0
    }
}

impl Drop for CachedFrame {
    fn drop(&mut self) {
        if !self.0.is_zero_page() {
            count_of(self.0.address).fetch_sub(ONE_CACHED, Ordering::Relaxed);
        }
    }
}
