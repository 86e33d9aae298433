//! The kernel's own threads: the reclaimer, which keeps frames free ([`mem::reclaim_ahead`]), and
//! the writers, which write dirty pages of mapped files ([`mapped::write_what_is_due`]).
//!
//! Each has a process of its own that is in no table, and an empty address space. So no program
//! sees it, signals it or waits for it. None of them ever ends.
#![forbid(unsafe_code)]

use super::process::choices::Choices;
use super::process::{Identity, Inheritance, Process, Thread, thread::InitialState};
use super::signal::{Actions, Signal};
use super::timer::Timeout;
use super::{family, scheduler};
use crate::arch::{NEVER, Registers};
use crate::file::mapped::{self, MAX_WRITERS};
use crate::file::{FdTable, FileContext};
use crate::mem::{self, Account, Occupant, Space};
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::Errno;

/// The reclaimer's number: the last one. No program gets it, nor one of the writers'.
const RECLAIMER: u32 = i32::MAX as u32;
/// The number of the first writer. Those of the others are lower.
const FIRST_WRITER: u32 = RECLAIMER - 1;

/// Makes the reclaimer and the first writers, and has more writers made when there is need for
/// them. They run when the scheduler starts.
pub fn make_first() -> Result<(), Errno> {
    make(RECLAIMER)?;
    mapped::begin_writers(make_writer)
}

/// Makes one more writer.
fn make_writer() -> Result<(), Errno> {
    static WRITERS: AtomicU32 = AtomicU32::new(0);
    let number = WRITERS.fetch_add(1, Ordering::Relaxed);
    make(FIRST_WRITER - number).inspect_err(|_| {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    })
}

fn make(number: u32) -> Result<(), Errno> {
    // It never enters user mode, so the registers do not matter.
    let initial = InitialState::program(Registers::start(0, 0))?;
    let inheritance = Inheritance {
        account: Account::new(),
        files: Arc::new(Mutex::new(FdTable::new())),
        context: Arc::new(Mutex::new(FileContext::default())),
        actions: Arc::new(Mutex::new(Actions::default())),
        identity: Identity { name: Vec::from(*b"kernel"), ..Identity::default() },
        choices: Choices::default(),
        server: false,
        exit_signal: Signal::NONE,
    };
    let process = Process::new(number, inheritance)?;
    let thread = Thread::new(number, process.clone(), Occupant::new(&Space::new()?), initial)?;
    scheduler::reserve()?;
    process.add_thread(&thread)?;
    family::add_thread(&thread)?;
    scheduler::wake(&thread);
    Ok(())
}

/// Whether the running thread is one of the kernel's own.
pub fn is_current() -> bool {
    scheduler::borrow_current().tid > FIRST_WRITER - MAX_WRITERS as u32
}

/// The running thread's life, if it is one of the kernel's own.
pub fn run() -> ! {
    if scheduler::borrow_current().tid == RECLAIMER {
        loop {
            // Nobody can interrupt it.
            let _ = mem::reclaim_ahead();
        }
    }
    loop {
        let next_ns = mapped::write_what_is_due();
        let timeout = (next_ns != NEVER).then(|| Timeout::at(next_ns));
        mapped::await_work(next_ns, || timeout.as_ref().is_some_and(Timeout::is_over));
    }
}
