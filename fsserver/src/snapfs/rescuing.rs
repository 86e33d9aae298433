//! Rescuing: pages that a snapshot finds in its file are copied to the file's rescue file before
//! the file changes (C1, C2, C5, C6).
//!
//! The order is what makes a change safe (C11): the copy is complete on the base, then the rescue
//! map names it, and only then does the caller change the file. A failed rescue leaves the map as
//! it was, and the caller makes no change.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::{Features, FileId};

use super::copy::{Copier, Position};
use super::files::{Files, PAGE};
use super::hidden::HiddenNames;
use super::mutants;
use super::rescue_file::{Placement, RescueFile};
use super::rescue_map::Source;
use super::space::SpaceAccount;
use crate::buffer::AlignedBuffer;
use crate::{Base, Connection};

/// The parts of the wrapper that rescuing needs.
pub(super) struct Rescuing<'a, C> {
    pub base: &'a mut Base<C>,
    pub files: &'a mut Files,
    pub space: &'a mut SpaceAccount,
    pub hidden: &'a mut HiddenNames,
    pub copier: &'a mut Copier,
    pub buffer: &'a mut AlignedBuffer,
    /// Bytes rescued since the start.
    pub rescued: &'a mut ByteCount,
}

impl<C: Connection> Rescuing<'_, C> {
    /// Rescues runs of pages, each all hole (`true`) or all data, which snapshots find in the file.
    pub fn rescue(&mut self, id: FileId, runs: Vec<(Range<u64>, bool)>) -> Result<(), Errno> {
        runs.into_iter().try_for_each(|(pages, is_hole)| self.rescue_run(id, pages, is_hole))
    }

    fn rescue_run(&mut self, id: FileId, pages: Range<u64>, is_hole: bool) -> Result<(), Errno> {
        let before = self.files.get(id)?.map.holdings();
        let source = if is_hole { Source::Hole } else { self.copy_pages(id, &pages)? };
        let file = self.files.get_mut(id)?;
        debug_assert_eq!(
            before,
            file.map.holdings(),
            "the map changed before the copy was complete"
        );
        file.map.rescued(pages.clone(), file.epoch, source);
        debug_assert!(file.map.live(pages).is_empty(), "pages that were rescued are still live");
        file.epoch_is_over = true;
        let after = file.map.holdings();
        self.space.map_changed(before, after);
        Ok(())
    }

    /// Copies pages of data to the rescue file.
    fn copy_pages(&mut self, id: FileId, pages: &Range<u64>) -> Result<Source, Errno> {
        let (size, _) = self.files.size_and_version(self.base, id)?;
        let shares = self.base.features().contains(Features::CLONE | Features::SPARSE);
        let placement = if shares { Placement::Aligned } else { Placement::Dense };
        let file = self.files.get_mut(id)?;
        let handle = file.base_handle()?;
        let rescue_file = match &mut file.rescue_file {
            Some(rescue_file) => rescue_file,
            none => none.insert(RescueFile::create(self.base, self.hidden)?),
        };
        let slot = rescue_file.place(pages, placement);
        let to = Position { handle: rescue_file.handle(), offset: FileOffset(slot * PAGE) };
        let copies = mutants::copies(file.snapshots);
        let begin = pages.start * PAGE;
        let from = Position { handle, offset: FileOffset(begin) };
        let length = ByteCount((pages.end * PAGE).min(size).saturating_sub(begin));
        for _ in 0..copies {
            if let Err(error) = self.copier.copy(self.base, self.buffer, from, to, length) {
                let wasted = slot..slot + pages.end - pages.start;
                self.free(id, core::slice::from_ref(&wasted));
                return Err(error);
            }
        }
        *self.rescued += ByteCount(length.0 * copies);
        Ok(Source::Rescued(slot))
    }

    /// Frees slots of the rescue file, or all of it when none of its pages is needed any more.
    pub fn free(&mut self, id: FileId, freed: &[Range<u64>]) {
        if mutants::leak_rescue() {
            return;
        }
        let Ok(file) = self.files.get_mut(id) else { return };
        if file.map.holdings().stored == PageCount::ZERO {
            if let Some(rescue_file) = file.rescue_file.take() {
                rescue_file.close(self.base, self.hidden);
            }
        } else if let Some(rescue_file) = &file.rescue_file {
            rescue_file.free(self.base, freed);
        }
    }
}
