//! Trap policy: the effect of page faults, other exceptions and interrupts of user mode on the
//! program.
//!
//! The boot code registers these functions with `arch` (see [`crate::arch::Handlers`]). Each runs
//! on the kernel stack of the running thread, and may end the thread instead of returning. Page
//! faults are resolved by the address space; signals are sent by `task`.
#![forbid(unsafe_code)]

use crate::arch::{Exception, PageFault, UserAccess, power, vector};
use crate::file::tty::registry;
use crate::mem::{Access, FaultError, PAGE_BYTES, UserAddr};
use crate::task::signal::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, Signal, SignalInfo};
use crate::task::{Thread, current_thread, deliver, family, kernel_threads, oom, scheduler, send};
use crate::trace::{self, Figures, Presence};
use alloc::format;
use alloc::sync::Arc;
use foundation::ByteCount;

/// A new thread is about to enter user mode for the first time. The kernel's own never does.
pub extern "C" fn thread_start() {
    scheduler::finish_switch();
    if kernel_threads::is_current() {
        kernel_threads::run();
    }
    deliver::before_user(None);
}

/// An interrupt of user mode has been served.
pub fn interrupt() {
    deliver::before_user(None);
}

/// Resolves a page fault of user mode, or sends the signal for the access.
pub fn page_fault(fault: PageFault) {
    resolve(fault);
    deliver_if_due();
}

/// Sends the signal for an exception of user mode other than a page fault.
pub fn exception(exception: Exception) {
    raise(exception);
    deliver_if_due();
}

/// Apart from [`exception`], whose thread may end: nothing of it would be dropped.
fn raise(exception: Exception) {
    let thread = current_thread();
    let info = signal_of(exception);
    if send::force(&thread, info) {
        let instruction = exception.instruction;
        send::log_end(&thread.process, info.signal, format_args!("at {instruction:#x}"));
    }
}

fn deliver_if_due() {
    if scheduler::is_work_due() {
        deliver::before_user(None);
    }
}

fn resolve(fault: PageFault) {
    let thread = current_thread();
    let Some(space) = thread.space() else { return };
    let access = match fault.access {
        UserAccess::Load => Access::Read,
        UserAccess::Store => Access::Write,
        UserAccess::Fetch => Access::Execute,
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
    let page = UserAddr(fault.address).page().user_start();
    let is_mapped = space.check_mapped(page, ByteCount(PAGE_BYTES as u64)).is_ok();
    let code = if is_mapped { SignalInfo::DENIED } else { SignalInfo::FIRST_REASON };
    drop(space);
    let info = |signal, code| SignalInfo { value: fault.address, ..exception_info(signal, code) };
    match error {
        FaultError::Segv => {
            if send::force(&thread, info(SIGSEGV, code)) {
                let PageFault { address, access, .. } = fault;
                let instruction = thread.user_instruction().0;
                send::log_end(
                    &thread.process,
                    SIGSEGV,
                    format_args!("{access:?} of {address:#x} at {instruction:#x}"),
                );
            }
        }
        FaultError::Denied => {
            if send::force(&thread, info(SIGBUS, SignalInfo::BUS_ADDRESS)) {
                let PageFault { address, access, .. } = fault;
                let reason = "its file does not reach so far, or its server has no space";
                send::log_end(
                    &thread.process,
                    SIGBUS,
                    format_args!("{access:?} of {address:#x}: {reason}"),
                );
            }
        }
        FaultError::Bus => lost_page(&thread, info(SIGBUS, SignalInfo::BUS_ADDRESS)),
        FaultError::OutOfMemory => out_of_memory(),
        // The thread is about to end.
        FaultError::Killed => thread.notice(),
    }
}

/// The bytes of a page are lost (F5). A program that does not catch the signal ends with a
/// message on its terminal and in the log.
fn lost_page(thread: &Arc<Thread>, info: SignalInfo) {
    if send::force(thread, info) {
        let (name, pid) = (thread.process.identity.lock().name.clone(), thread.process.pid);
        let text = format!("a page is lost: {} ({pid}) is ended", name.escape_ascii());
        log::warn!("{text}");
        let session = family::relations(pid).map_or(0, |relations| relations.session);
        registry::announce(session, format!("{text}\n").as_bytes());
    }
}

/// A page fault found no memory (Q4): ends a process, which may be another one. The program then
/// repeats the access.
fn out_of_memory() {
    if oom::end_for_fault() == Ok(false) {
        // Only init and its servers are left, and none of them can do without the page.
        power::failed(format_args!(
            "out of memory: no process is left that could be ended; the machine stops"
        ));
    }
}

fn signal_of(exception: Exception) -> SignalInfo {
    let signal = match exception.vector {
        vector::DIVIDE_ERROR | vector::X87_ERROR | vector::SIMD_ERROR => SIGFPE,
        vector::DEBUG | vector::BREAKPOINT => SIGTRAP,
        vector::INVALID_OPCODE => SIGILL,
        vector::ALIGNMENT_CHECK | vector::STACK_FAULT => SIGBUS,
        _ => SIGSEGV,
    };
    // The CPU reports no data address for these. Linux gives 0 for a general protection fault and a
    // breakpoint, and the address of the instruction for others.
    let (code, value) = match signal {
        SIGSEGV => (SignalInfo::KERNEL, 0),
        SIGTRAP if exception.vector == vector::BREAKPOINT => (SignalInfo::KERNEL, 0),
        SIGTRAP => (SignalInfo::SINGLE_STEP, exception.instruction),
        SIGILL => (SignalInfo::NO_SUCH_INSTRUCTION, exception.instruction),
        _ => (SignalInfo::FIRST_REASON, exception.instruction),
    };
    SignalInfo { value, ..exception_info(signal, code) }
}

fn exception_info(signal: Signal, code: i32) -> SignalInfo {
    SignalInfo { signal, code, ..SignalInfo::default() }
}
