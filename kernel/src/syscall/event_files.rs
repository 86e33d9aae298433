//! Timers, signals and processes as files: timerfd, signalfd, pidfd.

use super::arguments::{only, open_file};
use super::epoll::install_nameless;
use super::signal::{check_set, number, program_info, read_set};
use super::time::{NS_PER_S, monotonic, timespec};
use crate::arch::clock;
use crate::file::{Caller, Fd, IoCaller, OpenFile, downcast};
use crate::mem::UserAddr;
use crate::task::pid_file::PidFile;
use crate::task::signal::{Signal, SignalInfo};
use crate::task::signal_file::SignalFile;
use crate::task::timer_file::{OpenTimer, TimerBase, TimerFile};
use crate::task::{Current, Process, find_process, find_thread, send, word};
use alloc::sync::Arc;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// The flags of all new descriptors here: those of open(2).
const NEW: u32 = linux::O_CLOEXEC | linux::O_NONBLOCK;
/// Bytes of a `struct itimerspec`: period and time, each in seconds and nanoseconds.
const ITIMERSPEC_BYTES: usize = 32;

/// timerfd_create(2). The clocks that wake a machine count as those that do not.
pub fn timerfd_create(current: &dyn Caller, clock: u32, flags: u32) -> Result<u64, Errno> {
    only(flags, NEW)?;
    let clock = match clock {
        linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_ALARM => TimerBase::Real,
        linux::CLOCK_MONOTONIC | linux::CLOCK_BOOTTIME | linux::CLOCK_BOOTTIME_ALARM => {
            TimerBase::Boot
        }
        _ => return Err(Errno::EINVAL),
    };
    install_nameless(current, Arc::new(OpenTimer(TimerFile::new(clock))), flags)
}

/// The timer of a descriptor; EINVAL for other files.
fn timer_of(current: &dyn Caller, fd: Fd) -> Result<Arc<TimerFile>, Errno> {
    let file = open_file(current, fd)?;
    let timer = downcast::<OpenTimer>(file.object()).ok_or(Errno::EINVAL)?;
    Ok(timer.0.clone())
}

/// A time within a `struct itimerspec`, in nanoseconds; EINVAL where it is none.
fn time_at(bytes: &[u8; ITIMERSPEC_BYTES], at: usize) -> Result<u64, Errno> {
    let (seconds, nanos) = (word(bytes, at), word(bytes, at + 8));
    if i64::try_from(seconds).is_err() || nanos >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_S).saturating_add(nanos))
}

fn write_setting(
    current: &Current,
    address: UserAddr,
    (left_ns, period_ns): (u64, u64),
) -> Result<(), Errno> {
    let mut bytes = [0; ITIMERSPEC_BYTES];
    let (period, left) = bytes.split_at_mut(ITIMERSPEC_BYTES / 2);
    period.copy_from_slice(&timespec(period_ns));
    left.copy_from_slice(&timespec(left_ns));
    current.write(address, &bytes)
}

/// timerfd_settime(2). Setting a clock moves no timer, so `TFD_TIMER_CANCEL_ON_SET` has no effect.
pub fn timerfd_settime(
    current: &Current,
    fd: Fd,
    flags: u32,
    new: UserAddr,
    old: UserAddr,
) -> Result<u64, Errno> {
    let bytes = current.read(new)?;
    only(flags, linux::TFD_TIMER_ABSTIME | linux::TFD_TIMER_CANCEL_ON_SET)?;
    let (period_ns, time_ns) = (time_at(&bytes, 0)?, time_at(&bytes, ITIMERSPEC_BYTES / 2)?);
    let timer = timer_of(current, fd)?;
    let next_ns = match flags & linux::TFD_TIMER_ABSTIME {
        0 => clock::now_ns().saturating_add(time_ns),
        _ if timer.clock == TimerBase::Real => monotonic(time_ns),
        _ => time_ns,
    };
    let before = timer.set((time_ns != 0).then_some(next_ns), period_ns);
    if !old.is_null() {
        write_setting(current, old, before)?;
    }
    Ok(0)
}

/// Implements timerfd_gettime(2).
pub fn timerfd_gettime(current: &Current, fd: Fd, now: UserAddr) -> Result<u64, Errno> {
    write_setting(current, now, timer_of(current, fd)?.left())?;
    Ok(0)
}

/// Implements signalfd(2).
pub fn signalfd(current: &Current, fd: i32, mask: UserAddr, bytes: u64) -> Result<u64, Errno> {
    signalfd4(current, fd, mask, bytes, 0)
}

/// signalfd4(2): makes a descriptor for -1, else changes the set of one.
pub fn signalfd4(
    current: &Current,
    fd: i32,
    mask: UserAddr,
    set_bytes: u64,
    flags: u32,
) -> Result<u64, Errno> {
    check_set(set_bytes)?;
    let set = read_set(current, mask)?;
    only(flags, NEW)?;
    if fd == -1 {
        return install_nameless(current, SignalFile::new(set), flags);
    }
    let file = open_file(current, Fd(fd))?;
    downcast::<SignalFile>(file.object()).ok_or(Errno::EINVAL)?.set(set);
    Ok(Fd(fd).result())
}

/// pidfd_open(2). A thread that is not the first of its process cannot be opened: EINVAL.
pub fn pidfd_open(current: &Current, pid: i32, flags: u32) -> Result<u64, Errno> {
    only(flags, linux::O_NONBLOCK)?;
    let pid = u32::try_from(pid).ok().filter(|&pid| pid > 0).ok_or(Errno::EINVAL)?;
    let not_found = if find_thread(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH };
    let process = find_process(pid).ok_or(not_found)?;
    install_process(current, &process, flags)
}

/// Opens a process as a file that exec closes.
pub(super) fn install_process(
    current: &dyn Caller,
    process: &Arc<Process>,
    flags: u32,
) -> Result<u64, Errno> {
    let file = PidFile::new(process, current.account())?;
    install_nameless(current, file, flags | linux::O_CLOEXEC)
}

/// The file of a process that is open. EBADF for other files.
pub(super) fn pid_file(file: &OpenFile) -> Result<Arc<PidFile>, Errno> {
    downcast(file.object()).ok_or(Errno::EBADF)
}

/// Implements pidfd_send_signal(2).
pub fn pidfd_send_signal(
    current: &Current,
    fd: Fd,
    signal: i32,
    info: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, 0)?;
    let file = open_file(current, fd)?;
    let file = pid_file(&file)?;
    let target = file.process();
    let pid = target.as_ref().map_or(0, |process| process.pid);
    let info = if info.is_null() {
        let (signal, pid) = (number(signal)?, current.pid());
        SignalInfo { signal, code: SignalInfo::USER, pid, ..SignalInfo::default() }
    } else {
        let bytes: [u8; 4] = current.read(info)?;
        if i32::from_le_bytes(bytes) != signal {
            return Err(Errno::EINVAL);
        }
        program_info(current, pid.cast_signed(), signal, info)?
    };
    let process = target?;
    if info.signal != Signal::NONE {
        send::to_process(&process, info);
    }
    Ok(0)
}
