//! How the kernel treats a process's memory: laziness, rank, pages that stay.
#![forbid(unsafe_code)]

use super::mutants;
use crate::mem::{Claim, OutOfMemory, claim::Floor, frame, mutants::swap_init};
use crate::sync::Once;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use foundation::{PageCount, knob};

/// How read(2) fills whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// It maps them where it can.
    Lazy,
    /// It copies.
    Eager,
}

/// How the kernel treats a process's memory.
#[derive(Debug)]
pub struct Policy {
    /// Whether the process serves files.
    server: AtomicBool,
    /// A [`Claim`], as a number.
    claim: AtomicU8,
    eager: AtomicBool,
    /// Whether this is init, whose pages stay.
    init: AtomicBool,
    /// Whether this is init, or a fork of it that runs the same program: only these are trusted
    /// with a rank and a floor.
    trusted: AtomicBool,
    floor: Once<Floor>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            server: AtomicBool::new(false),
            claim: AtomicU8::new(Claim::Program as u8),
            eager: AtomicBool::new(false),
            init: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            floor: Once::new(),
        }
    }
}

impl Policy {
    /// Whether reads of this process are lazy.
    pub fn lazy(&self) -> bool {
        let server = self.is_server() && !mutants::lazy_server();
        let knob = knob::LAZY.get() == 1 || mutants::ignore_knob();
        !server && !self.eager.load(Ordering::Relaxed) && knob
    }

    /// Chooses the mode of this process's reads. The knob `lazy` must be on for lazy ones.
    pub fn set_read_mode(&self, mode: ReadMode) {
        self.eager.store(mode == ReadMode::Eager, Ordering::Relaxed);
    }

    /// Whether the process serves files (F8).
    #[inline]
    pub fn is_server(&self) -> bool {
        self.server.load(Ordering::Relaxed)
    }

    /// Marks the process, and its future children, as a file server whose claims have this rank;
    /// one that marks itself claims as a program does. This cannot be undone.
    pub fn mark_server(&self, rank: Claim) {
        self.server.store(true, Ordering::Relaxed);
        self.claim.store(rank as u8, Ordering::Relaxed);
    }

    /// Declares the frames that this process can count on besides those that it has, `base`. Fails
    /// where floors would take too much of memory, and where it has a floor already.
    pub fn declare_floor(&self, pages: PageCount, base: PageCount) -> Result<(), OutOfMemory> {
        if self.floor.is_completed() {
            return Err(OutOfMemory);
        }
        let total = frame::stats().total;
        let floor = Floor::declare(pages.to_usize(), base.to_usize(), total).ok_or(OutOfMemory)?;
        self.floor.call_once(|| floor);
        Ok(())
    }

    /// The pages that this process can count on besides those that it had when it was marked.
    pub fn floor(&self) -> PageCount {
        self.floor.get().map_or(PageCount::ZERO, |floor| PageCount::of_len(floor.frames()))
    }

    /// Whether a process of this many resident pages is within its floor.
    pub(super) fn is_within_floor(&self, resident: PageCount) -> bool {
        self.floor.get().is_some_and(|floor| floor.covers(resident.to_usize()))
    }

    /// Makes this the policy of init, whose pages stay in memory: it needs neither a server nor
    /// swap to go on. It claims as servers do, because it starts them again. Children do not
    /// inherit this, but the trust.
    pub fn make_init(&self) {
        self.init.store(true, Ordering::Relaxed);
        self.make_trusted();
    }

    fn make_trusted(&self) {
        self.trusted.store(true, Ordering::Relaxed);
        if !self.is_server() {
            self.claim.store(Claim::FileServer as u8, Ordering::Relaxed);
        }
    }

    /// Whether this is init, or a fork of it that runs the same program.
    pub fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Relaxed)
    }

    /// Whether the process's pages stay in memory: those of servers (F8), and of init.
    pub fn is_pinned(&self) -> bool {
        self.is_server() || self.init.load(Ordering::Relaxed) && !swap_init()
    }

    /// Whether the process is never ended for memory (Q6): init, and its servers. A program that
    /// marks itself as a server is ended like any other.
    pub fn keeps_others_alive(&self) -> bool {
        self.is_trusted() && self.is_pinned()
    }

    /// On whose behalf frames are allocated.
    #[inline]
    pub fn claim(&self) -> Claim {
        Claim::from_number(self.claim.load(Ordering::Relaxed))
    }

    /// The policy of the program that replaces this one.
    pub(super) fn inherit(&self) -> Self {
        let inherited = Self::default();
        if self.is_server() {
            inherited.mark_server(self.claim());
        }
        inherited.eager.store(self.eager.load(Ordering::Relaxed), Ordering::Relaxed);
        inherited
    }

    /// The policy of a child: as [`inherit`](Self::inherit), and it is trusted as this one is,
    /// because it runs the same program.
    pub(super) fn fork(&self) -> Self {
        let child = self.inherit();
        if self.is_trusted() {
            child.make_trusted();
        }
        child
    }
}
