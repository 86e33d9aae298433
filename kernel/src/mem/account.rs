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
//! Counters are changed by addition of what a charge holds, and are bounded by the ceiling: they
//! cannot overflow. No locks.
#![forbid(unsafe_code)]

use super::{Claim, PAGE_BYTES, claim, frame, frame::OutOfMemory, limits::Limits, shrinker};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
}

/// Number of kinds.
const KINDS: usize = Kind::Locked as usize + 1;

/// What one process makes the kernel keep, in bytes for each kind.
#[derive(Debug, Default)]
pub struct Account {
    /// Resource limits.
    pub limits: Limits,
    bytes: [AtomicUsize; KINDS],
    /// The sum of `bytes`.
    total: AtomicUsize,
    /// Whether the process serves files (F8): it may use the memory withheld from programs.
    server: AtomicBool,
}

/// Bytes of all charges that cannot be reclaimed, of all accounts.
static CHARGED: AtomicUsize = AtomicUsize::new(0);

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
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes charged for what is not memory of the program itself: neither page tables nor shared
    /// or locked pages.
    fn object_bytes(&self) -> usize {
        let memory = [Kind::Tables, Kind::Shared, Kind::Locked].map(|kind| self.bytes(kind));
        self.total_bytes().saturating_sub(memory.iter().sum())
    }

    fn place(&self, kind: Kind) -> &AtomicUsize {
        let [first, ..] = &self.bytes;
        self.bytes.get(kind as usize).unwrap_or(first)
    }

    /// Charges bytes that the caller [subtracts](Self::subtract) later, as [`Charge`] does. May be
    /// called with any lock held.
    pub fn add(&self, kind: Kind, bytes: usize) -> Result<(), OutOfMemory> {
        #[cfg(not(target_os = "none"))]
        if super::host::failure::is_due() {
            return Err(OutOfMemory);
        }
        if bytes == 0 {
            return Ok(());
        }
        let sum = charged_bytes().checked_add(bytes).ok_or(OutOfMemory)?;
        if !self.server.load(Ordering::Relaxed) {
            // The frames of locked pages can be made available later: by swapping others out.
            let is_locked = kind == Kind::Locked;
            let kept = if is_locked {
                ceiling_bytes() / KEPT
            } else {
                kept_from(self.object_bytes().saturating_add(bytes))
            };
            let is_beyond = sum > ceiling_bytes().saturating_sub(kept);
            if is_beyond || !is_locked && is_short(kept / PAGE_BYTES) {
                return Err(OutOfMemory);
            }
        }
        self.count(kind, bytes);
        Ok(())
    }

    fn count(&self, kind: Kind, bytes: usize) {
        if kind.stays() {
            CHARGED.fetch_add(bytes, Ordering::Relaxed);
        }
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.place(kind).fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what was charged by [`add`](Self::add).
    #[inline]
    pub fn subtract(&self, kind: Kind, bytes: usize) {
        let before = self.place(kind).fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more was released than charged");
        self.total.fetch_sub(bytes, Ordering::Relaxed);
        if kind.stays() {
            CHARGED.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// An account with more than one of `BIG` bytes of the ceiling is big, and leaves one of `KEPT`
/// bytes to the others: so that the others can go on, and whoever looks for the culprit, too.
const BIG: usize = 16;
const KEPT: usize = 16;

/// Bytes below the ceiling that an account with `bytes` bytes of objects leaves to others.
fn kept_from(bytes: usize) -> usize {
    let ceiling = ceiling_bytes();
    if bytes > ceiling / BIG { ceiling / KEPT } else { 0 }
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
}
