//! Bounded work: however much memory one system call is about, others run in the meantime. Each
//! test makes one kind of long call in a child, and measures how long it keeps this process from
//! running.

use proof::guest_test;
use proof::kit::{Named, Outcome, PAGE, check_delay, check_kill, raw, store};
use proof::os;
use user::prelude::*;
use user::sys::abi;

/// Much memory, in bytes: three quarters of the machine's with pages of its own.
pub const MUCH: usize = 384 << 20;
/// A range whose page tables take a sixteenth of the machine, if each of its pages is mapped: 2^22
/// entries, which take seconds to make.
pub const HUGE: usize = 16 << 30;
/// Less, in bytes, for what goes through other processes.
pub const SOME: usize = 64 << 20;
pub const LAZY: u32 = abi::MAP_PRIVATE | abi::MAP_NORESERVE;
const POPULATE_READ: usize = 22;

/// A mapping, each page of which was stored to.
pub fn filled(bytes: usize, flags: u32) -> Outcome<usize> {
    let start = ok!(os::mmap(0, bytes, os::READ_WRITE, flags));
    (start..start + bytes).step_by(PAGE).for_each(|page| store(page, 1));
    Ok(start)
}

/// A mapping of zero pages.
pub fn zeros(bytes: usize) -> Outcome<usize> {
    let start = ok!(os::mmap(0, bytes, abi::PROT_READ, LAZY));
    for part in (start..start + bytes).step_by(1 << 30) {
        ok!(raw(abi::__NR_madvise, &[part, (1 << 30).min(start + bytes - part), POPULATE_READ]));
    }
    Ok(start)
}

/// A mapping with as many regions as there may be.
pub fn regions() -> Outcome<(usize, usize)> {
    const COUNT: usize = 60_000;
    let start = ok!(os::mmap(0, COUNT * PAGE, os::READ_WRITE, LAZY));
    for page in (0..COUNT).step_by(2) {
        store(start + page * PAGE, 1);
        ok!(os::mprotect(start + page * PAGE, PAGE, abi::PROT_READ));
    }
    Ok((start, COUNT * PAGE))
}

/// The outcome of a call that must succeed.
pub fn done<T>(result: Result<T>) -> Outcome {
    result.map(drop).named("the call")
}

/// The contents of memory are unmapped: private, shared, zero pages.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_munmap() -> Outcome {
    let private = || filled(MUCH, LAZY);
    check_delay("munmap, private", private, |start| done(os::munmap(start, MUCH)))?;
    let shared = || filled(MUCH, abi::MAP_SHARED);
    check_delay("munmap, shared", shared, |start| done(os::munmap(start, MUCH)))?;
    check_delay("munmap, zeros", || zeros(HUGE), |start| done(os::munmap(start, HUGE)))?;
    check_delay("munmap, regions", regions, |(start, bytes)| done(os::munmap(start, bytes)))
}

/// A process with much memory is copied, and ends.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_fork() -> Outcome {
    let fork = |_: usize| {
        if ok!(sys::fork()).is_none() {
            sys::exit(0);
        }
        Ok(())
    };
    check_delay("fork, private", || filled(MUCH, LAZY), fork)?;
    check_delay("fork, shared", || filled(MUCH, abi::MAP_SHARED), fork)?;
    check_delay("fork, zeros", || zeros(HUGE / 4), fork)?;
    check_delay("fork, regions", || Ok(regions()?.0), fork)
}

/// A process with much memory ends, by itself or by a signal.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_exit() -> Outcome {
    let exit = |_: usize| sys::exit(0);
    check_delay("exit, private", || filled(MUCH, LAZY), exit)?;
    check_delay("exit, shared", || filled(MUCH, abi::MAP_SHARED), exit)?;
    check_delay("exit, zeros", || zeros(HUGE), exit)?;
    check_delay("exit, regions", || Ok(regions()?.0), exit)
}

/// A process with much memory runs another program.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_exec() -> Outcome {
    let exec = |_: usize| Err(format!("execve: {:?}", sys::execve(b"/bin/true", &[b"true"], &[])));
    check_delay("exec, private", || filled(MUCH, LAZY), exec)?;
    check_delay("exec, zeros", || zeros(HUGE), exec)?;
    check_delay("exec, regions", || Ok(regions()?.0), exec)
}

/// Memory is populated, for reading and for writing, and locked.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_populate() -> Outcome {
    let map = |bytes: usize| move || os::mmap(0, bytes, os::READ_WRITE, LAZY).named("mmap");
    let advise = |advice: usize, bytes: usize| {
        move |start: usize| done(raw(abi::__NR_madvise, &[start, bytes, advice]))
    };
    check_delay("populate, read", map(HUGE), advise(POPULATE_READ, HUGE))?;
    check_delay("populate, write", map(MUCH), advise(POPULATE_READ + 1, MUCH))?;
    check_delay("mlock", map(SOME), |start| done(raw(abi::__NR_mlock, &[start, SOME])))?;
    check_delay(
        "MAP_POPULATE",
        || Ok(()),
        |()| done(os::mmap(0, MUCH, os::READ_WRITE, LAZY | abi::MAP_POPULATE)),
    )?;
    check_delay(
        "mincore",
        || zeros(HUGE / 4),
        |start| {
            let mut residency = vec![0u8; HUGE / 4 / PAGE];
            let out = residency.as_mut_ptr() as usize;
            done(raw(abi::__NR_mincore, &[start, HUGE / 4, out]))
        },
    )
}

/// Memory changes: its protection, its contents, its place, what is mapped.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_changes() -> Outcome {
    const DONTNEED: usize = abi::MADV_DONTNEED as usize;
    let private = || filled(MUCH, LAZY);
    check_delay("mprotect", private, |start| done(os::mprotect(start, MUCH, abi::PROT_READ)))?;
    check_delay("mprotect, regions", regions, |(start, bytes)| {
        done(os::mprotect(start, bytes, abi::PROT_NONE))
    })?;
    check_delay("madvise", private, |start| {
        done(raw(abi::__NR_madvise, &[start, MUCH, DONTNEED]))
    })?;
    check_delay("MAP_FIXED", private, |start| {
        done(os::mmap(start, MUCH, os::READ_WRITE, LAZY | abi::MAP_FIXED))
    })?;
    check_delay("mremap, shrink", private, |start| done(os::mremap(start, MUCH, PAGE)))?;
    check_delay("mremap, move", private, |start| {
        let to = ok!(os::mmap(0, 2 * MUCH, 0, LAZY)) + PAGE;
        done(os::mremap_to(start, MUCH, MUCH, to))
    })?;
    check_delay(
        "mremap, zeros",
        || zeros(HUGE / 4),
        |start| {
            let to = ok!(os::mmap(0, HUGE / 2, 0, LAZY)) + PAGE;
            done(os::mremap_to(start, HUGE / 4, HUGE / 4, to))
        },
    )?;
    check_delay(
        "brk",
        || Ok(()),
        |()| {
            let start = ok!(raw(abi::__NR_brk, &[0]));
            let end = ok!(raw(abi::__NR_brk, &[start + MUCH]));
            (start..end).step_by(PAGE).for_each(|page| store(page, 1));
            ok!(raw(abi::__NR_brk, &[start]));
            Ok(())
        },
    )
}

/// A process that is about to populate, unmap or copy very much is ended by a signal, soon.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_kill() -> Outcome {
    let range = || Ok(ok!(os::mmap(0, HUGE, abi::PROT_READ, LAZY)));
    check_kill("populate", range, |start| {
        done(raw(abi::__NR_madvise, &[start, HUGE, POPULATE_READ]))
    })?;
    check_kill(
        "unmap",
        || zeros(HUGE),
        |start| {
            ok!(os::munmap(start, HUGE));
            loop {
                let _ = sys::sleep(core::time::Duration::from_secs(1000));
            }
        },
    )?;
    check_kill(
        "fork",
        || filled(MUCH, LAZY),
        |_| {
            if ok!(sys::fork()).is_none() {
                sys::exit(0);
            }
            loop {
                let _ = sys::sleep(core::time::Duration::from_secs(1000));
            }
        },
    )
}

/// Very much is read and written at once: zeros, random bytes, a file, a pipe, the memory of a
/// process, the list of its regions.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_io() -> Outcome {
    let open = |path: &'static str, bytes: usize| {
        move || Ok((ok!(sys::open(path.as_bytes(), abi::O_RDONLY, 0)), filled(bytes, LAZY)?))
    };
    let read = |bytes: usize| move |(fd, start)| done(os::read(fd, start, bytes));
    check_delay("read, zeros", open("/dev/zero", MUCH), read(MUCH))?;
    check_delay("read, random", open("/dev/urandom", SOME), read(SOME))?;
    check_delay(
        "read, maps",
        || Ok((ok!(sys::open(b"/proc/self/maps", 0, 0)), regions()?)),
        |(fd, _)| done(sys::read(fd, &mut [0; PAGE])),
    )?;
    check_delay(
        "read, statm",
        || Ok((ok!(sys::open(b"/proc/self/statm", 0, 0)), zeros(HUGE / 4)?)),
        |(fd, _)| done(sys::read(fd, &mut [0; 64])),
    )?;
    let file = || {
        let fd = ok!(os::create("big"));
        ok!(sys::ftruncate(fd, ByteCount(MUCH as u64)));
        Ok((fd, filled(MUCH, LAZY)?))
    };
    check_delay("read, file", file, read(MUCH))?;
    check_delay(
        "write, file",
        || Ok((ok!(os::create("much")), filled(SOME, LAZY)?)),
        |(fd, start)| {
            ok!(os::write(fd, start, SOME));
            ok!(sys::ftruncate(fd, ByteCount::ZERO));
            Ok(())
        },
    )?;
    check_delay(
        "pipe",
        || Ok((ok!(sys::pipe(0)), filled(SOME, LAZY)?)),
        |([from, to], start)| {
            if ok!(sys::fork()).is_none() {
                let _ = os::write(to, start, SOME);
                sys::exit(0);
            }
            let mut left = SOME;
            while left > 0 {
                left -= ok!(os::read(from, start, left));
            }
            Ok(())
        },
    )
}

/// Very many descriptors and processes are closed, polled, signalled at once. So the servers get
/// thousands of messages, and work on them no sooner than it is their turn.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_numbers() -> Outcome {
    const FILES: usize = 4000;
    let open = || {
        ok!(sys::set_limit(abi::RLIMIT_NOFILE, [4096, 4096]));
        let fd = ok!(os::create("one"));
        for _ in 0..FILES / 2 {
            ok!(sys::open(b"one", abi::O_RDONLY, 0));
        }
        for _ in FILES / 2..FILES {
            ok!(sys::dup(fd));
        }
        Ok(())
    };
    check_delay("exit, descriptors", open, |()| sys::exit(0))?;
    check_delay("close_range", open, |()| {
        done(raw(abi::__NR_close_range, &[3, u32::MAX as usize, 0]))
    })?;
    check_delay("poll", open, |()| {
        let mut polled: Vec<u64> = (0..FILES as u64).map(|fd| fd | 1 << 32).collect();
        done(raw(abi::__NR_poll, &[polled.as_mut_ptr() as usize, polled.len(), 0]))
    })?;
    // They block the signal, and end when this process does: none of them runs in the meantime.
    let children = || {
        ok!(raw(abi::__NR_setpgid, &[0, 0]));
        ok!(sys::signal_mask(1 << (abi::SIGTERM - 1)));
        let [reader, writer] = ok!(sys::pipe(0));
        for _ in 0..1000 {
            if let Ok(None) = sys::fork() {
                let _ = (sys::close(writer), sys::read(reader, &mut [0]));
                sys::exit(0);
            }
        }
        Ok(())
    };
    check_delay("kill", children, |()| done(sys::kill(0, abi::SIGTERM as i32)))
}
