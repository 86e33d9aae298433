//! Advisory locks: of byte ranges by processes (fcntl), and of whole files by open files (flock).
//!
//! The two kinds are independent, as on Linux. A process's range locks on a file are released when
//! it closes any descriptor of that file, or ends. Range locks can also belong to an open file
//! (`F_OFD_SETLK`); then they, like its lock of the whole file, are released with the open file.
//! Files are identified by device and inode. Any signal ends a wait.
//!
//! A process that would wait for itself, through any number of others, gets EDEADLK instead. Locks
//! of open files are left out of that, as on Linux: who will release them is not known.
//!
//! Lock: `LOCKS`, never held across a wait.

use super::{Identity, Notifier, OpenFile};
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use foundation::{Errno, FileOffset};

/// Ranges that a process has locked, at most: each operation looks at all locks.
const MAX_LOCKS: usize = 4096;

/// Comparisons with locks in one search for a deadlock, at most, because the search runs with
/// interrupts off. A deadlock among so many locks is not found: its processes wait for a signal.
const MAX_COMPARISONS: usize = 1 << 17;

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

/// Whose a lock on a range is. Locks of one owner do not conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The process of this number.
    Process(u32),
    /// The open file at this address, which is nobody else's before its locks are released.
    File(usize),
}

impl Owner {
    /// An open file as an owner.
    pub fn file(file: &Arc<OpenFile>) -> Self {
        Self::File(Arc::as_ptr(file).addr())
    }
}

/// A lock on a range.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The process or open file that holds it.
    pub owner: Owner,
    /// The locked bytes.
    pub range: Range,
    /// Whether it is shared.
    pub mode: LockMode,
    file: Identity,
}

/// A lock, and what it costs.
struct Held {
    record: Record,
    _charge: Charge,
}

struct Whole {
    holder: Weak<OpenFile>,
    mode: LockMode,
    file: Identity,
}

/// A lock that a thread waits for.
struct Wanted {
    record: Record,
    /// Which thread's wait it is: distinguishes equal records.
    number: u64,
    /// Whether the running search has reached its owner.
    is_reached: bool,
}

struct Locks {
    records: Vec<Held>,
    /// One for each thread that waits for a range.
    wanted: Vec<Wanted>,
    /// The number of the latest wait.
    last_wait: u64,
    whole: Vec<Whole>,
}

static LOCKS: Mutex<Locks, rank::FileLocks> = Mutex::new(Locks::new());
static CHANGED: Notifier = Notifier::new();

fn key(file: &OpenFile) -> Result<Identity, Errno> {
    Ok(file.object().stat()?.identity())
}

impl Record {
    /// Whether one of two owners has to wait for the other.
    fn conflicts(&self, other: &Self) -> bool {
        self.file == other.file
            && self.owner != other.owner
            && self.range.overlaps(other.range)
            && (self.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
    }
}

impl Locks {
    const fn new() -> Self {
        Self { records: Vec::new(), wanted: Vec::new(), last_wait: 0, whole: Vec::new() }
    }

    /// Of the locks that conflict with a wanted one, the one that begins first.
    fn conflict(&self, wanted: &Record) -> Option<Record> {
        let held = self.records.iter().map(|held| held.record);
        held.filter(|held| held.conflicts(wanted)).min_by_key(|held| held.range.start)
    }

    /// Whether the owner of a wanted lock would wait for itself: whether it is among the owners
    /// that its lock waits for, those that these wait for, and so on.
    fn is_deadlock(&mut self, wanted: &Record) -> bool {
        let Self { records, wanted: waits, .. } = self;
        waits.iter_mut().for_each(|wait| wait.is_reached = false);
        let mut left = MAX_COMPARISONS;
        // The waits before `next` are followed; reached ones are moved there.
        let (mut next, mut following) = (0, *wanted);
        loop {
            for held in records.iter().map(|held| held.record) {
                if !held.conflicts(&following) {
                    continue;
                }
                if held.owner == wanted.owner {
                    return true;
                }
                let reached = waits.iter_mut().filter(|wait| wait.record.owner == held.owner);
                reached.for_each(|wait| wait.is_reached = true);
                left = left.saturating_sub(waits.len());
            }
            left = left.saturating_sub(records.len());
            let Some(at) = waits.iter().skip(next).position(|wait| wait.is_reached) else {
                return false;
            };
            if left == 0 {
                return false;
            }
            waits.swap(next, next + at);
            let Some(wait) = waits.get(next) else { return false };
            (following, next) = (wait.record, next + 1);
        }
    }

    /// Records that a thread waits for a lock, under its number. ENOLCK without memory.
    fn want(&mut self, record: Record, number: u64) -> Result<(), Errno> {
        if self.wanted.iter().all(|wait| wait.number != number) {
            fallible::reserve(&mut self.wanted, 1).map_err(|_| Errno::ENOLCK)?;
            self.wanted.push(Wanted { record, number, is_reached: false });
        }
        Ok(())
    }

    /// The wait of this number is over.
    fn end_wait(&mut self, number: u64) {
        self.wanted.retain(|wait| wait.number != number);
        if self.wanted.is_empty() {
            self.wanted = Vec::new();
        }
    }

    /// Releases locks, and the memory of the list with the last one.
    fn release(&mut self, releases: impl Fn(&Record) -> bool) {
        self.records.retain(|held| !releases(&held.record));
        if self.records.is_empty() {
            self.records = Vec::new();
        }
    }

    /// Replaces an owner's locks on a range by one lock, or by none. `account` pays.
    fn replace(
        &mut self,
        (owner, account): (Owner, &Arc<Account>),
        file: Identity,
        range: Range,
        mode: Option<LockMode>,
    ) -> Result<(), Errno> {
        let held = |record| {
            let charge = Charge::take(account, Kind::Locks, size_of::<Held>());
            charge.map(|charge| Held { record, _charge: charge }).map_err(|_| Errno::ENOLCK)
        };
        let own = self.records.iter().filter(|held| held.record.owner == owner).count();
        // One lock can be split into two, and one is added.
        if own + 2 > MAX_LOCKS || fallible::reserve(&mut self.records, 2).is_err() {
            return Err(Errno::ENOLCK);
        }
        let added = mode.map(|mode| held(Record { owner, range, mode, file })).transpose()?;
        let is_mine = |record: &Record| {
            record.owner == owner && record.file == file && record.range.overlaps(range)
        };
        let is_split =
            |record: &Record| record.range.start < range.start && range.end < record.range.end;
        let split = self.records.iter().map(|held| held.record);
        let split = split.clone().find(|record| is_mine(record) && is_split(record));
        let after = split
            .map(|old| {
                held(Record { range: Range { start: range.end, end: old.range.end }, ..old })
            })
            .transpose()?;
        self.records.retain_mut(|Held { record, .. }| {
            if !is_mine(record) {
                return true;
            }
            if record.range.start < range.start {
                record.range.end = range.start;
            } else {
                record.range.start = range.end.min(record.range.end);
            }
            record.range.start < record.range.end
        });
        self.records.extend(after.into_iter().chain(added));
        Ok(())
    }
}

/// Sets or releases (`None`) an owner's lock on a range. ENOLCK beyond [`MAX_LOCKS`] and without
/// memory; EDEADLK where a process would wait for itself.
pub fn set_record(
    (owner, account): (Owner, &Arc<Account>),
    file: &OpenFile,
    range: Range,
    mode: Option<LockMode>,
    wait: Wait,
) -> Result<(), Errno> {
    let identity = key(file)?;
    let wanted = mode.map(|mode| Record { owner, range, mode, file: identity });
    let number = {
        let mut locks = LOCKS.lock();
        locks.last_wait += 1;
        locks.last_wait
    };
    let attempt = || {
        let mut locks = LOCKS.lock();
        let Some(wanted) = wanted.filter(|wanted| locks.conflict(wanted).is_some()) else {
            return Some(locks.replace((owner, account), identity, range, mode));
        };
        match wait {
            Wait::No => None,
            Wait::Yes if matches!(owner, Owner::Process(_)) && locks.is_deadlock(&wanted) => {
                Some(Err(Errno::EDEADLK))
            }
            Wait::Yes => locks.want(wanted, number).err().map(Err),
        }
    };
    let result = settle(attempt, wait);
    if wait == Wait::Yes {
        LOCKS.lock().end_wait(number);
    }
    let result = result?;
    if let Owner::File(_) = owner {
        file.call_on_drop(dropped);
    }
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

/// The first lock of another owner that conflicts.
pub fn find_conflict(
    owner: Owner,
    file: &OpenFile,
    range: Range,
    mode: LockMode,
) -> Result<Option<Record>, Errno> {
    let file = key(file)?;
    Ok(LOCKS.lock().conflict(&Record { owner, range, mode, file }))
}

/// Whether a process holds range locks.
pub fn has_records(pid: u32) -> bool {
    LOCKS.lock().records.iter().any(|held| held.record.owner == Owner::Process(pid))
}

/// A process closed a descriptor: releases its range locks on that file, whichever descriptor they
/// were set through.
pub fn closed(pid: u32, file: &OpenFile) {
    let owner = Owner::Process(pid);
    if !has_records(pid) {
        return;
    }
    if let Ok(file) = key(file) {
        LOCKS.lock().release(|record| record.owner == owner && record.file == file);
        CHANGED.notify();
    }
}

/// A process ended: releases its range locks.
pub fn process_ended(pid: u32) {
    let mut locks = LOCKS.lock();
    let before = locks.records.len();
    locks.release(|record| record.owner == Owner::Process(pid));
    locks.whole.retain(|held| held.holder.strong_count() > 0);
    let changed = locks.records.len() != before;
    drop(locks);
    if changed {
        CHANGED.notify();
    }
}

/// An open file with locks is dropped: releases them.
fn dropped(file: &OpenFile) {
    let owner = Owner::File(core::ptr::from_ref(file).addr());
    let mut locks = LOCKS.lock();
    locks.release(|record| record.owner == owner);
    locks.whole.retain(|held| held.holder.strong_count() > 0);
    drop(locks);
    CHANGED.notify();
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
        // As many as there are open files.
        if fallible::reserve(&mut locks.whole, 1).is_err() {
            return Some(Err(Errno::ENOLCK));
        }
        locks.whole.push(Whole { holder: me.clone(), mode, file: of });
        Some(Ok(()))
    };
    let result = settle(attempt, wait)?;
    CHANGED.notify();
    file.call_on_drop(dropped);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = Identity { device: 1, inode: 1 };

    fn range(start: u64, end: u64) -> Range {
        Range { start: FileOffset(start), end: FileOffset(end) }
    }

    fn wanted(pid: u32, range: Range, mode: LockMode) -> Record {
        Record { owner: Owner::Process(pid), range, mode, file: FILE }
    }

    /// Each process holds the byte of its number and waits for the next one's: only the last wait
    /// closes the ring.
    #[test]
    fn a_ring_of_any_length_is_a_deadlock() {
        crate::mem::host::init();
        let account = Account::new();
        for length in [2, 3, 40] {
            let mut locks = Locks::new();
            let byte = |number: u32| range(number.into(), u64::from(number) + 1);
            for pid in 0..length {
                let owner = (Owner::Process(pid), &account);
                locks.replace(owner, FILE, byte(pid), Some(LockMode::Exclusive)).unwrap();
            }
            for pid in 0..length {
                let next = wanted(pid, byte((pid + 1) % length), LockMode::Shared);
                assert_eq!(locks.is_deadlock(&next), pid + 1 == length, "{pid} of {length}");
                locks.want(next, pid.into()).unwrap();
            }
            // Whoever is not part of it waits.
            assert!(!locks.is_deadlock(&wanted(length, byte(0), LockMode::Shared)));
            locks.end_wait(0);
            let last = wanted(length - 1, byte(0), LockMode::Shared);
            assert!(!locks.is_deadlock(&last), "the first one does not wait any more");
            locks.release(|_| true);
        }
    }

    #[test]
    fn ranges_split_and_conflict() {
        crate::mem::host::init();
        let (mut locks, account) = (Locks::new(), Account::new());
        let (first, second) = ((Owner::Process(1), &account), (Owner::Process(2), &account));
        locks.replace(first, FILE, range(0, 100), Some(LockMode::Exclusive)).unwrap();
        locks.replace(first, FILE, range(40, 60), None).unwrap();
        assert_eq!(account.bytes(Kind::Locks), 2 * size_of::<Held>());
        let middle = range(40, 60);
        let conflict = |locks: &Locks, pid, range, mode| {
            locks.conflict(&wanted(pid, range, mode)).map(|held| (held.owner, held.range))
        };
        assert_eq!(conflict(&locks, 2, middle, LockMode::Exclusive), None);
        let behind = Some((Owner::Process(1), range(60, 100)));
        assert_eq!(conflict(&locks, 2, range(59, 61), LockMode::Shared), behind);
        assert_eq!(conflict(&locks, 1, range(0, 100), LockMode::Exclusive), None);
        locks.replace(second, FILE, middle, Some(LockMode::Shared)).unwrap();
        assert_eq!(conflict(&locks, 3, middle, LockMode::Shared), None);
        let shared = Some((Owner::Process(2), middle));
        assert_eq!(conflict(&locks, 3, middle, LockMode::Exclusive), shared);
        let lowest = Some((Owner::Process(1), range(0, 40)));
        assert_eq!(conflict(&locks, 3, range(0, 100), LockMode::Exclusive), lowest);
        locks.replace(first, FILE, range(30, 70), Some(LockMode::Shared)).unwrap();
        locks.replace(first, FILE, range(0, 200), None).unwrap();
        assert_eq!(locks.records.len(), 1, "all parts are released");
        drop(locks);
        assert_eq!(account.total_bytes(), 0);
    }

    #[test]
    fn q4_a_process_has_so_many_range_locks_and_no_more() {
        crate::mem::host::init();
        let account = Account::new();
        let mut locks = Locks::new();
        let file = FILE;
        let mut lock = |pid, byte: u64, mode| {
            let range = Range { start: FileOffset(2 * byte), end: FileOffset(2 * byte + 1) };
            locks.replace((Owner::Process(pid), &account), file, range, mode)
        };
        let exclusive = Some(LockMode::Exclusive);
        let refused = (0..).find(|&byte| lock(1, byte, exclusive).is_err()).unwrap();
        assert!((MAX_LOCKS - 2..=MAX_LOCKS).contains(&(refused as usize)));
        assert_eq!(lock(1, refused, exclusive), Err(Errno::ENOLCK));
        assert_eq!(lock(2, refused, exclusive), Ok(()), "others can lock");
        locks.release(|_| true);
        assert_eq!(account.total_bytes(), 0);
    }
}
