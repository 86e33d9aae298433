//! The kernel's own thread, which keeps frames free: see [`mem::reclaim_ahead`].
//!
//! It has a process of its own that is in no table, and an empty address space. So no program sees
//! it, signals it or waits for it.
#![forbid(unsafe_code)]

use super::process::{Identity, Inheritance, Process, Thread, thread::InitialState};
use super::signal::{Actions, Signal};
use super::{family, scheduler};
use crate::arch::Registers;
use crate::file::{FdTable, FileContext};
use crate::mem::{self, Account, Occupant, Space};
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// The thread's number: the last one, which no program ever gets.
const NUMBER: u32 = i32::MAX as u32;

/// Makes the thread. It runs when the scheduler starts.
pub fn make() -> Result<(), Errno> {
    // It never enters user mode, so the registers do not matter.
    let initial = InitialState::program(Registers::start(0, 0))?;
    let inheritance = Inheritance {
        account: Account::new(),
        files: Arc::new(Mutex::new(FdTable::new())),
        context: Arc::new(Mutex::new(FileContext::default())),
        actions: Actions::default(),
        identity: Identity { name: Vec::from(*b"kernel"), ..Identity::default() },
        server: false,
        exit_signal: Signal::NONE,
    };
    let process = Process::new(NUMBER, inheritance)?;
    let thread = Thread::new(NUMBER, process.clone(), Occupant::new(&Space::new()?), initial)?;
    scheduler::reserve()?;
    process.add_thread(&thread)?;
    family::add_thread(&thread)?;
    scheduler::wake(&thread);
    Ok(())
}

/// Whether the running thread is the kernel's own.
pub fn is_current() -> bool {
    scheduler::borrow_current().tid == NUMBER
}

/// The thread's life.
pub fn run() -> ! {
    loop {
        // Nobody can interrupt it.
        let _ = mem::reclaim_ahead();
    }
}
