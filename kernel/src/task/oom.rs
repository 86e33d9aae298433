//! Out of memory: which process is ended so that others can go on (Q4).
//!
//! A claim that cannot be met after bounded work, and cannot return an error, comes here: a page
//! fault, or a server that grows within its floor. The process with the largest charge is ended:
//! its pages in memory and in swap, its share of page tables and of other things that the kernel
//! keeps; among equals the youngest. Never init or one of its servers (Q6).
//!
//! The claim then waits for the end of that process. The end waits for nobody: every wait of a
//! process that is ending fails at once.
#![forbid(unsafe_code)]

use super::process::Life;
use super::signal::SIGKILL;
use super::{Process, WaitStatus, all_processes, current_thread, family, mutants, send};
use crate::file::tty::registry;
use crate::mem::account::Kind;
use crate::mem::{self, PAGE_BYTES, Space};
use crate::sync::{Interrupt, Interrupted};
use alloc::sync::Arc;
use foundation::Errno;

/// Registers the choice with `mem`.
pub(super) fn start() {
    mem::register_last_resort(end_largest);
}

/// A fault of the running process cannot be met: ends that process if it has too many page tables,
/// since the end of another one would not help; otherwise as [`end_largest`].
pub fn end_for_fault() -> Result<bool, Interrupted> {
    let process = current_thread().process.clone();
    match process.space().filter(|_| !process.account.admits_table()) {
        Some(space) => {
            let bytes = charge(&process, &space);
            end(Candidate { process, space, bytes })
        }
        None => end_largest(),
    }
}

/// Carries out work on the running program's memory that cannot return an error: a shortage is met
/// as in a page fault, and the work repeated. Called with no lock held.
pub fn insist<T>(mut work: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match work() {
            Err(Errno::ENOMEM) if end_for_fault() == Ok(true) => {}
            result => return result,
        }
    }
}

/// Ends the process with the largest charge, unless one is ending already, and waits for its end.
/// Returns whether there was one. Called with no lock held.
pub fn end_largest() -> Result<bool, Interrupted> {
    choose().map_or(Ok(false), end)
}

fn end(victim: Candidate) -> Result<bool, Interrupted> {
    if !victim.process.is_ending() {
        victim.end();
    }
    if current_thread().is_ending() {
        return Err(Interrupted);
    }
    let Candidate { process, space, .. } = victim;
    // Dropped before the wait: its memory would be freed only when this thread runs again, and
    // others that find none would end more processes until then.
    let _held = mutants::held_by_waiter(space);
    process.queue.wait(Interrupt::Killable, || has_ended(&process).then_some(()))?;
    Ok(true)
}

fn has_ended(process: &Process) -> bool {
    matches!(process.state.lock().life, Life::Zombie(_))
}

/// A process that can be ended.
struct Candidate {
    process: Arc<Process>,
    space: Arc<Space>,
    bytes: usize,
}

/// A process that is ending already, or else the one to end.
fn choose() -> Option<Candidate> {
    let mut largest: Option<Candidate> = None;
    for process in all_processes() {
        let Some(space) = process.space().filter(|space| !space.policy.keeps_others_alive()) else {
            continue;
        };
        if process.is_ending() {
            return Some(Candidate { process, space, bytes: 0 });
        }
        let bytes = charge(&process, &space);
        // The processes come by age: among equals the last one is the youngest.
        if largest.as_ref().is_none_or(|largest| mutants::is_due(largest.bytes, bytes)) {
            largest = Some(Candidate { process, space, bytes });
        }
    }
    largest
}

/// What a process holds, in bytes. Costs time for each page. Shared memory counts for each process
/// that maps it, whoever pays for it, and for the one that pays even if it does not map it.
fn charge(process: &Process, space: &Space) -> usize {
    let pages = space.stats();
    let private = pages.resident.saturating_sub(pages.shared_resident) + pages.swapped;
    let shared = pages.shared.to_usize() * PAGE_BYTES;
    let paid = process.account.bytes(Kind::Shared);
    let counted = paid + process.account.bytes(Kind::Locked);
    let kept = process.account.total_bytes().saturating_sub(counted);
    private.to_usize() * PAGE_BYTES + shared.max(paid) + kept
}

impl Candidate {
    /// Ends it, and all that share its memory, with a message on its terminal and in the log.
    fn end(&self) {
        for process in all_processes() {
            let shares = process.space().is_some_and(|space| Arc::ptr_eq(&space, &self.space));
            if shares && !process.is_ending() {
                announce(&process, self.bytes);
                send::begin_end(&process, WaitStatus::killed(SIGKILL));
            }
        }
    }
}

fn announce(process: &Process, bytes: usize) {
    let name = process.identity.lock().name.clone();
    let (name, pid, kib) = (name.escape_ascii(), process.pid, bytes >> 10);
    let text = alloc::format!("out of memory: {name} ({pid}) is ended; it held {kib} KiB");
    log::warn!("{text}");
    let session = family::relations(pid).map_or(0, |relations| relations.session);
    registry::announce(session, alloc::format!("{text}\n").as_bytes());
}
