//! Linux's answers to arguments and states that programs seldom meet.

use proof::guest_test;
use proof::kit::{Child, Outcome, PAGE, checking_child, expect_success, file, load, raw, store};
use proof::os;
use user::prelude::*;
use user::sys::abi;

/// A transfer that would go past the largest offset is EINVAL, and one that ends there is not.
#[guest_test]
fn answers_largest_offset() -> Outcome {
    let fd = file(b"offsets", b"x")?;
    let buffer = ok!(os::mmap(0, PAGE, os::READ_WRITE, abi::MAP_PRIVATE));
    let most = i64::MAX as u64;
    check_eq!(os::pread(fd, buffer, 10, most), Err(Errno::EINVAL));
    check_eq!(os::pread(fd, buffer, 10, most - 10), Ok(0));
    check_eq!(os::pread(fd, buffer, 10, most - 9), Err(Errno::EINVAL));
    check_eq!(os::pread(fd, buffer, 10, most + 1), Err(Errno::EINVAL));
    check_eq!(os::pwrite(fd, buffer, 10, most - 9), Err(Errno::EINVAL));
    let parts = [[buffer, 5], [buffer, 5]];
    let vector = parts.as_ptr() as usize;
    let offset = most as usize - 9;
    for number in [abi::__NR_preadv, abi::__NR_pwritev] {
        check_eq!(raw(number, &[fd.argument(), vector, 2, offset]), Err(Errno::EINVAL));
    }
    let [reader, _writer] = ok!(sys::pipe(0));
    check_eq!(os::pread(reader, buffer, 10, most), Err(Errno(29)));
    Ok(())
}

const SS_DISABLE: usize = 2;
const SS_AUTODISARM: usize = 1 << 31;

/// Sets the alternate stack and returns what it was.
fn alternate(stack: [usize; 3]) -> Result<[usize; 3]> {
    let mut old = [0usize; 3];
    raw(abi::__NR_sigaltstack, &[stack.as_ptr() as usize, old.as_mut_ptr() as usize])?;
    Ok([old[0], old[1] & 0xffff_ffff, old[2]])
}

/// Where the handler of [`answers_alternate_stack`] finds the alternate stack's flags.
static FLAGS: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

extern "C" fn note_flags(_: i32) {
    let mut old = [0usize; 3];
    let _ = raw(abi::__NR_sigaltstack, &[0, old.as_mut_ptr() as usize]);
    FLAGS.store(old[1] & 0xffff_ffff, core::sync::atomic::Ordering::Relaxed);
}

/// sigaltstack(2) accepts the flags that there are, and disarms a stack while a handler runs on it.
#[guest_test]
fn answers_alternate_stack() -> Outcome {
    const BYTES: usize = 64 << 10;
    let start = ok!(os::mmap(0, BYTES, os::READ_WRITE, abi::MAP_PRIVATE));
    for flags in [77, 4, SS_DISABLE | 1, SS_AUTODISARM | 3] {
        check_eq!(alternate([start, flags, BYTES]), Err(Errno::EINVAL), "flags {flags:#x}");
    }
    check_eq!(alternate([start, 0, 100]), Err(Errno::ENOMEM));
    ok!(alternate([start, 0, BYTES]));
    check_eq!(alternate([start, 1, BYTES]), Ok([start, 0, BYTES]));
    let run = || -> Outcome<usize> {
        ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
        Ok(FLAGS.load(core::sync::atomic::Ordering::Relaxed))
    };
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, note_flags, abi::SA_ONSTACK));
    check_eq!(run()?, 1, "it runs on the stack");
    ok!(alternate([start, SS_AUTODISARM, BYTES]));
    check_eq!(run()?, SS_DISABLE, "there is none while a handler runs");
    let disarming = [start, SS_AUTODISARM, BYTES];
    check_eq!(alternate([0, SS_DISABLE, 0]), Ok(disarming), "it is back after the handler");
    check_eq!(ok!(alternate([0, SS_DISABLE, 0]))[1], SS_DISABLE);
    Ok(())
}

/// What a fork does with memory is what madvise(2) was asked for.
#[guest_test]
fn answers_fork_advice() -> Outcome {
    let advise = |start: usize, pages: usize, advice: u32| {
        raw(abi::__NR_madvise, &[start, pages * PAGE, advice as usize])
    };
    let start = ok!(os::mmap(0, 8 * PAGE, os::READ_WRITE, abi::MAP_PRIVATE));
    (0..8).for_each(|page| store(start + page * PAGE, 7));
    // Two kept, two wiped, two omitted, one of each that was revoked.
    for (page, count, advice) in [
        (2, 2, abi::MADV_WIPEONFORK),
        (4, 2, abi::MADV_DONTFORK),
        (6, 1, abi::MADV_WIPEONFORK),
        (6, 1, abi::MADV_KEEPONFORK),
        (7, 1, abi::MADV_DONTFORK),
        (7, 1, abi::MADV_DOFORK),
    ] {
        check_eq!(advise(start + page * PAGE, count, advice), Ok(0));
    }
    let shared = ok!(os::mmap(0, PAGE, os::READ_WRITE, abi::MAP_SHARED));
    check_eq!(advise(shared, 1, abi::MADV_WIPEONFORK), Err(Errno::EINVAL));
    check_eq!(advise(shared, 1, abi::MADV_DONTFORK), Ok(0));
    let is_mapped = |page: usize| {
        let mut residency = [0u8; 1];
        raw(abi::__NR_mincore, &[page, PAGE, residency.as_mut_ptr() as usize]).is_ok()
    };
    let find = move || -> Outcome {
        let mapped: Vec<bool> = (0..8).map(|page| is_mapped(start + page * PAGE)).collect();
        check_eq!(mapped, [true, true, true, true, false, false, true, true]);
        check!(!is_mapped(shared));
        let bytes = [0, 1, 2, 3, 6, 7].map(|page| load(start + page * PAGE));
        check_eq!(bytes, [7, 7, 0, 0, 7, 7]);
        store(start + 2 * PAGE, 9);
        // It is still so for the child's own children.
        expect_success(checking_child(|| {
            check_eq!([0, 2].map(|page| load(start + page * PAGE)), [7, 0]);
            Ok(())
        })?)
    };
    Child::start("child", find)?.join()?;
    let bytes = (0..8).map(|page| load(start + page * PAGE));
    check_eq!(bytes.collect::<Vec<u8>>(), [7; 8], "the parent's are as before");
    check_eq!(advise(start, 9, 200), Err(Errno::EINVAL));
    Ok(())
}

/// The same of memory that was read lazily: a child gets zeros, or nothing.
#[guest_test]
fn answers_fork_advice_lazy() -> Outcome {
    const PAGES: usize = 64;
    let bytes: Vec<u8> = (0..PAGES * PAGE).map(|at| (at / PAGE) as u8 | 1).collect();
    let fd = file(b"lazy", &bytes)?;
    let start = ok!(os::mmap(0, PAGES * PAGE, os::READ_WRITE, abi::MAP_PRIVATE));
    check_eq!(os::pread(fd, start, PAGES * PAGE, 0), Ok(PAGES * PAGE));
    ok!(raw(abi::__NR_madvise, &[start, PAGES * PAGE / 2, abi::MADV_WIPEONFORK as usize]));
    expect_success(checking_child(|| {
        check!((0..PAGES / 2).all(|page| load(start + page * PAGE) == 0));
        check_eq!(load(start + (PAGES - 1) * PAGE), (PAGES - 1) as u8);
        Ok(())
    })?)?;
    check_eq!(load(start + 3 * PAGE), 3);
    Ok(())
}

/// There is no CPU set of a thread that does not exist.
#[guest_test]
fn answers_affinity() -> Outcome {
    let mut set = [0u8; 128];
    let address = set.as_mut_ptr() as usize;
    for tid in [-1i32, i32::MAX] {
        for number in [abi::__NR_sched_getaffinity, abi::__NR_sched_setaffinity] {
            check_eq!(raw(number, &[tid as usize, 128, address]), Err(Errno::ESRCH));
        }
    }
    check_eq!(raw(abi::__NR_sched_getaffinity, &[0, 7, address]), Err(Errno::EINVAL));
    check!(ok!(raw(abi::__NR_sched_getaffinity, &[0, 128, address])) >= 8);
    check!(set.iter().any(|&byte| byte != 0));
    let own = sys::getpid() as usize;
    check!(ok!(raw(abi::__NR_sched_getaffinity, &[own, 128, address])) >= 8);
    Ok(())
}

/// No program reaches the thread of the kernel, which has the largest number.
#[guest_test]
fn answers_kernel_thread() -> Outcome {
    let (own, signal) = (i32::MAX as usize, abi::SIGKILL as usize);
    for signal in [0, signal] {
        check_eq!(raw(abi::__NR_tkill, &[own, signal]), Err(Errno::ESRCH));
        check_eq!(raw(abi::__NR_tgkill, &[own, own, signal]), Err(Errno::ESRCH));
        check_eq!(raw(abi::__NR_kill, &[own, signal]), Err(Errno::ESRCH));
    }
    let process = abi::PRIO_PROCESS as usize;
    check_eq!(raw(abi::__NR_setpriority, &[process, own, 5]), Err(Errno::ESRCH));
    check_eq!(raw(abi::__NR_getpriority, &[process, own]), Err(Errno::ESRCH));
    let mut words = [0usize; 2];
    let (list, length) = (words.as_mut_ptr() as usize, &raw mut words as usize + 8);
    check_eq!(raw(abi::__NR_get_robust_list, &[own, list, length]), Err(Errno::ESRCH));
    Ok(())
}

/// A `struct flock` of the first `length` bytes.
fn flock(kind: u32, length: usize) -> [usize; 4] {
    [kind as usize, 0, length, 0]
}

fn lock(fd: Fd, command: u32, lock: &mut [usize; 4]) -> Result<usize> {
    raw(abi::__NR_fcntl, &[fd.argument(), command as usize, lock.as_mut_ptr() as usize])
}

/// Locks of open files conflict between open files, also those of one process, and with locks of
/// processes; they go with the open file.
#[guest_test]
fn answers_open_file_locks() -> Outcome {
    let (first, second) = (file(b"locked", b"12345678")?, ok!(os::open("locked")));
    let set =
        |fd: Fd, kind: u32, length: usize| lock(fd, abi::F_OFD_SETLK, &mut flock(kind, length));
    ok!(set(first, abi::F_WRLCK, 4));
    check_eq!(set(second, abi::F_RDLCK, 2), Err(Errno::EAGAIN));
    check_eq!(lock(second, abi::F_SETLK, &mut flock(abi::F_RDLCK, 2)), Err(Errno::EAGAIN));
    let mut found = flock(abi::F_RDLCK, 8);
    ok!(lock(second, abi::F_OFD_GETLK, &mut found));
    check_eq!(found[1..], [0, 4, u32::MAX as usize]);
    check_eq!(found[0] & 0xffff, abi::F_WRLCK as usize);
    let mut with_pid = flock(abi::F_WRLCK, 4);
    with_pid[3] = 1;
    check_eq!(lock(first, abi::F_OFD_SETLK, &mut with_pid), Err(Errno::EINVAL));
    // A child and a duplicate have the same open file. A descriptor that is closed changes nothing.
    expect_success(checking_child(|| {
        ok!(set(first, abi::F_RDLCK, 4));
        Ok(())
    })?)?;
    ok!(set(second, abi::F_RDLCK, 2));
    ok!(set(second, abi::F_UNLCK, 8));
    ok!(set(first, abi::F_WRLCK, 4));
    let copy = ok!(sys::dup(first));
    ok!(sys::close(first));
    check_eq!(set(second, abi::F_RDLCK, 2), Err(Errno::EAGAIN));
    let waiting = Child::start("waits", || {
        let own = ok!(os::open("locked"));
        ok!(sys::close(copy));
        ok!(lock(own, abi::F_OFD_SETLKW, &mut flock(abi::F_WRLCK, 1)));
        Ok(())
    })?;
    ok!(sys::close(copy));
    waiting.join()?;
    ok!(set(second, abi::F_WRLCK, 0));
    Ok(())
}

const P_ALL: usize = 0;
const P_PID: usize = 1;
const P_PGID: usize = 2;
const WEXITED: usize = 4;
const WNOWAIT: usize = 0x100_0000;

/// waitid(2): signal, code, process and status.
fn waitid(kind: usize, id: i32, options: usize) -> Result<[i32; 4]> {
    let mut info = [-1i32; 32];
    let given = [kind, id as usize, info.as_mut_ptr() as usize, options, 0];
    raw(abi::__NR_waitid, &given)?;
    Ok([info[0], info[2], info[4], info[6]])
}

/// waitid(2) reports what was asked for, and may leave it to be reported again.
#[guest_test]
fn answers_waitid() -> Outcome {
    const ECHILD: Errno = Errno(10);
    const EXITED: i32 = 1;
    const KILLED: i32 = 2;
    const STOPPED: i32 = 5;
    const CONTINUED: i32 = 6;
    let sigchld = abi::SIGCHLD as i32;
    check_eq!(waitid(P_ALL, 0, WEXITED), Err(ECHILD));
    let child = proof::kit::child(|| 5)?;
    check_eq!(waitid(P_PID, child, WEXITED | WNOWAIT), Ok([sigchld, EXITED, child, 5]));
    check_eq!(waitid(P_PID, child, abi::WSTOPPED as usize), Err(ECHILD));
    check_eq!(waitid(P_PID, child, WEXITED), Ok([sigchld, EXITED, child, 5]));
    check_eq!(waitid(P_PID, child, WEXITED), Err(ECHILD));
    let child = proof::kit::child(|| {
        loop {
            let _ = raw(abi::__NR_pause, &[]);
        }
    })?;
    let any = WEXITED | (abi::WSTOPPED | abi::WCONTINUED | abi::WNOHANG) as usize;
    check_eq!(waitid(P_PID, child, any), Ok([0; 4]));
    let blocking = any & !(abi::WNOHANG as usize);
    let tell = |signal: u32| sys::kill(child, signal as i32);
    ok!(tell(abi::SIGSTOP));
    let stop = abi::SIGSTOP as i32;
    check_eq!(waitid(P_PGID, 0, blocking), Ok([sigchld, STOPPED, child, stop]));
    ok!(tell(abi::SIGCONT));
    let found = waitid(P_ALL, 0, blocking);
    check_eq!(found, Ok([sigchld, CONTINUED, child, abi::SIGCONT as i32]));
    ok!(tell(abi::SIGKILL));
    let found = waitid(P_PID, child, blocking);
    check_eq!(found, Ok([sigchld, KILLED, child, abi::SIGKILL as i32]));
    check_eq!(waitid(P_PID, child, 0), Err(Errno::EINVAL));
    check_eq!(waitid(P_PID, 0, WEXITED), Err(Errno::EINVAL));
    check_eq!(waitid(9, 1, WEXITED), Err(Errno::EINVAL));
    // wait4 has no such options.
    let given = [usize::MAX, 0, WEXITED, 0];
    check_eq!(raw(abi::__NR_wait4, &given), Err(Errno::EINVAL));
    Ok(())
}

/// A directory that was removed lists nothing.
#[guest_test]
fn answers_removed_directory() -> Outcome {
    ok!(sys::mkdir(b"gone", 0o755));
    let fd = ok!(sys::open(b"gone", abi::O_RDONLY | abi::O_DIRECTORY, 0));
    ok!(sys::rmdir(b"gone"));
    check_eq!(sys::getdents64(fd, &mut [0; 1000]), Err(Errno::ENOENT));
    Ok(())
}

/// Runs an executable file with these contents. Returns the error, or the exit status.
fn execute(name: &str, contents: &[u8]) -> Outcome<core::result::Result<i32, Errno>> {
    let fd = ok!(sys::open(name.as_bytes(), abi::O_CREAT | abi::O_TRUNC | abi::O_WRONLY, 0o755));
    ok!(sys::write_all(fd, contents));
    ok!(sys::close(fd));
    let path = format!("./{name}").into_bytes();
    let status = proof::kit::in_child(|| {
        let Errno(error) = sys::execve(&path, &[b"script"], &[]);
        error as i32
    })?;
    let code = status.exit_code().unwrap_or(-1);
    Ok(if code == 0 { Ok(0) } else { Err(Errno(code as _)) })
}

/// The first line of a script names an interpreter, which may be a script, to a depth of five.
#[guest_test]
fn answers_scripts() -> Outcome {
    const ELOOP: Errno = Errno(40);
    for (contents, expected) in [
        (&b"#!"[..], Errno::EACCES),
        (b"#! \0", Errno::EACCES),
        (b"#!\n", Errno::ENOEXEC),
        (b"#! \t \n/bin/true", Errno::ENOEXEC),
        (b"#!/nowhere", Errno::ENOENT),
        (b"#!/tmp\n", Errno::EACCES),
    ] {
        check_eq!(execute("s", contents)?, Err(expected), "{}", contents.escape_ascii());
    }
    let long = |filler: &str, count: usize| {
        let mut line = b"#!/bin/true".to_vec();
        (0..count).for_each(|_| line.extend_from_slice(filler.as_bytes()));
        line
    };
    check_eq!(execute("s", &long(" x", 200))?, Ok(0), "the option is cut");
    check_eq!(execute("s", &long("x", 300))?, Err(Errno::ENOEXEC), "the name is cut");
    check_eq!(execute("s", b"#!/bin/true")?, Ok(0), "without an end of line");
    check_eq!(execute("s1", b"#! \t/bin/true \t\n")?, Ok(0));
    for depth in 2..=6 {
        let line = format!("#!./s{}\n", depth - 1);
        let expected = if depth <= 5 { Ok(0) } else { Err(ELOOP) };
        check_eq!(execute(&format!("s{depth}"), line.as_bytes())?, expected, "{depth} scripts");
    }
    check_eq!(execute("own", b"#!./own\n")?, Err(ELOOP));
    Ok(())
}
