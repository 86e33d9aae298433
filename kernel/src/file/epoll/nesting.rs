//! Epolls that watch epolls: no cycles, and no long chains.
//!
//! A check and the entry that it admits are one step, because the kernel is not preempted and
//! nothing waits between them.

use super::Epoll;
use crate::file::downcast;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::Errno;

/// Steps from an epoll to the last one below it, at most, as on Linux: a chain of five.
const MAX_STEPS: u64 = 4;

/// The number of the last walk.
static WALKS: AtomicU64 = AtomicU64::new(0);

/// What walks have found at one epoll.
#[derive(Default)]
pub(super) struct Walked {
    /// The walk that was here last.
    walk: AtomicU64,
    /// The longest chain that it found from here on, in steps.
    steps: AtomicU64,
}

/// Which way a walk goes.
#[derive(Clone, Copy)]
enum Way {
    /// To the epolls that watch this one.
    Up,
    /// To those that this one watches.
    Down,
}

/// ELOOP where an entry of `epoll` that watches `nested` would close a cycle or make a chain too
/// long.
pub(super) fn check(epoll: &Arc<Epoll>, nested: &Arc<Epoll>) -> Result<(), Errno> {
    let walk = || WALKS.fetch_add(1, Ordering::Relaxed) + 1;
    let below = nested.longest(Way::Down, walk(), Some(epoll))?;
    let above = epoll.longest(Way::Up, walk(), None)?;
    if above + 1 + below > MAX_STEPS { Err(Errno::ELOOP) } else { Ok(()) }
}

impl Epoll {
    /// The longest chain from here on, in steps. Visits each epoll once in a walk. ELOOP where
    /// `end` is reached. Chains are short, so the recursion is.
    fn longest(&self, way: Way, walk: u64, end: Option<&Arc<Self>>) -> Result<u64, Errno> {
        if end.is_some_and(|end| core::ptr::eq(Arc::as_ptr(end), self)) {
            return Err(Errno::ELOOP);
        }
        if self.walked.walk.swap(walk, Ordering::Relaxed) == walk {
            return Ok(self.walked.steps.load(Ordering::Relaxed));
        }
        let (mut at, mut longest) = (0, 0);
        while let Some(next) = self.neighbour(way, at) {
            at += 1;
            if let Some(next) = next {
                longest = longest.max(next.longest(way, walk, end)? + 1);
            }
        }
        self.walked.steps.store(longest, Ordering::Relaxed);
        Ok(longest)
    }

    /// The epoll at the place `at` in a direction; `None` after the last place, and within it where
    /// that is no epoll.
    fn neighbour(&self, way: Way, at: usize) -> Option<Option<Arc<Self>>> {
        let file = {
            let state = self.state.lock();
            match way {
                Way::Up => return Some(state.parents.get(at)?.upgrade()),
                Way::Down => state.entries.get(at)?.file(),
            }
        };
        Some(file.and_then(|file| downcast(file.object())))
    }
}
