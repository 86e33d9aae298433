//! Delivery of signals where something is in its way, and what an action keeps.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, PAGE, child, in_child, raw};
use proof::os;
use proof::thread::Thread;
use user::prelude::*;
use user::sys::abi;

static FAULTS: AtomicU32 = AtomicU32::new(0);
static OTHERS: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: i32) {
    let counter = if signal == abi::SIGSEGV as i32 { &FAULTS } else { &OTHERS };
    counter.fetch_add(1, Ordering::SeqCst);
}

/// Makes memory that can only be read the alternate stack.
fn read_only_stack() -> Outcome {
    const BYTES: usize = 64 << 10;
    let start = ok!(os::mmap(0, BYTES, os::READ_WRITE, abi::MAP_PRIVATE));
    let stack = [start, 0, BYTES];
    ok!(raw(abi::__NR_sigaltstack, &[stack.as_ptr() as usize, 0]));
    ok!(os::mprotect(start, BYTES, abi::PROT_READ));
    Ok(())
}

/// Where a frame cannot be written, SIGSEGV's own handler runs; where its frame cannot be written
/// either, or it is blocked, the process ends.
#[guest_test]
fn delivery_without_frame() -> Outcome {
    read_only_stack()?;
    ok!(sys::signal_handle(abi::SIGSEGV as i32, note, 0));
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, abi::SA_ONSTACK));
    ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
    check_eq!((FAULTS.load(Ordering::SeqCst), OTHERS.load(Ordering::SeqCst)), (1, 0));
    check_eq!(sys::signal_mask(0), Ok(0), "the signal mask is as before");
    let status = in_child(|| {
        let _ = sys::signal_handle(abi::SIGSEGV as i32, note, abi::SA_ONSTACK);
        let _ = sys::kill(sys::getpid(), abi::SIGUSR1 as i32);
        0
    })?;
    check_eq!(status.signal(), Some(abi::SIGSEGV as i32));
    let status = in_child(|| {
        let _ = sys::signal_mask(1 << (abi::SIGSEGV - 1));
        let _ = sys::kill(sys::getpid(), abi::SIGUSR1 as i32);
        0
    })?;
    check_eq!(status.signal(), Some(abi::SIGSEGV as i32));
    Ok(())
}

/// The handler and the flags of a signal's action.
fn action(signal: u32) -> Outcome<(usize, usize)> {
    let mut words = [0usize; 4];
    ok!(raw(abi::__NR_rt_sigaction, &[signal as usize, 0, words.as_mut_ptr() as usize, 8]));
    Ok((words[0], words[1]))
}

/// `SA_RESETHAND` resets the handler and keeps the flags; unknown flags are not kept.
#[guest_test]
fn delivery_resets_handler() -> Outcome {
    const UNKNOWN: u32 = 0x400 | 0x2000;
    let flags = abi::SA_RESETHAND | abi::SA_SIGINFO;
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, flags | UNKNOWN));
    let (handler, set) = action(abi::SIGUSR1)?;
    check!(handler != 0);
    check_eq!(set as u32 & (flags | UNKNOWN), flags);
    ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
    check_eq!(OTHERS.load(Ordering::SeqCst), 1);
    let (handler, set) = action(abi::SIGUSR1)?;
    check_eq!((handler, set as u32 & flags), (0, flags));
    Ok(())
}

static TID: AtomicI32 = AtomicI32::new(0);
static END: AtomicU32 = AtomicU32::new(0);

extern "C" fn wait_for_end(_: usize) {
    TID.store(raw(abi::__NR_gettid, &[]).map_or(-1, |tid| tid as i32), Ordering::SeqCst);
    while END.load(Ordering::SeqCst) == 0 {
        let _ = sys::sched_yield();
    }
}

/// A signal for the number of a thread reaches its process.
#[guest_test]
fn delivery_by_thread_number() -> Outcome {
    const QUEUED: usize = 40;
    ok!(sys::signal_mask(1 << (QUEUED - 1)));
    let thread = Thread::start(wait_for_end, 0)?;
    while TID.load(Ordering::SeqCst) == 0 {
        ok!(sys::sched_yield());
    }
    let tid = TID.load(Ordering::SeqCst) as usize;
    let mut info = [0i32; 32];
    (info[2], info[6]) = (-1, 77);
    let sent = raw(abi::__NR_rt_sigqueueinfo, &[tid, QUEUED, info.as_ptr() as usize]);
    check_eq!(sent, Ok(0));
    let (set, mut found) = (1u64 << (QUEUED - 1), [0i32; 32]);
    let time = [0u64; 2];
    let take = [&raw const set as usize, found.as_mut_ptr() as usize, time.as_ptr() as usize, 8];
    check_eq!(raw(abi::__NR_rt_sigtimedwait, &take), Ok(QUEUED));
    check_eq!((found[2], found[6]), (-1, 77));
    check_eq!(sys::kill(tid as i32, 0), Ok(0));
    END.store(1, Ordering::SeqCst);
    thread.join();
    // By its number the thread is looked for until it has left for good.
    for _ in 0..1000 {
        if sys::kill(tid as i32, 0) == Err(Errno::ESRCH) {
            return Ok(());
        }
        ok!(sys::sched_yield());
    }
    Err("the thread has ended and its number is known".into())
}

/// A sleep that a stop interrupts ends when it would have ended.
#[guest_test]
fn delivery_resumes_sleep() -> Outcome {
    use core::time::Duration;
    let sleeper = child(|| {
        let now = || sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default();
        let start = now();
        if sys::sleep(Duration::from_millis(1000)).is_err() {
            return 200;
        }
        (now().saturating_sub(start).as_millis() / 50).min(100) as i32
    })?;
    ok!(sys::sleep(Duration::from_millis(300)));
    ok!(sys::kill(sleeper, abi::SIGSTOP as i32));
    ok!(sys::sleep(Duration::from_millis(100)));
    ok!(sys::kill(sleeper, abi::SIGCONT as i32));
    ok!(sys::sleep(Duration::from_millis(300)));
    ok!(sys::kill(sleeper, abi::SIGSTOP as i32));
    ok!(sys::kill(sleeper, abi::SIGCONT as i32));
    let fiftieths = ok!(sys::wait_for(sleeper)).exit_code().unwrap_or(0);
    check!((20..=25).contains(&fiftieths), "it slept for {fiftieths} times 50 ms");
    Ok(())
}

static CODE: AtomicI32 = AtomicI32::new(0);

extern "C" fn leave_with_code(_: i32, info: &[i32; 32], _: usize) {
    CODE.store(info[2], Ordering::SeqCst);
    sys::exit(CODE.load(Ordering::SeqCst));
}

/// The code of a fault says whether memory is mapped there.
#[guest_test]
fn delivery_fault_codes() -> Outcome {
    let page = ok!(os::mmap(0, PAGE, abi::PROT_READ, abi::MAP_PRIVATE));
    // SAFETY: with SA_SIGINFO the kernel calls a handler with these three arguments.
    let handler = unsafe {
        core::mem::transmute::<extern "C" fn(i32, &[i32; 32], usize), sys::signal::Handler>(
            leave_with_code,
        )
    };
    for signal in [abi::SIGSEGV, abi::SIGILL] {
        ok!(sys::signal_handle(signal as i32, handler, abi::SA_SIGINFO));
    }
    let store = |address: usize| {
        in_child(|| {
            proof::kit::store(address, 1);
            0
        })
    };
    check_eq!(store(page)?.exit_code(), Some(2), "SEGV_ACCERR");
    check_eq!(store(16)?.exit_code(), Some(1), "SEGV_MAPERR");
    // SAFETY: the handler ends the process.
    let undefined = in_child(|| unsafe {
        core::arch::asm!("ud2");
        0
    })?;
    check_eq!(undefined.exit_code(), Some(2), "ILL_ILLOPN");
    Ok(())
}
