//! Work that is due before the running thread returns to user mode: its end, stops, signals.
#![forbid(unsafe_code)]

use super::signal::{Action, ActionFlags, Disposition, SIGSEGV, Signal, SignalInfo, SignalSet};
use super::{
    Thread, WaitStatus, current_thread, exit, frame, oom, posix_timer, scheduler, send, timer,
};
use crate::arch::Registers;
use crate::sync::Interrupt;
use crate::trace;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// How a system call continues after a signal interrupted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is restarted, unless a handler without `SA_RESTART` ran. Most calls.
    Usual,
    /// It is restarted, unless any handler ran. Calls that wait for a time or for signals.
    WithoutHandler,
    /// It is never restarted: the program sees EINTR for every signal.
    Never,
    /// It is restarted whatever ran. Calls that give [`RESTART`] instead of EINTR.
    Always,
}

/// The error of a call that a signal interrupted and that is restarted in any case. No program sees
/// it: a thread whose wait was interrupted has work to do before it returns to user mode.
pub const RESTART: Errno = Errno(513);

/// Does the work that is due: ends the thread, waits while it is stopped, delivers signals, yields.
/// `restart` says how a system call that gave EINTR continues, if one did.
///
/// May not return, so the caller must hold no locks and no references.
pub fn before_user(restart: Option<Restart>) {
    let mut restart = restart;
    timer::check_cpu_time();
    scheduler::yield_if_due();
    loop {
        let thread = current_thread();
        if !thread.has_notice() {
            break;
        }
        thread.clear_notice();
        if thread.is_ending() {
            // No wait on the way out lasts (`scheduler`, `interrupted`).
            thread.remind();
            exit::end_thread(thread);
        }
        if thread.process.is_stopped() {
            // Woken by SIGCONT or by a killing signal; the loop checks for both.
            let _ = thread
                .process
                .queue
                .wait(Interrupt::Killable, || (!thread.process.is_stopped()).then_some(()));
            thread.remind();
            continue;
        }
        match take_signal(&thread) {
            Some(info) => {
                thread.remind();
                deliver(&thread, info, &mut restart);
            }
            None => end_delivery(&thread, &mut restart),
        }
    }
    // No handler ran, so the call is restarted.
    if let Some(thread) = restart.take().map(|_| current_thread()) {
        thread.with_registers(restart_call);
    }
}

fn take_signal(thread: &Thread) -> Option<SignalInfo> {
    let (blocked, own) = {
        let mut own = thread.signals.lock();
        let blocked = own.blocked;
        (blocked, own.pending.take(blocked))
    };
    let taken = own.or_else(|| thread.process.pending.lock().take(blocked))?;
    Some(posix_timer::delivered(&thread.process, taken))
}

/// Ends the delivery where no handler ran: restores the signal mask that a handler's frame would
/// have restored.
fn end_delivery(thread: &Thread, restart: &mut Option<Restart>) {
    let mut own = thread.signals.lock();
    if let Some(mask) = own.restore.take() {
        own.blocked = mask;
        drop(own);
        send::recheck(thread);
    }
    if restart.take().is_some() {
        thread.with_registers(restart_call);
    }
}

fn deliver(thread: &Arc<Thread>, info: SignalInfo, restart: &mut Option<Restart>) {
    let process = &thread.process;
    if trace::is_traced(process.pid) {
        log::info!("trace {}: signal {}", process.pid, info.signal.0);
    }
    match process.disposition(info.signal) {
        Disposition::Ignore => {}
        Disposition::Terminate => send::begin_end(process, WaitStatus::killed(info.signal)),
        Disposition::Stop if send::is_orphaned_stop(process, info.signal) => {}
        Disposition::Stop => send::stop(process, info.signal),
        Disposition::Catch(action) => {
            thread.restart_until.store(0, Ordering::Relaxed);
            let again = restart.take();
            let restarts = action.flags().contains(ActionFlags::RESTART);
            if again == Some(Restart::Always) || again == Some(Restart::Usual) && restarts {
                thread.with_registers(restart_call);
            }
            enter_handler(thread, info, action);
        }
    }
}

/// Makes the thread continue in a handler.
fn enter_handler(thread: &Arc<Thread>, info: SignalInfo, action: Action) {
    if action.flags().contains(ActionFlags::RESET) {
        // The flags can still be read, as on Linux.
        let reset = Action { handler: Action::DEFAULT, ..action };
        thread.process.with_actions(|actions| actions.set(info.signal, reset));
    }
    let saved_mask = {
        let own = thread.signals.lock();
        own.restore.unwrap_or(own.blocked)
    };
    if oom::insist(|| frame::push(thread, info, action, saved_mask)).is_err() {
        return refuse_frame(thread, info.signal);
    }
    let mut own = thread.signals.lock();
    own.restore = None;
    let itself = if action.flags().contains(ActionFlags::NO_DEFER) {
        SignalSet::EMPTY
    } else {
        SignalSet::of(info.signal)
    };
    own.blocked = own.blocked.union(action.mask).union(itself);
}

/// A signal's frame cannot be written: SIGSEGV's handler runs instead. Where that is the signal
/// whose frame it is, or has no handler, the process ends.
fn refuse_frame(thread: &Arc<Thread>, signal: Signal) {
    if signal == SIGSEGV {
        send::begin_end(&thread.process, WaitStatus::killed(SIGSEGV));
    } else {
        send::force(thread, SignalInfo::kernel(SIGSEGV));
    }
}

/// Length of the instruction `syscall`, in bytes.
const SYSCALL_BYTES: u64 = 2;

fn restart_call(registers: &mut Registers) {
    let is_interrupted = [Errno::EINTR, RESTART].map(error).contains(&registers.rax);
    if registers.cause == Registers::SYSCALL && is_interrupted {
        registers.rax = registers.code;
        registers.rip -= SYSCALL_BYTES;
    }
}

/// An error, encoded as a system call returns it.
pub fn error(errno: Errno) -> u64 {
    (-i64::from(errno.0)) as u64
}
