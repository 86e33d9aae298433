//! Counters of events (eventfd).

use core::time::Duration;
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, raw};
use user::prelude::*;
use user::sys::abi;

/// `EFD_SEMAPHORE`.
const SEMAPHORE: u32 = 1;
/// The largest count.
const MAX: u64 = u64::MAX - 1;

fn counter(count: u32, flags: u32) -> Result<Fd> {
    raw(abi::__NR_eventfd2, &[count as usize, flags as usize]).map(|fd| Fd(fd as i32))
}

fn add(counter: Fd, more: u64) -> Result<usize> {
    sys::write(counter, &more.to_ne_bytes())
}

fn take(counter: Fd) -> Result<u64> {
    let mut bytes = [0; 8];
    match sys::read(counter, &mut bytes)? {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Errno::EIO),
    }
}

/// The events that are present.
fn ready(fd: Fd) -> Result<u32> {
    let asked = (abi::POLLIN | abi::POLLOUT) as i16;
    let mut polled = [abi::pollfd { fd: fd.0, events: asked, revents: 0 }];
    sys::poll_for(&mut polled, Some(Duration::ZERO))?;
    Ok(polled[0].revents as u32)
}

#[guest_test]
fn event_counts() -> Outcome {
    let events = ok!(counter(3, abi::O_NONBLOCK));
    check_eq!(ready(events), Ok(abi::POLLIN | abi::POLLOUT));
    check_eq!(take(events), Ok(3));
    check_eq!((take(events), ready(events)), (Err(Errno::EAGAIN), Ok(abi::POLLOUT)));
    check_eq!((add(events, 5), add(events, 0), add(events, 7)), (Ok(8), Ok(8), Ok(8)));
    check_eq!(take(events), Ok(12));
    check_eq!((add(events, MAX), ready(events)), (Ok(8), Ok(abi::POLLIN)));
    check_eq!(add(events, 1), Err(Errno::EAGAIN));
    check_eq!((take(events), ready(events)), (Ok(MAX), Ok(abi::POLLOUT)));
    // A longer read takes one number.
    check_eq!(add(events, 1), Ok(8));
    check_eq!(sys::read(events, &mut [0; 16]), Ok(8));
    Ok(())
}

#[guest_test]
fn event_errors() -> Outcome {
    check_eq!(counter(0, 2), Err(Errno::EINVAL));
    let events = ok!(counter(1, abi::O_CLOEXEC));
    check_eq!(sys::fcntl(events, abi::F_GETFD, 0), Ok(1));
    check_eq!(add(events, u64::MAX), Err(Errno::EINVAL));
    check_eq!(sys::write(events, &[0; 7]), Err(Errno::EINVAL));
    check_eq!(sys::write(events, &[0; 16]), Err(Errno::EINVAL));
    check_eq!(sys::read(events, &mut [0; 7]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_write, &[events.argument(), 0, 8]), Err(Errno::EFAULT));
    check_eq!(sys::ftruncate(events, ByteCount::ZERO).err(), Some(Errno::EINVAL));
    check_eq!(ok!(sys::fstat(events)).st_mode & abi::S_IFMT, 0);
    let old = Fd(ok!(raw(abi::__NR_eventfd, &[9])) as i32);
    check_eq!((take(old), sys::fcntl(old, abi::F_GETFD, 0)), (Ok(9), Ok(0)));
    Ok(())
}

#[guest_test]
fn event_semaphore() -> Outcome {
    let events = ok!(counter(2, SEMAPHORE | abi::O_NONBLOCK));
    check_eq!((take(events), take(events), take(events)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    ok!(add(events, 2));
    check_eq!((take(events), take(events), take(events)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    Ok(())
}

/// Readers wait for a count, writers for space.
#[guest_test]
fn event_waits() -> Outcome {
    let [there, back] = [ok!(counter(0, 0)), ok!(counter(0, 0))];
    let echo = checking_child(|| {
        for value in 1..=50 {
            check_eq!(take(there), Ok(value));
            check_eq!(add(back, value + 1), Ok(8));
        }
        check_eq!(take(there), Ok(MAX));
        Ok(())
    })?;
    for value in 1..=50 {
        check_eq!(add(there, value), Ok(8));
        check_eq!(take(back), Ok(value + 1));
    }
    ok!(add(there, MAX));
    ok!(add(there, 7));
    expect_success(echo)?;
    check_eq!(take(there), Ok(7));
    Ok(())
}
