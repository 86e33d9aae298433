//! Queued signals: values, order, and reception without a handler.

use core::sync::atomic::{AtomicU64, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, raw};
use user::prelude::*;
use user::sys::abi;

/// `SI_QUEUE`, and other values of `si_code`.
const QUEUE: i32 = -1;
const USER: i32 = 0;
const EXITED: i32 = 1;

/// The fields of `siginfo_t` that are checked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Info {
    signal: i32,
    error: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

fn info(code: i32, value: u64) -> Info {
    Info { code, pid: sys::getpid(), value, ..Info::default() }
}

fn set(signals: &[u32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

fn queue(pid: i32, signal: u32, info: &Info) -> Result<usize> {
    raw(
        abi::__NR_rt_sigqueueinfo,
        &[pid as usize, signal as usize, core::ptr::from_ref(info) as usize],
    )
}

/// rt_sigtimedwait(2). Waits for ever without a time.
fn take(set: u64, time: Option<[u64; 2]>) -> Result<Info> {
    let mut info = Info::default();
    let time = time.as_ref().map_or(0, |time| time.as_ptr() as usize);
    let signal = raw(
        abi::__NR_rt_sigtimedwait,
        &[&raw const set as usize, &raw mut info as usize, time, 8],
    )?;
    if info.signal == signal as i32 { Ok(info) } else { Err(Errno::EINVAL) }
}

const NO_TIME: Option<[u64; 2]> = Some([0, 0]);

#[guest_test]
fn signal_queued() -> Outcome {
    let own = sys::getpid();
    let all = set(&[40, 41, abi::SIGUSR1]);
    ok!(sys::signal_mask(all));
    for (signal, value) in
        [(41, 1), (40, 2), (41, 3), (abi::SIGUSR1, 4), (40, 5), (abi::SIGUSR1, 6)]
    {
        check_eq!(queue(own, signal, &info(QUEUE, value)), Ok(0));
    }
    ok!(sys::kill(own, 41));
    // The lowest number first, queued ones in the order of sending; of a standard signal only the
    // first.
    for (signal, code, value) in [
        (abi::SIGUSR1, QUEUE, 4),
        (40, QUEUE, 2),
        (40, QUEUE, 5),
        (41, QUEUE, 1),
        (41, QUEUE, 3),
        (41, USER, 0),
    ] {
        let found = ok!(take(all, NO_TIME));
        check_eq!(
            (found.signal, found.code, found.pid, found.value),
            (signal as i32, code, own, value)
        );
    }
    check_eq!(take(all, NO_TIME), Err(Errno::EAGAIN));
    // Values of `si_code` that are refused towards other processes.
    let parent = sys::getppid();
    check_eq!(queue(parent, 0, &info(USER, 0)), Err(Errno::EPERM));
    check_eq!(queue(parent, 0, &info(-6, 0)), Err(Errno::EPERM));
    check_eq!(queue(parent, 0, &info(QUEUE, 0)), Ok(0));
    check_eq!(queue(own, 65, &info(QUEUE, 0)), Err(Errno::EINVAL));
    check_eq!(queue(i32::MAX, 40, &info(QUEUE, 0)), Err(Errno::ESRCH));
    let words = info(QUEUE, 9);
    let arguments = [own as usize, own as usize, 40, &raw const words as usize];
    check_eq!(raw(abi::__NR_rt_tgsigqueueinfo, &arguments), Ok(0));
    check_eq!(ok!(take(all, NO_TIME)).value, 9);
    Ok(())
}

static SUM: AtomicU64 = AtomicU64::new(0);

extern "C" fn add_value(_: i32, info: &Info, _: usize) {
    SUM.fetch_add(info.value, Ordering::SeqCst);
}

/// A handler with three arguments gets each value once.
#[guest_test]
fn signal_values() -> Outcome {
    // SAFETY: with SA_SIGINFO the kernel calls a handler with these three arguments.
    let handler = unsafe {
        core::mem::transmute::<extern "C" fn(i32, &Info, usize), sys::signal::Handler>(add_value)
    };
    ok!(sys::signal_handle(40, handler, abi::SA_SIGINFO));
    ok!(sys::signal_mask(set(&[40])));
    for value in [1, 10, 100, 1000] {
        check_eq!(queue(sys::getpid(), 40, &info(QUEUE, value)), Ok(0));
    }
    check_eq!(SUM.load(Ordering::SeqCst), 0);
    ok!(sys::signal_mask(0));
    check_eq!(SUM.load(Ordering::SeqCst), 1111);
    Ok(())
}

#[guest_test]
fn signal_taken() -> Outcome {
    // The end of a child, which is ignored by default.
    ok!(sys::signal_mask(set(&[abi::SIGCHLD])));
    let ended = child(|| 7)?;
    let found = ok!(take(set(&[abi::SIGCHLD]), None));
    check_eq!(
        (found.signal, found.code, found.pid, found.value),
        (abi::SIGCHLD as i32, EXITED, ended, 7)
    );
    check_eq!(ok!(sys::wait_for(ended)).exit_code(), Some(7));
    ok!(take(set(&[abi::SIGCHLD]), NO_TIME).err().ok_or(Errno::EEXIST));
    // Signals from others that arrive during the wait and would end the process by default.
    ok!(sys::signal_mask(set(&[40, abi::SIGTERM, abi::SIGCHLD])));
    let parent = sys::getpid();
    for signal in [40, abi::SIGTERM] {
        let sender = checking_child(|| {
            check_eq!(queue(parent, signal, &info(QUEUE, 5)), Ok(0));
            Ok(())
        })?;
        let found = ok!(take(set(&[40, abi::SIGTERM]), None));
        check_eq!(
            (found.signal, found.code, found.pid, found.value),
            (signal as i32, QUEUE, sender, 5)
        );
        expect_success(sender)?;
    }
    Ok(())
}

extern "C" fn ignore(_: i32) {}

#[guest_test]
fn signal_taken_in_time() -> Outcome {
    check_eq!(take(set(&[40]), Some([0, 1_000_000])), Err(Errno::EAGAIN));
    check_eq!(take(set(&[40]), Some([0, 1_000_000_000])), Err(Errno::EINVAL));
    check_eq!(
        raw(abi::__NR_rt_sigtimedwait, &[&raw const SUM as usize, 0, 0, 4]),
        Err(Errno::EINVAL)
    );
    // Another signal's handler ends the wait, even with SA_RESTART.
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, ignore, abi::SA_RESTART));
    let parent = sys::getpid();
    let sender = child(|| {
        while sys::kill(parent, abi::SIGUSR1 as i32).is_ok() && sys::getppid() == parent {
            let _ = sys::sched_yield();
        }
        0
    })?;
    check_eq!(take(set(&[40]), None), Err(Errno::EINTR));
    ok!(sys::kill(sender, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(sender)).signal(), Some(abi::SIGKILL as i32));
    // Called without an interrupted call, restart_syscall fails.
    check_eq!(raw(abi::__NR_restart_syscall, &[]), Err(Errno::EINTR));
    Ok(())
}
