//! What many processes that take whatever they can leave to others.

use crate::limits::{kill_all, others_go_on, pause_forever, until_refused};
use core::time::Duration;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Outcome, child};
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
