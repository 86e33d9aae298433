//! Advisory locks: of byte ranges by processes (fcntl), and of whole files by open files (flock).
//!
//! The two kinds do not see each other, as on Linux. A process's range locks on a file go when it
//! closes any descriptor of that file, or ends; an open file's lock goes with the open file. Files
//! are known by device and inode. A wait is ended by any signal; deadlocks are not looked for.
//!
//! Lock: `LOCKS`, never held across a wait.

use super::{Notifier, OpenFile};
use crate::sync::{Mutex, rank};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use foundation::Errno;

/// Locks held in the whole system, at most.
const MAX_LOCKS: usize = 4096;

/// Whether others may hold the same lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
}

impl Range {
    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A lock that a process holds on a range.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Who holds it.
    pub pid: u32,
    /// Which bytes.
    pub range: Range,
    /// How.
    pub kind: Kind,
    file: FileKey,
}

type FileKey = (u64, u64);

struct Whole {
    holder: Weak<OpenFile>,
    kind: Kind,
    file: FileKey,
}

struct Locks {
    records: Vec<Record>,
    whole: Vec<Whole>,
}

static LOCKS: Mutex<Locks, rank::FileLocks> =
    Mutex::new(Locks { records: Vec::new(), whole: Vec::new() });
static CHANGED: Notifier = Notifier::new();

fn key(file: &OpenFile) -> Result<FileKey, Errno> {
    let stat = file.object().stat()?;
    Ok((stat.device, stat.inode))
}

impl Locks {
    fn conflict(&self, pid: u32, file: FileKey, range: Range, kind: Kind) -> Option<Record> {
        let others = self
            .records
            .iter()
            .filter(|held| held.file == file && held.pid != pid && held.range.overlaps(range));
        others.copied().find(|held| held.kind == Kind::Exclusive || kind == Kind::Exclusive)
    }

    /// Puts a process's lock (or none) in the place of what it held of a range.
    fn replace(
        &mut self,
        pid: u32,
        file: FileKey,
        range: Range,
        kind: Option<Kind>,
    ) -> Result<(), Errno> {
        // One lock can fall into two, and one is added.
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
        rest.extend(kind.map(|kind| Record { pid, range, kind, file }));
        self.records = rest;
        Ok(())
    }
}

/// Sets or takes away a process's lock on a range.
pub fn set_record(
    pid: u32,
    file: &OpenFile,
    range: Range,
    kind: Option<Kind>,
    wait: Wait,
) -> Result<(), Errno> {
    let file = key(file)?;
    let attempt = || {
        let mut locks = LOCKS.lock();
        match kind.and_then(|kind| locks.conflict(pid, file, range, kind)) {
            Some(_) => None,
            None => Some(locks.replace(pid, file, range, kind)),
        }
    };
    let result = settle(attempt, wait)?;
    if kind != Some(Kind::Exclusive) {
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

/// A lock of another process that stands in the way.
pub fn find_conflict(
    pid: u32,
    file: &OpenFile,
    range: Range,
    kind: Kind,
) -> Result<Option<Record>, Errno> {
    let file = key(file)?;
    Ok(LOCKS.lock().conflict(pid, file, range, kind))
}

/// A process closed a descriptor: its range locks on that file go, whichever descriptor they were
/// set through.
pub fn closed(pid: u32, file: &OpenFile) {
    if LOCKS.lock().records.iter().all(|held| held.pid != pid) {
        return;
    }
    if let Ok(file) = key(file) {
        LOCKS.lock().records.retain(|held| held.pid != pid || held.file != file);
        CHANGED.notify();
    }
}

/// A process ended: so do its locks.
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

/// Sets, changes or takes away an open file's lock.
pub fn set_whole(file: &Arc<OpenFile>, kind: Option<Kind>, wait: Wait) -> Result<(), Errno> {
    let of = key(file)?;
    let me = Arc::downgrade(file);
    let attempt = || {
        let mut locks = LOCKS.lock();
        locks.whole.retain(|held| held.holder.strong_count() > 0 && !held.holder.ptr_eq(&me));
        let Some(kind) = kind else { return Some(Ok(())) };
        let taken = locks.whole.iter().any(|held| {
            held.file == of && (held.kind == Kind::Exclusive || kind == Kind::Exclusive)
        });
        if taken {
            return None;
        }
        if locks.whole.len() >= MAX_LOCKS || locks.whole.try_reserve(1).is_err() {
            return Some(Err(Errno::ENOLCK));
        }
        locks.whole.push(Whole { holder: me.clone(), kind, file: of });
        Some(Ok(()))
    };
    let result = settle(attempt, wait)?;
    CHANGED.notify();
    file.set_locked();
    result
}

/// An open file that may have held a lock is gone.
pub(super) fn open_file_gone() {
    CHANGED.notify();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> Locks {
        Locks { records: Vec::new(), whole: Vec::new() }
    }
    const FILE: FileKey = (1, 1);

    #[test]
    fn ranges_split_and_conflict() {
        let mut locks = locks();
        locks.replace(1, FILE, Range { start: 0, end: 100 }, Some(Kind::Exclusive)).unwrap();
        locks.replace(1, FILE, Range { start: 40, end: 60 }, None).unwrap();
        let middle = Range { start: 40, end: 60 };
        assert!(locks.conflict(2, FILE, middle, Kind::Exclusive).is_none());
        assert!(locks.conflict(2, FILE, Range { start: 59, end: 61 }, Kind::Shared).is_some());
        assert!(locks.conflict(1, FILE, Range { start: 0, end: 100 }, Kind::Exclusive).is_none());
        locks.replace(2, FILE, middle, Some(Kind::Shared)).unwrap();
        assert!(locks.conflict(3, FILE, middle, Kind::Shared).is_none());
        assert_eq!(locks.conflict(3, FILE, middle, Kind::Exclusive).map(|held| held.pid), Some(2));
    }
}
