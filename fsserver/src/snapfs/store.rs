//! The store of a file: a file without a name on the base, to which pages are copied before they
//! change.
//!
//! Its pages are used once, one after the other; freed ones become holes, and it is closed when
//! none is needed any more. So it needs no directory of free places, and costs what it holds.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{
    Allocate, AllocateMode, CloneRange, Close, Features, FileId, GetStatFs, Handle, MAX_PAYLOAD,
    Write, WriteFlags, Written,
};

use super::Snapfs;
use super::file::PAGE;
use super::rescue::Source;
use crate::connection::Connection;
use crate::server::Clock;

/// Pages of a range that is large enough to be placed by its own alignment.
const LARGE: [u64; 2] = [4096, 64];

/// The first place from `end` on for a range of pages that lies there as it does in the file: a
/// base that shares storage may then share it in large pieces, and what is left out in front of it
/// is a hole.
fn place_alike(pages: &Range<u64>, end: u64) -> u64 {
    let align = LARGE.into_iter().find(|&large| pages.end - pages.start >= large).unwrap_or(1);
    end + (pages.start % align + align - end % align) % align
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Copies `length` bytes on the base; both ranges lie within their files, or at the end of the
    /// target.
    pub(super) fn copy_on_base(
        &mut self,
        from: (Handle, u64),
        to: (Handle, u64),
        length: u64,
    ) -> Result<Written, Errno> {
        if self.base_copies {
            let request = CloneRange {
                source: from.0,
                source_offset: from.1,
                target: to.0,
                target_offset: FileOffset(to.1),
                length: ByteCount(length),
            };
            match self.base.request(&request, &[]) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.base_copies = false,
                Err(error) => return Err(error),
                Ok(written) if written.length == ByteCount(length) => return Ok(written),
                Ok(_) => return Err(Errno::EIO),
            }
        }
        self.copy_by_hand(from, to, length)
    }

    fn copy_by_hand(
        &mut self,
        from: (Handle, u64),
        to: (Handle, u64),
        length: u64,
    ) -> Result<Written, Errno> {
        let mut done = 0;
        let mut last = Written::default();
        while done < length {
            let count = (length - done).min(MAX_PAYLOAD as u64);
            let space = self.space.bytes_mut().get_mut(..count as usize).ok_or(Errno::EIO)?;
            self.base.read_exact(from.0, from.1 + done, space)?;
            let request = Write {
                handle: to.0,
                offset: FileOffset(to.1 + done),
                flags: WriteFlags::empty(),
                data_bytes: count as u32,
            };
            last = self.base.request(&request, &[space])?;
            if last.length != ByteCount(count) {
                return Err(Errno::EIO);
            }
            done += count;
        }
        Ok(Written { length: ByteCount(length), offset: FileOffset(to.1), ..last })
    }

    /// The file's store, made if there is none.
    fn store_of(&mut self, id: FileId) -> Result<Handle, Errno> {
        if let Some(store) = self.file(id)?.store {
            return Ok(store);
        }
        let (store, name) = self.open_hidden()?;
        let file = self.file(id)?;
        (file.store, file.store_name, file.store_end) = (Some(store), name, 0);
        Ok(store)
    }

    /// Saves pages that snapshots find in the file, before these are changed. On an error nothing
    /// is lost, and the change must not be made.
    pub(super) fn rescue(
        &mut self,
        id: FileId,
        pages: Range<u64>,
        is_hole: bool,
    ) -> Result<(), Errno> {
        let source = if is_hole { Source::Hole } else { self.rescue_data(id, &pages)? };
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        let before = (file.map.reserved(), file.map.stored());
        file.map.rescued(pages, file.era, source);
        file.era_is_over = true;
        self.account(id, before);
        Ok(())
    }

    fn rescue_data(&mut self, id: FileId, pages: &Range<u64>) -> Result<Source, Errno> {
        let (size, _) = self.size_and_version(id)?;
        let store = self.store_of(id)?;
        let shares = self.base.features().contains(Features::CLONE | Features::SPARSE);
        let file = self.file(id)?;
        let (handle, slot) = (
            file.base_handle()?,
            if shares { place_alike(pages, file.store_end) } else { file.store_end },
        );
        let begin = pages.start * PAGE;
        let length = (pages.end * PAGE).min(size).saturating_sub(begin);
        // Places are not used twice, even if the copying fails in the middle.
        file.store_end = slot + (pages.end - pages.start);
        let mut copies = 1;
        if active(Mutant::RescuePerSnapshot) {
            copies = file.snapshots.max(1);
        }
        for _ in 0..copies {
            if let Err(error) = self.copy_on_base((handle, begin), (store, slot * PAGE), length) {
                let wasted = slot..slot + pages.end - pages.start;
                self.free(id, core::slice::from_ref(&wasted));
                return Err(error);
            }
        }
        self.traffic.rescued += length * copies as u64;
        Ok(Source::Store(slot))
    }

    /// Frees pages of the store, or the whole of it when nothing in it is needed any more.
    pub(super) fn free(&mut self, id: FileId, freed: &[Range<u64>]) {
        let Some(file) = self.files.get_mut(&id) else { return };
        let Some(store) = file.store.filter(|_| !active(Mutant::LeakRescue)) else { return };
        if file.map.stored() == 0 {
            file.store = None;
            // An error means that the base has lost the handle, and the pages with it.
            let _ = self.base.request(&Close { handle: store }, &[]);
            if let Some(name) = self.files.get_mut(&id).and_then(|file| file.store_name.take()) {
                self.drop_name(name);
            }
            return;
        }
        for pages in freed {
            let (offset, length) = (pages.start * PAGE, (pages.end - pages.start) * PAGE);
            // What cannot be freed now is freed when the store is closed.
            let _ = self.base.request(
                &Allocate {
                    handle: store,
                    offset: FileOffset(offset),
                    length: ByteCount(length),
                    mode: AllocateMode::PunchHole,
                },
                &[],
            );
        }
    }

    /// Brings the sums up to date after a change of a file's map, which had `before` reserved and
    /// stored.
    pub(super) fn account(&mut self, id: FileId, before: (u64, u64)) {
        let after =
            self.files.get(&id).map_or((0, 0), |file| (file.map.reserved(), file.map.stored()));
        self.reserved = self.reserved + after.0 - before.0;
        self.stored = self.stored + after.1 - before.1;
    }

    /// ENOSPC unless the base has room for so many pages beside all that is reserved.
    pub(super) fn check_room(&mut self, pages: u64) -> Result<(), Errno> {
        let needed = self.reserved.saturating_add(pages);
        if self.free_at_least < needed {
            self.free_at_least = self.base.request(&GetStatFs {}, &[])?.blocks_free;
        }
        if needed <= self.free_at_least { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// The base may have used up so many pages.
    pub(super) fn used_up(&mut self, pages: u64) {
        self.free_at_least = self.free_at_least.saturating_sub(pages);
    }

    /// Rescues everything in a list of runs.
    pub(super) fn rescue_all(
        &mut self,
        id: FileId,
        runs: Vec<(Range<u64>, bool)>,
    ) -> Result<(), Errno> {
        runs.into_iter().try_for_each(|(pages, is_hole)| self.rescue(id, pages, is_hole))
    }
}
