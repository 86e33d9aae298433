//! Futexes: waiting for a word of memory to change.
//!
//! A private futex is identified by address space and address; another one in memory that spaces
//! share, by that memory and the offset in it. The two kinds do not meet. Futexes that are locks
//! ([`lock`]) have a table of their own under the same lock.
#![forbid(unsafe_code)]

pub mod lock;
mod word;

use super::current_thread;
use super::timer::Timeout;
use crate::mem::{Space, UserAddr, fallible};
use crate::sync::{Interrupt, Mutex, WaitQueue, rank};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::Errno;
use lock::Lock;
pub use word::Update;
pub(super) use word::update as update_word;
use word::{check, load};

/// Who may use a futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads with this address space.
    Private,
    /// Everybody who shares the memory.
    Shared,
}

/// A futex, as a call names it.
#[derive(Clone, Copy)]
pub struct Futex<'a> {
    /// The caller's memory.
    pub space: &'a Arc<Space>,
    /// The address of the word.
    pub address: UserAddr,
    /// Who may use it.
    pub scope: Scope,
}

/// Identity of the address space or of the shared memory, and the place within it. Words are
/// aligned, so bit 0 of the place is free: it is set for a private futex.
type Key = (usize, u64);

/// A thread that waits, for one futex or several.
struct Waiter {
    tid: u32,
    /// [`WAITS`], or which of its futexes was woken.
    woken: AtomicU32,
    queue: WaitQueue,
}

/// It was not woken yet.
const WAITS: u32 = u32::MAX;
/// It has got the lock that it waits for; [`OWNER_DIED`] if the owner has ended with it.
const OWNS: u32 = u32::MAX - 1;
const OWNER_DIED: u32 = u32::MAX - 2;

impl Waiter {
    fn new() -> Arc<Self> {
        let tid = current_thread().tid;
        Arc::new(Self { tid, woken: AtomicU32::new(WAITS), queue: WaitQueue::new() })
    }

    fn wake(&self, result: u32) {
        self.woken.store(result, Ordering::Release);
        self.queue.wake_all();
    }

    fn result(&self) -> Option<u32> {
        Some(self.woken.load(Ordering::Acquire)).filter(|&woken| woken != WAITS)
    }

    /// Waits until it is woken: ETIMEDOUT at `deadline_ns` since boot, EINTR for a signal. A wake
    /// that comes first counts.
    fn wait(&self, deadline_ns: Option<u64>) -> Result<u32, Errno> {
        let timeout = deadline_ns.map(Timeout::at);
        let result = self.queue.wait(Interrupt::Signal, || match self.result() {
            Some(woken) => Some(Ok(woken)),
            None => timeout.as_ref().is_some_and(Timeout::is_over).then_some(Err(Errno::ETIMEDOUT)),
        });
        self.result().map_or_else(|| result?, Ok)
    }
}

/// A waiter in the list of a futex.
struct Entry {
    waiter: Arc<Waiter>,
    /// It is woken by a wake with one of these bits.
    bits: u32,
    /// Which of the waiter's futexes this is.
    index: u32,
    /// The lock that it waits for in the end.
    target: Option<Key>,
}

struct Table {
    waiting: BTreeMap<Key, Vec<Entry>>,
    locks: BTreeMap<Key, Lock>,
}

static TABLE: Mutex<Table, rank::Futexes> =
    Mutex::new(Table { waiting: BTreeMap::new(), locks: BTreeMap::new() });

impl<'a> Futex<'a> {
    /// One that everybody who shares the memory may use.
    pub fn shared(space: &'a Arc<Space>, address: UserAddr) -> Self {
        Self { space, address, scope: Scope::Shared }
    }

    /// EINVAL if the address is not aligned, EFAULT where nobody could share the word.
    fn key(&self) -> Result<Key, Errno> {
        check(self.address)?;
        if self.scope == Scope::Private {
            return Ok((Arc::as_ptr(self.space) as usize, self.address.0 | 1));
        }
        load(self.space, self.address)?;
        // If other memory takes the place of this one while a thread waits, the result is a
        // spurious wake-up, which programs must expect.
        let private = (Arc::as_ptr(self.space) as usize, self.address.0);
        Ok(self.space.shared_place(self.address).unwrap_or(private))
    }
}

/// What a thread waits for: a word that has a value until somebody changes it.
#[derive(Clone, Copy)]
pub struct Awaited<'a> {
    /// Where the word is.
    pub futex: Futex<'a>,
    /// Its value; EAGAIN if it is another one.
    pub expected: u32,
    /// It is woken by a wake with one of these bits, of which there is at least one.
    pub bits: u32,
}

/// Waits until one of these futexes is woken. Returns its index. EAGAIN if a word is not as
/// expected, ETIMEDOUT at `deadline_ns` since boot, EINTR for a signal.
pub fn wait(awaited: &[Awaited<'_>], deadline_ns: Option<u64>) -> Result<u32, Errno> {
    let waiter = Waiter::new();
    let entered = enter_all(&waiter, awaited);
    let result = entered.and_then(|()| waiter.wait(deadline_ns));
    if waiter.result().is_none() || awaited.len() > 1 {
        remove_waiter(&waiter);
    }
    // Another of its futexes may have been woken before an error.
    waiter.result().map_or(result, Ok)
}

fn enter_all(waiter: &Arc<Waiter>, awaited: &[Awaited<'_>]) -> Result<(), Errno> {
    for (index, one) in (0..).zip(awaited) {
        if one.bits == 0 {
            return Err(Errno::EINVAL);
        }
        let entry = Entry { waiter: waiter.clone(), bits: one.bits, index, target: None };
        enter(one.futex, one.expected, entry)?;
    }
    Ok(())
}

fn enter(futex: Futex<'_>, expected: u32, entry: Entry) -> Result<(), Errno> {
    let key = futex.key()?;
    // The copy may wait for a page, but after it nothing runs until this thread is enqueued: no
    // wake can come between.
    if load(futex.space, futex.address)? != expected {
        return Err(Errno::EAGAIN);
    }
    let mut table = TABLE.lock();
    let list = table.waiting.entry(key).or_default();
    let result = fallible::push(list, entry);
    if list.is_empty() {
        table.waiting.remove(&key);
    }
    Ok(result?)
}

/// Removes a waiter that waits no longer, wherever it was requeued: a wake-up for it would be lost.
/// Returns whether it was anywhere.
fn remove_waiter(waiter: &Arc<Waiter>) -> bool {
    let mut found = false;
    TABLE.lock().waiting.retain(|_, list| {
        let before = list.len();
        list.retain(|other| !Arc::ptr_eq(&other.waiter, waiter));
        found |= list.len() < before;
        !list.is_empty()
    });
    found
}

/// Wakes at most `count` waiters that wait with one of `bits`. Returns how many. EINVAL where they
/// wait to be moved to a lock.
pub fn wake(futex: Futex<'_>, count: u32, bits: u32) -> Result<u32, Errno> {
    let key = futex.key()?;
    TABLE.lock().wake(key, count, bits)
}

impl Table {
    fn wake(&mut self, key: Key, count: u32, bits: u32) -> Result<u32, Errno> {
        let mut woken = 0;
        let mut result = Ok(());
        if let Some(list) = self.waiting.get_mut(&key) {
            list.retain(|entry| {
                if woken >= count || entry.bits & bits == 0 {
                    return true;
                }
                if entry.target.is_some() {
                    result = Err(Errno::EINVAL);
                    return true;
                }
                // One that waits for several futexes is woken once.
                woken += u32::from(entry.waiter.result().is_none());
                entry.waiter.wake(entry.index);
                false
            });
            if list.is_empty() {
                self.waiting.remove(&key);
            }
        }
        if woken == 0 { result.map(|()| 0) } else { Ok(woken) }
    }
}

/// Changes the word of `second`, wakes at most `count` waiters of `first` and, if the old value is
/// as the update wants it, at most `second_count` of `second`. Returns how many.
pub fn wake_and_update(
    first: Futex<'_>,
    count: u32,
    second: Futex<'_>,
    second_count: u32,
    update: Update,
) -> Result<u32, Errno> {
    let keys = (first.key()?, second.key()?);
    let old = word::update(second.space, second.address, |old| Ok(Some(update.apply(old))))?;
    let mut table = TABLE.lock();
    let mut woken = table.wake(keys.0, count, u32::MAX)?;
    if update.holds(old) {
        woken += table.wake(keys.1, second_count, u32::MAX)?;
    }
    Ok(woken)
}

/// Wakes at most `wake_count` waiters of `from`, then moves at most `count` others to `to`. Returns
/// how many were woken or moved. EAGAIN if the word of `from` is not `expected`, where that is
/// given.
pub fn requeue(
    from: Futex<'_>,
    to: Futex<'_>,
    wake_count: u32,
    count: u32,
    expected: Option<u32>,
) -> Result<u32, Errno> {
    let (from_key, to_key) = (from.key()?, to.key()?);
    if let Some(expected) = expected
        && load(from.space, from.address)? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let mut table = TABLE.lock();
    let waits_for_lock = |list: &Vec<Entry>| list.iter().any(|entry| entry.target.is_some());
    if table.waiting.get(&from_key).is_some_and(waits_for_lock) {
        return Err(Errno::EINVAL);
    }
    let woken = table.wake(from_key, wake_count, u32::MAX)?;
    let waiting = table.waiting.get(&from_key).map_or(0, Vec::len);
    let count = waiting.min(count as usize);
    if count == 0 || from_key == to_key {
        return Ok(woken + count as u32);
    }
    // The list of `to` is put back whether or not it can grow.
    let mut list = table.waiting.remove(&to_key).unwrap_or_default();
    let result = fallible::reserve(&mut list, count);
    if result.is_ok()
        && let Some(old) = table.waiting.get_mut(&from_key)
    {
        list.extend(old.drain(..count));
    }
    if count == waiting && result.is_ok() {
        table.waiting.remove(&from_key);
    }
    if !list.is_empty() {
        table.waiting.insert(to_key, list);
    }
    // Those that were woken count, even if no others could be moved.
    match result {
        Ok(()) => Ok(woken + count as u32),
        Err(_) if woken > 0 => Ok(woken),
        Err(error) => Err(error.into()),
    }
}
