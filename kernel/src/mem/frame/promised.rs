//! Promised frames: free ones that no claim takes.
//!
//! A page table that several address spaces share is copied where nothing may fail and nothing may
//! be waited for. So its copy is promised when the sharing begins: for each table as many frames as
//! it has sharers besides the first. Invariant: at least as many frames are free as are promised.
#![forbid(unsafe_code)]

use super::{FRAMES, FREE, Frame, OutOfMemory, RESERVES, count_of, failure, reserve_below};
use crate::mem::{Claim, shrinker};
use core::sync::atomic::Ordering;

/// Promises a frame. Runs the shrinkers where none is free.
pub(in crate::mem) fn promise(claim: Claim) -> Result<(), OutOfMemory> {
    if failure::is_due() {
        return Err(OutOfMemory);
    }
    loop {
        {
            let _frames = FRAMES.lock();
            if FREE.load(Ordering::Relaxed) > reserve_below(claim) {
                for reserve in &RESERVES {
                    reserve.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(());
            }
        }
        if shrinker::run() == 0 {
            return Err(OutOfMemory);
        }
    }
}

/// A promised frame, with old contents.
pub(in crate::mem) fn redeem() -> Frame {
    let mut frames = FRAMES.lock();
    let Some(address) = frames.take() else { panic!("a promised frame is missing") };
    withdraw();
    count_of(address).store(1, Ordering::Release);
    Frame { address }
}

/// A promised frame is not needed any more.
pub(in crate::mem) fn break_promise() {
    let _frames = FRAMES.lock();
    withdraw();
}

/// Lets claims have a frame that was promised. The free frames are locked.
fn withdraw() {
    for reserve in &RESERVES {
        reserve.fetch_sub(1, Ordering::Relaxed);
    }
}
