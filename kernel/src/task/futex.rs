//! Futexes: waiting for a word of memory to change.
//!
//! A futex is named by address space and address: those in memory shared by different processes are not joined.

use super::timer::Timeout;
use crate::mem::{Space, UserSlice};
use crate::sync::{Interrupt, Mutex, WaitQueue};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use fsproto::Errno;

/// Address of the space, address within it.
type Key = (usize, u64);

struct Waiter {
    bits: u32,
    woken: AtomicBool,
    queue: WaitQueue,
}

static WAITERS: Mutex<BTreeMap<Key, Vec<Arc<Waiter>>>> = Mutex::new(BTreeMap::new());

fn key(space: &Arc<Space>, address: u64) -> Key {
    (Arc::as_ptr(space) as usize, address)
}

/// Waits until somebody wakes this futex with one of `bits`. EAGAIN if the word is not `expected`, ETIMEDOUT at `deadline_ns` since boot.
pub fn wait(space: &Arc<Space>, address: u64, expected: u32, bits: u32, deadline_ns: Option<u64>) -> Result<(), Errno> {
    if !address.is_multiple_of(4) || bits == 0 {
        return Err(Errno::EINVAL);
    }
    let slice = UserSlice::new(address, 4)?;
    let mut word = [0; 4];
    // The copy may wait for a page, but after it nothing runs until this thread is enqueued: no wake can come between.
    space.copy_in(slice, &mut word)?;
    if u32::from_le_bytes(word) != expected {
        return Err(Errno::EAGAIN);
    }
    let waiter = Arc::new(Waiter { bits, woken: AtomicBool::new(false), queue: WaitQueue::new() });
    let key = key(space, address);
    WAITERS.lock().entry(key).or_default().push(waiter.clone());
    let timeout = deadline_ns.map(Timeout::at);
    let result = waiter.queue.wait(Interrupt::Signal, || {
        if waiter.woken.load(Ordering::Acquire) {
            return Some(Ok(()));
        }
        timeout.as_ref().is_some_and(Timeout::is_over).then_some(Err(Errno::ETIMEDOUT))
    });
    forget(key, &waiter);
    result?
}

fn forget(key: Key, waiter: &Arc<Waiter>) {
    let mut waiters = WAITERS.lock();
    if let Some(list) = waiters.get_mut(&key) {
        list.retain(|other| !Arc::ptr_eq(other, waiter));
        if list.is_empty() {
            waiters.remove(&key);
        }
    }
}

/// Wakes at most `count` of those that wait with one of `bits`; says how many.
pub fn wake(space: &Arc<Space>, address: u64, count: u32, bits: u32) -> u32 {
    let mut chosen = Vec::new();
    if let Some(list) = WAITERS.lock().get_mut(&key(space, address)) {
        list.retain(|waiter| {
            let take = chosen.len() < count as usize && waiter.bits & bits != 0;
            if take {
                chosen.push(waiter.clone());
            }
            !take
        });
    }
    for waiter in &chosen {
        waiter.woken.store(true, Ordering::Release);
        waiter.queue.wake_all();
    }
    chosen.len() as u32
}

/// Moves at most `count` waiters from one futex to another, after waking `wake_count`; says how many were woken or moved.
pub fn requeue(space: &Arc<Space>, from: u64, to: u64, wake_count: u32, count: u32) -> u32 {
    let woken = wake(space, from, wake_count, u32::MAX);
    let mut waiters = WAITERS.lock();
    let Some(list) = waiters.get_mut(&key(space, from)) else { return woken };
    let moved: Vec<_> = list.drain(..list.len().min(count as usize)).collect();
    let moved_count = moved.len() as u32;
    waiters.entry(key(space, to)).or_default().extend(moved);
    woken + moved_count
}
