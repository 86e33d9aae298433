//! Record locks: deadlocks, conflicts, and what releases them.

use core::time::Duration;

use proof::guest_test;
use proof::kit::{Child, Gate, Outcome, file, raw};
use user::prelude::*;
use user::sys::abi;

/// A `struct flock` of a range from the file's start on. `l_pid` is 0.
fn record(kind: u32, start: i64, length: i64) -> abi::flock {
    abi::flock { l_type: kind as i16, l_whence: 0, l_start: start, l_len: length, l_pid: 0 }
}

fn control(fd: Fd, command: u32, lock: &mut abi::flock) -> sys::Result<usize> {
    raw(abi::__NR_fcntl, &[fd.argument(), command as usize, (&raw mut *lock) as usize])
}

/// Locks byte `at` of a file exclusively.
fn lock_byte(fd: Fd, command: u32, at: i64) -> sys::Result<usize> {
    control(fd, command, &mut record(abi::F_WRLCK, at, 1))
}

/// Who holds a lock on byte `at`, as another process sees it; 0 for nobody.
fn holder(fd: Fd, at: i64) -> Outcome<i32> {
    let mut found = record(abi::F_WRLCK, at, 1);
    ok!(control(fd, abi::F_GETLK, &mut found));
    Ok(if found.l_type == abi::F_UNLCK as i16 { 0 } else { found.l_pid })
}

/// Time for others to begin to wait.
fn pause() {
    let _ = sys::sleep(Duration::from_millis(300));
}

/// A process that holds byte `own` of a file and, once it may go on, waits for byte `next`.
fn waiter(fd: Fd, own: i64, next: i64, go: &Gate) -> Outcome<Child> {
    let ready = Gate::new()?;
    let child = Child::start("a process in a ring", || {
        ok!(lock_byte(fd, abi::F_SETLK, own));
        ready.open()?;
        go.pass()?;
        check_eq!(lock_byte(fd, abi::F_SETLKW, next), Ok(0));
        Ok(())
    })?;
    ready.pass()?;
    Ok(child)
}

/// Processes that wait for each other's record locks, in rings of two to five: the one that would
/// close the ring gets EDEADLK, and the others go on when it releases its lock.
#[guest_test]
fn lock_rings_are_deadlocks() -> Outcome {
    let fd = file(b"f", &[0; 16])?;
    for length in 2..=5_i64 {
        ok!(lock_byte(fd, abi::F_SETLK, 0));
        let go = Gate::new()?;
        let others = (1..length).map(|at| waiter(fd, at, (at + 1) % length, &go));
        let others = others.collect::<Outcome<Vec<_>>>()?;
        others.iter().try_for_each(|_| go.open())?;
        pause();
        check_eq!(lock_byte(fd, abi::F_SETLKW, 1), Err(Errno::EDEADLK), "a ring of {length}");
        check_eq!(lock_byte(fd, abi::F_SETLK, 1), Err(Errno::EAGAIN));
        ok!(control(fd, abi::F_SETLK, &mut record(abi::F_UNLCK, 0, 0)));
        others.into_iter().try_for_each(Child::join)?;
    }
    Ok(())
}

/// A wait for somebody who waits for nobody is no deadlock, and neither is one for a lock of an
/// open file.
#[guest_test]
fn lock_waits_that_end() -> Outcome {
    let fd = file(b"f", &[0; 16])?;
    let (ready, done) = (Gate::new()?, Gate::new()?);
    let other = Child::start("a process that releases", || {
        ok!(lock_byte(fd, abi::F_SETLK, 1));
        let own = ok!(sys::open(b"f", abi::O_RDWR, 0));
        ok!(lock_byte(own, abi::F_OFD_SETLK, 3));
        ready.open()?;
        done.pass()?;
        pause();
        Ok(())
    })?;
    ready.pass()?;
    let before = ok!(sys::clock(abi::CLOCK_MONOTONIC));
    ok!(lock_byte(fd, abi::F_OFD_SETLK, 2));
    check_eq!(lock_byte(fd, abi::F_SETLK, 3), Err(Errno::EAGAIN));
    done.open()?;
    check_eq!(lock_byte(fd, abi::F_SETLKW, 1), Ok(0));
    check_eq!(lock_byte(fd, abi::F_SETLKW, 3), Ok(0));
    let waited = ok!(sys::clock(abi::CLOCK_MONOTONIC)) - before;
    check!(waited >= Duration::from_millis(200), "it waited {waited:?}");
    // The open file's own lock is not the process's.
    check_eq!(lock_byte(fd, abi::F_SETLK, 2), Err(Errno::EAGAIN));
    other.join()
}

/// F_GETLK reports the lock that begins first, with its owner: -1 for an open file.
#[guest_test]
fn lock_conflicts_are_reported() -> Outcome {
    let fd = file(b"f", &[0; 16])?;
    let (ready, done) = (Gate::new()?, Gate::new()?);
    let other = Child::start("a process with locks", || {
        ok!(control(fd, abi::F_SETLK, &mut record(abi::F_WRLCK, 100, 10)));
        ok!(control(fd, abi::F_SETLK, &mut record(abi::F_RDLCK, 20, 0)));
        ok!(control(fd, abi::F_SETLK, &mut record(abi::F_WRLCK, 10, 5)));
        ready.open()?;
        done.pass()
    })?;
    ready.pass()?;
    let ask = |start, length, kind| {
        let mut found = record(kind, start, length);
        ok!(control(fd, abi::F_GETLK, &mut found));
        Outcome::Ok((u32::from(found.l_type as u16), found.l_start, found.l_len, found.l_pid))
    };
    check_eq!(ask(0, 0, abi::F_WRLCK)?, (abi::F_WRLCK, 10, 5, other.pid));
    check_eq!(ask(15, 0, abi::F_WRLCK)?, (abi::F_RDLCK, 20, 0, other.pid));
    check_eq!(ask(20, 5, abi::F_RDLCK)?.0, abi::F_UNLCK);
    done.open()?;
    other.join()?;
    check_eq!(ask(0, 0, abi::F_WRLCK)?.0, abi::F_UNLCK);
    let open = ok!(sys::open(b"f", abi::O_RDWR, 0));
    ok!(lock_byte(open, abi::F_OFD_SETLK, 4));
    check_eq!(ask(0, 0, abi::F_RDLCK)?, (abi::F_WRLCK, 4, 1, -1));
    let mut with_pid = abi::flock { l_pid: 1, ..record(abi::F_WRLCK, 0, 1) };
    check_eq!(control(open, abi::F_OFD_SETLK, &mut with_pid), Err(Errno::EINVAL));
    check_eq!(control(open, abi::F_SETLK, &mut record(9, 0, 1)), Err(Errno::EINVAL));
    check_eq!(control(open, abi::F_SETLK, &mut record(abi::F_WRLCK, -1, 1)), Err(Errno::EINVAL));
    check_eq!(control(open, abi::F_GETLK, &mut record(abi::F_UNLCK, 0, 1)), Err(Errno::EINVAL));
    let address = [open.argument(), abi::F_SETLK as usize, 8];
    check_eq!(raw(abi::__NR_fcntl, &address), Err(Errno::EFAULT));
    Ok(())
}

/// A process's locks on a file go with any close of the file, in all forms of close, and with exec
/// where that closes the descriptor. A child does not have them, and flock(2) is independent.
#[guest_test]
fn lock_ends_with_a_close() -> Outcome {
    let fd = file(b"f", &[0; 16])?;
    let kept = ok!(sys::open(b"f", abi::O_RDWR, 0));
    let close_range = |fd: Fd| raw(abi::__NR_close_range, &[fd.argument(), fd.argument(), 0]);
    let closes: [&dyn Fn(Fd) -> sys::Result<usize>; 3] =
        [&|other| sys::close(other).map(|()| 0), &close_range, &|other| {
            sys::dup2(Fd(0), other).map(|_| 0)
        }];
    for (number, close) in closes.into_iter().enumerate() {
        ok!(lock_byte(fd, abi::F_SETLK, 0));
        let other = ok!(sys::open(b"f", abi::O_RDONLY, 0));
        let me = sys::getpid();
        let seen = |by: i32| {
            Child::start("a process that looks", || {
                check_eq!(holder(kept, 0)?, by, "close {number}");
                Ok(())
            })?
            .join()
        };
        seen(me)?;
        ok!(close(other));
        seen(0)?;
        let _ = sys::close(other);
    }
    let program = ok!(sys::open(b"f", abi::O_RDWR | abi::O_CLOEXEC, 0));
    let child = Child::start("a process that execs", || {
        ok!(lock_byte(program, abi::F_SETLK, 7));
        let error = sys::execve(b"/bin/sleep", &[b"sleep", b"9"], &[]);
        Err(format!("execve: {error:?}"))
    })?;
    pause();
    check_eq!(holder(kept, 7)?, 0, "the lock is gone while the program runs");
    child.kill()?;
    let whole = |fd: Fd, how: u32| raw(abi::__NR_flock, &[fd.argument(), how as usize]);
    ok!(lock_byte(fd, abi::F_SETLK, 0));
    check_eq!(whole(kept, abi::LOCK_EX), Ok(0));
    check_eq!(whole(fd, abi::LOCK_EX | abi::LOCK_NB), Err(Errno::EAGAIN));
    Ok(())
}

/// What fcntl(2) can do with a descriptor opened with `O_PATH`.
#[guest_test]
fn lock_needs_an_open_file() -> Outcome {
    file(b"f", b"")?;
    let path = ok!(sys::open(b"f", abi::O_PATH, 0));
    let command = |command: u32| raw(abi::__NR_fcntl, &[path.argument(), command as usize, 0]);
    for refused in [abi::F_SETFL, abi::F_GETLK, abi::F_SETLK, abi::F_GETPIPE_SZ] {
        check_eq!(command(refused), Err(Errno::EBADF), "command {refused}");
    }
    check_eq!(command(abi::F_GETFL), Ok(abi::O_PATH as usize));
    check_eq!(command(abi::F_GETFD), Ok(0));
    check_eq!(raw(abi::__NR_flock, &[path.argument(), 2]), Err(Errno::EBADF));
    let map = [0, 4096, 1, abi::MAP_PRIVATE as usize, path.argument(), 0];
    check_eq!(raw(abi::__NR_mmap, &map), Err(Errno::EBADF));
    Ok(())
}
