//! Copies of ranges, made by the base, and which files may share pages because of them.

use alloc::collections::BTreeSet;

use foundation::{ByteCount, Errno};
use fsproto::{CloneRange, FileId, Handle, Written};

use super::Snapfs;
use super::change::{Kind, pages_of, range_of};
use super::pieces::{From, Part};
use super::snapshot::Taken;
use crate::connection::Connection;
use crate::server::Clock;

/// Files of which is kept that they may share pages with others; where there are more, all count as
/// such.
const MAX_CLONED: usize = 65_536;

/// Files that the base may have let share pages: what changes these may need room although nothing
/// is added.
#[derive(Default)]
pub(super) struct Cloned {
    files: BTreeSet<FileId>,
    is_full: bool,
}

impl Cloned {
    /// A file took part in a copy.
    pub fn add(&mut self, id: FileId) {
        self.is_full |= self.files.len() >= MAX_CLONED;
        if !self.is_full {
            self.files.insert(id);
        }
    }

    /// Whether a file may have.
    pub fn is_of(&self, id: FileId) -> bool {
        self.is_full || self.files.contains(&id)
    }
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// From a file.
    pub(super) fn clone_file(
        &mut self,
        source: (Handle, FileId),
        request: &CloneRange,
        target: Handle,
        id: FileId,
    ) -> Result<Written, Errno> {
        let (source_size, _) = self.size_and_version(source.1)?;
        let length =
            request.length.min(ByteCount(source_size.saturating_sub(request.source_offset)));
        let bytes = range_of(request.target_offset.0, length.0)?;
        if length == ByteCount(0) {
            let (size, version) = self.size_and_version(id)?;
            return Ok(Written {
                length,
                offset: request.target_offset,
                size: ByteCount(size),
                version,
                snapshot: Handle::NONE,
            });
        }
        // How much room the base takes for it is not worth finding out while none is reserved.
        let mut stores = u64::MAX;
        if self.reserved > 0 {
            self.load_holes(source.1)?;
            let pages = pages_of(&(request.source_offset..request.source_offset + length.0));
            // One page more on either side where the ranges lie across each other's pages.
            stores =
                self.file(source.1)?.holes.as_ref().map_or(0, |holes| holes.data_pages(pages)) + 2;
        }
        self.prepare(id, Kind::Clone, bytes.clone(), stores)?;
        let written =
            self.base.request(&CloneRange { source: source.0, target, length, ..*request }, &[]);
        let written = self.note_write(id, bytes, written);
        self.traffic.cloned += written.map_or(0, |written| written.length.0);
        self.cloned.add(source.1);
        self.cloned.add(id);
        // Which of the pages are holes now, the base knows.
        self.file(id)?.holes = None;
        written
    }

    /// From a snapshot: a write of one piece that refers to it.
    pub(super) fn clone_snapshot(
        &mut self,
        taken: Taken,
        request: &CloneRange,
        target: Handle,
        id: FileId,
    ) -> Result<Written, Errno> {
        let from = taken.part(request.source_offset, request.length.0);
        let bytes = range_of(request.target_offset.0, from.end - from.start)?;
        let part = Part { bytes: bytes.clone(), from: From::Snapshot { taken, bytes: from } };
        self.write_parts((target, id), bytes, &[part])
    }
}
