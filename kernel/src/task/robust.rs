//! Robust futexes: what a thread held at its end is marked, so that whoever waits for it is woken.
//!
//! The C library keeps a list of the futexes that the thread holds, in the thread's own memory. All
//! of it is believed only as far as it can be read and written.
#![forbid(unsafe_code)]

use super::Thread;
use super::futex::lock::{DIED, OWNER, WAITED_FOR};
use super::futex::{self, Futex, lock, update_word};
use crate::mem::{Space, UserAddr, UserSlice};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::ByteCount;

/// Size of `struct robust_list_head`: the first entry, the offset from an entry to its futex, and
/// an entry that is being added or removed.
pub const HEAD_BYTES: u64 = 24;
/// Entries that are looked at, as on Linux.
const MAX_ENTRIES: usize = 2048;
/// Set in the address of an entry whose futex is a lock (`FUTEX_LOCK_PI`).
const IS_LOCK: u64 = 1;

/// Marks the futexes in the thread's list, and wakes a thread that waits for each. All its locks
/// are passed on.
pub fn release(thread: &Thread) {
    mark_all(thread);
    lock::owner_ended(thread.tid);
}

fn mark_all(thread: &Thread) {
    let head = thread.robust_list.load(Ordering::Relaxed);
    let Some(space) = thread.space().filter(|_| head != 0) else { return };
    let Some([first, offset, pending]) = words(&space, head) else { return };
    let mark = |entry: u64| {
        let address = UserAddr(without_flag(entry).wrapping_add(offset));
        mark(&space, address, thread.tid, entry & IS_LOCK != 0)
    };
    let mut next = Some(first);
    for _ in 0..MAX_ENTRIES {
        let Some(entry) = next.filter(|&entry| without_flag(entry) != head) else { break };
        next = words(&space, without_flag(entry)).map(|[next]| next);
        if without_flag(entry) != without_flag(pending) {
            mark(entry);
        }
    }
    if pending != 0 && mark(pending) == Some(0) && pending & IS_LOCK == 0 {
        // It has released the futex, but perhaps not woken anybody.
        let address = UserAddr(without_flag(pending).wrapping_add(offset));
        let _ = futex::wake(Futex::shared(&space, address), 1, u32::MAX);
    }
}

/// An entry's address.
fn without_flag(entry: u64) -> u64 {
    entry & !IS_LOCK
}

fn words<const N: usize>(space: &Space, address: u64) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        let address = UserAddr(address.checked_add(8 * index as u64)?);
        let mut bytes = [0; 8];
        space.copy_in(UserSlice::new(address, ByteCount(8)).ok()?, &mut bytes).ok()?;
        *word = u64::from_le_bytes(bytes);
    }
    Some(words)
}

/// Marks a futex if the thread holds it. One that is a lock is passed on later
/// ([`lock::owner_ended`]). Returns who held it; 0 for nobody.
fn mark(space: &Arc<Space>, address: UserAddr, tid: u32, is_lock: bool) -> Option<u32> {
    let is_held = |word: u32| word & OWNER == tid;
    let change = |word: u32| Ok(is_held(word).then_some(word & WAITED_FOR | DIED));
    let word = update_word(space, address, change).ok()?;
    if is_held(word) && word & WAITED_FOR != 0 && !is_lock {
        let _ = futex::wake(Futex::shared(space, address), 1, u32::MAX);
    }
    Some(word & OWNER)
}
