//! One attempt to make a page usable under the space's lock.
//!
//! | page-table entry | anonymous | snapshot | shared |
//! |---|---|---|---|
//! | empty, load | zero page | hole: zero page; else cache or fetch, with neighbours | its frame |
//! | empty, store | zeroed frame, private | copy, private; the association ends (F2) | its frame |
//! | swapped | page-in, with neighbours (`swapped`) | the same | in the memory only |
//! | private, store, sole owner | made writable | the same | - |
//! | private or clean, store, shared | copy, private | copy, private; the association ends | - |
//!
//! Pages of files that are mapped shared are in `look_file`.
#![forbid(unsafe_code)]

use super::{
    SpaceState,
    access::{FaultError, PRIVATE_WRITABLE, allows, base_flags, permits},
    resolution::{Attempt, Awaited, Coverage, PageRequest, Resolution, SnapshotPage, SwappedPage},
};
use crate::mem::{
    Backing, Claim, Frame, OutOfMemory, Page, PageRange, Prot, Region, SharedMemory,
    page_table::{EntryFlags, PageTable},
    shared::Found,
};
use alloc::sync::Arc;

impl SpaceState {
    /// Tries to make a page usable without waiting. `held` is the fetch that was waited for last.
    pub(super) fn look(&mut self, request: &PageRequest<'_>, held: Option<&Awaited>) -> Attempt {
        let page = request.page;
        // What an entry allows, its region allows: for a mapped page no region is looked up.
        let entry = self.table.get(page);
        if entry.is_some_and(|entry| allows(entry.flags(), request.access)) {
            return Ok(Resolution::Done);
        }
        let (range, region) = self.regions.find_mut(page).ok_or(FaultError::Segv)?;
        debug_assert!(range.contains(page) && region.associated <= region.pages);
        if !permits(region.prot, request.access) {
            return Err(FaultError::Segv);
        }
        if let Some(mut entry) = entry {
            debug_assert!(region.touched, "an untouched region has nothing in the page tables");
            let prot = region.prot;
            if entry.is_in_shared_table() {
                entry = self.table.own(page).ok_or(FaultError::Segv)?;
                if allows(entry.flags(), request.access) {
                    return Ok(Resolution::Done);
                }
            }
            if let Some(slot) = entry.slot() {
                let swapped = SwappedPage { page, region: range, prot, slot };
                return self.look_swapped(&swapped, request);
            }
            if request.stores() && !entry.has(EntryFlags::WRITE) {
                if region.backing.is_shared() {
                    return self.store_to_shared(request, prot);
                }
                self.make_private(request, entry, (range, base_flags(prot)))?;
            }
            return Ok(Resolution::Done);
        }
        region.touched = true;
        if matches!(region.backing, Backing::Snapshot { .. })
            && !request.overwrites()
            && let Some(lazy) = snapshot_page(&self.table, region, range, request, held)
        {
            return self.look_backed(&lazy, request, held);
        }
        match &region.backing {
            Backing::Shared { memory, first } => {
                let (memory, first, prot) = (memory.clone(), Page(*first), region.prot);
                return self.look_shared(&memory, first, range, page, prot);
            }
            Backing::File { .. } => return self.look_file(request),
            Backing::Beyond => return Err(FaultError::Denied),
            _ => {}
        }
        let ends_association = matches!(region.backing, Backing::Snapshot { .. });
        let (frame, flags) = unbacked_frame(region, request, self.table.claim)?;
        self.table.fill(page, frame, flags)?;
        if ends_association {
            self.end_association(page);
        }
        Ok(Resolution::Done)
    }

    /// Makes a page of shared memory or of a mapped file writable that is mapped read-only.
    #[cold]
    #[inline(never)]
    fn store_to_shared(&mut self, request: &PageRequest<'_>, prot: Prot) -> Attempt {
        let region = self.regions.find(request.page);
        if region.is_some_and(|(_, region)| matches!(region.backing, Backing::File { .. })) {
            return self.look_file(request);
        }
        // Access grows, so no translation is stale.
        self.table.set_flags(request.page, base_flags(prot) | EntryFlags::WRITE);
        Ok(Resolution::Done)
    }

    /// Maps a page of shared memory, of which `first` is the region's first page, and with it those
    /// that come back from swap along with it.
    fn look_shared(
        &mut self,
        memory: &Arc<SharedMemory>,
        first: Page,
        region: PageRange,
        page: Page,
        prot: Prot,
    ) -> Attempt {
        let number = first + (page - region.start);
        let (frame, back) = match memory.look(number, self.table.claim)? {
            Found::PageIn(page_in) => return Ok(Resolution::PageIn(page_in)),
            Found::Frame(frame, back) => (frame, back),
        };
        drop(self.table.map(page, frame, shared_flags(prot))?);
        let all = PageRange::new(first, region.pages());
        for other in back.intersect(all).iter() {
            let at = region.start + (other - first);
            if self.table.get(at).is_none()
                && let Some(frame) = memory.resident(other)
            {
                drop(self.table.map(at, frame, shared_flags(prot))?);
            }
        }
        Ok(Resolution::Done)
    }

    /// Whether the page can be accessed as requested, as it is.
    pub(super) fn is_usable(&self, request: &PageRequest<'_>) -> bool {
        self.table.get(request.page).is_some_and(|entry| allows(entry.flags(), request.access))
    }
}

/// The flags of a page of shared memory.
fn shared_flags(prot: Prot) -> EntryFlags {
    let mut flags = base_flags(prot);
    flags.set(EntryFlags::WRITE, prot.contains(Prot::WRITE));
    flags
}

/// The frame and the flags for a private page whose entry is empty and whose bytes need not come
/// from a snapshot.
fn unbacked_frame(
    region: &Region,
    request: &PageRequest<'_>,
    claim: Claim,
) -> Result<(Frame, EntryFlags), OutOfMemory> {
    let flags = base_flags(region.prot);
    match &region.backing {
        Backing::Anonymous if !request.stores() => Ok((Frame::zero_page(), flags)),
        _ => {
            debug_assert!(request.stores());
            // A frame that is overwritten as a whole under this very lock need not be zeroed.
            let frame = match request.coverage {
                Coverage::Whole => Frame::recycled(claim)?,
                Coverage::Partial => Frame::zeroed_for(claim)?,
            };
            Ok((frame, flags | PRIVATE_WRITABLE))
        }
    }
}

/// The requested page of a region whose bytes come from a snapshot, from an offset on. If it was
/// waited for, the region learns what the fetch brought. Not inlined: other faults would pay for
/// its registers.
#[inline(never)]
fn snapshot_page(
    table: &PageTable,
    region: &mut Region,
    range: PageRange,
    request: &PageRequest<'_>,
    held: Option<&Awaited>,
) -> Option<SnapshotPage> {
    let Backing::Snapshot { snapshot, offset } = &region.backing else { return None };
    let page = request.page;
    // Where a fetch of several pages failed, this page alone may still be available (F5).
    let window = if let Some(held) = held
        && held.is_without_frames()
    {
        PageRange::single(page)
    } else if let Some(window) = held.map(|held| held.window)
        && window.contains(page)
        && window.intersect(range) == window
    {
        // That of the attempt before, unless the region is another one.
        window
    } else if request.stores() {
        region.habit.window_for_store(page, range, || table.used_around(page))
    } else {
        region.habit.window(page, range, || table.used_around(page))
    };
    debug_assert!(window.contains(page));
    let lazy = SnapshotPage {
        page,
        region: range,
        snapshot: snapshot.clone(),
        first: *offset,
        flags: base_flags(region.prot),
        window,
    };
    if let Some(held) = held.filter(|held| lazy.is_of(held) && !held.is_without_frames()) {
        region.habit.note(held.end(page), window.pages(), held.fetch.pages);
    }
    Some(lazy)
}
