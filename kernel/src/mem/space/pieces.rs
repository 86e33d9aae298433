//! The bytes of a program's buffer as pieces of a write (W1).
#![forbid(unsafe_code)]

use super::mutants;
use super::{Space, SpaceState};
use crate::mem::{
    Backing, Page, PageRange, Prot, Region, Snapshot, UserAddr, UserSlice, fallible,
    page_table::EntryFlags,
};
use alloc::{sync::Arc, vec::Vec};
use foundation::{ByteCount, PageCount, SnapshotOffset};

/// Consecutive bytes of one kind.
#[derive(Clone)]
pub enum WritePiece {
    /// Bytes that are sent: private or anonymous memory, or part of a page.
    Data {
        /// Length in bytes.
        bytes: ByteCount,
    },
    /// Whole pages that nobody stored to since they were associated with a snapshot.
    Reference {
        /// The snapshot that holds the bytes.
        snapshot: Arc<Snapshot>,
        /// Position of the first byte.
        offset: SnapshotOffset,
        /// Length in bytes.
        bytes: ByteCount,
    },
}

impl WritePiece {
    /// Length in bytes.
    pub fn bytes(&self) -> ByteCount {
        match self {
            Self::Data { bytes } | Self::Reference { bytes, .. } => *bytes,
        }
    }

    /// Extends this piece by `next` if that continues it. Returns whether it does.
    fn absorb(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Data { bytes }, Self::Data { bytes: more }) => *bytes += *more,
            (
                Self::Reference { snapshot, offset, bytes },
                Self::Reference { snapshot: other, offset: at, bytes: more },
            ) if Arc::ptr_eq(snapshot, other) && *offset + *bytes == *at => *bytes += *more,
            _ => return false,
        }
        true
    }
}

/// Regions of a buffer that are looked at. What lies behind them is data.
const MAX_REGIONS: usize = 4096;

/// A bounded list of pieces.
struct Pieces {
    list: Vec<WritePiece>,
    max: usize,
}

impl Pieces {
    /// Adds a piece, unless it is empty. `None` where the list is full, or memory is short.
    fn push(&mut self, piece: WritePiece) -> Option<()> {
        if piece.bytes().is_zero() || self.list.last_mut().is_some_and(|last| last.absorb(&piece)) {
            return Some(());
        }
        if self.list.len() == self.max {
            return None;
        }
        fallible::push(&mut self.list, piece).ok()
    }

    fn push_data(&mut self, from: UserAddr, to: UserAddr) -> Option<()> {
        debug_assert!(from <= to);
        self.push(WritePiece::Data { bytes: ByteCount(to.0 - from.0) })
    }
}

impl Space {
    /// The bytes from the start of `slice` as pieces, `max` at most, which may be fewer bytes than
    /// the slice has. Touches no page; costs time for mapped ones. Snapshots for which `wanted` is
    /// false give data, and so does memory that is not mapped: copying it fails later.
    pub fn pieces(
        &self,
        slice: UserSlice,
        max: usize,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Vec<WritePiece> {
        let mut pieces = Pieces { list: Vec::new(), max };
        self.with(|state| state.pieces(slice, &mut pieces, wanted));
        debug_assert!(pieces.list.len() <= max);
        pieces.list
    }
}

impl SpaceState {
    /// Adds the pieces of a slice. `None` where the list became full.
    fn pieces(
        &self,
        slice: UserSlice,
        pieces: &mut Pieces,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Option<()> {
        let whole = slice.whole_pages();
        let mut at = slice.addr();
        // An empty range of pages still has a position, which may lie behind the slice's end.
        let overlapping =
            self.regions.overlapping(whole).filter(|_| !whole.is_empty()).take(MAX_REGIONS);
        for (found, region) in overlapping {
            let Backing::Snapshot { snapshot, offset } = &region.backing else { continue };
            if !region.prot.contains(Prot::READ) || !wanted(snapshot) {
                continue;
            }
            let part = found.intersect(whole);
            pieces.push_data(at, part.start.user_start())?;
            let reference = |pages: PageRange| WritePiece::Reference {
                snapshot: snapshot.clone(),
                offset: *offset + (pages.start - found.start).bytes(),
                bytes: pages.pages().bytes(),
            };
            self.push_backed(region, part, pieces, reference)?;
            at = part.end.user_start();
        }
        pieces.push_data(at, slice.end())
    }

    /// Adds the pages of a snapshot-backed region: references, except for private pages.
    fn push_backed(
        &self,
        region: &Region,
        part: PageRange,
        pieces: &mut Pieces,
        reference: impl Fn(PageRange) -> WritePiece,
    ) -> Option<()> {
        let mut next: Page = part.start;
        let mut full = Some(());
        if region.touched && !mutants::store_ignored_in_runs() {
            self.table.for_each(part, |page, entry| {
                if full.is_some() && entry.has(EntryFlags::PRIVATE) {
                    full = pieces.push(reference(PageRange { start: next, end: page })).and_then(
                        |()| pieces.push(WritePiece::Data { bytes: PageCount(1).bytes() }),
                    );
                    next = page.next();
                }
            });
        }
        full?;
        pieces.push(reference(PageRange { start: next, end: part.end }))
    }
}
