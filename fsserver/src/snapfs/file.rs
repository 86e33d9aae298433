//! What the wrapper knows about a regular file that is open or has snapshots.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PAGE_BYTES, PageCount};
use fsproto::{Attr, Handle, Version};

use super::hidden::HiddenName;
use super::holes::Holes;
use super::rescue_file::RescueFile;
use super::rescue_map::{Epoch, LiveRun, RescueMap};

/// Bytes of a page, for arithmetic with file offsets.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;

/// Maximum number of hole ranges remembered for one file. Further holes count as data, which costs
/// space but is correct.
pub(super) const MAX_HOLE_RANGES: usize = 1024;

/// The same while the file has snapshots, which rely on them: so many may be added by changes
/// before all are rescued.
const MAX_SNAPSHOT_HOLES: usize = MAX_HOLE_RANGES + MAX_HOLE_RANGES / 4;

/// Ranges of holes that any file may have remembered. More are remembered for a few files only,
/// those that were needed last: all files together would take too much memory.
pub(super) const FEW_HOLE_RANGES: usize = 8;

/// A regular file.
#[derive(Default)]
pub(super) struct File {
    /// Handles on the base; each can be read through.
    pub base_handles: Vec<Handle>,
    /// Number of the clients' handles.
    pub opens: usize,
    /// Number of snapshots.
    pub snapshots: usize,
    /// The base's attributes, while they are known to be current.
    pub attr: Option<Attr>,
    /// Number of names on the base, while it is known: writes do not change it.
    pub links: Option<u32>,
    /// Pages that the sums over files without names count.
    pub counted: Option<PageCount>,
    /// Length and version, while they are known.
    pub bytes: Option<(u64, Version)>,
    /// The holes, once they were requested from the base; kept current from then on, while they are
    /// few or the file is among those that may have many.
    pub holes: Option<Holes>,
    /// Whether it is among the files of which many holes are remembered.
    pub may_have_many_holes: bool,
    /// Where snapshots find their pages.
    pub map: RescueMap,
    /// The page up to which segments of the map were joined last.
    pub joined_until: u64,
    /// The current epoch.
    pub epoch: Epoch,
    /// Whether something was rescued in this epoch, so the next snapshot begins another.
    pub epoch_is_over: bool,
    /// Holds the rescued pages, if there are any.
    pub rescue_file: Option<RescueFile>,
    /// The hidden name that keeps the file after its last name was removed, on a base that would
    /// otherwise delete it.
    pub kept: Option<HiddenName>,
}

impl File {
    /// A handle on the base, for reading.
    #[inline]
    pub fn base_handle(&self) -> Result<Handle, Errno> {
        self.base_handles.first().copied().ok_or(Errno::EIO)
    }

    /// Records the base's current attributes.
    #[inline]
    pub fn learn(&mut self, attr: &Attr) {
        (self.attr, self.links) = (Some(*attr), Some(attr.links));
        self.bytes = Some((attr.size.0, attr.version));
    }

    /// The pages of a range that snapshots find in the file, in runs.
    #[inline]
    pub fn live(&self, pages: Range<u64>) -> Result<Vec<LiveRun>, Errno> {
        self.map.live(pages, self.holes.as_ref().unwrap_or(Holes::NONE))
    }

    /// All pages that snapshots find in the file.
    pub fn all_live(&self) -> Result<Vec<LiveRun>, Errno> {
        self.live(self.map.hull())
    }

    /// Number of pages that changes may have to copy. Visits all that there is.
    pub fn live_data_pages(&self) -> PageCount {
        // Holes that are not known now were known when they were not reserved.
        let at_most = self.map.live_data_pages(self.holes.as_ref().unwrap_or(Holes::NONE));
        at_most.min(self.map.holdings().reserved)
    }

    /// Maximum number of runs in which a snapshot finds its pages.
    pub fn most_runs(&self) -> usize {
        let holes = self.holes.as_ref().map_or(0, Holes::ranges);
        (2 * (self.map.holdings().entries + holes)).saturating_add(1)
    }

    /// Discards what is known: a change failed, and how much of it was done is unknown.
    #[inline]
    pub fn forget(&mut self) {
        (self.attr, self.bytes, self.holes) = (None, None, None);
    }

    /// The file has lost or got a name.
    pub fn renamed(&mut self) {
        (self.attr, self.links) = (None, None);
    }

    /// Whether for clients the file may be deleted, and only snapshots keep it.
    pub fn may_be_deleted(&self) -> bool {
        let has_name = self.kept.is_none() && self.links.is_some_and(|links| links > 0);
        self.opens == 0 && self.snapshots > 0 && !has_name
    }

    /// The length changed from `before` to `after` bytes: what was added is a hole.
    #[inline]
    pub fn resized(&mut self, before: u64, after: u64) {
        if let Some(holes) = &mut self.holes {
            let (before, after) = (before.div_ceil(PAGE), after.div_ceil(PAGE));
            if after > before { holes.insert(before..after) } else { holes.remove(after..before) }
        }
    }

    /// A range of bytes was written.
    #[inline]
    pub fn stored(&mut self, bytes: Range<u64>) {
        if let Some(holes) = &mut self.holes {
            holes.remove(bytes.start / PAGE..bytes.end.div_ceil(PAGE));
            self.limit_holes();
        }
    }

    /// Discards holes if there are too many. Those of a file with snapshots are rescued before
    /// that, with the next change.
    #[inline]
    fn limit_holes(&mut self) {
        let Some(holes) = self.holes.as_mut().filter(|_| self.snapshots == 0) else { return };
        if self.may_have_many_holes {
            holes.keep(MAX_HOLE_RANGES);
        } else if holes.ranges() > FEW_HOLE_RANGES {
            self.holes = None;
        }
    }

    /// Whether the holes are forgotten when there is one more.
    #[inline]
    pub fn has_few_holes_left(&self) -> bool {
        let ranges = self.holes.as_ref().map_or(0, Holes::ranges);
        ranges >= FEW_HOLE_RANGES && !self.may_have_many_holes
    }

    /// A range of bytes was turned into a hole; the file has `size` bytes.
    #[inline]
    pub fn punched(&mut self, bytes: Range<u64>, size: u64) {
        let end = if bytes.end >= size { size.div_ceil(PAGE) } else { bytes.end / PAGE };
        if let Some(holes) = &mut self.holes {
            let pages = bytes.start.div_ceil(PAGE)..end;
            holes.insert(pages.clone());
            if self.snapshots > 0 && holes.ranges() > MAX_SNAPSHOT_HOLES {
                // No snapshot finds these pages here, so they can count as data.
                holes.remove(pages);
            }
            self.limit_holes();
        }
    }

    /// Whether holes have to be rescued before more are added.
    #[inline]
    pub fn has_too_many_holes(&self) -> bool {
        let ranges = self.holes.as_ref().map_or(0, Holes::ranges);
        self.snapshots > 0 && ranges >= MAX_SNAPSHOT_HOLES
    }

    /// Forgets the holes beyond those that may be remembered.
    #[inline]
    pub fn keep_holes(&mut self) {
        if let Some(holes) = &mut self.holes {
            holes.keep(MAX_HOLE_RANGES);
        }
    }
}
