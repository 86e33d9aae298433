//! Clocks: their times and resolutions, and sleeps on them.

use super::time::{monotonic, read_time, sleep_until, timespec, wall};
use crate::arch::clock;
use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::task::posix_timer::{self, When};
use crate::task::{Current, Process, Thread, TimerClock, family, find_thread, scheduler, timer};
use alloc::sync::Arc;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// `TIMER_ABSTIME`: the time is absolute.
pub const ABSOLUTE: u32 = 1;

/// What a clock shows.
pub enum Clock {
    /// Time since 1970.
    Real,
    /// Time since boot.
    Monotonic,
    /// CPU time of a process.
    Process(Arc<Process>),
    /// CPU time of a thread.
    Thread(Arc<Thread>),
}

/// The bits of a negative clock number below that of a process or thread, which is inverted.
const CPU_KIND: i32 = 3;
const CPU_OF_DESCRIPTOR: i32 = 3;
const CPU_OF_THREAD: i32 = 4;
const CPU_NUMBER_SHIFT: u32 = 3;

impl Clock {
    /// The clock of a number; EINVAL for an unknown one.
    pub fn of(current: &Current, number: i32) -> Result<Self, Errno> {
        if number < 0 {
            return Self::of_cpu(current, number);
        }
        match number.cast_unsigned() {
            linux::CLOCK_REALTIME
            | linux::CLOCK_REALTIME_COARSE
            | linux::CLOCK_REALTIME_ALARM
            | linux::CLOCK_TAI => Ok(Self::Real),
            linux::CLOCK_MONOTONIC
            | linux::CLOCK_MONOTONIC_RAW
            | linux::CLOCK_MONOTONIC_COARSE
            | linux::CLOCK_BOOTTIME
            | linux::CLOCK_BOOTTIME_ALARM => Ok(Self::Monotonic),
            linux::CLOCK_PROCESS_CPUTIME_ID => Ok(Self::Process(current.process().clone())),
            linux::CLOCK_THREAD_CPUTIME_ID => Ok(Self::Thread((*current.thread).clone())),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A clock that clock_getcpuclockid(3) or pthread_getcpuclockid(3) has named. A thread must be
    /// one of the caller's process.
    fn of_cpu(current: &Current, number: i32) -> Result<Self, Errno> {
        let owner = (!(number >> CPU_NUMBER_SHIFT)).cast_unsigned();
        if number & CPU_KIND == CPU_OF_DESCRIPTOR {
            return Err(Errno::EINVAL);
        }
        let process = current.process();
        match (number & CPU_OF_THREAD != 0, owner) {
            (true, 0) => Ok(Self::Thread((*current.thread).clone())),
            (false, 0) => Ok(Self::Process(process.clone())),
            (true, tid) => find_thread(tid)
                .filter(|thread| thread.process.pid == process.pid)
                .map(Self::Thread)
                .ok_or(Errno::EINVAL),
            (false, pid) => family::find_process(pid).map(Self::Process).ok_or(Errno::EINVAL),
        }
    }

    /// The same, if it has timers. EOPNOTSUPP for coarse and raw clocks, which have none, and for
    /// those that would wake a machine.
    pub fn with_timers(current: &Current, number: i32) -> Result<Self, Errno> {
        const WITHOUT: [u32; 5] = [
            linux::CLOCK_MONOTONIC_RAW,
            linux::CLOCK_REALTIME_COARSE,
            linux::CLOCK_MONOTONIC_COARSE,
            linux::CLOCK_REALTIME_ALARM,
            linux::CLOCK_BOOTTIME_ALARM,
        ];
        if number >= 0 && WITHOUT.contains(&number.cast_unsigned()) {
            return Err(Errno::EOPNOTSUPP);
        }
        Self::of(current, number)
    }

    /// Its time in nanoseconds.
    fn now_ns(&self) -> u64 {
        match self {
            Self::Real => wall(),
            Self::Monotonic => clock::now_ns(),
            Self::Process(process) => {
                scheduler::account();
                process.used.get().total_ns()
            }
            Self::Thread(thread) => {
                scheduler::account();
                thread.used.get().total_ns()
            }
        }
    }

    /// What a timer of the caller's process counts for this clock. EINVAL for the CPU time of other
    /// processes.
    pub fn counted(&self, current: &Current) -> Result<TimerClock, Errno> {
        match self {
            Self::Real => Ok(TimerClock::Real),
            Self::Monotonic => Ok(TimerClock::Time),
            Self::Process(process) if process.pid == current.pid() => Ok(TimerClock::Process),
            Self::Process(_) => Err(Errno::EINVAL),
            Self::Thread(thread) => Ok(TimerClock::Thread(thread.tid)),
        }
    }
}

/// Implements clock_gettime(2).
pub fn clock_gettime(current: &Current, clock: i32, time: UserAddr) -> Result<u64, Errno> {
    let now = Clock::of(current, clock)?.now_ns();
    current.write(time, &timespec(now))?;
    Ok(0)
}

/// Implements clock_getres(2).
pub fn clock_getres(current: &Current, clock: i32, resolution: UserAddr) -> Result<u64, Errno> {
    Clock::of(current, clock)?;
    if !resolution.is_null() {
        current.write(resolution, &timespec(1))?;
    }
    Ok(0)
}

/// clock_settime(2): the time since 1970 can be set, but not to before the boot. Waits that have
/// begun end as if it had not been.
pub fn clock_settime(current: &Current, number: i32, time: UserAddr) -> Result<u64, Errno> {
    let clock = Clock::of(current, number)?;
    if number < 0 {
        return Err(Errno::EPERM);
    }
    if !matches!(clock, Clock::Real) || number != 0 {
        return Err(Errno::EINVAL);
    }
    set_wall(read_time(current, time)?)
}

/// Implements settimeofday(2). There is no time zone to set: it is accepted.
pub fn settimeofday(current: &Current, time: UserAddr, zone: UserAddr) -> Result<u64, Errno> {
    const NS_PER_US: u64 = 1000;
    const NS_PER_S: u64 = 1_000_000_000;
    if !zone.is_null() {
        current.read::<8>(zone)?;
    }
    if time.is_null() {
        return Ok(0);
    }
    let bytes: [u8; 16] = current.read(time)?;
    let (seconds, us) = (crate::task::word(&bytes, 0), crate::task::word(&bytes, 8));
    if i64::try_from(seconds).is_err() || us >= NS_PER_S / NS_PER_US {
        return Err(Errno::EINVAL);
    }
    set_wall(seconds.saturating_mul(NS_PER_S).saturating_add(us * NS_PER_US))
}

fn set_wall(ns: u64) -> Result<u64, Errno> {
    let time = i64::try_from(ns).map_err(|_| Errno::EINVAL)?;
    if ns < clock::now_ns() {
        return Err(Errno::EINVAL);
    }
    clock::set_wall_ns(time);
    Ok(0)
}

/// Implements adjtimex(2).
pub fn adjtimex(current: &Current, state: UserAddr) -> Result<u64, Errno> {
    clock_adjtime(current, 0, state)
}

/// clock_adjtime(2): reports that the clock is not synchronised. Its rate cannot be adjusted
/// (EPERM).
pub fn clock_adjtime(current: &Current, number: i32, state: UserAddr) -> Result<u64, Errno> {
    /// `TIME_ERROR`, the result for a clock that is not synchronised.
    const UNSYNCHRONISED: u64 = 5;
    const STATUS_UNSYNCHRONISED: u64 = 0x40;
    const NS_PER_S: u64 = 1_000_000_000;
    // `struct timex`: modes, offset, frequency, errors, status, constant, precision, tolerance,
    // time, tick; and more, which is 0.
    let mut bytes: [u8; 208] = current.read(state)?;
    let modes = super::arguments::half(&bytes, 0);
    Clock::of(current, number)?;
    if number != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if modes != 0 {
        return Err(Errno::EPERM);
    }
    let now = wall();
    let words = [
        0,
        0,
        0,
        16_000_000,
        16_000_000,
        STATUS_UNSYNCHRONISED,
        2,
        1,
        32_768_000,
        now / NS_PER_S,
        now % NS_PER_S / 1000,
        10_000,
    ];
    bytes.fill(0);
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&u64::to_le_bytes(word));
    }
    current.write(state, &bytes)?;
    Ok(UNSYNCHRONISED)
}

/// Implements clock_nanosleep(2).
pub fn nanosleep(
    current: &Current,
    number: i32,
    flags: u32,
    request: UserAddr,
    remaining: UserAddr,
) -> Result<u64, Errno> {
    let clock = Clock::with_timers(current, number)?;
    if number == linux::CLOCK_THREAD_CPUTIME_ID.cast_signed() {
        // It does not pass while the thread waits.
        return Err(Errno::EOPNOTSUPP);
    }
    let ns = read_time(current, request)?;
    let is_absolute = flags & ABSOLUTE != 0;
    match &clock {
        // It is restarted with the same time in any case.
        Clock::Real if is_absolute => sleep_until(current, monotonic(ns), UserAddr::NULL),
        Clock::Monotonic if is_absolute => sleep_until(current, ns, UserAddr::NULL),
        Clock::Real | Clock::Monotonic => {
            sleep_until(current, timer::deadline_after(ns), remaining)
        }
        Clock::Thread(thread) if thread.tid == current.thread.tid => Err(Errno::EINVAL),
        Clock::Process(_) | Clock::Thread(_) => {
            let when = if is_absolute { When::At(ns) } else { When::After(ns) };
            let slept = posix_timer::sleep(clock.counted(current)?, when);
            slept.map(|()| 0).or_else(|(error, left_ns)| {
                if error == Errno::EINTR && !is_absolute && !remaining.is_null() {
                    current.write(remaining, &timespec(left_ns))?;
                }
                Err(error)
            })
        }
    }
}
