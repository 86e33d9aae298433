//! Timers, signals, processes and memory as files: timerfd, signalfd, pidfd, memfd.

use core::time::Duration;
use proof::guest_test;
use proof::kit::{Buffer, Outcome, PAGE, checking_child, child, expect_success, load, raw, store};
use user::prelude::*;
use user::sys::abi;

/// Bytes of a record of signalfd.
const RECORD: usize = 128;
/// `P_PIDFD`.
const BY_DESCRIPTOR: usize = 3;

fn new(result: Result<usize>) -> Result<Fd> {
    result.map(|fd| Fd(fd as i32))
}

/// The events that are present.
fn ready(fd: Fd) -> Result<u32> {
    let mut polled = [abi::pollfd { fd: fd.0, events: abi::POLLIN as i16, revents: 0 }];
    sys::poll_for(&mut polled, Some(Duration::ZERO))?;
    Ok(polled[0].revents as u32)
}

fn timer(clock: u32, flags: u32) -> Result<Fd> {
    new(raw(abi::__NR_timerfd_create, &[clock as usize, flags as usize]))
}

/// Arms a timer. The times are the period and the first expiration.
fn arm(timer: Fd, flags: u32, times: [Duration; 2]) -> Result<()> {
    let words = times.map(|time| [time.as_secs(), time.subsec_nanos().into()]);
    let place = (&raw const words).addr();
    raw(abi::__NR_timerfd_settime, &[timer.argument(), flags as usize, place, 0]).map(drop)
}

/// The period, and the time that is left.
fn left(timer: Fd) -> Result<[Duration; 2]> {
    let mut words = [[0u64; 2]; 2];
    raw(abi::__NR_timerfd_gettime, &[timer.argument(), (&raw mut words).addr()])?;
    Ok(words.map(|[seconds, nanos]| Duration::new(seconds, nanos as u32)))
}

fn expirations(timer: Fd) -> Result<u64> {
    let mut bytes = [0; 8];
    match sys::read(timer, &mut bytes)? {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Errno::EIO),
    }
}

const NONE: Duration = Duration::ZERO;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[guest_test]
fn timer_file_expires() -> Outcome {
    for clock in [abi::CLOCK_REALTIME, abi::CLOCK_MONOTONIC, abi::CLOCK_BOOTTIME] {
        let timer = ok!(timer(clock, 0));
        check_eq!((left(timer), ready(timer)), (Ok([NONE; 2]), Ok(0)));
        ok!(arm(timer, 0, [NONE, Duration::from_secs(9)]));
        check!(ok!(left(timer))[1] > NONE && ok!(left(timer))[1] <= Duration::from_secs(9));
        let start = ok!(sys::clock(abi::CLOCK_MONOTONIC));
        ok!(arm(timer, 0, [NONE, ms(20)]));
        check_eq!(expirations(timer), Ok(1));
        check!(ok!(sys::clock(abi::CLOCK_MONOTONIC)) - start >= ms(20));
        check_eq!((left(timer), ready(timer)), (Ok([NONE; 2]), Ok(0)));
        // An absolute time, and one that is over.
        let now = ok!(sys::clock(clock));
        ok!(arm(timer, abi::TFD_TIMER_ABSTIME, [NONE, now + ms(10)]));
        check_eq!(expirations(timer), Ok(1));
        check!(ok!(sys::clock(clock)) >= now + ms(10));
        ok!(arm(timer, abi::TFD_TIMER_ABSTIME, [NONE, now]));
        check_eq!((ready(timer), expirations(timer)), (Ok(abi::POLLIN), Ok(1)));
        ok!(sys::close(timer));
    }
    Ok(())
}

#[guest_test]
fn timer_file_repeats() -> Outcome {
    let timer = ok!(timer(abi::CLOCK_MONOTONIC, abi::O_NONBLOCK | abi::O_CLOEXEC));
    check_eq!(sys::fcntl(timer, abi::F_GETFD, 0), Ok(1));
    check_eq!(expirations(timer), Err(Errno::EAGAIN));
    ok!(arm(timer, 0, [ms(10), ms(5)]));
    ok!(sys::sleep(ms(40)));
    check_eq!(ready(timer), Ok(abi::POLLIN));
    let count = ok!(expirations(timer));
    check!((4..100).contains(&count), "{count} expirations");
    check_eq!(ready(timer), Ok(0));
    check!(ok!(left(timer))[0] == ms(10) && ok!(left(timer))[1] <= ms(10));
    let mut polled = [abi::pollfd { fd: timer.0, events: abi::POLLIN as i16, revents: 0 }];
    check_eq!(sys::poll_for(&mut polled, Some(Duration::from_secs(9))), Ok(1));
    check!(ok!(expirations(timer)) >= 1);
    // A new setting forgets expirations; zero disarms.
    ok!(sys::sleep(ms(15)));
    ok!(arm(timer, 0, [ms(10), NONE]));
    check_eq!((ready(timer), ok!(left(timer))[1]), (Ok(0), NONE));
    ok!(sys::sleep(ms(15)));
    check_eq!(expirations(timer), Err(Errno::EAGAIN));
    Ok(())
}

#[guest_test]
fn timer_file_errors() -> Outcome {
    check_eq!(timer(99, 0), Err(Errno::EINVAL));
    check_eq!(timer(abi::CLOCK_PROCESS_CPUTIME_ID, 0), Err(Errno::EINVAL));
    check_eq!(timer(abi::CLOCK_MONOTONIC, 1), Err(Errno::EINVAL));
    let timer = ok!(timer(abi::CLOCK_MONOTONIC, 0));
    let set = |fd: usize, flags: usize, words: &[i64; 4]| {
        raw(abi::__NR_timerfd_settime, &[fd, flags, words.as_ptr().addr(), 0])
    };
    let second = [0, 0, 1, 0];
    check_eq!(set(timer.argument(), 4, &second), Err(Errno::EINVAL));
    check_eq!(set(timer.argument(), 0, &[0, 0, -1, 0]), Err(Errno::EINVAL));
    check_eq!(set(timer.argument(), 0, &[0, 0, 0, 1_000_000_000]), Err(Errno::EINVAL));
    check_eq!(set(timer.argument(), 0, &[0, -1, 1, 0]), Err(Errno::EINVAL));
    check_eq!(set(1 << 20, 0, &second), Err(Errno::EBADF));
    let [reader, _] = ok!(sys::pipe(0));
    check_eq!(set(reader.argument(), 0, &second), Err(Errno::EINVAL));
    check_eq!(left(reader), Err(Errno::EINVAL));
    check_eq!(left(Fd(99)), Err(Errno::EBADF));
    check_eq!(raw(abi::__NR_timerfd_settime, &[timer.argument(), 0, 0, 0]), Err(Errno::EFAULT));
    check_eq!(raw(abi::__NR_timerfd_gettime, &[timer.argument(), 0]), Err(Errno::EFAULT));
    check_eq!(sys::read(timer, &mut [0; 7]), Err(Errno::EINVAL));
    check_eq!(sys::write(timer, &[0; 8]), Err(Errno::EINVAL));
    Ok(())
}

fn set(signals: &[u32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

fn signals(fd: i32, set: u64, flags: u32) -> Result<Fd> {
    let place = (&raw const set).addr();
    new(raw(abi::__NR_signalfd4, &[fd as usize, place, 8, flags as usize]))
}

/// Signal, code, process and integer of the next record.
fn next(fd: Fd) -> Result<[i32; 4]> {
    let mut bytes = [0; RECORD];
    if sys::read(fd, &mut bytes)? != RECORD {
        return Err(Errno::EIO);
    }
    Ok([0, 8, 12, 44].map(|at| i32::from_ne_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]))))
}

#[guest_test]
fn signal_file_reads() -> Outcome {
    const USER: i32 = abi::SIGUSR1 as i32;
    let own = sys::getpid();
    let wanted = set(&[abi::SIGUSR1, 40]);
    ok!(sys::signal_mask(wanted | set(&[abi::SIGUSR2])));
    let fd = ok!(signals(-1, wanted, abi::O_NONBLOCK | abi::O_CLOEXEC));
    check_eq!((ready(fd), next(fd)), (Ok(0), Err(Errno::EAGAIN)));
    ok!(sys::kill(own, abi::SIGUSR2 as i32));
    check_eq!(ready(fd), Ok(0));
    // The thread's own ones first, then those of the process.
    ok!(sys::kill(own, USER));
    ok!(raw(abi::__NR_tgkill, &[own as usize, own as usize, 40]));
    check_eq!(ready(fd), Ok(abi::POLLIN));
    check_eq!(next(fd), Ok([40, -6, own, 0]));
    check_eq!(next(fd), Ok([USER, 0, own, 0]));
    check_eq!(next(fd), Err(Errno::EAGAIN));
    // A value; several records in one read.
    let mut info = [0u32; 32];
    (info[0], info[2], info[4], info[6]) = (40, u32::MAX, own as u32, 77);
    let place = info.as_ptr().addr();
    for _ in 0..3 {
        ok!(raw(abi::__NR_rt_sigqueueinfo, &[own as usize, 40, place]));
    }
    check_eq!(next(fd), Ok([40, -1, own, 77]));
    check_eq!(sys::read(fd, &mut [0; 5 * RECORD]), Ok(2 * RECORD));
    // Another set for the same descriptor.
    check_eq!(signals(fd.0, set(&[abi::SIGUSR2]), 0), Ok(fd));
    check_eq!(next(fd), Ok([abi::SIGUSR2 as i32, 0, own, 0]));
    Ok(())
}

#[guest_test]
fn signal_file_waits() -> Outcome {
    let wanted = set(&[abi::SIGUSR1, abi::SIGCHLD]);
    ok!(sys::signal_mask(wanted));
    let fd = ok!(signals(-1, wanted, 0));
    let parent = sys::getpid();
    for _ in 0..3 {
        let sender = child(|| {
            let _ = sys::sleep(ms(10));
            sys::kill(parent, abi::SIGUSR1 as i32).is_err().into()
        })?;
        check_eq!(next(fd), Ok([abi::SIGUSR1 as i32, 0, sender, 0]));
        // The child's end, by way of poll.
        let mut polled = [abi::pollfd { fd: fd.0, events: abi::POLLIN as i16, revents: 0 }];
        check_eq!(sys::poll_for(&mut polled, None), Ok(1));
        check_eq!(next(fd), Ok([abi::SIGCHLD as i32, 1, sender, 0]));
        expect_success(sender)?;
    }
    // A child reads its own signals, not its parent's.
    ok!(sys::kill(parent, abi::SIGUSR1 as i32));
    let reader = checking_child(|| {
        check_eq!(ready(fd), Ok(0));
        ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
        check_eq!(next(fd), Ok([abi::SIGUSR1 as i32, 0, sys::getpid(), 0]));
        Ok(())
    })?;
    expect_success(reader)?;
    check_eq!(next(fd), Ok([abi::SIGUSR1 as i32, 0, parent, 0]));
    Ok(())
}

#[guest_test]
fn signal_file_errors() -> Outcome {
    let wanted = set(&[abi::SIGUSR1]);
    let place = (&raw const wanted).addr();
    check_eq!(signals(-1, wanted, 1), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_signalfd4, &[usize::MAX, place, 4, 0]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_signalfd, &[usize::MAX, 0, 8]), Err(Errno::EFAULT));
    check_eq!(signals(99, wanted, 0), Err(Errno::EBADF));
    let [reader, _] = ok!(sys::pipe(0));
    check_eq!(signals(reader.0, wanted, 0), Err(Errno::EINVAL));
    let fd = ok!(new(raw(abi::__NR_signalfd, &[usize::MAX, place, 8])));
    check_eq!(sys::read(fd, &mut [0; RECORD - 1]), Err(Errno::EINVAL));
    check_eq!(sys::write(fd, &[0; RECORD]), Err(Errno::EINVAL));
    Ok(())
}

fn process(pid: i32, flags: u32) -> Result<Fd> {
    new(raw(abi::__NR_pidfd_open, &[pid as usize, flags as usize]))
}

fn send(process: Fd, signal: u32) -> Result<usize> {
    raw(abi::__NR_pidfd_send_signal, &[process.argument(), signal as usize, 0, 0])
}

/// waitid(2). Returns signal, code, process and status.
fn wait(process: Fd, options: u32) -> Result<[i32; 4]> {
    let mut info = [0i32; 32];
    let place = info.as_mut_ptr().addr();
    let arguments = [BY_DESCRIPTOR, process.argument(), place, options as usize, 0];
    raw(abi::__NR_waitid, &arguments)?;
    Ok([0, 2, 4, 6].map(|at| info[at]))
}

#[guest_test]
fn process_file() -> Outcome {
    let sleeper = child(|| {
        let _ = sys::sleep(Duration::from_secs(100));
        0
    })?;
    let fd = ok!(process(sleeper, abi::O_NONBLOCK));
    check_eq!(sys::fcntl(fd, abi::F_GETFD, 0), Ok(1));
    check_eq!((ready(fd), send(fd, 0)), (Ok(0), Ok(0)));
    check_eq!(wait(fd, abi::WEXITED), Err(Errno::EAGAIN));
    ok!(send(fd, abi::SIGTERM));
    let mut polled = [abi::pollfd { fd: fd.0, events: abi::POLLIN as i16, revents: 0 }];
    check_eq!(sys::poll_for(&mut polled, None), Ok(1));
    check_eq!(polled[0].revents as u32, abi::POLLIN);
    check_eq!(send(fd, 0), Ok(0));
    let killed = [abi::SIGCHLD as i32, 2, sleeper, abi::SIGTERM as i32];
    check_eq!(wait(fd, abi::WEXITED | abi::WNOWAIT), Ok(killed));
    check_eq!(wait(fd, abi::WEXITED), Ok(killed));
    check_eq!(wait(fd, abi::WEXITED), Err(Errno::ECHILD));
    check_eq!(send(fd, 0), Err(Errno::ESRCH));
    check!(ok!(ready(fd)) & abi::POLLIN != 0);
    // A wait for the end.
    let brief = child(|| {
        let _ = sys::sleep(ms(10));
        7
    })?;
    let fd = ok!(process(brief, 0));
    check_eq!(wait(fd, abi::WEXITED), Ok([abi::SIGCHLD as i32, 1, brief, 7]));
    Ok(())
}

/// clone(2) opens the child as a file, which the child does not have.
#[guest_test]
fn process_file_of_clone() -> Outcome {
    const PIDFD: u32 = 0x1000;
    let mut number = -1i32;
    let place = (&raw mut number).addr();
    let clone = |flags: u32, place: usize| {
        raw(abi::__NR_clone, &[(flags | abi::SIGCHLD) as usize, 0, place, 0, 0])
    };
    let Some(ended) = Some(ok!(clone(PIDFD, place))).filter(|&child| child != 0) else {
        sys::exit(i32::from(sys::fcntl(Fd(number), abi::F_GETFD, 0) != Err(Errno::EBADF)));
    };
    let fd = Fd(number);
    check_eq!(sys::fcntl(fd, abi::F_GETFD, 0), Ok(1));
    check_eq!(wait(fd, abi::WEXITED), Ok([abi::SIGCHLD as i32, 1, ended as i32, 0]));
    check_eq!(clone(PIDFD | abi::CLONE_PARENT_SETTID, place), Err(Errno::EINVAL));
    check_eq!(clone(PIDFD | abi::CLONE_DETACHED, place), Err(Errno::EINVAL));
    check_eq!(clone(PIDFD, 0), Err(Errno::EFAULT));
    check_eq!(ok!(sys::dup(fd)), Fd(fd.0 + 1));
    Ok(())
}

#[guest_test]
fn process_file_errors() -> Outcome {
    let own = sys::getpid();
    check_eq!(process(0, 0), Err(Errno::EINVAL));
    check_eq!(process(-1, 0), Err(Errno::EINVAL));
    check_eq!(process(own, 1), Err(Errno::EINVAL));
    check_eq!(process(i32::MAX - 7, 0), Err(Errno::ESRCH));
    let fd = ok!(process(own, 0));
    check_eq!(sys::read(fd, &mut [0; 8]), Err(Errno::EINVAL));
    check_eq!(send(fd, 99), Err(Errno::EINVAL));
    check_eq!(
        raw(abi::__NR_pidfd_send_signal, &[fd.argument(), 0, 0, 1 << 20]),
        Err(Errno::EINVAL)
    );
    let [reader, _] = ok!(sys::pipe(0));
    check_eq!(send(reader, 0), Err(Errno::EBADF));
    check_eq!(send(Fd(99), 0), Err(Errno::EBADF));
    check_eq!(wait(reader, abi::WEXITED), Err(Errno::EBADF));
    check_eq!(wait(fd, abi::WEXITED), Err(Errno::ECHILD));
    // Information about another signal.
    let mut info = [0u32; 32];
    info[0] = abi::SIGUSR1;
    let place = info.as_ptr().addr();
    check_eq!(
        raw(abi::__NR_pidfd_send_signal, &[fd.argument(), abi::SIGUSR2 as usize, place, 0]),
        Err(Errno::EINVAL)
    );
    Ok(())
}

fn memory(name: &[u8], flags: u32) -> Result<Fd> {
    new(raw(abi::__NR_memfd_create, &[name.as_ptr().addr(), flags as usize]))
}

#[guest_test]
fn memory_file() -> Outcome {
    let fd = ok!(memory(b"a name\0", abi::MFD_CLOEXEC));
    check_eq!(sys::fcntl(fd, abi::F_GETFD, 0), Ok(1));
    let stat = ok!(sys::fstat(fd));
    check!(user::fs::is_kind(stat.st_mode, abi::S_IFREG));
    check_eq!((stat.st_nlink, stat.st_size), (0, 0));
    check_eq!(sys::write(fd, b"some bytes"), Ok(10));
    let mut bytes = [0; 10];
    check_eq!(sys::pread(fd, &mut bytes, FileOffset::ZERO), Ok(10));
    check_eq!(&bytes, b"some bytes");
    ok!(sys::ftruncate(fd, ByteCount(2 * PAGE as u64)));
    // Mapped shared, it is one memory for a child and for read(2).
    let shared = Buffer::of_file(fd, 2 * PAGE)?;
    check_eq!(load(shared.at(0)), b's');
    let writer = checking_child(|| {
        store(shared.at(PAGE), 7);
        Ok(())
    })?;
    expect_success(writer)?;
    check_eq!(load(shared.at(PAGE)), 7);
    check_eq!(sys::pread(fd, &mut bytes[..1], FileOffset(PAGE as u64)), Ok(1));
    check_eq!(bytes[0], 7);
    Ok(())
}

#[guest_test]
fn memory_file_errors() -> Outcome {
    check_eq!(memory(b"x\0", 1 << 20), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_memfd_create, &[0, 0]), Err(Errno::EFAULT));
    let mut name = [b'x'; 251];
    name[250] = 0;
    check_eq!(memory(&name, 0), Err(Errno::EINVAL));
    name[249] = 0;
    ok!(sys::close(ok!(memory(&name, 0))));
    let fd = ok!(memory(b"\0", 0));
    check_eq!(sys::fcntl(fd, abi::F_GETFD, 0), Ok(0));
    Ok(())
}
