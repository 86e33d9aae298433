//! Where system calls and traps of user mode arrive, called by the entry code in `arch`.

use super::table::{self, Arguments};
use super::unknown;
use crate::arch::{Cause, PageFault, Registers};
use crate::file::devices;
use crate::mem::{Access, FaultError, UserAddr};
use crate::task::deliver::{self, Restart};
use crate::task::signal::{SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP, SignalInfo};
use crate::task::{Current, Thread, current_thread, family, scheduler, send};
use crate::trace::{self, Figures, Presence};
use alloc::sync::Arc;
use foundation::Errno;

/// Carries out a system call; the result as the program gets it.
///
/// # Safety
/// The running thread has made it, with these arguments.
#[inline]
unsafe fn carry_out(number: u64, arguments: Arguments) -> u64 {
    // SAFETY: the caller's promise; `current` does not leave this function.
    let current = unsafe { Current::new() };
    match table::handler(number) {
        Some(handler) => handler(&current, arguments),
        None => unknown::call(&current, number),
    }
}

/// What becomes of a system call that was interrupted.
fn restart_of(registers: &Registers) -> Option<Restart> {
    let Cause::Syscall(number) = registers.cause() else { return None };
    let restart = table::find(number).map_or(Restart::Usual, |call| call.restart);
    (restart != Restart::Never && registers.rax == deliver::error(Errno::EINTR)).then_some(restart)
}

/// A system call. True if the program may be returned to the fast way: nothing but the result has
/// changed.
///
/// # Safety
/// `registers` are those at the top of the running thread's stack.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn sloth_syscall(registers: *mut Registers) -> bool {
    // SAFETY: the caller's promise. Handlers may change the registers by themselves (exec,
    // sigreturn), so no reference is kept across them.
    unsafe {
        let result = carry_out((*registers).code, Arguments::new(registers));
        (*registers).rax = result;
        if (*registers).cause == Registers::SYSCALL && !scheduler::is_work_due() {
            return true;
        }
        let restart = restart_of(&*registers);
        deliver::before_user(restart);
    }
    false
}

/// A new thread on its way to user mode for the first time.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn sloth_thread_start() {
    scheduler::finish_switch();
    deliver::before_user(None);
}

/// An interrupt came while the program ran.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub fn sloth_interrupted(_: &mut Registers) {
    scheduler::count_tick();
    deliver::before_user(None);
}

/// An exception in user mode.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub fn sloth_trap(registers: &mut Registers, fault: Option<PageFault>) {
    match fault {
        Some(fault) => page_fault(fault),
        None => exception(registers),
    }
    if scheduler::is_work_due() {
        deliver::before_user(None);
    }
}

fn page_fault(fault: PageFault) {
    let thread = current_thread();
    let Some(space) = thread.space() else { return };
    let access = match fault {
        PageFault { write: true, .. } => Access::Write,
        PageFault { execute: true, .. } => Access::Execute,
        _ => Access::Read,
    };
    let before = trace::is_active().then(|| Figures::of(&space.counters));
    let Err(error) = space.fault(UserAddr(fault.address), access) else {
        if let Some(before) = before {
            let figures = Figures::of(&space.counters).since(before);
            let touch = trace::Touch {
                address: fault.address,
                access,
                before: if fault.present { Presence::Present } else { Presence::Absent },
            };
            trace::note_fault(thread.process.pid, touch, figures);
        }
        return;
    };
    drop(space);
    let info = |signal, code| SignalInfo { signal, code, pid: 0, value: fault.address };
    match error {
        FaultError::Segv => send::force(&thread, info(SIGSEGV, SignalInfo::FIRST_REASON)),
        FaultError::Bus => send::force(&thread, info(SIGBUS, SignalInfo::BUS_ADDRESS)),
        FaultError::OutOfMemory => out_of_memory(&thread),
        // It is about to end.
        FaultError::Killed => thread.notice(),
    }
}

/// The program that asked for memory that is not there ends, and nothing else (Q4).
fn out_of_memory(thread: &Arc<Thread>) {
    let name = thread.process.identity.lock().name.clone();
    let text =
        alloc::format!("out of memory: {} ({}) is ended", name.escape_ascii(), thread.process.pid);
    log::warn!("{text}");
    let session = family::relations(thread.process.pid).map_or(0, |relations| relations.session);
    devices::announce(session, alloc::format!("{text}\n").as_bytes());
    send::begin_end(&thread.process, i32::from(SIGKILL));
}

fn exception(registers: &Registers) {
    const STACK_FAULT: u8 = 12;
    let thread = current_thread();
    let Cause::Exception(vector) = registers.cause() else { return };
    let signal = match vector {
        0 | 16 | 19 => SIGFPE,
        1 | 3 => SIGTRAP,
        6 => SIGILL,
        17 | STACK_FAULT => SIGBUS,
        _ => SIGSEGV,
    };
    // The CPU tells no address for the rest; Linux says 0 for a general protection fault, and the
    // instruction's for others.
    let (code, value) = match signal {
        SIGSEGV => (SignalInfo::KERNEL, 0),
        SIGTRAP if vector == 3 => (SignalInfo::KERNEL, 0),
        _ => (SignalInfo::FIRST_REASON, registers.rip),
    };
    send::force(&thread, SignalInfo { signal, code, pid: 0, value });
}
