//! Ranks of claims for frames, and the reserve of each.
//!
//! A claim may wait only for work that needs claims of lower ranks, so no wait is circular: a
//! program waits for the file servers, they for the swap server, it and the kernel for nobody.
//! Frames are therefore withheld from each rank for those above it ([`reserve_below`]).
//!
//! A [`Floor`] is what a server may grow by in any case: programs' pages are swapped out for it,
//! and where that does not help, programs are ended (`task::oom`). It is not kept free meanwhile.
#![forbid(unsafe_code)]

use super::{PAGE_BYTES, mutants};
use crate::sync::assert_may_await_server;
use core::sync::atomic::{AtomicUsize, Ordering};

/// On whose behalf a frame is taken: its rank. Lower ranks come later in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Claim {
    /// The kernel itself: interrupts, and the delivery of messages. Waits for nothing.
    Kernel,
    /// The server that keeps the swap file. Waits for nothing.
    SwapServer,
    /// Every other process that serves files (F8). May wait for clean pages to be dropped, and for
    /// programs' pages to be swapped out.
    FileServer,
    /// An ordinary program. May wait for all of that, and for file servers.
    Program,
}

impl Claim {
    /// All ranks, by their numbers.
    pub(super) const ALL: [Self; 4] =
        [Self::Kernel, Self::SwapServer, Self::FileServer, Self::Program];

    /// Asserts that this claim may wait here for work of `server`: no lock is held that it could
    /// need, and its rank is lower.
    #[inline]
    #[track_caller]
    pub(super) fn assert_may_await(self, server: Self) {
        assert_may_await_server();
        debug_assert!(server < self, "a claim of {self:?} waits for work of {server:?}");
    }

    /// The claim whose number, as by `as u8`, this is; that of a program for an unknown number.
    #[inline]
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Kernel,
            1 => Self::SwapServer,
            2 => Self::FileServer,
            _ => Self::Program,
        }
    }
}

/// Frames for the kernel alone, whatever the size of memory: one message of the largest size.
const KERNEL_FRAMES: usize = 64;
/// The kernel's share of memory: its tables grow with memory.
const KERNEL_SHARE: usize = 256;
/// Frames for the swap server besides its map, which it takes when swap is attached: one transfer.
const SWAP_FRAMES: usize = 64;
/// Frames of the largest message of the file protocol: its payload, and a page for what precedes
/// that.
const MESSAGE_FRAMES: usize = fsproto::MAX_PAYLOAD / PAGE_BYTES + 1;
/// File servers with a reserve: memfs and snapfs.
const FILE_SERVERS: usize = 2;

/// Frames that a claim of this rank may not take, because they are reserved for those above it.
/// `total` are the frames of the machine.
pub(super) fn reserve_below(claim: Claim, total: usize) -> usize {
    let kernel = KERNEL_FRAMES + total / KERNEL_SHARE;
    match claim {
        Claim::Kernel => 0,
        Claim::SwapServer => kernel,
        Claim::FileServer => kernel + SWAP_FRAMES,
        // One message in and one out for each server.
        Claim::Program => kernel + SWAP_FRAMES + 2 * FILE_SERVERS * MESSAGE_FRAMES,
    }
}

/// Frames of all floors.
static FLOORS: AtomicUsize = AtomicUsize::new(0);
/// All floors together are at most one of this many frames: programs need memory, too.
const FLOORS_SHARE: usize = 2;

/// Frames that servers may still need, however much programs want: all floors together.
pub fn floors() -> usize {
    FLOORS.load(Ordering::Relaxed)
}

/// The number of frames that a server can count on, besides those that it had when it declared the
/// floor. Given up when dropped.
#[derive(Debug)]
pub(super) struct Floor {
    frames: usize,
    /// Frames that the server had.
    base: usize,
}

impl Floor {
    /// Declares a floor of `frames` frames for a server that has `base`. `None` where all floors
    /// together would exceed half of memory, which has `total` frames.
    pub fn declare(frames: usize, base: usize, total: usize) -> Option<Self> {
        let most = total / FLOORS_SHARE;
        let fits = |sum: usize| {
            sum.checked_add(frames).filter(|&sum| sum <= most || mutants::floors_unchecked())
        };
        let declared = FLOORS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        declared.is_ok().then(|| Self { frames, base })
    }

    /// The number of frames that the server can count on.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Whether a server with `resident` frames is within its floor.
    pub fn covers(&self, resident: usize) -> bool {
        resident <= self.base + self.frames
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        FLOORS.fetch_sub(self.frames, Ordering::Relaxed);
    }
}
