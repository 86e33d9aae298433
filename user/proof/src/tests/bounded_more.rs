//! Bounded work: one system call about very many pages, names, pieces or processes lets others run
//! in the meantime. The kinds that are not about the memory of one process.

use super::bounded::{HUGE, LAZY, MUCH, SOME, done, filled, regions, zeros};
use proof::guest_test;
use proof::kit::{Outcome, PAGE, check_delay, load, raw, store};
use proof::{lazy, os};
use user::prelude::*;
use user::sys::abi;

/// What is mapped shared of a file, in bytes: many pages.
const SHARED: usize = 8 << 20;

/// A mapping of a new file, each page of which was stored to.
fn shared_file(name: &str) -> Outcome<(Fd, usize)> {
    let fd = ok!(os::create(name));
    ok!(sys::ftruncate(fd, ByteCount(SHARED as u64)));
    let (kind, protection) = (abi::MAP_SHARED as usize, os::READ_WRITE as usize);
    let start = ok!(raw(abi::__NR_mmap, &[0, SHARED, protection, kind, fd.argument(), 0]));
    (start..start + SHARED).step_by(PAGE).for_each(|page| store(page, 1));
    Ok((fd, start))
}

/// A file that is mapped shared is written back, changed by write(2), read and cut.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 240)]
fn bounded_shared_files() -> Outcome {
    check_delay(
        "msync",
        || shared_file("msync"),
        |(_, start)| done(raw(abi::__NR_msync, &[start, SHARED, abi::MS_SYNC as usize])),
    )?;
    check_delay("fsync", || shared_file("fsync"), |(fd, _)| done(os::sync(fd)))?;
    check_delay(
        "munmap, file",
        || shared_file("munmap"),
        |(_, start)| done(os::munmap(start, SHARED)),
    )?;
    let with_buffer = |name: &'static str| move || Ok((shared_file(name)?, filled(SHARED, LAZY)?));
    check_delay("write, mapped file", with_buffer("write"), |((fd, _), from)| {
        done(os::write(fd, from, SHARED))
    })?;
    check_delay("read, mapped file", with_buffer("read"), |((fd, _), to)| {
        done(os::pread(fd, to, SHARED, 0))
    })?;
    check_delay(
        "ftruncate, mapped file",
        || shared_file("cut"),
        |(fd, _)| done(sys::ftruncate(fd, ByteCount(1))),
    )?;
    check_delay(
        "sync",
        || shared_file("sync"),
        |_| {
            sys::sync();
            Ok(())
        },
    )
}

/// A file with thousands of snapshots is cut, written to and removed.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_snapshots() -> Outcome {
    const READS: usize = 1000;
    const READ: usize = 32 * PAGE;
    let snapshots = |name: &'static str| {
        move || {
            let fd = ok!(os::create(name));
            let from = filled(SOME, LAZY)?;
            ok!(os::write(fd, from, SOME));
            let to = ok!(os::mmap(0, READS * READ, os::READ_WRITE, LAZY));
            for read in 0..READS {
                ok!(os::pread(fd, to + read * READ, READ, (read * PAGE) as u64));
            }
            Ok((fd, from))
        }
    };
    check_delay("ftruncate, snapshots", snapshots("cut"), |(fd, _)| {
        done(sys::ftruncate(fd, ByteCount(1)))
    })?;
    check_delay("write, snapshots", snapshots("changed"), |(fd, from)| {
        done(os::pwrite(fd, from, SOME, 0))
    })?;
    check_delay("unlink, snapshots", snapshots("removed"), |(fd, _)| {
        ok!(sys::unlink(b"removed"));
        done(sys::close(fd))
    })
}

/// A directory with thousands of names is read at once, and so is `/proc` with as many processes.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 240)]
fn bounded_names() -> Outcome {
    const NAMES: usize = 5000;
    let scan = |path: &'static [u8]| {
        let fd = ok!(sys::open(path, abi::O_RDONLY | abi::O_DIRECTORY, 0));
        let mut entries = vec![0; 4 << 20];
        while ok!(sys::getdents64(fd, &mut entries)) > 0 {}
        Ok(())
    };
    check_delay(
        "getdents",
        || {
            ok!(sys::mkdir(b"names", 0o755));
            for number in 0..NAMES {
                ok!(sys::mkdir(format!("names/a name of some length {number}").as_bytes(), 0o755));
            }
            Ok(())
        },
        |()| scan(b"names"),
    )?;
    check_delay("getdents, proc", children, |_| scan(b"/proc"))
}

/// Children that wait until this process ends, whose ends leave a message in the pipe.
fn children() -> Outcome<usize> {
    ok!(raw(abi::__NR_setpgid, &[0, 0]));
    let [reader, writer] = ok!(sys::pipe(0));
    let mut count = 0;
    for _ in 0..1000 {
        match sys::fork() {
            Ok(None) => {
                let _ = (sys::close(writer), sys::read(reader, &mut [0]));
                sys::exit(0);
            }
            Ok(Some(_)) => count += 1,
            Err(_) => break,
        }
    }
    Ok(count)
}

/// A vector of as many large pieces as there may be is read and written.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_vectors() -> Outcome {
    const PIECES: usize = 1024;
    let vector = |path: &'static str, bytes: usize| {
        move || {
            let start = filled(bytes, LAZY)?;
            let length = bytes / PIECES;
            // Unaligned, so that they are copied.
            let piece = |at| [start + at * length + 1, length - 1];
            let pieces: Vec<[usize; 2]> = (0..PIECES).map(piece).collect();
            let fd = ok!(sys::open(path.as_bytes(), abi::O_RDWR | abi::O_CREAT, 0o644));
            Ok((fd, pieces))
        }
    };
    check_delay("readv, zeros", vector("/dev/zero", MUCH), |(fd, to)| done(os::readv(fd, &to)))?;
    check_delay("writev, null", vector("/dev/null", MUCH), |(fd, from)| {
        done(os::writev(fd, &from))
    })?;
    check_delay("writev, file", vector("file", SOME), |(fd, from)| done(os::writev(fd, &from)))?;
    check_delay("readv, file", vector("file", SOME), |(fd, to)| done(os::readv(fd, &to)))?;
    check_delay(
        "readv, pipe",
        || {
            let [reader, writer] = ok!(sys::pipe(0));
            let bytes = 1 << 20;
            ok!(raw(abi::__NR_fcntl, &[writer.argument(), abi::F_SETPIPE_SZ as usize, bytes]));
            let start = filled(bytes, LAZY)?;
            ok!(os::write(writer, start, bytes));
            let pieces = (0..PIECES).map(|at| [start + at * PAGE / 4, PAGE / 4]).collect();
            Ok((reader, pieces))
        },
        |(fd, to): (Fd, Vec<[usize; 2]>)| done(os::readv(fd, &to)),
    )
}

/// Thousands of regions are changed, looked at and locked.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 240)]
fn bounded_regions() -> Outcome {
    let advise = |advice: usize| {
        move |(start, bytes)| {
            let _ = raw(abi::__NR_madvise, &[start, bytes, advice]);
            Ok(())
        }
    };
    check_delay("madvise, discard", regions, advise(abi::MADV_DONTNEED as usize))?;
    check_delay("madvise, will need", regions, advise(abi::MADV_WILLNEED as usize))?;
    check_delay("madvise, page out", regions, advise(abi::MADV_PAGEOUT as usize))?;
    check_delay("madvise, read", regions, advise(abi::MADV_POPULATE_READ as usize))?;
    check_delay("madvise, not for a child", regions, advise(abi::MADV_DONTFORK as usize))?;
    check_delay("mlock, regions", regions, |(start, bytes)| {
        // It may be more than one process may lock.
        let _ = raw(abi::__NR_mlock, &[start, bytes]);
        done(raw(abi::__NR_munlock, &[start, bytes]))
    })?;
    check_delay("mlockall, regions", regions, |_| {
        let _ = raw(abi::__NR_mlockall, &[1]);
        done(raw(abi::__NR_munlockall, &[]))
    })?;
    check_delay("mincore, regions", regions, |(start, bytes)| {
        let mut residency = vec![0u8; bytes / PAGE];
        done(raw(abi::__NR_mincore, &[start, bytes, residency.as_mut_ptr() as usize]))
    })?;
    check_delay("msync, regions", regions, |(start, bytes)| {
        done(raw(abi::__NR_msync, &[start, bytes, abi::MS_SYNC as usize]))
    })?;
    check_delay("mremap, regions", regions, |(start, bytes)| {
        let _ = os::mremap(start, bytes, 2 * bytes);
        Ok(())
    })
}

/// Arguments and environment of a new program are as long, and as many, as they may be.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_arguments() -> Outcome {
    let exec = |strings: Vec<Vec<u8>>| {
        let arguments: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        Err(format!("execve: {:?}", sys::execve(b"/bin/true", &arguments, &[])))
    };
    check_delay("exec, long arguments", || Ok(vec![vec![b'x'; 130_000]; 7]), exec)?;
    check_delay("exec, many arguments", || Ok(vec![Vec::new(); 100_000]), exec)
}

/// A call is about a thousand processes, or threads that wait.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_processes() -> Outcome {
    check_delay("setpriority", children, |_| {
        done(raw(abi::__NR_setpriority, &[abi::PRIO_PGRP as usize, 0, 1]))
    })?;
    check_delay("futex, requeue", waiters, |(word, count)| {
        const REQUEUE: usize = 3;
        let given = [word, REQUEUE, 0, i32::MAX as usize, word + 64, 0];
        check_eq!(ok!(raw(abi::__NR_futex, &given)), count);
        Ok(())
    })?;
    check_delay(
        "wait4",
        || {
            let mut count = 0;
            for _ in 0..1000 {
                match sys::fork() {
                    Ok(None) => sys::exit(0),
                    Ok(Some(_)) => count += 1,
                    Err(_) => break,
                }
            }
            Ok(count)
        },
        |count| {
            for _ in 0..count {
                ok!(sys::wait(-1, 0));
            }
            Ok(())
        },
    )
}

/// Children that wait for a word of shared memory, which is returned with their number.
fn waiters() -> Outcome<(usize, usize)> {
    let word = ok!(os::mmap(0, PAGE, os::READ_WRITE, abi::MAP_SHARED));
    ok!(raw(abi::__NR_setpgid, &[0, 0]));
    let [end, is_alive] = ok!(sys::pipe(0));
    if ok!(sys::fork()).is_none() {
        // Ends them all when this process has ended.
        let _ = (sys::close(is_alive), sys::read(end, &mut [0]));
        let _ = sys::kill(0, abi::SIGKILL as i32);
        sys::exit(0);
    }
    let [reader, writer] = ok!(sys::pipe(0));
    let mut count = 0;
    for _ in 0..1000 {
        match sys::fork() {
            Ok(None) => {
                let _ = (sys::close(is_alive), sys::write(writer, b"."));
                os::futex_wait(word, 0);
                sys::exit(0);
            }
            Ok(Some(_)) => count += 1,
            Err(_) => break,
        }
    }
    for _ in 0..count {
        ok!(sys::read(reader, &mut [0]));
    }
    // All have reported, and the last ones are on their way to wait.
    ok!(sys::sleep(core::time::Duration::from_millis(50)));
    Ok((word, count))
}

/// What the kernel keeps is counted, and caches are dropped.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 120)]
fn bounded_figures() -> Outcome {
    let kept = |_: usize| lazy::read_text("/proc/kept").map(drop);
    check_delay("kept, private", || filled(MUCH, LAZY), kept)?;
    check_delay("kept, zeros", || zeros(HUGE), kept)?;
    let cached = || {
        let fd = ok!(os::create("cached"));
        let from = filled(SOME, LAZY)?;
        ok!(os::write(fd, from, SOME));
        let to = filled(SOME, LAZY)?;
        ok!(os::pread(fd, to, SOME, 0));
        (to..to + SOME).step_by(PAGE).for_each(|page| _ = load(page));
        Ok(())
    };
    check_delay("drop caches", cached, |()| lazy::write_text("/proc/sys/lazy/drop_caches", "1\n"))
}

/// Frames are searched for in a space whose page tables have millions of entries that free nothing,
/// and others run in the meantime.
#[guest_test(memory_mib: 512, icount: true, timeout_s: 240)]
fn bounded_sweeps() -> Outcome {
    let sparse = |bytes: usize| {
        move || {
            let start = zeros(bytes)?;
            // All of them have been used since the last sweep.
            (start..start + bytes).step_by(PAGE).for_each(|page| _ = load(page));
            Ok(ok!(os::mmap(0, 2 * MUCH, os::READ_WRITE, LAZY)))
        }
    };
    check_delay("sweep", sparse(HUGE), |start| {
        (start..start + MUCH + SOME).step_by(PAGE).for_each(|page| store(page, 1));
        Ok(())
    })
}
