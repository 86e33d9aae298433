//! Advisory locks: of byte ranges by processes (fcntl), and of whole files by open files (flock).
//!
//! The two kinds are independent, as on Linux. A process's range locks on a file are released when
//! it closes any descriptor of that file, or ends; an open file's lock is released with the open
//! file. Files are identified by device and inode. Any signal ends a wait; deadlocks are not
//! detected.
//!
//! Lock: `LOCKS`, never held across a wait.

use super::{Identity, Notifier, OpenFile};
use crate::sync::{Mutex, rank};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use foundation::{Errno, FileOffset};

/// Locks held in the whole system, at most.
const MAX_LOCKS: usize = 4096;

/// Whether others may hold the same lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// They may, if theirs is shared too.
    Shared,
    /// They may not.
    Exclusive,
}

/// Whether to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it is free.
    Yes,
    /// EAGAIN instead.
    No,
}

/// Bytes from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: FileOffset,
    /// Byte after the last.
    pub end: FileOffset,
}

impl Range {
    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A lock that a process holds on a range.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The process that holds it.
    pub pid: u32,
    /// The locked bytes.
    pub range: Range,
    /// Whether it is shared.
    pub mode: LockMode,
    file: Identity,
}

struct Whole {
    holder: Weak<OpenFile>,
    mode: LockMode,
    file: Identity,
}

struct Locks {
    records: Vec<Record>,
    whole: Vec<Whole>,
}

static LOCKS: Mutex<Locks, rank::FileLocks> =
    Mutex::new(Locks { records: Vec::new(), whole: Vec::new() });
static CHANGED: Notifier = Notifier::new();

fn key(file: &OpenFile) -> Result<Identity, Errno> {
    Ok(file.object().stat()?.identity())
}

impl Locks {
    fn conflict(&self, pid: u32, file: Identity, range: Range, mode: LockMode) -> Option<Record> {
        let others = self
            .records
            .iter()
            .filter(|held| held.file == file && held.pid != pid && held.range.overlaps(range));
        others.copied().find(|held| held.mode == LockMode::Exclusive || mode == LockMode::Exclusive)
    }

    /// Replaces a process's locks on a range by one lock, or by none.
    fn replace(
        &mut self,
        pid: u32,
        file: Identity,
        range: Range,
        mode: Option<LockMode>,
    ) -> Result<(), Errno> {
        // One lock can be split into two, and one is added.
        if self.records.len() + 2 > MAX_LOCKS || self.records.try_reserve(2).is_err() {
            return Err(Errno::ENOLCK);
        }
        let (mine, mut rest): (Vec<_>, Vec<_>) = self
            .records
            .drain(..)
            .partition(|held| held.pid == pid && held.file == file && held.range.overlaps(range));
        for held in mine {
            let before = Range { start: held.range.start, end: range.start };
            let after = Range { start: range.end, end: held.range.end };
            rest.extend(
                [before, after]
                    .into_iter()
                    .filter(|part| part.start < part.end)
                    .map(|range| Record { range, ..held }),
            );
        }
        rest.extend(mode.map(|mode| Record { pid, range, mode, file }));
        self.records = rest;
        Ok(())
    }
}

/// Sets or releases (`None`) a process's lock on a range. ENOLCK beyond [`MAX_LOCKS`].
pub fn set_record(
    pid: u32,
    file: &OpenFile,
    range: Range,
    mode: Option<LockMode>,
    wait: Wait,
) -> Result<(), Errno> {
    let file = key(file)?;
    let attempt = || {
        let mut locks = LOCKS.lock();
        match mode.and_then(|mode| locks.conflict(pid, file, range, mode)) {
            Some(_) => None,
            None => Some(locks.replace(pid, file, range, mode)),
        }
    };
    let result = settle(attempt, wait)?;
    if mode != Some(LockMode::Exclusive) {
        CHANGED.notify();
    }
    result
}

fn settle<T>(mut attempt: impl FnMut() -> Option<T>, wait: Wait) -> Result<T, Errno> {
    match wait {
        Wait::No => attempt().ok_or(Errno::EAGAIN),
        Wait::Yes => Ok(CHANGED.wait(attempt)?),
    }
}

/// A lock of another process that conflicts.
pub fn find_conflict(
    pid: u32,
    file: &OpenFile,
    range: Range,
    mode: LockMode,
) -> Result<Option<Record>, Errno> {
    let file = key(file)?;
    Ok(LOCKS.lock().conflict(pid, file, range, mode))
}

/// A process closed a descriptor: releases its range locks on that file, whichever descriptor they
/// were set through.
pub fn closed(pid: u32, file: &OpenFile) {
    if LOCKS.lock().records.iter().all(|held| held.pid != pid) {
        return;
    }
    if let Ok(file) = key(file) {
        LOCKS.lock().records.retain(|held| held.pid != pid || held.file != file);
        CHANGED.notify();
    }
}

/// A process ended: releases its range locks.
pub fn process_ended(pid: u32) {
    let mut locks = LOCKS.lock();
    let before = locks.records.len();
    locks.records.retain(|held| held.pid != pid);
    locks.whole.retain(|held| held.holder.strong_count() > 0);
    let changed = locks.records.len() != before;
    drop(locks);
    if changed {
        CHANGED.notify();
    }
}

/// Sets, changes or releases (`None`) an open file's lock.
pub fn set_whole(file: &Arc<OpenFile>, mode: Option<LockMode>, wait: Wait) -> Result<(), Errno> {
    let of = key(file)?;
    let me = Arc::downgrade(file);
    let attempt = || {
        let mut locks = LOCKS.lock();
        locks.whole.retain(|held| held.holder.strong_count() > 0 && !held.holder.ptr_eq(&me));
        let Some(mode) = mode else { return Some(Ok(())) };
        let taken = locks.whole.iter().any(|held| {
            held.file == of && (held.mode == LockMode::Exclusive || mode == LockMode::Exclusive)
        });
        if taken {
            return None;
        }
        if locks.whole.len() >= MAX_LOCKS || locks.whole.try_reserve(1).is_err() {
            return Some(Err(Errno::ENOLCK));
        }
        locks.whole.push(Whole { holder: me.clone(), mode, file: of });
        Some(Ok(()))
    };
    let result = settle(attempt, wait)?;
    CHANGED.notify();
    file.call_on_drop(|| CHANGED.notify());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> Locks {
        Locks { records: Vec::new(), whole: Vec::new() }
    }
    const FILE: Identity = Identity { device: 1, inode: 1 };

    fn range(start: u64, end: u64) -> Range {
        Range { start: FileOffset(start), end: FileOffset(end) }
    }

    #[test]
    fn ranges_split_and_conflict() {
        let mut locks = locks();
        locks.replace(1, FILE, range(0, 100), Some(LockMode::Exclusive)).unwrap();
        locks.replace(1, FILE, range(40, 60), None).unwrap();
        let middle = range(40, 60);
        assert!(locks.conflict(2, FILE, middle, LockMode::Exclusive).is_none());
        assert!(locks.conflict(2, FILE, range(59, 61), LockMode::Shared).is_some());
        assert!(locks.conflict(1, FILE, range(0, 100), LockMode::Exclusive).is_none());
        locks.replace(2, FILE, middle, Some(LockMode::Shared)).unwrap();
        assert!(locks.conflict(3, FILE, middle, LockMode::Shared).is_none());
        assert_eq!(
            locks.conflict(3, FILE, middle, LockMode::Exclusive).map(|held| held.pid),
            Some(2)
        );
    }
}
