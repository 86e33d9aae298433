//! The first process.
#![forbid(unsafe_code)]

use super::arguments::Arguments;
use super::elf::{HEADER_BYTES, Program};
use super::exec;
use super::load::{Image, load};
use super::process::choices::Choices;
use super::process::{Inheritance, Process};
use super::signal::{Actions, Signal};
use super::thread::InitialState;
use super::{Thread, WaitStatus, family, scheduler};
use crate::arch::{self, Registers};
use crate::file::{FdTable, FileContext};
use crate::mem::account::{Charge, Kind};
use crate::mem::{Occupant, Space, UserAddr};
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// Makes the first process from an ELF image in memory, with these descriptors. It runs when the
/// scheduler starts.
pub fn make(image: &[u8], path: &[u8], files: FdTable) -> Result<(), Errno> {
    let program = Program::parse(image.get(..image.len().min(HEADER_BYTES)).unwrap_or_default())?;
    let space = Occupant::new(&Space::new()?);
    space.policy.make_init();
    // It is not refused what it needs to start a server again; nor are its forks, until they exec.
    space.account.mark_server();
    let arguments = Arguments {
        arguments: Vec::from([path.to_vec()]),
        environment: Vec::new(),
        charge: Charge::take(&space.account, Kind::Files, 0)?,
    };
    load(&space, &program, &Image::Memory(image))?;
    space.set_heap_start(UserAddr(program.end()));
    let sp = exec::build_stack(&space, &program, path, &arguments)?;
    let initial = InitialState::program(Registers::start(program.entry, sp))?;
    let inheritance = Inheritance {
        account: space.account.clone(),
        files: Arc::new(Mutex::new(files)),
        context: Arc::new(Mutex::new(FileContext::default())),
        actions: Arc::new(Mutex::new(Actions::default())),
        identity: exec::identity(&arguments, path, path.to_vec())?,
        choices: Choices::default(),
        server: false,
        exit_signal: Signal::NONE,
    };
    let pid = family::new_number(None)?;
    let process = Process::new(pid, inheritance)?;
    let thread = Thread::new(pid, process.clone(), space, initial)?;
    scheduler::reserve()?;
    process.add_thread(&thread)?;
    family::add_process(&process, 0, 0);
    family::add_thread(&thread)?;
    scheduler::wake(&thread);
    super::kernel_threads::make_first()
}

/// Stops the machine after the end of PID 1: nothing could be started or reaped any more.
pub(super) fn ended(status: WaitStatus) -> ! {
    arch::power::failed(format_args!("init ended with status {:#x}; the machine stops", status.0))
}
