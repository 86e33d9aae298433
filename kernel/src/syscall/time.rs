//! The time of day, sleeps, alarms and interval timers.

use crate::arch::clock;
use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::task::{CpuTimer, Current, timer};
use foundation::{ByteCount, Errno};

/// Nanoseconds of a second.
pub(super) const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1000;

/// Reads a `struct timespec`, in nanoseconds. EINVAL if it is negative or its fraction is out of
/// range.
pub fn read_time(current: &Current, address: UserAddr) -> Result<u64, Errno> {
    let bytes: [u8; 16] = current.read(address)?;
    let (seconds, nanos) = (crate::task::word(&bytes, 0), crate::task::word(&bytes, 8));
    if i64::try_from(seconds).is_err() || nanos >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_S).saturating_add(nanos))
}

/// The two words of a time.
fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&first.to_le_bytes());
    high.copy_from_slice(&second.to_le_bytes());
    bytes
}

/// A `struct timespec`.
pub fn timespec(ns: u64) -> [u8; 16] {
    pair(ns / NS_PER_S, ns % NS_PER_S)
}

fn timeval(ns: u64) -> [u8; 16] {
    pair(ns / NS_PER_S, (ns % NS_PER_S) / NS_PER_US)
}

/// Converts a time since 1970 to a time since boot, both in nanoseconds.
pub fn monotonic(wall_ns: u64) -> u64 {
    let offset = clock::wall_ns().saturating_sub_unsigned(clock::now_ns());
    wall_ns.saturating_add_signed(offset.saturating_neg())
}

/// Nanoseconds since 1970.
pub fn wall() -> u64 {
    clock::wall_ns().max(0).unsigned_abs()
}

/// gettimeofday(2). The time zone is UTC.
pub fn gettimeofday(current: &Current, time: UserAddr, zone: UserAddr) -> Result<u64, Errno> {
    if !time.is_null() {
        current.write(time, &timeval(wall()))?;
    }
    if !zone.is_null() {
        current.write(zone, &[0; 8])?;
    }
    Ok(0)
}

/// Implements time(2).
pub fn time(current: &Current, time: UserAddr) -> Result<u64, Errno> {
    let seconds = wall() / NS_PER_S;
    if !time.is_null() {
        current.write(time, &seconds.to_le_bytes())?;
    }
    Ok(seconds)
}

/// Waits until `deadline` in nanoseconds since boot. A signal gives EINTR, and the time that was
/// left.
pub fn sleep_until(current: &Current, deadline: u64, remaining: UserAddr) -> Result<u64, Errno> {
    let result = timer::sleep_until(deadline);
    if result.is_err() {
        timer::keep_deadline(deadline);
    }
    if result.is_err() && !remaining.is_null() {
        current.write(remaining, &timespec(deadline.saturating_sub(clock::now_ns())))?;
    }
    result?;
    Ok(0)
}

/// Implements nanosleep(2).
pub fn nanosleep(current: &Current, request: UserAddr, remaining: UserAddr) -> Result<u64, Errno> {
    let ns = read_time(current, request)?;
    sleep_until(current, timer::deadline_after(ns), remaining)
}

/// alarm(2). Returns the seconds left of the previous alarm.
pub fn alarm(current: &Current, seconds: u32) -> Result<u64, Errno> {
    let deadline = if seconds == 0 { 0 } else { clock::now_ns() + u64::from(seconds) * NS_PER_S };
    let (left, _) = timer::set_alarm(current.pid(), deadline, 0);
    Ok(left.div_ceil(NS_PER_S))
}

/// The interval timer that counts CPU time, of a number; `None` for the one that counts real time.
fn cpu_timer(which: i32) -> Result<Option<CpuTimer>, Errno> {
    match which {
        0 => Ok(None),
        1 => Ok(Some(CpuTimer::Virtual)),
        2 => Ok(Some(CpuTimer::Prof)),
        _ => Err(Errno::EINVAL),
    }
}

fn write_timer(
    current: &Current,
    address: UserAddr,
    (left, period): (u64, u64),
) -> Result<(), Errno> {
    current.write(address, &timeval(period))?;
    let left_at = address.checked_add(ByteCount(16)).ok_or(Errno::EFAULT)?;
    current.write(left_at, &timeval(left))
}

/// Implements getitimer(2).
pub fn getitimer(current: &Current, which: i32, value: UserAddr) -> Result<u64, Errno> {
    let now = match cpu_timer(which)? {
        Some(which) => timer::cpu_timer(current.process(), which),
        None => timer::alarm(current.pid()),
    };
    write_timer(current, value, now)?;
    Ok(0)
}

/// Implements setitimer(2).
pub fn setitimer(
    current: &Current,
    which: i32,
    new: UserAddr,
    old: UserAddr,
) -> Result<u64, Errno> {
    let which = cpu_timer(which)?;
    let bytes: [u8; 32] = if new.is_null() { [0; 32] } else { current.read(new)? };
    let time = |at: usize| {
        let (seconds, micros) = (crate::task::word(&bytes, at), crate::task::word(&bytes, at + 8));
        let sound = i64::try_from(seconds).is_ok() && micros < NS_PER_S / NS_PER_US;
        if sound {
            Ok(seconds.saturating_mul(NS_PER_S).saturating_add(micros * NS_PER_US))
        } else {
            Err(Errno::EINVAL)
        }
    };
    let (period, value) = (time(0)?, time(16)?);
    let before = match which {
        Some(which) => timer::set_cpu_timer(current.process(), which, value, period),
        None => {
            let deadline = if value == 0 { 0 } else { clock::now_ns().saturating_add(value) };
            timer::set_alarm(current.pid(), deadline, period)
        }
    };
    if !old.is_null() {
        write_timer(current, old, before)?;
    }
    Ok(0)
}
