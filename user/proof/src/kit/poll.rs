//! poll(2) on one descriptor.

use super::Outcome;
use crate::{ok, os};

use user::prelude::*;

/// The events that are ready now, of `events` and of those that poll(2) always reports.
pub fn polled(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, 0)
}

/// Waits until one of `events` is ready.
pub fn wait_until(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, usize::MAX)
}

fn poll_for(fd: Fd, events: u32, timeout: usize) -> Outcome<u32> {
    let mut entry = sys::abi::pollfd { fd: fd.0, events: events as i16, revents: 0 };
    ok!(os::raw(sys::abi::__NR_poll, &[&raw mut entry as usize, 1, timeout]));
    Ok(entry.revents as u16 as u32)
}
