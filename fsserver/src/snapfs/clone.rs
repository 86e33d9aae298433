//! Copies of ranges, from files and from snapshots, made by the base.

use fsproto::*;

use super::Snapfs;
use super::change::{Kind, pages_of, range_of};
use super::file::PAGE;
use super::rescue::Source;
use super::snapshot::Taken;
use crate::client::Client;
use crate::server::Clock;

impl<C: Client, K: Clock> Snapfs<C, K> {
    /// From a file.
    pub(super) fn clone_file(
        &mut self,
        source: (Handle, FileId),
        request: &CloneRange,
        target: Handle,
        id: FileId,
    ) -> Result<Written, Errno> {
        let (source_size, _) = self.size_and_version(source.1)?;
        let length = request.length.min(source_size.saturating_sub(request.source_offset));
        let bytes = range_of(request.target_offset, length)?;
        if length == 0 {
            let (size, version) = self.size_and_version(id)?;
            return Ok(Written { length, offset: request.target_offset, size, version, snapshot: ROOT });
        }
        let mut stores = 0;
        if self.reserved > 0 {
            self.load_holes(source.1)?;
            let pages = pages_of(&(request.source_offset..request.source_offset + length));
            // One page more on either side where the ranges lie across each other's pages.
            stores = self.file(source.1)?.holes.as_ref().map_or(0, |holes| holes.data_pages(pages)) + 2;
        }
        self.prepare(id, Kind::Clone, bytes.clone(), stores)?;
        let written = self.base.request(&CloneRange { source: source.0, target, length, ..*request }, &[]);
        let written = self.note_write(id, bytes, written);
        // Which of the pages are holes now, the base knows.
        self.file(id)?.holes = None;
        written
    }

    /// From a snapshot: each part from where it is. The target's own bytes are rescued first, so a snapshot of the target itself is no special
    /// case: what the copy changes is not in the file any more, as far as the snapshot is concerned.
    pub(super) fn clone_snapshot(&mut self, taken: &Taken, request: &CloneRange, target: Handle, id: FileId) -> Result<Written, Errno> {
        let from = taken.part(request.source_offset, request.length);
        let length = from.end - from.start;
        let bytes = range_of(request.target_offset, length)?;
        let (mut size, mut version) = self.size_and_version(id)?;
        if length > 0 {
            let stored: u64 = self.sources_of(taken, &from)?.iter().filter(|(_, source)| *source != Source::Hole).map(pages_in).sum();
            self.prepare(id, Kind::Clone, bytes.clone(), stored + 2)?;
            let outcome = self.copy_parts(taken, &from, (target, request.target_offset), bytes.end);
            self.file(id)?.forget();
            outcome?;
            (size, version) = self.size_and_version(id)?;
        }
        Ok(Written { length, offset: request.target_offset, size, version, snapshot: ROOT })
    }

    fn copy_parts(&mut self, taken: &Taken, from: &core::ops::Range<u64>, to: (Handle, u64), target_end: u64) -> Result<(), Errno> {
        let base = self.file(taken.file)?.base_handle()?;
        // The length first, so that holes at the end need nothing.
        let attr = self.base.request(&GetAttr { handle: to.0 }, &[])?;
        if attr.size < target_end {
            let request = SetAttr { handle: to.0, mask: AttrMask::SIZE, size: target_end, ..SetAttr::default() };
            self.base.request(&request, &[])?;
        }
        for (run, source) in self.sources_of(taken, from)? {
            let (length, at) = (run.end - run.start, to.1 + (run.start - from.start));
            match source {
                Source::Live => drop(self.copy_on_base((base, run.start), (to.0, at), length)?),
                Source::Store(slot) => {
                    let store = self.file(taken.file)?.store.ok_or(Errno::EIO)?;
                    self.copy_on_base((store, slot * PAGE + run.start % PAGE), (to.0, at), length)?;
                }
                Source::Hole => {
                    self.base.request(&Allocate { handle: to.0, offset: at, length, mode: 2 }, &[])?;
                }
            }
        }
        Ok(())
    }
}

/// Pages that a run of bytes touches.
fn pages_in((run, _): &(core::ops::Range<u64>, Source)) -> u64 {
    let pages = pages_of(run);
    pages.end - pages.start
}
