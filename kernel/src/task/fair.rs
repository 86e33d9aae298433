//! Whose turn it is. The policy of the scheduler, which knows no thread, lock or clock.
//!
//! Who has had the least virtual time is next, as in Linux's CFS. The differences between those
//! that are ready stay within a slice or so, because the running one is looked at after each slice.
//! Who was not ready for a while could have saved up any amount; of that [`CREDIT`] remain: so a
//! sleeper runs at once when it wakes, and cannot keep others waiting for longer.
//!
//! The virtual time of those that are not ready is compared to a *floor*: the least virtual time of
//! those that were ready.

use alloc::collections::BinaryHeap;
use core::cmp::{Ordering, Reverse};

/// What remains to a sleeper of what it did not use, in virtual time: half a slice or so.
pub const CREDIT: u64 = 500_000;
/// How far the running one must be ahead of one that wakes, in virtual time, to be interrupted for
/// it: less is not worth a switch.
pub const GRAIN: u64 = 250_000;

/// Something that can have its turn.
pub trait Contender {
    /// The virtual time that decides. It may only grow while this is in the queue.
    fn virtual_time(&self) -> u64;
    /// Forfeits what it had not yet used before `virtual_time`.
    fn raise_to(&self, virtual_time: u64);
}

impl<T: Contender> Contender for alloc::sync::Arc<T> {
    #[inline]
    fn virtual_time(&self) -> u64 {
        (**self).virtual_time()
    }

    #[inline]
    fn raise_to(&self, virtual_time: u64) {
        (**self).raise_to(virtual_time);
    }
}

/// One of those that are ready.
pub struct Entry<T> {
    /// Its virtual time when it was put here.
    virtual_time: u64,
    /// First come, first served.
    number: u64,
    item: T,
}

impl<T> Entry<T> {
    fn place(&self) -> (u64, u64) {
        (self.virtual_time, self.number)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// Those that are ready, without the running one. Each operation takes logarithmic time.
pub struct RunQueue<T> {
    /// Whose turn it is. Often nobody else is ready, and the heap is not needed.
    first: Option<Entry<T>>,
    /// The others, none of whom is before `first`. Grows only where its owner reserves space.
    pub(super) others: BinaryHeap<Reverse<Entry<T>>>,
    next_number: u64,
    floor: u64,
}

impl<T: Contender> Default for RunQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Contender> RunQueue<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { first: None, others: BinaryHeap::new(), next_number: 0, floor: 0 }
    }

    /// Whether nobody is ready.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The least virtual time in the queue.
    #[inline]
    fn least(&self) -> Option<u64> {
        self.first.as_ref().map(|entry| entry.virtual_time)
    }

    #[inline]
    fn put(&mut self, virtual_time: u64, item: T) {
        self.next_number += 1;
        let entry = Entry { virtual_time, number: self.next_number, item };
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.insert(entry);
        }
    }

    /// Adds one to a queue that is not empty.
    #[inline(never)]
    fn insert(&mut self, mut entry: Entry<T>) {
        if let Some(first) = self.first.as_mut().filter(|first| entry < **first) {
            core::mem::swap(first, &mut entry);
        }
        self.others.push(Reverse(entry));
    }

    /// The running one has reached this virtual time.
    pub fn advance(&mut self, running: u64) {
        let least = self.least().map_or(running, |ready| ready.min(running));
        self.floor = self.floor.max(least);
    }

    /// Adds one that was not ready. Returns its virtual time.
    #[inline]
    pub fn wake(&mut self, item: T) -> u64 {
        if !super::mutants::hoard_credit() {
            item.raise_to(self.floor.saturating_sub(CREDIT));
        }
        let virtual_time = item.virtual_time();
        self.put(virtual_time, item);
        virtual_time
    }

    /// Whether somebody should run rather than the running one, which has had its slice.
    #[inline]
    pub fn is_due(&self, running: u64) -> bool {
        self.least().is_some_and(|ready| ready < running)
    }

    /// Adds the running one, which stays ready.
    pub fn put_back(&mut self, item: T) {
        let virtual_time = item.virtual_time();
        self.advance(virtual_time);
        self.put(virtual_time, item);
    }

    /// Adds the running one, which wants others to run first.
    pub fn put_behind(&mut self, item: T) {
        if let Some(ready) = self.least() {
            item.raise_to(ready);
        }
        self.put_back(item);
    }

    /// Removes whose turn it is.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        if self.others.is_empty() {
            let Entry { virtual_time, item, .. } = self.first.take()?;
            self.floor = self.floor.max(virtual_time);
            return Some(item);
        }
        self.take_of_several()
    }

    #[inline(never)]
    fn take_of_several(&mut self) -> Option<T> {
        loop {
            let Entry { virtual_time, number, item } = self.first.take()?;
            self.first = self.others.pop().map(|Reverse(entry)| entry);
            let now = item.virtual_time();
            // Others may have worked at its expense meanwhile.
            if now > virtual_time && self.is_due(now) {
                self.insert(Entry { virtual_time: now, number, item });
                continue;
            }
            self.floor = self.floor.max(virtual_time);
            return Some(item);
        }
    }
}

/// Whether the running one, which has reached `running`, should make way at once for one that
/// wakes with the virtual time `woken`.
#[inline]
pub fn is_behind(woken: u64, running: u64) -> bool {
    woken.saturating_add(GRAIN) < running
}
