//! Timers of processes: timer_create(2) and related calls.

use super::arguments::{half, word};
use super::clocks::{ABSOLUTE, Clock};
use super::time::{monotonic, read_time, timespec};
use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::task::posix_timer::{self, When};
use crate::task::signal::SIGALRM;
use crate::task::{Current, Notification, TimerClock, find_thread};
use foundation::{ByteCount, Errno};
use linux_raw_sys::general as linux;

/// Decodes a `struct sigevent`: value, signal, kind, thread.
fn notification(current: &Current, event: UserAddr) -> Result<Notification, Errno> {
    const KIND_BYTES: usize = 20;
    let bytes: [u8; KIND_BYTES] = current.read(event)?;
    let (value, number, kind) = (word(&bytes, 0), half(&bytes, 8), half(&bytes, 12));
    let signal = || posix_timer::signal(number.cast_signed());
    match kind {
        linux::SIGEV_NONE => Ok(Notification::None),
        // Libraries make a thread when they get the signal.
        linux::SIGEV_SIGNAL | linux::SIGEV_THREAD => Ok(Notification::Process(signal()?, value)),
        linux::SIGEV_THREAD_ID => {
            let thread = find_thread(half(&bytes, 16))
                .filter(|thread| thread.process.pid == current.pid())
                .ok_or(Errno::EINVAL)?;
            Ok(Notification::Thread(thread.tid, signal()?, value))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Implements timer_create(2).
pub fn timer_create(
    current: &Current,
    clock: i32,
    event: UserAddr,
    id_at: UserAddr,
) -> Result<u64, Errno> {
    let clock = Clock::with_timers(current, clock)?.counted(current)?;
    let process = current.process();
    let notification = if event.is_null() {
        Notification::Process(SIGALRM, 0)
    } else {
        notification(current, event)?
    };
    let id = process.timers.create(clock, notification, &process.account)?;
    if event.is_null() {
        process.timers.set_value(id, id.into());
    }
    current.write(id_at, &id.to_le_bytes()).inspect_err(|_| {
        let _ = posix_timer::delete(process, id);
    })?;
    Ok(0)
}

/// The number of a timer that the program has made, perhaps; EINVAL for a negative one.
fn made(id: u32) -> Result<u32, Errno> {
    i32::try_from(id).map(|_| id).map_err(|_| Errno::EINVAL)
}

/// Writes a `struct itimerspec`.
fn write(current: &Current, to: UserAddr, (left, period): (u64, u64)) -> Result<u64, Errno> {
    current.write(to, &timespec(period))?;
    current.write(to.checked_add(ByteCount(16)).ok_or(Errno::EFAULT)?, &timespec(left))?;
    Ok(0)
}

/// Implements timer_settime(2). For a clock of the time since 1970, an absolute time is converted
/// once: the timer does not follow when that is set.
pub fn timer_settime(
    current: &Current,
    id: u32,
    flags: u32,
    new: UserAddr,
    old: UserAddr,
) -> Result<u64, Errno> {
    let id = made(id)?;
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let period = read_time(current, new)?;
    let value = read_time(current, new.checked_add(ByteCount(16)).ok_or(Errno::EFAULT)?)?;
    let process = current.process();
    let when = match value {
        0 => When::Never,
        ns if flags & ABSOLUTE == 0 => When::After(ns),
        ns if process.timers.clock(id)? == TimerClock::Real => When::At(monotonic(ns)),
        ns => When::At(ns),
    };
    let before = posix_timer::set(process, id, when, period)?;
    if old.is_null() { Ok(0) } else { write(current, old, before) }
}

/// Implements timer_gettime(2).
pub fn timer_gettime(current: &Current, id: u32, value: UserAddr) -> Result<u64, Errno> {
    write(current, value, posix_timer::left(current.process(), made(id)?)?)
}

/// Implements timer_getoverrun(2).
pub fn timer_getoverrun(current: &Current, id: u32) -> Result<u64, Errno> {
    current.process().timers.overrun(made(id)?)
}

/// Implements timer_delete(2).
pub fn timer_delete(current: &Current, id: u32) -> Result<u64, Errno> {
    posix_timer::delete(current.process(), made(id)?).map(|()| 0)
}
