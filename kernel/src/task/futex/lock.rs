//! Futexes that are locks (`FUTEX_LOCK_PI` and its relatives).
//!
//! The word holds the owner's thread number; it is 0 while the lock is free. The kernel passes the
//! lock on to the thread that has waited longest, at an unlock and at the owner's end. The
//! scheduler has no priorities that an owner could inherit.
//!
//! A [`Lock`] is in the table while threads wait for it.
#![forbid(unsafe_code)]

use super::word::update;
use super::{Entry, Futex, Key, OWNER_DIED, OWNS, TABLE, Table, Waiter, load};
use crate::mem::fallible;
use crate::task::{current_thread, find_thread};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// The bits of a word that are its owner's number.
pub const OWNER: u32 = 0x3fff_ffff;
/// The bit of a word whose owner has ended.
pub const DIED: u32 = 0x4000_0000;
/// The bit of a word that threads wait for.
pub const WAITED_FOR: u32 = 0x8000_0000;

/// Upper bound for the length of a chain of owners that wait for locks themselves.
const MAX_CHAIN: usize = 1024;

/// A lock that threads wait for, or whose new owner has not run yet.
pub(super) struct Lock {
    owner: u32,
    /// Whether the owner has still to write its number: until then the word is out of date.
    is_unwritten: bool,
    /// In the order of their arrival.
    waiters: Vec<Arc<Waiter>>,
}

/// Whether a call waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until this time in nanoseconds since boot, if any.
    Until(Option<u64>),
    /// EAGAIN if the lock has an owner.
    None,
}

/// Acquires a lock. EDEADLK where its owner waits for the caller, ESRCH where its owner is no
/// thread, EINVAL where it is no lock for others, ETIMEDOUT, EINTR.
pub fn acquire(futex: Futex<'_>, patience: Patience) -> Result<(), Errno> {
    let key = futex.key()?;
    let waiter = Waiter::new();
    let mut waits = false;
    update(futex.space, futex.address, |word| {
        let mut table = TABLE.lock();
        if table.waiting.contains_key(&key) {
            return Err(Errno::EINVAL);
        }
        let new = table.try_acquire(key, &waiter, word, patience == Patience::None)?;
        waits = new & OWNER != waiter.tid;
        Ok(Some(new))
    })
    .inspect_err(|_| TABLE.lock().leave(key, &waiter))?;
    let Patience::Until(deadline_ns) = patience else { return Ok(()) };
    if waits { await_lock(futex, key, &waiter, deadline_ns) } else { Ok(()) }
}

/// Waits for a lock in whose list the waiter is.
fn await_lock(
    futex: Futex<'_>,
    key: Key,
    waiter: &Arc<Waiter>,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    match waiter.wait(deadline_ns) {
        Ok(OWNER_DIED) => {
            let own = waiter.tid | WAITED_FOR | DIED;
            let written = update(futex.space, futex.address, |_| Ok(Some(own)));
            TABLE.lock().note_written(key, waiter.tid);
            written.map(drop)
        }
        Ok(_) => Ok(()),
        Err(error) => {
            TABLE.lock().leave(key, waiter);
            Err(error)
        }
    }
}

/// Releases a lock: it is that of the thread that has waited longest, or free. EPERM if the caller
/// does not own it.
pub fn release(futex: Futex<'_>) -> Result<(), Errno> {
    let key = futex.key()?;
    let own = current_thread().tid;
    update(futex.space, futex.address, |word| {
        if word & OWNER != own {
            return Err(Errno::EPERM);
        }
        let mut table = TABLE.lock();
        if table.waiting.contains_key(&key) {
            return Err(Errno::EINVAL);
        }
        Ok(Some(table.pass_on(key, OWNS).map_or(0, |next| next | WAITED_FOR)))
    })
    .map(drop)
}

/// The thread of a number ends: those that wait for its locks get them.
pub(in crate::task) fn owner_ended(owner: u32) {
    let mut table = TABLE.lock();
    while let Some(key) = table.owned_by(owner) {
        table.pass_on(key, OWNER_DIED);
    }
}

/// Waits for a futex, from which [`requeue`] moves the caller to the lock `to`; then it has that.
/// EAGAIN where it was interrupted after the move.
pub fn wait_to_acquire(
    from: Futex<'_>,
    expected: u32,
    bits: u32,
    to: Futex<'_>,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    let target = to.key()?;
    if bits == 0 || from.key()? == target {
        return Err(Errno::EINVAL);
    }
    let waiter = Waiter::new();
    let entry = Entry { waiter: waiter.clone(), bits, index: OWNS, target: Some(target) };
    super::enter(from, expected, entry)?;
    let result = await_lock(to, target, &waiter, deadline_ns);
    match result {
        Err(Errno::EINTR) if !super::remove_waiter(&waiter) => Err(Errno::EAGAIN),
        Err(error) => {
            super::remove_waiter(&waiter);
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Gives the lock `to` to the first waiter of `from` if it is free, and makes at most `count`
/// others wait for it. Returns how many. EAGAIN if the word of `from` is not `expected`, EINVAL for
/// waiters that do not wait for that.
pub fn requeue(from: Futex<'_>, to: Futex<'_>, count: u32, expected: u32) -> Result<u32, Errno> {
    let (key, target) = (from.key()?, to.key()?);
    if key == target {
        return Err(Errno::EINVAL);
    }
    if load(from.space, from.address)? != expected {
        return Err(Errno::EAGAIN);
    }
    let mut moved = 0;
    update(to.space, to.address, |mut word| {
        let mut table = TABLE.lock();
        let list = table.waiting.get(&key).map_or(&[][..], Vec::as_slice);
        if list.iter().any(|entry| entry.target != Some(target)) {
            return Err(Errno::EINVAL);
        }
        let count = list.len().min(count as usize + 1);
        for _ in 0..count {
            let Some(waiter) = table.first_waiter(key) else { break };
            match table.try_acquire(target, &waiter, word, false) {
                Ok(new) => word = new,
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            }
            if word & OWNER == waiter.tid {
                waiter.wake(OWNS);
            }
            table.forget_first(key);
            moved += 1;
        }
        Ok((moved > 0).then_some(word))
    })?;
    Ok(moved)
}

impl Table {
    /// The word of a lock once the waiter has it, or waits for it unless `only_free`.
    fn try_acquire(
        &mut self,
        key: Key,
        waiter: &Arc<Waiter>,
        word: u32,
        only_free: bool,
    ) -> Result<u32, Errno> {
        let passed = self.locks.get(&key).filter(|lock| lock.is_unwritten);
        let owner = passed.map_or(word & OWNER, |lock| lock.owner);
        if owner == waiter.tid {
            return Err(Errno::EDEADLK);
        }
        if owner == 0 {
            let waited_for = if self.locks.contains_key(&key) { WAITED_FOR } else { 0 };
            if let Some(lock) = self.locks.get_mut(&key) {
                lock.owner = waiter.tid;
            }
            return Ok(waiter.tid | word & DIED | waited_for);
        }
        if find_thread(owner).is_none() {
            return Err(Errno::ESRCH);
        }
        if only_free {
            return Err(Errno::EAGAIN);
        }
        if self.locks.get(&key).is_some_and(|lock| lock.owner != owner) {
            return Err(Errno::EINVAL);
        }
        if self.leads_to(owner, waiter.tid) {
            return Err(Errno::EDEADLK);
        }
        let lock = self.locks.entry(key).or_insert(Lock {
            owner,
            is_unwritten: false,
            waiters: Vec::new(),
        });
        let result = fallible::push(&mut lock.waiters, waiter.clone());
        self.remove_unused(key);
        result?;
        Ok(word | WAITED_FOR)
    }

    /// Whether an owner waits for a lock of `target`, or of one who does so.
    fn leads_to(&self, mut owner: u32, target: u32) -> bool {
        for _ in 0..MAX_CHAIN {
            let waits = |lock: &&Lock| lock.waiters.iter().any(|waiter| waiter.tid == owner);
            match self.locks.values().find(waits) {
                Some(lock) if lock.owner == target => return true,
                Some(lock) => owner = lock.owner,
                None => return false,
            }
        }
        true
    }

    /// Makes the thread that has waited longest the owner of a lock. Returns its number.
    fn pass_on(&mut self, key: Key, result: u32) -> Option<u32> {
        let lock = self.locks.get_mut(&key)?;
        let next = (!lock.waiters.is_empty()).then(|| lock.waiters.remove(0));
        lock.is_unwritten = next.is_some() && result == OWNER_DIED;
        lock.owner = next.as_ref().map_or(0, |next| next.tid);
        self.remove_unused(key);
        let next = next?;
        next.wake(result);
        Some(next.tid)
    }

    /// The owner of a lock that was passed on has written the word, if it still is the owner.
    fn note_written(&mut self, key: Key, owner: u32) {
        if let Some(lock) = self.locks.get_mut(&key).filter(|lock| lock.owner == owner) {
            lock.is_unwritten = false;
        }
        self.remove_unused(key);
    }

    /// Removes a lock that nobody waits for.
    fn remove_unused(&mut self, key: Key) {
        let is_unused = |lock: &Lock| lock.waiters.is_empty() && !lock.is_unwritten;
        if self.locks.get(&key).is_some_and(is_unused) {
            self.locks.remove(&key);
        }
    }

    fn owned_by(&self, owner: u32) -> Option<Key> {
        self.locks.iter().find(|(_, lock)| lock.owner == owner).map(|(&key, _)| key)
    }

    /// The waiter does not wait for the lock any longer.
    fn leave(&mut self, key: Key, waiter: &Arc<Waiter>) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        lock.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
        self.remove_unused(key);
    }

    fn first_waiter(&self, key: Key) -> Option<Arc<Waiter>> {
        Some(self.waiting.get(&key)?.first()?.waiter.clone())
    }

    fn forget_first(&mut self, key: Key) {
        let Some(list) = self.waiting.get_mut(&key) else { return };
        list.drain(..list.len().min(1));
        if list.is_empty() {
            self.waiting.remove(&key);
        }
    }
}
