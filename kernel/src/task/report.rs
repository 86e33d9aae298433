//! A report of all threads, for debugging deadlocks: QEMU's monitor command `nmi` triggers it.

use super::{family, scheduler};
use crate::arch;

/// Writes every thread to the log, with the return addresses of where it waits.
///
/// The interrupt may come anywhere in the kernel. If the interrupted code holds a lock that the
/// report needs, the report hangs; in a deadlock of sleeping threads no spin lock is held.
pub fn report_threads() {
    let running = scheduler::try_current_thread().map(|thread| thread.tid);
    for process in super::all_processes() {
        let name = process.identity.lock().name.clone();
        let state = *process.state.lock();
        log::info!(
            "process {} {} {state:?} {:?}",
            process.pid,
            name.escape_ascii(),
            family::relations(process.pid)
        );
        for thread in process.threads() {
            log::info!(
                " thread {} {:?} notice {}",
                thread.tid,
                thread.run_state(),
                thread.has_notice()
            );
            if running == Some(thread.tid) {
                arch::context::backtrace_here();
            } else {
                // SAFETY: with one CPU, a thread other than the current one does not run.
                unsafe { thread.backtrace() };
            }
        }
    }
}
