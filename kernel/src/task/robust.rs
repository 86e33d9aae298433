//! Robust futexes: what a thread held at its end is marked, so that whoever waits for it is woken.
//!
//! The C library keeps a list of the futexes that the thread holds, in the thread's own memory. All
//! of it is believed only as far as it can be read and written.
#![forbid(unsafe_code)]

use super::{Thread, futex};
use crate::mem::{Access, Space, UserAddr, UserSlice};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::ByteCount;

/// Size of `struct robust_list_head`: the first entry, the offset from an entry to its futex, and
/// an entry that is being added or removed.
pub const HEAD_BYTES: u64 = 24;
/// Entries that are looked at, as on Linux.
const MAX_ENTRIES: usize = 2048;
/// The bits of a futex: who holds it, whether its holder has died, whether others wait.
const HOLDER: u32 = 0x3fff_ffff;
const HOLDER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// Marks the futexes in the thread's list, and wakes a thread that waits for each.
pub fn release(thread: &Thread) {
    let head = thread.robust_list.load(Ordering::Relaxed);
    let Some(space) = thread.space().filter(|_| head != 0) else { return };
    let Some([first, offset, pending]) = words(&space, head) else { return };
    let mark = |entry: u64| mark(&space, UserAddr(entry.wrapping_add(offset)), thread.tid);
    let mut next = Some(first);
    for _ in 0..MAX_ENTRIES {
        let Some(entry) = next.map(without_flag).filter(|&entry| entry != head) else { break };
        next = words(&space, entry).map(|[next]| next);
        if entry != without_flag(pending) {
            mark(entry);
        }
    }
    if pending != 0 {
        mark(without_flag(pending));
    }
}

/// An entry's address; bit 0 says that its futex passes on priorities, which none does here.
fn without_flag(entry: u64) -> u64 {
    entry & !1
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

/// Marks a futex if the thread holds it.
fn mark(space: &Arc<Space>, address: UserAddr, tid: u32) {
    let Ok(slice) = UserSlice::new(address, ByteCount(4)) else { return };
    // Once the page can be written, nothing else runs between the two copies.
    if !address.0.is_multiple_of(4) || space.fault(address, Access::Write).is_err() {
        return;
    }
    let mut bytes = [0; 4];
    if space.copy_in(slice, &mut bytes).is_err() {
        return;
    }
    let word = u32::from_le_bytes(bytes);
    if word & HOLDER != tid {
        return;
    }
    let marked = word & WAITERS | HOLDER_DIED;
    if space.copy_out(slice, &marked.to_le_bytes()).is_ok() && word & WAITERS != 0 {
        futex::wake(space, address, 1, u32::MAX);
    }
}
