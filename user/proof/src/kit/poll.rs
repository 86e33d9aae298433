//! What poll(2) finds at a descriptor.

use super::Outcome;
use crate::{ok, os};

use user::prelude::*;

/// What of `events` poll(2) finds for a descriptor at once, and what it always tells.
pub fn polled(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, 0)
}

/// Waits until poll(2) finds one of `events`.
pub fn wait_until(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, usize::MAX)
}

fn poll_for(fd: Fd, events: u32, timeout: usize) -> Outcome<u32> {
    let mut entry = sys::abi::pollfd { fd: fd.0, events: events as i16, revents: 0 };
    ok!(os::raw(sys::abi::__NR_poll, &[&raw mut entry as usize, 1, timeout]));
    Ok(entry.revents as u16 as u32)
}
