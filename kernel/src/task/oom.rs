//! Out of memory: which process is ended so that others can go on (Q4).
//!
//! A claim that cannot be met after bounded work, and cannot return an error, comes here: a page
//! fault, or a server that grows within its floor. The process with the largest charge is ended:
//! its pages in memory and in swap, its share of page tables and of other things that the kernel
//! keeps; among equals the youngest. `/proc/PID/oom_score_adj` adds to the charge, or takes from
//! it. Never init or one of its servers (Q6).
//!
//! The claim then waits for the end of that process. The end waits for nobody: every wait of a
//! process that is ending fails at once. Several claims can search in vain at once; whoever finds
//! after its search that a process has ended meanwhile, and that there are frames, searches again
//! and ends nobody.
#![forbid(unsafe_code)]

use super::process::Life;
use super::signal::SIGKILL;
use super::{Process, WaitStatus, all_processes, current_thread, family, mutants, send};
use crate::file::tty::registry;
use crate::mem::account::Kind;
use crate::mem::limits::MOST_ADJUSTED;
use crate::mem::{self, PAGE_BYTES, Space};
use crate::sync::{Interrupt, Interrupted};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::Errno;

/// Processes that have ended.
static ENDS: AtomicU64 = AtomicU64::new(0);

/// A process has ended, and its memory is free.
pub(super) fn note_end() {
    ENDS.fetch_add(1, Ordering::Relaxed);
}

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
            Candidate { process, space, bytes }.end()
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
/// Returns whether the caller can try again; otherwise there is no process that could be ended.
/// Called with no lock held.
pub fn end_largest() -> Result<bool, Interrupted> {
    if has_found_frames() {
        return Ok(true);
    }
    match ending() {
        Some(process) => await_end(&process),
        None => choose().map_or(Ok(false), Candidate::end),
    }
}

/// Whether there are frames now because a process has ended since the running thread began its
/// search, or the one before. True at most once for each process that ends.
fn has_found_frames() -> bool {
    let ends = ENDS.load(Ordering::Relaxed);
    let seen = current_thread().ends_seen.swap(ends, Ordering::Relaxed);
    seen != ends && mem::is_frame_left()
}

/// A process that is ending, with memory that is not free yet.
fn ending() -> Option<Arc<Process>> {
    all_processes().find(|process| process.is_ending() && !has_ended(process))
}

fn has_ended(process: &Process) -> bool {
    matches!(process.state.lock().life, Life::Zombie(_))
}

/// Waits until a process has ended, unless the running one ends itself.
fn await_end(process: &Process) -> Result<bool, Interrupted> {
    if current_thread().is_ending() {
        return Err(Interrupted);
    }
    process.queue.wait(Interrupt::Killable, || has_ended(process).then_some(()))?;
    Ok(true)
}

/// A process that can be ended.
struct Candidate {
    process: Arc<Process>,
    space: Arc<Space>,
    bytes: usize,
}

/// The process to end: that with the largest charge, as adjusted.
fn choose() -> Option<Candidate> {
    let mut largest: Option<(i64, Candidate)> = None;
    for process in all_processes() {
        let Some(space) = process.space().filter(|space| !space.policy.keeps_others_alive()) else {
            continue;
        };
        let bytes = charge(&process, &space);
        let score = bytes as i64 + adjustment(&process);
        // The processes come by age: among equals the last one is the youngest.
        if largest.as_ref().is_none_or(|(largest, _)| mutants::is_due(*largest, score)) {
            largest = Some((score, Candidate { process, space, bytes }));
        }
    }
    largest.map(|(_, candidate)| candidate)
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

/// What is added to a process's charge, in bytes. Nobody is exempt: if the last process that could
/// be ended were, the machine would have to stop.
fn adjustment(process: &Process) -> i64 {
    // A charge can be of pages in memory and of pages in the swap file.
    let memory = (mem::frame::stats().total + mem::swap::stats().0) * PAGE_BYTES;
    memory as i64 / i64::from(MOST_ADJUSTED) * i64::from(process.account.limits.adjustment())
}

impl Candidate {
    /// Ends it, and all that share its memory, with a message on its terminal and in the log. Waits
    /// for its end.
    fn end(self) -> Result<bool, Interrupted> {
        for process in all_processes() {
            let shares = process.space().is_some_and(|space| Arc::ptr_eq(&space, &self.space));
            if shares && !process.is_ending() {
                announce(&process, self.bytes);
                send::begin_end(&process, WaitStatus::killed(SIGKILL));
            }
        }
        // Dropped before the wait: its memory would be freed only when this thread runs again, and
        // others that find none would end more processes until then.
        let _held = mutants::held_by_waiter(self.space);
        await_end(&self.process)
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
