//! What many processes that take whatever they can leave to others.

use crate::limits::{job_beside, kill_all, others_go_on, pause_forever, set_limits, until_refused};
use core::time::Duration;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Gate, Outcome, child, raw};
use proof::omitted;
use proof::os;
use proof::words::SharedWords;
use user::prelude::*;
use user::sys::abi;

/// Processes that take at the same time.
const TAKERS: usize = 20;

/// Others go on beside processes each of which calls `take` and keeps what it got.
fn beside_many(take: impl Fn() -> Outcome) -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let (takers, full) = (ok!(SharedWords::new()), ok!(SharedWords::new()));
    let mut children = Vec::new();
    for _ in 0..TAKERS {
        children.push(child(|| {
            match take() {
                Ok(()) => full.add(0, 1),
                Err(failure) => eprintln!("{failure}"),
            }
            takers.add(0, 1);
            pause_forever();
            0
        })?);
    }
    while takers.sum() < TAKERS as u64 {
        ok!(sys::sleep(Duration::from_millis(10)));
    }
    let outcome = others_go_on();
    let refused = full.sum();
    kill_all(children)?;
    check_eq!(refused, TAKERS as u64, "processes that were refused in the end");
    outcome
}

/// Bytes in sockets.
#[guest_test(memory_mib: 64, mutants: &[Mutant::TakeAll])]
fn limit_bytes_of_many() -> Outcome {
    const KIND: u32 = 1 | abi::O_NONBLOCK;
    beside_many(|| {
        let taken = until_refused(1 << 10, || {
            let [one, _] = sys::socketpair(KIND)?;
            while sys::write(one, &[1; 4096]).is_ok() {}
            Ok(())
        })?;
        check!(taken < 1 << 10, "{taken} sockets");
        Ok(())
    })
}

/// Page tables that a process would need, and bytes of memory for which each is.
const TABLES: usize = 32_768;
const TABLE_SPAN: usize = 2 << 20;

/// Page tables: the process that needs too many is ended, and others go on meanwhile.
#[guest_test(memory_mib: 64)]
fn limit_page_tables() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let taker = child(|| {
        let flags = abi::MAP_PRIVATE | abi::MAP_NORESERVE;
        let Ok(start) = os::mmap(0, TABLES * TABLE_SPAN, os::READ_WRITE, flags) else { return 1 };
        for table in 0..TABLES {
            // SAFETY: inside the new mapping, into which no reference exists.
            unsafe { ((start + table * TABLE_SPAN) as *mut u8).write_volatile(1) };
        }
        0
    })?;
    others_go_on()?;
    check_eq!(ok!(sys::wait_for(taker)).signal(), Some(abi::SIGKILL as i32));
    others_go_on()
}

/// Errors of a process, or of a server, with too many open files.
const TOO_MANY: [Errno; 2] = [Errno(23), Errno(24)];

/// Opens files of the root's server until that is refused, `most` at most. Returns how many.
fn open_files(most: usize) -> Outcome<usize> {
    for opened in 0..most {
        if let Err(error) = sys::open(b"held", abi::O_RDONLY, 0) {
            check!(TOO_MANY.contains(&error), "refused with {error:?}");
            return Ok(opened);
        }
    }
    Ok(most)
}

/// Open files of a server: processes that open what they can leave some to others.
#[guest_test(memory_mib: 64, mutants: &[Mutant::TakeAllFiles])]
fn limit_server_files() -> Outcome {
    const MOST: usize = 4096;
    ok!(sys::close(ok!(sys::open(b"held", abi::O_RDWR | abi::O_CREAT, 0o644))));
    beside_many(|| {
        ok!(set_limits(abi::RLIMIT_NOFILE, [MOST as u64, MOST as u64]));
        let opened = open_files(MOST)?;
        check!(opened < MOST, "{opened} files");
        Ok(())
    })
}

/// A chain of processes, each of which opens a few files, and leaves them to its child: files are
/// counted for the job, too, so another one goes on.
#[guest_test(memory_mib: 64)]
fn limit_server_files_of_a_chain() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    ok!(sys::close(ok!(sys::open(b"held", abi::O_RDWR | abi::O_CREAT, 0o644))));
    let (gate, ended) = (Gate::new()?, ok!(SharedWords::new()));
    let beside = job_beside(&gate)?;
    let first = child(|| {
        let _ = raw(abi::__NR_setpgid, &[0, 0]);
        let _ = set_limits(abi::RLIMIT_NOFILE, [4096, 4096]);
        while open_files(3).is_ok_and(|opened| opened > 0) {
            match sys::fork() {
                Ok(None) => {}
                Ok(Some(_)) => sys::exit(0),
                Err(_) => break,
            }
        }
        ended.add(0, 1);
        pause_forever();
        0
    })?;
    ok!(sys::wait_for(first));
    while ended.sum() == 0 {
        ok!(sys::sleep(Duration::from_millis(10)));
    }
    gate.open()?;
    let outcome = beside.join();
    let group = (first as isize).wrapping_neg() as usize;
    ok!(raw(abi::__NR_kill, &[group, abi::SIGKILL as usize]));
    outcome
}
