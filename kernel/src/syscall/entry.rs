//! The entry point of system calls. The boot code registers [`system_call`] with `arch`.

use super::{table, traced, unknown};
use crate::arch::{Cause, ReturnPath, SavedRegisters};
use crate::sync;
use crate::task::deliver::{self, Restart};
use crate::task::{Current, scheduler};
use crate::trace;
use core::fmt;
use foundation::Errno;

/// Carries out a system call, and the work that is due before the return to user mode.
pub extern "C" fn system_call(registers: SavedRegisters<'_>) -> ReturnPath {
    let selector = trace::selector(registers.number());
    let result = Current::with(|current| match table::handler(selector) {
        Some(handler) => handler(current, registers),
        None => call_rarely(current, registers),
    });
    registers.set_result(result);
    sync::assert_holds_nothing();
    if registers.are_of_system_call() && !scheduler::is_work_due() {
        return ReturnPath::Fast;
    }
    work_before_user(registers)
}

/// A call that is traced or has no handler. Apart, as its registers would cost every call.
#[cold]
fn call_rarely(current: &Current, registers: SavedRegisters<'_>) -> u64 {
    if trace::is_active() {
        traced::carry_out(current, registers, || carry_out(current, registers))
    } else {
        unknown::call(current, registers)
    }
}

/// Writes which process runs and which system call it makes, for the report of a panic.
pub fn describe_running(to: &mut dyn fmt::Write) -> fmt::Result {
    let Some(thread) = scheduler::try_current_thread() else {
        return writeln!(to, "no thread runs yet");
    };
    write!(to, "thread {} of process {}", thread.tid, thread.process.pid)?;
    if let Some(identity) = thread.process.identity.try_lock() {
        write!(to, " ({})", identity.name.escape_ascii())?;
    }
    match thread.entry_cause() {
        Cause::Syscall(number) => {
            let name = table::find(number).map_or("unknown", |call| call.name);
            writeln!(to, ", in system call {number} ({name})")
        }
        cause => writeln!(to, ", in {cause:?}"),
    }
}

#[cold]
fn work_before_user(registers: SavedRegisters<'_>) -> ReturnPath {
    deliver::before_user(restart_of(registers));
    ReturnPath::Full
}

/// How a system call that a signal interrupted continues; `None` if none was interrupted.
fn restart_of(registers: SavedRegisters<'_>) -> Option<Restart> {
    if !registers.are_of_system_call() {
        return None;
    }
    if registers.result() == deliver::error(deliver::RESTART) {
        return Some(Restart::Always);
    }
    if registers.result() != deliver::error(Errno::EINTR) {
        return None;
    }
    let restart = table::find(registers.number()).map_or(Restart::Usual, |call| call.restart);
    (restart != Restart::Never).then_some(restart)
}

/// Calls the handler of the number in `registers`, traced or not; ENOSYS if there is none.
fn carry_out(current: &Current, registers: SavedRegisters<'_>) -> u64 {
    match table::handler(registers.number()) {
        Some(handler) => handler(current, registers),
        None => unknown::call(current, registers),
    }
}
