//! Copies of ranges that a client requests.

use alloc::vec::Vec;

use foundation::{ByteCount, Errno, PageCount, SnapshotOffset};
use fsproto::{CloneRange, Features, FileId, Handle, Written};

use super::Snapfs;
use super::change::{Change, pages_of, range_of};
use super::pieces::{PieceSource, PlacedPiece};
use super::snapshot::SnapshotRecord;
use crate::buffer::push;
use crate::connection::Connection;
use crate::server::Clock;

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Copies from a file.
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
        if length.is_zero() {
            let (size, version) = self.size_and_version(id)?;
            return Ok(Written {
                length,
                offset: request.target_offset,
                size: ByteCount(size),
                version,
                snapshot: Handle::NONE,
            });
        }
        // The space that the base needs does not matter while none is reserved.
        let mut stores = PageCount(u64::MAX);
        if self.space.has_reservations() {
            self.rescuing().load_holes(source.1)?;
            let pages = pages_of(&(request.source_offset..request.source_offset + length.0));
            // One more page at each end, if the ranges are aligned differently.
            let holes = self.files.get(source.1)?.holes.as_ref();
            stores = PageCount(holes.map_or(0, |holes| holes.data_pages(pages)) + 2);
        }
        self.prepare(id, Change::Clone, bytes.clone(), stores)?;
        let written =
            self.base.request(&CloneRange { source: source.0, target, length, ..*request }, &[]);
        let written = self.note_write(id, bytes, written);
        self.traffic.cloned += written.map_or(ByteCount::ZERO, |written| written.length);
        self.copier.note_sharing(source.1);
        self.copier.note_sharing(id);
        // Only the base knows which of the pages are holes now. If it does not tell, all of them
        // count as data, and holes elsewhere, for which nothing is reserved, must not.
        if self.base.features().contains(Features::SPARSE) {
            self.files.get_mut(id)?.holes = None;
        }
        written
    }

    /// Copies from a snapshot: a write of one piece that refers to it.
    pub(super) fn clone_snapshot(
        &mut self,
        record: SnapshotRecord,
        request: &CloneRange,
        target: Handle,
        id: FileId,
    ) -> Result<Written, Errno> {
        let from = record.part(SnapshotOffset(request.source_offset), request.length);
        let bytes = range_of(request.target_offset.0, from.end - from.start)?;
        let source = PieceSource::Snapshot { record, bytes: from };
        let piece = PlacedPiece { bytes: bytes.clone(), source };
        let mut pieces = Vec::new();
        push(&mut pieces, piece)?;
        self.write_placed((target, id), bytes, pieces)
    }
}
