//! Signals: default actions, handlers, masks.

use core::sync::atomic::{AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, child, in_child, raw};
use user::prelude::*;
use user::sys::abi;

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: i32) {
    CAUGHT.fetch_add(1 << (signal % 8 * 4), Ordering::SeqCst);
}

/// How often [`note`] was called.
fn caught(signal: u32) -> u32 {
    (CAUGHT.load(Ordering::SeqCst) >> (signal % 8 * 4)) & 15
}

fn raise(signal: u32) -> Result<i32> {
    sys::kill(sys::getpid(), signal as i32)
}

#[guest_test]
fn signal_default_actions() -> Outcome {
    for signal in [abi::SIGTERM, abi::SIGKILL, abi::SIGINT, abi::SIGUSR1, abi::SIGALRM, abi::SIGHUP]
    {
        let status = in_child(|| {
            let _ = raise(signal);
            0
        })?;
        check_eq!(status.signal(), Some(signal as i32));
    }
    for signal in [abi::SIGCHLD, abi::SIGCONT, abi::SIGURG, abi::SIGWINCH] {
        let status = in_child(|| {
            let _ = raise(signal);
            3
        })?;
        check_eq!(status.exit_code(), Some(3));
    }
    check_eq!(sys::kill(sys::getpid(), 0), Ok(0));
    Ok(())
}

#[guest_test]
fn signal_faults() -> Outcome {
    // SAFETY: each child is meant to die of what it does.
    let null = in_child(|| unsafe {
        core::arch::asm!("mov byte ptr [{0}], 1", in(reg) 0usize);
        0
    })?;
    check_eq!(null.signal(), Some(abi::SIGSEGV as i32));
    // SAFETY: as above.
    let kernel = in_child(|| unsafe {
        core::arch::asm!("mov {0:r}, [{0:r}]", inout(reg) 0xffff_ffff_8000_0000usize => _);
        0
    })?;
    check_eq!(kernel.signal(), Some(abi::SIGSEGV as i32));
    // SAFETY: as above.
    let outside = in_child(|| unsafe {
        core::arch::asm!("mov {0:r}, [{0:r}]", inout(reg) 0x8000_0000_0000_0000usize => _);
        0
    })?;
    check_eq!(outside.signal(), Some(abi::SIGSEGV as i32));
    // SAFETY: as above.
    let privileged = in_child(|| unsafe {
        core::arch::asm!("hlt");
        0
    })?;
    check_eq!(privileged.signal(), Some(abi::SIGSEGV as i32));
    // SAFETY: as above.
    let undefined = in_child(|| unsafe {
        core::arch::asm!("ud2");
        0
    })?;
    check_eq!(undefined.signal(), Some(abi::SIGILL as i32));
    // SAFETY: as above.
    let division = in_child(|| unsafe {
        core::arch::asm!(
            "xor edx, edx",
            "mov eax, 1",
            "xor ecx, ecx",
            "div ecx",
            out("eax") _,
            out("edx") _,
            out("ecx") _,
        );
        0
    })?;
    check_eq!(division.signal(), Some(abi::SIGFPE as i32));
    Ok(())
}

#[guest_test]
fn signal_pipe() -> Outcome {
    let status = in_child(|| match sys::pipe(0) {
        Ok([reader, writer]) => {
            let _ = (sys::close(reader), sys::write(writer, b"x"));
            1
        }
        Err(_) => 2,
    })?;
    check_eq!(status.signal(), Some(abi::SIGPIPE as i32));
    ok!(sys::signal_ignore(abi::SIGPIPE as i32));
    let [reader, writer] = ok!(sys::pipe(0));
    ok!(sys::close(reader));
    check_eq!(sys::write(writer, b"x"), Err(Errno::EPIPE));
    Ok(())
}

#[guest_test]
fn signal_handlers() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, 0));
    for _ in 0..3 {
        ok!(raise(abi::SIGUSR1));
    }
    check_eq!(caught(abi::SIGUSR1), 3);
    // Handlers are inherited by fork and reset by exec.
    let status = in_child(|| {
        let _ = raise(abi::SIGUSR1);
        caught(abi::SIGUSR1) as i32
    })?;
    check_eq!(status.exit_code(), Some(4));
    ok!(sys::signal_handle(abi::SIGUSR2 as i32, note, abi::SA_RESETHAND));
    ok!(raise(abi::SIGUSR2));
    check_eq!(caught(abi::SIGUSR2), 1);
    let status = in_child(|| {
        let _ = raise(abi::SIGUSR2);
        0
    })?;
    check_eq!(status.signal(), Some(abi::SIGUSR2 as i32));
    for signal in [abi::SIGKILL, abi::SIGSTOP, 0, 65] {
        check_eq!(sys::signal_handle(signal as i32, note, 0), Err(Errno::EINVAL));
    }
    Ok(())
}

#[guest_test]
fn signal_mask() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, 0));
    let blocked = 1 << (abi::SIGUSR1 - 1);
    check_eq!(sys::signal_mask(blocked), Ok(0));
    ok!(raise(abi::SIGUSR1));
    ok!(raise(abi::SIGUSR1));
    check_eq!(caught(abi::SIGUSR1), 0);
    let mut pending = 0u64;
    check_eq!(raw(abi::__NR_rt_sigpending, &[&raw mut pending as usize, 8]), Ok(0));
    check_eq!(pending, blocked);
    check_eq!(sys::signal_mask(0), Ok(blocked));
    // Sent twice while blocked, it is delivered once.
    check_eq!(caught(abi::SIGUSR1), 1);
    // SIGKILL cannot be blocked.
    let status = in_child(|| {
        let _ = sys::signal_mask(u64::MAX);
        let _ = raise(abi::SIGKILL);
        0
    })?;
    check_eq!(status.signal(), Some(9));
    Ok(())
}

/// A signal that a call's mask admits is not delivered if the call succeeds, else it would be lost
/// to a program that looks for EINTR.
#[guest_test]
fn signal_mask_of_a_call() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, 0));
    check_eq!(sys::signal_mask(1 << (abi::SIGUSR1 - 1)), Ok(0));
    ok!(raise(abi::SIGUSR1));
    let [reader, writer] = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    let poll = || {
        let entry = abi::pollfd { fd: reader.0, events: abi::POLLIN as i16, revents: 0 };
        sys::poll(&mut [entry], 0)
    };
    check_eq!((poll(), caught(abi::SIGUSR1)), (Ok(1), 0));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!((poll(), caught(abi::SIGUSR1)), (Err(Errno::EINTR), 1));
    // The mask from before the call holds again.
    ok!(raise(abi::SIGUSR1));
    check_eq!(caught(abi::SIGUSR1), 1);
    Ok(())
}

/// Starts a process that sends `signal` to this one until it is killed.
fn pester(signal: u32) -> Outcome<i32> {
    let target = sys::getpid();
    child(|| {
        loop {
            let _ = sys::sleep(core::time::Duration::from_millis(5));
            if sys::kill(target, signal as i32).is_err() {
                return 0;
            }
        }
    })
}

#[guest_test]
fn signal_interrupts() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, 0));
    let pesterer = pester(abi::SIGUSR1)?;
    let [reader, writer] = ok!(sys::pipe(0));
    check_eq!(sys::read(reader, &mut [0]), Err(Errno::EINTR));
    let long = core::time::Duration::from_secs(1000);
    check_eq!(sys::sleep(long), Err(Errno::EINTR));
    // With SA_RESTART a read continues to wait.
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note, abi::SA_RESTART));
    let late = child(|| {
        let _ = sys::sleep(core::time::Duration::from_millis(60));
        i32::from(sys::write(writer, b"x") != Ok(1))
    })?;
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    ok!(sys::kill(pesterer, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(pesterer)).signal(), Some(9));
    check_eq!(ok!(sys::wait_for(late)).exit_code(), Some(0));
    Ok(())
}

#[guest_test]
fn signal_child() -> Outcome {
    ok!(sys::signal_handle(abi::SIGCHLD as i32, note, abi::SA_RESTART));
    let id = child(|| 0)?;
    check_eq!(ok!(sys::wait_for(id)).exit_code(), Some(0));
    check_eq!(caught(abi::SIGCHLD), 1);
    // With SIGCHLD ignored, children leave nothing to wait for.
    ok!(sys::signal_ignore(abi::SIGCHLD as i32));
    child(|| 0)?;
    check_eq!(sys::wait(-1, 0), Err(Errno::ECHILD));
    Ok(())
}

extern "C" fn leave_from_fault(signal: i32) {
    sys::exit(100 + signal)
}

#[guest_test]
fn signal_catches_segv() -> Outcome {
    let status = in_child(|| {
        let _ = sys::signal_handle(abi::SIGSEGV as i32, leave_from_fault, 0);
        // SAFETY: the handler ends the process.
        unsafe { core::arch::asm!("mov byte ptr [{0}], 1", in(reg) 16usize) };
        0
    })?;
    check_eq!(status.exit_code(), Some(100 + abi::SIGSEGV as i32));
    Ok(())
}

#[guest_test]
fn signal_groups() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let leader = child(|| {
        let _ = sys::setpgid(0, 0);
        // A member of the same group, which ends with it.
        let member = sys::fork();
        let _ = sys::write(writer, b"r");
        loop {
            let _ = (&member, sys::sleep(core::time::Duration::from_secs(100)));
        }
    })?;
    let mut ready = [0; 2];
    check_eq!(sys::read_full(reader, &mut ready), Ok(2));
    check_eq!(raw(abi::__NR_getpgid, &[leader as usize]), Ok(leader as usize));
    check!(raw(abi::__NR_getpgrp, &[]) != Ok(leader as usize));
    ok!(sys::kill(-leader, abi::SIGTERM as i32));
    check_eq!(ok!(sys::wait_for(leader)).signal(), Some(abi::SIGTERM as i32));
    ok!(sys::close(writer));
    check_eq!(sys::read(reader, &mut ready), Ok(0));
    Ok(())
}
