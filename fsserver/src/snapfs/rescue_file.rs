//! A rescue file: a file without a name on the base, to which pages of one file are copied before
//! they change.
//!
//! Its pages are used once; freed ones become holes, and the file is closed when none is needed any
//! more. So it needs no allocation table, and takes as much space as it holds.
//!
//! On a base with holes, the slots of the pages rescued for the same snapshots are apart as the
//! pages are in their file, whenever they are rescued. So they are one run of the rescue map once
//! all of them are rescued, and large ranges keep their alignment: a base that shares storage can
//! then share them in large units.

use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{Allocate, AllocateMode, Handle};

use super::file::PAGE;
use super::hidden::{HiddenName, HiddenNames};
use super::rescue_map::Epoch;
use crate::attributes::MAX_FILE_BYTES;
use crate::{Base, Connection};

/// How pages are placed in a rescue file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// One after the other.
    Dense,
    /// With holes for those that are not rescued yet, of a file with this many pages.
    Sparse { file_pages: u64 },
}

/// Alignments in pages, for files at least as long.
const LARGE: [u64; 2] = [4096, 64];

/// Where the pages of each version lie: those that serve snapshots until epoch `first + n` begin
/// `n` times `stride` behind `begin`.
#[derive(Clone, Copy)]
struct Layout {
    begin: u64,
    first: Epoch,
    stride: u64,
}

impl Layout {
    /// The slots of some pages; `None` if they have none in this layout.
    fn slots(&self, pages: &Range<u64>, until: Epoch) -> Option<Range<u64>> {
        let version = until.checked_sub(self.first)?.checked_mul(self.stride)?;
        let begin = self.begin.checked_add(version)?;
        let slots = begin.checked_add(pages.start)?..begin.checked_add(pages.end)?;
        let fits = pages.end <= self.stride && slots.end <= MAX_FILE_BYTES / PAGE;
        fits.then_some(slots)
    }
}

/// A rescue file on the base.
pub(super) struct RescueFile {
    handle: Handle,
    /// Its name, on a base that cannot keep files without one.
    name: Option<HiddenName>,
    /// The first page behind all that were used.
    end: u64,
    layout: Option<Layout>,
}

impl RescueFile {
    /// Creates an empty one.
    pub fn create<C: Connection>(
        base: &mut Base<C>,
        hidden: &mut HiddenNames,
    ) -> Result<Self, Errno> {
        let (handle, name) = hidden.create_file(base)?;
        Ok(Self { handle, name, end: 0, layout: None })
    }

    /// The base's handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Assigns slots to `pages`, which are rescued for snapshots until an epoch, and returns the
    /// first. EFBIG at the maximum size of a file.
    pub fn place(
        &mut self,
        pages: &Range<u64>,
        until: Epoch,
        placement: Placement,
    ) -> Result<u64, Errno> {
        let slots = match placement {
            Placement::Dense => self.end..self.end + (pages.end - pages.start),
            Placement::Sparse { file_pages } => {
                let known = self.layout.and_then(|layout| layout.slots(pages, until));
                known.or_else(|| self.lay_out(pages, until, file_pages)).ok_or(Errno::EFBIG)?
            }
        };
        self.end = self.end.max(slots.end);
        Ok(slots.start)
    }

    /// Begins a new layout behind all that was used: there was none, or the file has grown.
    fn lay_out(&mut self, pages: &Range<u64>, until: Epoch, file_pages: u64) -> Option<Range<u64>> {
        let align = LARGE.into_iter().find(|&large| file_pages >= large).unwrap_or(1);
        let begin = self.end.checked_next_multiple_of(align)?;
        let stride = file_pages.max(pages.end).checked_next_multiple_of(align)?;
        let layout = self.layout.insert(Layout { begin, first: until, stride });
        layout.slots(pages, until)
    }

    /// Frees slots.
    pub fn free<C: Connection>(&self, base: &mut Base<C>, slots: &[Range<u64>]) {
        for slots in slots {
            debug_assert!(slots.end <= self.end, "slots are freed that were never assigned");
            let request = Allocate {
                handle: self.handle,
                offset: FileOffset(slots.start * PAGE),
                length: ByteCount((slots.end - slots.start) * PAGE),
                mode: AllocateMode::PunchHole,
            };
            // What cannot be freed now is freed when the file is closed.
            let _ = base.request(&request, &[]);
        }
    }

    /// Closes it, which frees all that it holds.
    pub fn close<C: Connection>(self, base: &mut Base<C>, hidden: &mut HiddenNames) {
        // An error means that the base has lost the handle, and the pages with it.
        base.close(self.handle);
        if let Some(name) = self.name {
            hidden.drop_name(base, name);
        }
    }
}
