//! clone(2), clone3(2): what a child shares; waiting for children that end with other signals.

use core::sync::atomic::{AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, child, in_child, raw};
use user::pages::Pages;
use user::prelude::*;
use user::sys::abi;

const SHARES_ALL: u32 = abi::CLONE_VM | abi::CLONE_FS | abi::CLONE_FILES | abi::CLONE_SIGHAND;
const CLONE_WAIT: u32 = abi::__WCLONE;
const ALL_WAIT: u32 = abi::__WALL;

/// clone(2) with a stack of its own; the child runs `body` and ends with its result.
#[unsafe(naked)]
unsafe extern "C" fn clone_process(flags: usize, stack_top: *mut usize) -> isize {
    core::arch::naked_asm!(
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "xor ebp, ebp",
        "pop rax",
        "call rax",
        "mov edi, eax",
        "mov eax, 231",
        "syscall",
        "ud2",
        "2:",
        "ret",
    )
}

struct Sharer {
    pid: i32,
    _stack: Pages,
}

/// Starts a process that runs `body` in this one's memory.
fn sharer(flags: u32, body: extern "C" fn() -> i32) -> Outcome<Sharer> {
    const BYTES: usize = 64 << 10;
    let mut stack = ok!(Pages::new(BYTES));
    // Aligned at the call.
    let top = stack.as_mut_ptr() as usize + BYTES - 24;
    // SAFETY: the word lies in the new stack, which only the child uses and which outlives it.
    let result = unsafe {
        (top as *mut usize).write(body as *const () as usize);
        clone_process(flags as usize, top as *mut usize)
    };
    Ok(Sharer { pid: ok!(sys::check(result)) as i32, _stack: stack })
}

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn ignore(_: i32) {}

extern "C" fn change_all() -> i32 {
    SEEN.fetch_add(1, Ordering::SeqCst);
    let _ = sys::signal_handle(abi::SIGUSR1 as i32, ignore, 0);
    let _ = sys::chdir(b"/");
    let _ = sys::dup2(Fd(1), Fd(77));
    5
}

/// The handler of SIGUSR1.
fn handler() -> Outcome<usize> {
    let mut words = [0usize; 4];
    let signal = abi::SIGUSR1 as usize;
    ok!(raw(abi::__NR_rt_sigaction, &[signal, 0, words.as_mut_ptr() as usize, 8]));
    Ok(words[0])
}

/// A process can share everything without being a thread, or its memory alone.
#[guest_test]
fn clone_shares() -> Outcome {
    let before = ok!(sys::getcwd());
    let alone = sharer(abi::CLONE_VM | abi::SIGCHLD, change_all)?;
    check_eq!(ok!(sys::wait_for(alone.pid)).exit_code(), Some(5));
    check_eq!(SEEN.load(Ordering::SeqCst), 1);
    check_eq!((handler()?, ok!(sys::getcwd())), (0, before));
    check_eq!(sys::close(Fd(77)), Err(Errno::EBADF));
    let all = sharer(SHARES_ALL | abi::SIGCHLD, change_all)?;
    check_eq!(ok!(sys::wait_for(all.pid)).exit_code(), Some(5));
    check_eq!(SEEN.load(Ordering::SeqCst), 2);
    check!(handler()? != 0, "the child's handler is shared");
    check_eq!(ok!(sys::getcwd()), b"/".to_vec());
    check_eq!(sys::close(Fd(77)), Ok(()));
    for flags in [abi::CLONE_SIGHAND, abi::CLONE_THREAD | abi::CLONE_VM] {
        check_eq!(raw(abi::__NR_clone, &[flags as usize, 0]), Err(Errno::EINVAL));
    }
    Ok(())
}

extern "C" fn end() -> i32 {
    3
}

/// Children that end with another signal than SIGCHLD, or none, are waited for when asked for.
#[guest_test]
fn clone_exit_signals() -> Outcome {
    for signal in [0, abi::SIGURG] {
        let other = sharer(abi::CLONE_VM | signal, end)?;
        check_eq!(sys::wait(other.pid, 0), Err(Errno::ECHILD));
        check_eq!(sys::wait(-1, 0), Err(Errno::ECHILD));
        let found = ok!(sys::wait(-1, CLONE_WAIT));
        check_eq!(found.map(|(pid, status)| (pid, status.exit_code())), Some((other.pid, Some(3))));
        let other = sharer(abi::CLONE_VM | signal, end)?;
        let usual = child(|| 4)?;
        check_eq!(sys::wait(usual, CLONE_WAIT), Err(Errno::ECHILD));
        check_eq!(ok!(sys::wait(other.pid, ALL_WAIT)).map(|found| found.0), Some(other.pid));
        check_eq!(ok!(sys::wait(usual, ALL_WAIT)).map(|found| found.0), Some(usual));
    }
    Ok(())
}

/// clone3(2) with so many bytes of these words.
fn clone3(words: &[u64; 12], bytes: usize) -> Result<usize> {
    raw(abi::__NR_clone3, &[words.as_ptr() as usize, bytes])
}

#[guest_test]
fn clone_by_structure() -> Outcome {
    let mut fork = [0u64; 12];
    fork[4] = abi::SIGCHLD.into();
    let invalid = [(0, 0x11), (4, 256), (4, 1 << 32), (5, 4096), (6, 4096), (8, 4096), (9, 1)];
    for (at, value) in invalid {
        let mut words = fork;
        words[at] = value;
        check_eq!(clone3(&words, 88), Err(Errno::EINVAL), "word {at} is {value}");
    }
    check_eq!(clone3(&fork, 56), Err(Errno::EINVAL));
    check_eq!(clone3(&fork, 5000), Err(Errno(7)));
    let mut more = fork;
    more[11] = 1;
    check_eq!(clone3(&more, 96), Err(Errno(7)));
    check_eq!(raw(abi::__NR_clone3, &[16, 88]), Err(Errno::EFAULT));
    // The handlers are reset in the child, if it asks for that.
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, ignore, 0));
    for (flags, expected) in [(0, 1), (1 << 32, 2)] {
        let mut tid = 0u32;
        fork[0] = flags | u64::from(abi::CLONE_PARENT_SETTID);
        fork[3] = &raw mut tid as u64;
        let id = ok!(clone3(&fork, 88));
        if id == 0 {
            sys::exit(if handler() == Ok(0) { 2 } else { 1 });
        }
        check_eq!(tid as usize, id);
        check_eq!(ok!(sys::wait_for(id as i32)).exit_code(), Some(expected));
    }
    Ok(())
}

/// A sibling is a child of the caller's parent.
#[guest_test]
fn clone_of_parent() -> Outcome {
    let parent = sys::getpid();
    let status = in_child(|| {
        let flags = (abi::CLONE_PARENT | abi::SIGCHLD) as usize;
        match raw(abi::__NR_clone, &[flags, 0, 0, 0, 0]) {
            Ok(0) => sys::exit(if sys::getppid() == parent { 11 } else { 12 }),
            Ok(_) => i32::from(sys::wait(-1, 0) != Err(Errno::ECHILD)),
            Err(_) => 2,
        }
    })?;
    check_eq!(status.exit_code(), Some(0));
    let found = ok!(sys::wait(-1, 0));
    check_eq!(found.and_then(|(_, status)| status.exit_code()), Some(11));
    Ok(())
}
