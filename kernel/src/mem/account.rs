//! Accounts: who pays for what programs make the kernel keep.
//!
//! Each process has an [`Account`]. What the kernel keeps on its behalf and cannot reclaim holds a
//! [`Charge`]: the bytes count for the account until the charge is dropped, even if the process has
//! ended by then. Bytes include what keeping costs (headers, list entries), so that things without
//! contents, such as empty messages, are not free.
//!
//! The sum of all charges is at most the ceiling: the machine less what is withheld from
//! programs. A request that would exceed it is refused, so what cannot be reclaimed never takes the
//! memory that servers need. Nobody pays for the kernel's own fixed tables.
//!
//! Who keeps much leaves something: what is left below the ceiling by all whose account is large is
//! for small ones, and what is left by these in a large job is for other jobs. So however many want
//! everything, whoever comes with little finds something.
//!
//! Counters are changed by addition of what a charge holds, and are bounded by the ceiling: they
//! cannot overflow. No locks.
#![forbid(unsafe_code)]

use super::{
    Claim, PAGE_BYTES, claim, failure, frame,
    frame::OutOfMemory,
    limits::{Limits, Resource},
    mutants, shrinker,
};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// What a charge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Page tables.
    Tables,
    /// Regions of address spaces.
    Regions,
    /// Processes and threads, with their kernel stacks.
    Threads,
    /// Open files, descriptor tables, paths, and the objects behind them.
    Files,
    /// Messages in sockets.
    Messages,
    /// Contents of pipes.
    Pipes,
    /// Shared memory.
    Shared,
    /// Queued signals, and timers.
    Signals,
    /// File locks.
    Locks,
    /// Pages that a program locked.
    Locked,
}

impl Kind {
    /// Whether it cannot be reclaimed. (Shared memory can be swapped out, and where it cannot, no
    /// frames are left.)
    fn stays(self) -> bool {
        self != Self::Shared
    }

    /// Whether it is not memory of the program itself: neither page tables nor shared or locked
    /// pages.
    fn is_object(self) -> bool {
        !matches!(self, Self::Tables | Self::Shared | Self::Locked)
    }
}

/// Number of kinds.
const KINDS: usize = Kind::Locked as usize + 1;

/// What one process makes the kernel keep, in bytes for each kind.
#[derive(Debug, Default)]
pub struct Account {
    /// Resource limits.
    pub limits: Limits,
    bytes: [AtomicUsize; KINDS],
    /// The sum of `bytes` of objects.
    objects: AtomicUsize,
    /// Files that it has open on servers.
    server_files: AtomicUsize,
    /// Files in messages that it has sent.
    files_in_flight: AtomicUsize,
    /// The job to which the process belongs; 0 for init's own.
    job: AtomicU32,
    /// Whether the process serves files (F8): it may use the memory withheld from programs.
    server: AtomicBool,
}

/// Bytes of all charges that cannot be reclaimed, of all accounts.
static CHARGED: AtomicUsize = AtomicUsize::new(0);

/// Jobs whose bytes are counted apart: as many as there are processes at once. (Others share a
/// counter.)
const JOBS: usize = 4096;

/// Bytes of objects of each job, by its number modulo the length.
static JOB_BYTES: [AtomicUsize; JOBS] = [const { AtomicUsize::new(0) }; JOBS];

/// Files of servers that each job has open, by the same index; at 0 those of init's own processes.
static JOB_FILES: [AtomicUsize; JOBS] = [const { AtomicUsize::new(0) }; JOBS];

/// Bytes of all charges for what cannot be reclaimed.
pub fn charged_bytes() -> usize {
    CHARGED.load(Ordering::Relaxed)
}

/// Maximum of [`charged_bytes`]: the machine less what is withheld from programs, and less the
/// floors of servers.
pub fn ceiling_bytes() -> usize {
    // Not what a test's shortage withholds: other programs could have that, and it can be
    // reclaimed.
    let total = frame::stats().total;
    let withheld = claim::reserve_below(Claim::Program, total) + claim::floors();
    total.saturating_sub(withheld) * PAGE_BYTES
}

impl Account {
    /// An account without charges.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The account of a child: limits and the mark of a server are inherited, charges are not.
    pub fn child(&self) -> Arc<Self> {
        Arc::new(Self {
            limits: self.limits.inherit(),
            server: AtomicBool::new(self.server.load(Ordering::Relaxed)),
            job: AtomicU32::new(self.job()),
            ..Self::default()
        })
    }

    /// Marks it as the account of a server (F8), or of init.
    pub fn mark_server(&self) {
        self.server.store(true, Ordering::Relaxed);
    }

    /// Takes the mark back: the process runs another program, which is no server.
    pub fn unmark_server(&self) {
        self.server.store(false, Ordering::Relaxed);
    }

    /// Whether it is the account of a server, as [`mark_server`](Self::mark_server) made it.
    #[inline]
    pub fn is_server(&self) -> bool {
        self.server.load(Ordering::Relaxed)
    }

    /// Bytes charged for a kind.
    pub fn bytes(&self, kind: Kind) -> usize {
        self.place(kind).load(Ordering::Relaxed)
    }

    /// Bytes charged for all kinds.
    pub fn total_bytes(&self) -> usize {
        let memory = [Kind::Tables, Kind::Shared, Kind::Locked].map(|kind| self.bytes(kind));
        self.object_bytes() + memory.iter().sum::<usize>()
    }

    /// Bytes charged for objects.
    fn object_bytes(&self) -> usize {
        self.objects.load(Ordering::Relaxed)
    }

    /// The process, which was one of init's own, has entered a job, with all that it keeps.
    pub fn enter_job(&self, job: u32) {
        let before = self.job.swap(job, Ordering::Relaxed);
        debug_assert_eq!(before, 0, "a job is not left");
        if let Some(bytes) = job_bytes(job) {
            bytes.fetch_add(self.object_bytes(), Ordering::Relaxed);
        }
        let files = self.server_files();
        job_files(before).fetch_sub(files, Ordering::Relaxed);
        job_files(job).fetch_add(files, Ordering::Relaxed);
    }

    /// Counts one more file of a server. Returns how many it has open, and how many its job has.
    #[inline]
    pub fn add_server_file(&self) -> (usize, usize) {
        let job = job_files(self.job()).fetch_add(1, Ordering::Relaxed) + 1;
        (self.server_files.fetch_add(1, Ordering::Relaxed) + 1, job)
    }

    /// Counts files that it sends in a message, and that are [subtracted](Self::remove_in_flight)
    /// once they are received or dropped. False, without a change, where they would be more than it
    /// may have open.
    pub fn add_in_flight(&self, files: usize) -> bool {
        let before = self.files_in_flight.fetch_add(files, Ordering::Relaxed);
        let fits = (before + files) as u64 <= self.limits.get(Resource::Files);
        if !fits {
            self.remove_in_flight(files);
        }
        fits
    }

    /// Counts fewer of them.
    pub fn remove_in_flight(&self, files: usize) {
        self.files_in_flight.fetch_sub(files, Ordering::Relaxed);
    }

    /// Files of servers that it has open.
    pub fn server_files(&self) -> usize {
        self.server_files.load(Ordering::Relaxed)
    }

    /// Counts one less.
    #[inline]
    pub fn remove_server_file(&self) {
        job_files(self.job()).fetch_sub(1, Ordering::Relaxed);
        self.server_files.fetch_sub(1, Ordering::Relaxed);
    }

    /// The job, by the process that was the first in it; 0 for init's own.
    pub fn job(&self) -> u32 {
        self.job.load(Ordering::Relaxed)
    }

    /// Bytes of objects that the account's job keeps, if it has one.
    fn job_kept(&self) -> usize {
        self.job_bytes().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    /// The counter of the account's job, if it has one.
    fn job_bytes(&self) -> Option<&'static AtomicUsize> {
        job_bytes(self.job())
    }

    fn place(&self, kind: Kind) -> &AtomicUsize {
        let [first, ..] = &self.bytes;
        self.bytes.get(kind as usize).unwrap_or(first)
    }

    /// Charges bytes that the caller [subtracts](Self::subtract) later, as [`Charge`] does. May be
    /// called with any lock held.
    pub fn add(&self, kind: Kind, bytes: usize) -> Result<(), OutOfMemory> {
        if failure::is_due() {
            return Err(OutOfMemory);
        }
        if bytes == 0 {
            return Ok(());
        }
        let sum = charged_bytes().checked_add(bytes).ok_or(OutOfMemory)?;
        if !self.server.load(Ordering::Relaxed) {
            let ceiling = ceiling_bytes();
            let is_locked = kind == Kind::Locked;
            let account = self.object_bytes().saturating_add(bytes);
            let kept = Kept { account, job: self.job_kept().saturating_add(bytes), all: sum };
            let left = if is_locked { ceiling / LEFT_BY_LOCKED } else { kept.left(ceiling) };
            // The frames of locked pages can be made available later: by swapping others out.
            if left > ceiling.saturating_sub(sum)
                || !is_locked && is_short(kept.free(ceiling) / PAGE_BYTES)
            {
                return Err(OutOfMemory);
            }
        }
        self.count(kind, bytes);
        Ok(())
    }

    /// Whether it may keep another page table: who has many leaves memory to others, as with
    /// objects. (A table is not charged by [`add`](Self::add), because a fault cannot be refused:
    /// it first frees tables of clean pages, and otherwise ends the process. So a few tables are
    /// always admitted.)
    pub fn admits_table(&self) -> bool {
        let ceiling = ceiling_bytes();
        let account = self.object_bytes() + self.bytes(Kind::Tables) + PAGE_BYTES;
        let kept = Kept { account, job: 0, all: charged_bytes() + PAGE_BYTES };
        self.is_server()
            || self.bytes(Kind::Tables) < FEW_TABLES.max(ceiling / LARGE)
            || kept.left(ceiling) <= ceiling.saturating_sub(kept.all)
    }

    fn count(&self, kind: Kind, bytes: usize) {
        if kind.stays() {
            CHARGED.fetch_add(bytes, Ordering::Relaxed);
        }
        if kind.is_object() {
            self.objects.fetch_add(bytes, Ordering::Relaxed);
            if let Some(job) = self.job_bytes() {
                job.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        self.place(kind).fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what was charged by [`add`](Self::add).
    #[inline]
    pub fn subtract(&self, kind: Kind, bytes: usize) {
        let before = self.place(kind).fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more was released than charged");
        if kind.is_object() {
            self.objects.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(job) = self.job_bytes() {
                job.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        if kind.stays() {
            CHARGED.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// The counter of a job's bytes.
fn job_bytes(job: u32) -> Option<&'static AtomicUsize> {
    if job == 0 { None } else { JOB_BYTES.get(job as usize % JOBS) }
}

/// The counter of a job's open files on servers.
fn job_files(job: u32) -> &'static AtomicUsize {
    let [init, ..] = &JOB_FILES;
    JOB_FILES.get(job as usize % JOBS).unwrap_or(init)
}

/// An account with no more bytes of objects is small: a program that has just started.
const SMALL: usize = 128 << 10;
/// A job with more than one of this many bytes of the ceiling is large. An account with as much
/// leaves as much free, too.
const LARGE: usize = 16;

/// One of this many bytes of the ceiling is not for locked pages.
const LEFT_BY_LOCKED: usize = 4;

/// Bytes of page tables that are few: those of 128 MiB of memory.
const FEW_TABLES: usize = 256 << 10;

/// Bytes that would be kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// What the account keeps, with what it asks for.
    account: usize,
    /// The same for its job; 0 for init's own processes.
    job: usize,
    /// The sum of all charges.
    all: usize,
}

impl Kept {
    /// Bytes below the ceiling that have to be left. One account can have three quarters of the
    /// ceiling, all large ones seven eighths, and with the small ones of large jobs fifteen
    /// sixteenths.
    fn left(self, ceiling: usize) -> usize {
        if mutants::take_all() {
            0
        } else if self.account > SMALL {
            (self.account / 3).max(self.all / 7)
        } else if self.job > ceiling / LARGE {
            self.all / 15
        } else {
            0
        }
    }

    /// Bytes that have to be left in free frames.
    fn free(self, ceiling: usize) -> usize {
        if self.account > ceiling / LARGE { ceiling / LARGE } else { 0 }
    }
}

/// Whether no more than `kept` frames are left for programs, even after clean pages were dropped.
/// (The kernel's heap may use frames that are withheld from programs; what programs fill it with
/// may not.)
fn is_short(kept: usize) -> bool {
    while frame::stats().free <= frame::reserve_below(Claim::Program) + kept {
        if shrinker::run() == 0 {
            return true;
        }
    }
    false
}

/// Bytes that count for an account until this is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    kind: Kind,
    bytes: usize,
}

impl Charge {
    /// Charges `bytes` to an account. May be called with any lock held.
    #[inline]
    pub fn take(account: &Arc<Account>, kind: Kind, bytes: usize) -> Result<Self, OutOfMemory> {
        account.add(kind, bytes)?;
        Ok(Self { account: account.clone(), kind, bytes })
    }

    /// Changes the number of bytes. Fails, without a change, only where it grows.
    pub fn resize(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.add(self.kind, more)?,
            None => self.account.subtract(self.kind, self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Changes the number of bytes, all of which `account` pays from now on. Fails, without a
    /// change, only where it has to pay more than before.
    pub fn transfer(&mut self, account: &Arc<Account>, bytes: usize) -> Result<(), OutOfMemory> {
        if Arc::ptr_eq(&self.account, account) {
            return self.resize(bytes);
        }
        *self = Self::take(account, self.kind, bytes)?;
        Ok(())
    }

    /// Who pays.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Bytes charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        self.account.subtract(self.kind, self.bytes);
    }
}

/// Pages that count for an account, as many as were added. They are never refused: their frames
/// were claimed, which is where the limit is.
#[derive(Debug)]
pub struct PageTally {
    account: Arc<Account>,
    kind: Kind,
    pages: AtomicUsize,
}

impl PageTally {
    /// A tally without pages.
    pub fn new(account: Arc<Account>, kind: Kind) -> Self {
        Self { account, kind, pages: AtomicUsize::new(0) }
    }

    /// Who pays.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Pages counted now.
    pub fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// Counts one more page.
    pub fn add(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.account.count(self.kind, PAGE_BYTES);
    }

    /// Counts `pages` pages less.
    pub fn remove(&self, pages: usize) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
        self.account.subtract(self.kind, pages * PAGE_BYTES);
    }
}

impl Drop for PageTally {
    fn drop(&mut self) {
        self.account.subtract(self.kind, self.pages() * PAGE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_count_until_they_are_dropped() {
        crate::mem::host::init();
        let account = Account::new();
        let mut charge = Charge::take(&account, Kind::Pipes, 100).unwrap();
        assert_eq!((account.bytes(Kind::Pipes), account.total_bytes()), (100, 100));
        charge.resize(40).unwrap();
        let other = Charge::take(&account, Kind::Locks, 2).unwrap();
        assert_eq!((account.bytes(Kind::Pipes), account.total_bytes()), (40, 42));
        assert_eq!(charge.resize(usize::MAX), Err(OutOfMemory));
        assert!(Charge::take(&account, Kind::Pipes, ceiling_bytes() + 1).is_err());
        drop((charge, other));
        assert_eq!(account.total_bytes(), 0);
    }

    #[test]
    fn a_job_counts_what_its_accounts_keep() {
        const JOB: u32 = 4095;
        let first = Account::new();
        first.count(Kind::Pipes, 100);
        first.enter_job(JOB);
        let second = first.child();
        second.count(Kind::Files, 7);
        second.count(Kind::Tables, 4096);
        assert_eq!(job_bytes(JOB).unwrap().load(Ordering::Relaxed), 107);
        assert_eq!((second.job(), second.total_bytes()), (JOB, 4103));
        first.subtract(Kind::Pipes, 100);
        second.subtract(Kind::Files, 7);
        assert_eq!(job_bytes(JOB).unwrap().load(Ordering::Relaxed), 0);
    }

    /// What is left of the ceiling by accounts each of which takes what it can, one after the
    /// other or in turn.
    fn left_by(accounts: usize, ceiling: usize, is_job: bool, in_turn: bool) -> usize {
        const STEP: usize = 512;
        let (mut kept, mut all) = (vec![0; accounts], 0);
        let mut progress = true;
        while progress {
            progress = false;
            for account in &mut kept {
                loop {
                    let more = all + STEP;
                    let job = if is_job { more } else { 0 };
                    let wanted = Kept { account: *account + STEP, job, all: more };
                    if wanted.left(ceiling) > ceiling.saturating_sub(more) {
                        break;
                    }
                    (*account, all, progress) = (wanted.account, more, true);
                    if in_turn {
                        break;
                    }
                }
            }
        }
        ceiling - all
    }

    #[test]
    fn however_many_take_what_they_can_something_is_left() {
        const CEILING: usize = 24 << 20;
        for in_turn in [false, true] {
            assert!(left_by(1, CEILING, true, in_turn) >= CEILING / 4);
            for accounts in [2, 20, 150] {
                let left = left_by(accounts, CEILING, true, in_turn);
                assert!(left >= CEILING / 16, "{accounts} accounts of a job leave {left} bytes");
            }
            // Not of a job: what small accounts get counts.
            let left = left_by(20, CEILING, false, in_turn);
            assert!(left >= CEILING / 8 - 20 * SMALL, "20 accounts leave {left} bytes");
        }
    }
}
