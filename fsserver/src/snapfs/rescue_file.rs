//! A rescue file: a file without a name on the base, to which pages of one file are copied before
//! they change.
//!
//! Its pages are used once, in ascending order; freed ones become holes, and the file is closed
//! when none is needed any more. So it needs no allocation table, and takes as much space as it
//! holds.

use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{Allocate, AllocateMode, Close, Handle};

use super::files::PAGE;
use super::hidden::{HiddenName, HiddenNames};
use crate::{Base, Connection};

/// How pages are placed in a rescue file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// One after the other.
    Dense,
    /// Large ranges at the alignment they have in their file: a base that shares storage can then
    /// share them in large units. The gap in front is a hole.
    Aligned,
}

/// Alignments in pages, for ranges at least as long.
const LARGE: [u64; 2] = [4096, 64];

/// A rescue file on the base.
pub(super) struct RescueFile {
    handle: Handle,
    /// Its name, on a base that cannot keep files without one.
    name: Option<HiddenName>,
    /// The first page that was never used.
    end: u64,
}

impl RescueFile {
    /// Creates an empty one.
    pub fn create<C: Connection>(
        base: &mut Base<C>,
        hidden: &mut HiddenNames,
    ) -> Result<Self, Errno> {
        let (handle, name) = hidden.create_file(base)?;
        Ok(Self { handle, name, end: 0 })
    }

    /// The base's handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Assigns slots to `pages` and returns the first. They are not assigned again, even if the
    /// copy fails.
    pub fn place(&mut self, pages: &Range<u64>, placement: Placement) -> u64 {
        let length = pages.end - pages.start;
        let align = match placement {
            Placement::Dense => 1,
            Placement::Aligned => LARGE.into_iter().find(|&large| length >= large).unwrap_or(1),
        };
        let slot = self.end + (pages.start % align + align - self.end % align) % align;
        debug_assert!(slot >= self.end);
        self.end = slot + length;
        slot
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
        let _ = base.request(&Close { handle: self.handle }, &[]);
        if let Some(name) = self.name {
            hidden.drop_name(base, name);
        }
    }
}
