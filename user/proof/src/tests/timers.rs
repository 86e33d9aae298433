//! Timers of processes (timer_create), sleeps on CPU clocks, and the setting of clocks.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use core::time::Duration;
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, raw};
use user::prelude::*;
use user::sys::abi;

const MONOTONIC: usize = abi::CLOCK_MONOTONIC as usize;
const PROCESS_CPU: usize = abi::CLOCK_PROCESS_CPUTIME_ID as usize;
const MS: u64 = 1_000_000;
const QUEUED: u32 = 40;
const SI_TIMER: i32 = -2;

/// A `struct sigevent`: value, signal, kind, thread.
#[repr(C)]
struct Event {
    value: u64,
    signal: i32,
    kind: u32,
    thread: i32,
    rest: [u32; 11],
}

fn event(kind: u32, signal: u32) -> Event {
    let thread = raw(abi::__NR_gettid, &[]).map_or(0, |tid| tid as i32);
    Event { value: 77, signal: signal as i32, kind, thread, rest: [0; 11] }
}

fn create(clock: usize, event: Option<&Event>) -> Result<i32> {
    let mut id = -1i32;
    let event = event.map_or(0, |event| core::ptr::from_ref(event) as usize);
    raw(abi::__NR_timer_create, &[clock, event, &raw mut id as usize])?;
    Ok(id)
}

/// Sets a timer; returns the old setting: period and time left, in nanoseconds.
fn set(id: i32, flags: usize, period: u64, value: u64) -> Result<[u64; 2]> {
    let time = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000];
    let new = [time(period), time(value)];
    let mut old = [[0u64; 2]; 2];
    let given = [id as usize, flags, new.as_ptr() as usize, old.as_mut_ptr() as usize];
    raw(abi::__NR_timer_settime, &given)?;
    Ok(old.map(|[seconds, ns]| seconds * 1_000_000_000 + ns))
}

fn left(id: i32) -> Result<[u64; 2]> {
    let mut now = [[0u64; 2]; 2];
    raw(abi::__NR_timer_gettime, &[id as usize, now.as_mut_ptr() as usize])?;
    Ok(now.map(|[seconds, ns]| seconds * 1_000_000_000 + ns))
}

fn overrun(id: i32) -> Result<usize> {
    raw(abi::__NR_timer_getoverrun, &[id as usize])
}

fn delete(id: i32) -> Result<usize> {
    raw(abi::__NR_timer_delete, &[id as usize])
}

/// Takes a blocked signal: its information. EAGAIN if none comes in a second.
fn take(signal: u32) -> Result<[i32; 32]> {
    let (set, mut info, time) = (1u64 << (signal - 1), [0i32; 32], [1u64, 0]);
    let given = [&raw const set as usize, info.as_mut_ptr() as usize, time.as_ptr() as usize, 8];
    raw(abi::__NR_rt_sigtimedwait, &given)?;
    Ok(info)
}

#[guest_test]
fn timer_arguments() -> Outcome {
    let invalid = Err(Errno::EINVAL);
    let usual = event(abi::SIGEV_SIGNAL, QUEUED);
    check_eq!(create(77, Some(&usual)), invalid);
    check_eq!(create(abi::CLOCK_MONOTONIC_RAW as usize, Some(&usual)), Err(Errno(95)));
    check_eq!(create(MONOTONIC, Some(&event(9, QUEUED))), invalid);
    for signal in [0, 65, u32::MAX] {
        check_eq!(create(MONOTONIC, Some(&event(abi::SIGEV_SIGNAL, signal))), invalid);
    }
    let mut other = event(abi::SIGEV_THREAD_ID, QUEUED);
    other.thread = sys::getppid();
    check_eq!(create(MONOTONIC, Some(&other)), invalid);
    check_eq!(raw(abi::__NR_timer_create, &[MONOTONIC, 16, 16]), Err(Errno::EFAULT));
    check_eq!(raw(abi::__NR_timer_create, &[MONOTONIC, 0, 16]), Err(Errno::EFAULT));
    let id = ok!(create(MONOTONIC, Some(&usual)));
    check_eq!(set(id, 0, 0, 0), Ok([0, 0]));
    let words = [0u64, 0, 0, 1_000_000_000];
    let given = [id as usize, 0, words.as_ptr() as usize, 0];
    check_eq!(raw(abi::__NR_timer_settime, &given), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_timer_settime, &[id as usize, 0, 0, 0]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_timer_gettime, &[id as usize, 16]), Err(Errno::EFAULT));
    check_eq!(delete(id), Ok(0));
    check_eq!(delete(id), Err(Errno::EINVAL));
    check_eq!((left(id), overrun(id)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    check_eq!(set(id, 0, 0, 1), Err(Errno::EINVAL));
    Ok(())
}

/// A timer's signal carries its value; what expires before delivery is its overrun.
#[guest_test(checked: true)]
fn timer_signals() -> Outcome {
    ok!(sys::signal_mask(1 << (QUEUED - 1) | 1 << (abi::SIGALRM - 1)));
    for kind in [abi::SIGEV_SIGNAL, abi::SIGEV_THREAD_ID] {
        let id = ok!(create(MONOTONIC, Some(&event(kind, QUEUED))));
        ok!(set(id, 0, 0, MS));
        let info = ok!(take(QUEUED));
        check_eq!((info[0], info[2], info[4], info[5], info[6]), (40, SI_TIMER, id, 0, 77));
        check_eq!(left(id), Ok([0, 0]));
        ok!(set(id, 0, 5 * MS, 5 * MS));
        ok!(sys::sleep(Duration::from_millis(53)));
        let info = ok!(take(QUEUED));
        let count = info[5];
        check!((9..=40).contains(&count), "an overrun of {count}");
        check_eq!(overrun(id), Ok(count as usize));
        let [period, value] = ok!(set(id, 0, 0, 0));
        check!(period == 5 * MS && value > 0 && value <= 5 * MS, "{period} {value}");
        ok!(delete(id));
    }
    // Without an event, SIGALRM with the timer's number.
    let id = ok!(create(abi::CLOCK_REALTIME as usize, None));
    ok!(set(id, 0, 0, MS));
    let info = ok!(take(abi::SIGALRM));
    check_eq!((info[2], info[6]), (SI_TIMER, id));
    // An absolute time that has passed.
    let past = abi::TIMER_ABSTIME as usize;
    ok!(set(id, past, 0, MS));
    check_eq!(ok!(take(abi::SIGALRM))[4], id);
    Ok(())
}

/// A timer with the shortest period leaves the CPU to programs, whether its signal is blocked or
/// ignored; what it missed is its overrun.
#[guest_test]
fn timer_of_nanoseconds() -> Outcome {
    ok!(sys::signal_mask(1 << (QUEUED - 1)));
    let id = ok!(create(MONOTONIC, Some(&event(abi::SIGEV_SIGNAL, QUEUED))));
    ok!(set(id, 0, 1, 1));
    ok!(sys::sleep(Duration::from_millis(20)));
    let info = ok!(take(QUEUED));
    check!(info[5] > 1_000_000, "an overrun of {}", info[5]);
    ok!(sys::signal_ignore(QUEUED as i32));
    ok!(sys::sleep(Duration::from_millis(20)));
    ok!(delete(id));
    // The signal of a timer that is gone is gone, too.
    let id = ok!(create(MONOTONIC, Some(&event(abi::SIGEV_SIGNAL, QUEUED + 1))));
    ok!(sys::signal_mask(1 << QUEUED));
    ok!(set(id, 0, 0, MS));
    ok!(sys::sleep(Duration::from_millis(5)));
    ok!(delete(id));
    check_eq!(take(QUEUED + 1), Err(Errno::EAGAIN));
    Ok(())
}

/// A timer without a notification shows its time; a child has no timers of its parent.
#[guest_test]
fn timer_silent() -> Outcome {
    let id = ok!(create(MONOTONIC, Some(&event(abi::SIGEV_NONE, 0))));
    ok!(set(id, 0, 0, 100_000 * MS));
    let [period, value] = ok!(left(id));
    check!(period == 0 && value > 90_000 * MS && value <= 100_000 * MS, "{value}");
    let child = checking_child(|| {
        check_eq!(left(id), Err(Errno::EINVAL));
        Ok(())
    })?;
    expect_success(child)?;
    ok!(set(id, 0, 0, MS));
    ok!(sys::sleep(Duration::from_millis(5)));
    check_eq!(left(id), Ok([0, 0]));
    ok!(set(id, 0, 7 * MS, MS));
    ok!(sys::sleep(Duration::from_millis(5)));
    let [period, value] = ok!(left(id));
    check!(period == 7 * MS && value > 0 && value <= 7 * MS, "{value}");
    Ok(())
}

/// Each timer takes one of the signals that may be queued.
#[guest_test]
fn timer_limit() -> Outcome {
    let [_, hard] = ok!(sys::limit(abi::RLIMIT_SIGPENDING));
    ok!(sys::set_limit(abi::RLIMIT_SIGPENDING, [0, hard]));
    let event = event(abi::SIGEV_SIGNAL, QUEUED);
    check_eq!(create(MONOTONIC, Some(&event)), Err(Errno::EAGAIN));
    Ok(())
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);
static OVERRUN: AtomicI32 = AtomicI32::new(-1);

extern "C" fn count(_: i32, info: &[i32; 32], _: usize) {
    OVERRUN.store(info[5], Ordering::SeqCst);
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn cpu(clock: usize) -> Outcome<Duration> {
    Ok(ok!(sys::clock(clock as u32)))
}

/// Timers of CPU time send while the process computes, and not while it waits.
#[guest_test]
fn timer_cpu_time() -> Outcome {
    // SAFETY: with SA_SIGINFO the kernel calls a handler with these three arguments.
    let handler = unsafe {
        core::mem::transmute::<extern "C" fn(i32, &[i32; 32], usize), sys::signal::Handler>(count)
    };
    ok!(sys::signal_handle(QUEUED as i32, handler, abi::SA_SIGINFO | abi::SA_RESTART));
    let own = !(0usize) << 3;
    for clock in [PROCESS_CPU, abi::CLOCK_THREAD_CPUTIME_ID as usize, own | 2, own | 6] {
        SIGNALS.store(0, Ordering::SeqCst);
        let id = ok!(create(clock, Some(&event(abi::SIGEV_SIGNAL, QUEUED))));
        ok!(set(id, 0, 0, 30 * MS));
        ok!(sys::sleep(Duration::from_millis(100)));
        check_eq!(SIGNALS.load(Ordering::SeqCst), 0, "clock {clock:#x} passes in a sleep");
        let start = cpu(clock)?;
        while SIGNALS.load(Ordering::SeqCst) == 0 {
            let used = cpu(clock)?.saturating_sub(start);
            check!(used < Duration::from_secs(3), "no signal after {used:?}");
        }
        check_eq!(left(id), Ok([0, 0]));
        ok!(delete(id));
    }
    Ok(())
}

/// The CPU time of other processes and threads has clocks, too.
#[guest_test]
fn timer_cpu_clocks() -> Outcome {
    let parent = sys::getppid();
    let clock_of = |pid: i32, kind: i32| (!pid << 3 | kind) as isize as usize;
    let resolution = |clock: usize| raw(abi::__NR_clock_getres, &[clock, 0]);
    check_eq!(resolution(clock_of(parent, 2)), Ok(0));
    check_eq!(resolution(clock_of(sys::getpid(), 2)), Ok(0));
    check_eq!(resolution(clock_of(i32::MAX >> 4, 2)), Err(Errno::EINVAL));
    check_eq!(resolution(clock_of(parent, 6)), Err(Errno::EINVAL), "another process's thread");
    let time = [0u64, 1];
    let set = |clock: usize| raw(abi::__NR_clock_settime, &[clock, time.as_ptr() as usize]);
    check_eq!(set(MONOTONIC), Err(Errno::EINVAL));
    check_eq!(set(77), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_clock_settime, &[0, 16]), Err(Errno::EFAULT));
    let mut state = [0u64; 26];
    let result = raw(abi::__NR_clock_adjtime, &[0, state.as_mut_ptr() as usize]);
    check!(result.is_ok(), "{result:?}");
    check_eq!(state[11], 10_000, "microseconds of a tick");
    check!(state[9] > 1_000_000_000, "seconds since 1970");
    Ok(())
}

/// Sleeps on a clock of CPU time end when another thread has used it; signals interrupt them.
#[guest_test]
fn timer_cpu_sleep() -> Outcome {
    use proof::thread::Thread;
    static END: AtomicU32 = AtomicU32::new(0);
    extern "C" fn compute(_: usize) {
        while END.load(Ordering::SeqCst) == 0 {
            core::hint::spin_loop();
        }
    }
    let thread = Thread::start(compute, 0)?;
    let before = cpu(PROCESS_CPU)?;
    let time = [0u64, 20 * MS];
    let slept = raw(abi::__NR_clock_nanosleep, &[PROCESS_CPU, 0, time.as_ptr() as usize, 0]);
    check_eq!(slept, Ok(0));
    let used = cpu(PROCESS_CPU)?.saturating_sub(before);
    check!(used >= Duration::from_millis(20), "only {used:?}");
    let past = [0u64, 1];
    let at = [PROCESS_CPU, 1, past.as_ptr() as usize, 0];
    check_eq!(raw(abi::__NR_clock_nanosleep, &at), Ok(0));
    END.store(1, Ordering::SeqCst);
    thread.join();
    let own_thread = (!0i32 << 3 | 6) as isize as usize;
    let given = [own_thread, 0, time.as_ptr() as usize, 0];
    check_eq!(raw(abi::__NR_clock_nanosleep, &given), Err(Errno::EINVAL));
    Ok(())
}
