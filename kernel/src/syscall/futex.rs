//! The system calls futex(2) and futex_waitv(2), and the lists of robust futexes.

use super::arguments::{half, word};
use super::time::{monotonic, read_time};
use crate::file::IoCaller;
use crate::mem::{UserAddr, fallible};
use crate::task::deliver::RESTART;
use crate::task::futex::lock::{self, Patience};
use crate::task::futex::{self as futexes, Awaited, Futex, Scope, Update};
use crate::task::{Current, find_thread, robust, timer};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};
use linux_raw_sys::general as linux;

/// The clock of a timeout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// From the call on.
    Relative,
    Monotonic,
    Real,
}

/// The end of a wait in nanoseconds since boot; `None` without a timeout.
fn deadline(current: &Current, timeout: u64, clock: Clock) -> Result<Option<u64>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let ns = read_time(current, UserAddr(timeout))?;
    Ok(Some(match clock {
        Clock::Relative => timer::deadline_after(ns),
        Clock::Monotonic => ns,
        Clock::Real => monotonic(ns),
    }))
}

/// A number of waiters: EINVAL if it is negative.
fn count(value: u32) -> Result<u32, Errno> {
    if i32::try_from(value).is_ok() { Ok(value) } else { Err(Errno::EINVAL) }
}

/// A number of waiters to wake. As on Linux, at least one is woken.
fn count_to_wake(value: u32) -> u32 {
    value.cast_signed().max(1).cast_unsigned()
}

/// futex(2): waits for a word of memory to change, wakes waiters, and waits for locks.
pub fn futex(
    current: &Current,
    address: UserAddr,
    operation: u32,
    value: u32,
    timeout: u64,
    second: UserAddr,
    value3: u32,
) -> Result<u64, Errno> {
    let command = operation & !(linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME);
    let is_real = operation & linux::FUTEX_CLOCK_REALTIME != 0;
    let scope =
        if operation & linux::FUTEX_PRIVATE_FLAG == 0 { Scope::Shared } else { Scope::Private };
    let named = |address| Futex { space: current.space(), address, scope };
    let (first, second) = (named(address), named(second));
    let absolute = if is_real { Clock::Real } else { Clock::Monotonic };
    let wait = |bits, clock| {
        let awaited = Awaited { futex: first, expected: value, bits };
        let deadline = deadline(current, timeout, clock)?;
        let result = futexes::wait(&[awaited], deadline);
        if let (Err(Errno::EINTR), Some(deadline)) = (result, deadline) {
            timer::keep_deadline(deadline);
        }
        result.map(|_| 0)
    };
    // Where it is no address.
    let second_count = timeout as u32;
    match command {
        linux::FUTEX_WAIT_BITSET => wait(value3, absolute),
        linux::FUTEX_WAIT_REQUEUE_PI => {
            let deadline = deadline(current, timeout, absolute)?;
            always_restarted(lock::wait_to_acquire(first, value, u32::MAX, second, deadline))
        }
        linux::FUTEX_LOCK_PI2 => acquire(current, first, timeout, absolute),
        _ if is_real => Err(Errno::ENOSYS),
        linux::FUTEX_WAIT => wait(u32::MAX, Clock::Relative),
        linux::FUTEX_WAKE => futexes::wake(first, count_to_wake(value), u32::MAX).map(u64::from),
        linux::FUTEX_WAKE_BITSET if value3 == 0 => Err(Errno::EINVAL),
        linux::FUTEX_WAKE_BITSET => {
            futexes::wake(first, count_to_wake(value), value3).map(u64::from)
        }
        linux::FUTEX_WAKE_OP => {
            let update = Update::decode(value3)?;
            let counts = [value, second_count].map(count_to_wake);
            futexes::wake_and_update(first, counts[0], second, counts[1], update).map(u64::from)
        }
        linux::FUTEX_REQUEUE | linux::FUTEX_CMP_REQUEUE => {
            let expected = (command == linux::FUTEX_CMP_REQUEUE).then_some(value3);
            let counts = (count(value)?, count(second_count)?);
            futexes::requeue(first, second, counts.0, counts.1, expected).map(u64::from)
        }
        linux::FUTEX_CMP_REQUEUE_PI => {
            let count = count(second_count)?;
            if value != 1 {
                return Err(Errno::EINVAL);
            }
            lock::requeue(first, second, count, value3).map(u64::from)
        }
        linux::FUTEX_LOCK_PI => acquire(current, first, timeout, Clock::Real),
        linux::FUTEX_TRYLOCK_PI => lock::acquire(first, Patience::None).map(|()| 0),
        linux::FUTEX_UNLOCK_PI => lock::release(first).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

fn acquire(current: &Current, futex: Futex<'_>, timeout: u64, clock: Clock) -> Result<u64, Errno> {
    let deadline = deadline(current, timeout, clock)?;
    always_restarted(lock::acquire(futex, Patience::Until(deadline)))
}

/// Whoever waits for a lock does not see that a signal interrupted it.
fn always_restarted(result: Result<(), Errno>) -> Result<u64, Errno> {
    result.map(|()| 0).map_err(|error| if error == Errno::EINTR { RESTART } else { error })
}

/// futex_waitv(2): waits for one of several words to change, and returns its index. The timeout is
/// absolute.
pub fn futex_waitv(
    current: &Current,
    waiters: UserAddr,
    count: u32,
    flags: u32,
    timeout: u64,
    clock: i32,
) -> Result<u64, Errno> {
    /// Size of a `struct futex_waitv` in bytes.
    const BYTES: usize = 24;
    /// Upper bound for the words (`FUTEX_WAITV_MAX`).
    const MAX_WORDS: u32 = 128;
    if flags != 0 || !(1..=MAX_WORDS).contains(&count) || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let clock = match clock {
        0 => Clock::Real,
        1 => Clock::Monotonic,
        _ if timeout == 0 => Clock::Monotonic,
        _ => return Err(Errno::EINVAL),
    };
    let deadline = deadline(current, timeout, clock)?;
    let mut awaited = fallible::with_capacity(count as usize)?;
    for index in 0..count as usize {
        let at = waiters.checked_add(ByteCount::of_len(index * BYTES)).ok_or(Errno::EFAULT)?;
        awaited.push(one_of_several(current, &current.read::<BYTES>(at)?)?);
    }
    futexes::wait(&awaited, deadline).map(u64::from)
}

/// Decodes a `struct futex_waitv`: value, address, flags, a word that is 0.
fn one_of_several<'a>(current: &'a Current, bytes: &[u8]) -> Result<Awaited<'a>, Errno> {
    /// A word of 32 bits, the only size that there is.
    const SIZE: u32 = 2;
    let (flags, reserved) = (half(bytes, 16), half(bytes, 20));
    if flags & !linux::FUTEX_PRIVATE_FLAG != SIZE || reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let scope = if flags == SIZE { Scope::Shared } else { Scope::Private };
    let futex = Futex { space: current.space(), address: UserAddr(word(bytes, 8)), scope };
    let expected = u32::try_from(word(bytes, 0)).map_err(|_| Errno::EINVAL)?;
    Ok(Awaited { futex, expected, bits: u32::MAX })
}

/// set_robust_list(2): what the C library's list of robust futexes is for the running thread.
pub fn set_robust_list(current: &Current, head: UserAddr, bytes: u64) -> Result<u64, Errno> {
    if bytes != robust::HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    current.thread.robust_list.store(head.0, Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2): the list of a thread, 0 for the running one.
pub fn get_robust_list(
    current: &Current,
    tid: u32,
    head: UserAddr,
    bytes: UserAddr,
) -> Result<u64, Errno> {
    let thread = match tid {
        0 => Arc::clone(&current.thread),
        tid => find_thread(tid).ok_or(Errno::ESRCH)?,
    };
    current.write(head, &thread.robust_list.load(Ordering::Relaxed).to_le_bytes())?;
    current.write(bytes, &robust::HEAD_BYTES.to_le_bytes())?;
    Ok(0)
}
