//! A fake MMU: walks the page tables, checks permissions as the CPU does, caches translations until
//! they are flushed, and calls the fault handler.

use crate::mem::{
    Access, FaultError, Page, PhysAddr, Space, USER_END, UserAddr, page_table::EntryFlags,
    phys::phys_to_virt,
};
use spin::Mutex;
use std::collections::HashMap;

type Key = (PhysAddr, Page);

/// Cached translations by root and page.
static TLB: Mutex<Option<HashMap<Key, (PhysAddr, EntryFlags)>>> = Mutex::new(None);

fn with_tlb<T>(act: impl FnOnce(&mut HashMap<Key, (PhysAddr, EntryFlags)>) -> T) -> T {
    act(TLB.lock().get_or_insert_with(HashMap::new))
}

pub(in crate::mem) fn invalidate_page(root: PhysAddr, page: Page) {
    with_tlb(|tlb| tlb.remove(&(root, page)));
}

pub(in crate::mem) fn invalidate_all(root: PhysAddr) {
    with_tlb(|tlb| tlb.retain(|&(other, _), _| other != root));
}

pub(in crate::mem) fn forget(root: PhysAddr) {
    invalidate_all(root);
}

fn allows(flags: EntryFlags, access: Access) -> bool {
    let needed = EntryFlags::PRESENT | EntryFlags::USER;
    flags.contains(needed)
        && match access {
            Access::Read => true,
            Access::Write => flags.contains(EntryFlags::WRITE),
            Access::Execute => !flags.contains(EntryFlags::NO_EXECUTE),
        }
}

fn used(access: Access) -> EntryFlags {
    if access == Access::Write {
        EntryFlags::ACCESSED | EntryFlags::DIRTY
    } else {
        EntryFlags::ACCESSED
    }
}

/// Translates an address as for ring 3. Walks the tables on a miss, and faults until the access is
/// allowed.
fn translate(space: &Space, address: UserAddr, access: Access) -> Result<*mut u8, FaultError> {
    if address >= USER_END {
        return Err(FaultError::Segv);
    }
    let key = (space.cr3(), address.page());
    loop {
        let hit =
            with_tlb(|tlb| tlb.get(&key).copied()).filter(|&(_, flags)| allows(flags, access));
        let found = hit.or_else(|| {
            // The CPU walks the tables again before it faults.
            with_tlb(|tlb| tlb.remove(&key));
            let walked = space.walk(address.page(), used(access), |flags| allows(flags, access))?;
            with_tlb(|tlb| tlb.insert(key, walked));
            Some(walked)
        });
        if let Some((frame, _)) = found {
            return Ok(phys_to_virt(frame).wrapping_add(address.offset_in_page()));
        }
        space.fault(address, access)?;
    }
}

/// A load of one byte by the program.
pub fn load(space: &Space, address: UserAddr) -> Result<u8, FaultError> {
    // SAFETY: the translation points into a frame of the pool, which stays mapped on the host. A
    // stale one reads a wrong byte, which is what tests look for.
    translate(space, address, Access::Read).map(|byte| unsafe { byte.read_volatile() })
}

/// A store of one byte by the program.
pub fn store(space: &Space, address: UserAddr, value: u8) -> Result<(), FaultError> {
    // SAFETY: as above.
    translate(space, address, Access::Write).map(|byte| unsafe { byte.write_volatile(value) })
}

/// An instruction fetch by the program.
pub fn execute(space: &Space, address: UserAddr) -> Result<(), FaultError> {
    translate(space, address, Access::Execute).map(drop)
}
