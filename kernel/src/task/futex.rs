//! Futexes: waiting for a word of memory to change.
//!
//! A futex is identified by address space and address or, in memory that spaces share, by that
//! memory and the offset in it.
#![forbid(unsafe_code)]

use super::timer::Timeout;
use crate::mem::{OutOfMemory, Space, UserAddr, UserSlice, fallible};
use crate::sync::{Interrupt, Mutex, WaitQueue, rank};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::{ByteCount, Errno};

/// Identity of the address space or of the shared memory, and the place within it.
type Key = (usize, u64);

struct Waiter {
    bits: u32,
    woken: AtomicBool,
    queue: WaitQueue,
}

static WAITERS: Mutex<BTreeMap<Key, Vec<Arc<Waiter>>>, rank::Futexes> = Mutex::new(BTreeMap::new());

fn key(space: &Arc<Space>, address: UserAddr) -> Key {
    // If other memory takes the place of this one while a thread waits, the result is a spurious
    // wake-up, which programs must expect.
    space.shared_place(address).unwrap_or((Arc::as_ptr(space) as usize, address.0))
}

/// Waits until this futex is woken with one of `bits`. EAGAIN if the word is not `expected`,
/// ETIMEDOUT at `deadline_ns` since boot, EINTR for a signal.
pub fn wait(
    space: &Arc<Space>,
    address: UserAddr,
    expected: u32,
    bits: u32,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    if !address.0.is_multiple_of(4) || bits == 0 {
        return Err(Errno::EINVAL);
    }
    let slice = UserSlice::new(address, ByteCount(4))?;
    let mut word = [0; 4];
    // The copy may wait for a page, but after it nothing runs until this thread is enqueued: no
    // wake can come between.
    space.copy_in(slice, &mut word)?;
    if u32::from_le_bytes(word) != expected {
        return Err(Errno::EAGAIN);
    }
    let waiter = Arc::new(Waiter { bits, woken: AtomicBool::new(false), queue: WaitQueue::new() });
    let key = key(space, address);
    {
        let mut waiters = WAITERS.lock();
        let list = waiters.entry(key).or_default();
        if let Err(error) = fallible::push(list, waiter.clone()) {
            if list.is_empty() {
                waiters.remove(&key);
            }
            return Err(error.into());
        }
    }
    let timeout = deadline_ns.map(Timeout::at);
    let result = waiter.queue.wait(Interrupt::Signal, || {
        if waiter.woken.load(Ordering::Acquire) {
            return Some(Ok(()));
        }
        timeout.as_ref().is_some_and(Timeout::is_over).then_some(Err(Errno::ETIMEDOUT))
    });
    if !waiter.woken.load(Ordering::Acquire) {
        remove_waiter(&waiter);
    }
    result?
}

/// Removes a waiter that waits no longer, wherever it was requeued: a wake-up for it would be lost.
fn remove_waiter(waiter: &Arc<Waiter>) {
    WAITERS.lock().retain(|_, list| {
        list.retain(|other| !Arc::ptr_eq(other, waiter));
        !list.is_empty()
    });
}

/// Wakes at most `count` waiters that wait with one of `bits`. Returns how many.
pub fn wake(space: &Arc<Space>, address: UserAddr, count: u32, bits: u32) -> u32 {
    let mut woken = 0;
    let key = key(space, address);
    let mut waiters = WAITERS.lock();
    if let Some(list) = waiters.get_mut(&key) {
        list.retain(|waiter| {
            let take = woken < count && waiter.bits & bits != 0;
            if take {
                waiter.woken.store(true, Ordering::Release);
                waiter.queue.wake_all();
                woken += 1;
            }
            !take
        });
        if list.is_empty() {
            waiters.remove(&key);
        }
    }
    woken
}

/// Wakes at most `wake_count` waiters of `from`, then moves at most `count` others to `to`. Returns
/// how many were woken or moved.
pub fn requeue(
    space: &Arc<Space>,
    from: UserAddr,
    to: UserAddr,
    wake_count: u32,
    count: u32,
) -> Result<u32, OutOfMemory> {
    let woken = wake(space, from, wake_count, u32::MAX);
    let (from, to) = (key(space, from), key(space, to));
    let mut waiters = WAITERS.lock();
    let waiting = waiters.get(&from).map_or(0, Vec::len);
    let count = waiting.min(count as usize);
    if count == 0 || from == to {
        return Ok(woken + count as u32);
    }
    // The list of `to` is put back whether or not it can grow.
    let mut list = waiters.remove(&to).unwrap_or_default();
    let result = fallible::reserve(&mut list, count);
    if result.is_ok()
        && let Some(old) = waiters.get_mut(&from)
    {
        list.extend(old.drain(..count));
    }
    if count == waiting && result.is_ok() {
        waiters.remove(&from);
    }
    if !list.is_empty() {
        waiters.insert(to, list);
    }
    // Those that were woken count, even if no others could be moved.
    if woken > 0 {
        Ok(woken + result.map_or(0, |()| count as u32))
    } else {
        result.map(|()| count as u32)
    }
}
