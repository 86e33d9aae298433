//! Rescuing: pages that a snapshot finds in its file are copied to the file's rescue file before
//! the file changes (C1, C2, C5, C6).
//!
//! The order is what makes a change safe (C11): the copy is complete on the base, then the rescue
//! map names it, and only then does the caller change the file. A failed rescue leaves the map as
//! it was, and the caller makes no change.
//!
//! # A bounded map
//!
//! Many small changes split the map into many segments. Past three quarters of [a
//! limit](super::Limits) for a file, or of another one in all, a rescue also saves two windows of
//! pages: those around the change, with all holes that snapshots cover, and then those between
//! segments that changes have left behind. The second window moves through the file, a step with
//! each change. So a change adds fewer segments than it joins, and the map stays below the limit,
//! at which snapshots are refused. Versions of different epochs do not join: a file that is changed
//! all over under each of many snapshots reaches the limit.
//!
//! The space for that is reserved. The data are copied at once, not shared with the file, so the
//! reservation is used and nothing is owed later. If that fails, the change is made all the same;
//! past twice the limit it gets ENOSPC.

use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::{Features, FileId};

use super::Limits;
use super::copy::{Copier, Position, copy_through};
use super::file::PAGE;
use super::files::Files;
use super::hidden::HiddenNames;
use super::mutants;
use super::rescue_file::{Placement, RescueFile};
use super::rescue_map::{LiveRun, Source};
use super::space::SpaceAccount;
use crate::buffer::AlignedBuffer;
use crate::{Base, Connection};

/// Pages of data around a change that are rescued with it, at least: 4 MiB, which are copied in
/// some milliseconds.
const WINDOW_PAGES: u64 = 1024;

/// Windows in the range that snapshots cover, at most. Each is one segment once it is rescued, so
/// this is far below the number of entries that a file may have.
const MAX_WINDOWS: u64 = 1024;

/// The length of a window in the range that snapshots cover, in pages.
fn window_pages(covered: &Range<u64>) -> u64 {
    WINDOW_PAGES.max((covered.end - covered.start) / MAX_WINDOWS)
}

/// Whether a copy may share storage with the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    MayShare,
    Apart,
}

/// The parts of the wrapper that rescuing needs.
pub(super) struct Rescuing<'a, C> {
    pub base: &'a mut Base<C>,
    pub files: &'a mut Files,
    pub space: &'a mut SpaceAccount,
    pub limits: Limits,
    pub hidden: &'a mut HiddenNames,
    pub copier: &'a mut Copier,
    pub buffer: &'a mut AlignedBuffer,
    /// Bytes rescued since the start.
    pub rescued: &'a mut ByteCount,
}

impl<C: Connection> Rescuing<'_, C> {
    /// Rescues runs of pages that snapshots find in the file, and what else is due.
    pub fn rescue(&mut self, id: FileId, runs: &[LiveRun]) -> Result<(), Errno> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(()) };
        if self.excess(id, &self.limits.crowded())? == 0 || mutants::never_widen() {
            return runs.iter().try_for_each(|run| self.rescue_run(id, run, Copies::MayShare));
        }
        let widened = self.widen(id, &(first.pages.start..last.pages.end));
        if self.excess(id, &self.limits)? >= self.limits.entries_per_file {
            return widened.and(Err(Errno::ENOSPC));
        }
        runs.iter().try_for_each(|run| self.rescue_run(id, run, Copies::MayShare))?;
        // The change can be made, whether this succeeds or not.
        let _ = self.join_segments(id);
        Ok(())
    }

    /// Number of entries of the maps beyond the limits.
    fn excess(&self, id: FileId, limits: &Limits) -> Result<usize, Errno> {
        let of_file = self.files.get(id)?.map.holdings().entries;
        let of_all = self.space.entries();
        Ok(of_file
            .saturating_sub(limits.entries_per_file)
            .max(of_all.saturating_sub(limits.entries).min(of_file)))
    }

    /// Makes a map smaller, at which snapshots are refused.
    pub fn make_space(&mut self, id: FileId) -> Result<(), Errno> {
        let entries = self.files.get(id)?.map.holdings().entries;
        if entries < self.limits.entries_per_file || mutants::never_widen() {
            return Ok(());
        }
        self.load_holes(id)?;
        self.join_segments(id)
    }

    /// Rescues the pages between some segments of a map, so that these join: those behind the ones
    /// that were joined last. Looks at all segments, and copies a window at most.
    fn join_segments(&mut self, id: FileId) -> Result<(), Errno> {
        if mutants::never_join() {
            return Ok(());
        }
        let file = self.files.get_mut(id)?;
        let window = window_pages(&file.map.hull());
        let gap = file.map.gap(file.joined_until, window).or_else(|| file.map.gap(0, window));
        let Some(gap) = gap else { return Ok(()) };
        file.joined_until = gap.end;
        let live = file.live(gap)?;
        live.iter().try_for_each(|run| self.rescue_apart(id, run))
    }

    /// Rescues pages that are not about to change, with the space that is reserved for them.
    fn rescue_apart(&mut self, id: FileId, run: &LiveRun) -> Result<(), Errno> {
        self.space.used_up(run.data_pages());
        self.rescue_run(id, run, Copies::Apart)
    }

    /// Rescues what lies around `changed`: all holes in the range that snapshots cover, and the
    /// data in a window.
    fn widen(&mut self, id: FileId, changed: &Range<u64>) -> Result<(), Errno> {
        let file = self.files.get(id)?;
        let whole = file.map.around(changed);
        let window = window_pages(&whole);
        let window = changed.start / window * window..changed.end.next_multiple_of(window);
        let mut live = file.live(whole.start..changed.start)?;
        let behind = file.live(changed.end..whole.end)?;
        live.try_reserve(behind.len()).map_err(|_| Errno::ENOMEM)?;
        live.extend(behind);
        for run in &mut live {
            if !run.is_hole {
                let pages = &run.pages;
                run.pages = pages.start.max(window.start)..pages.end.min(window.end);
            }
            if !run.pages.is_empty() {
                self.rescue_apart(id, run)?;
            }
        }
        Ok(())
    }

    /// Requests a file's holes from the base, unless they are known, and bounds their number.
    pub fn load_holes(&mut self, id: FileId) -> Result<(), Errno> {
        if let Some(other) = self.files.load_holes(self.base, id)? {
            self.rescue_holes(other)?;
            self.files.forget_holes(other);
        }
        if self.files.get(id)?.has_too_many_holes() {
            self.rescue_holes(id)?;
            self.files.get_mut(id)?.keep_holes();
        }
        Ok(())
    }

    /// Holes of a file are about to be forgotten: rescues those that snapshots find in it, which
    /// copies nothing. As data they would need space that is not reserved.
    fn rescue_holes(&mut self, id: FileId) -> Result<(), Errno> {
        let live = self.files.get(id)?.all_live()?;
        live.iter()
            .filter(|run| run.is_hole)
            .try_for_each(|run| self.rescue_run(id, run, Copies::MayShare))
    }

    fn rescue_run(&mut self, id: FileId, run: &LiveRun, copies: Copies) -> Result<(), Errno> {
        let before = self.files.get(id)?.map.holdings();
        let source = if run.is_hole { Source::Hole } else { self.copy_pages(id, run, copies)? };
        let file = self.files.get_mut(id)?;
        debug_assert_eq!(
            before,
            file.map.holdings(),
            "the map changed before the copy was complete"
        );
        file.map.rescued(run, source);
        debug_assert!(
            file.live(run.pages.clone()).is_ok_and(|live| live.is_empty()),
            "pages that were rescued are still live"
        );
        file.epoch_is_over = true;
        let after = file.map.holdings();
        self.space.map_changed(before, after);
        Ok(())
    }

    /// Copies pages of data to the rescue file.
    fn copy_pages(&mut self, id: FileId, run: &LiveRun, copies: Copies) -> Result<Source, Errno> {
        let (size, _) = self.files.size_and_version(self.base, id)?;
        let pages = &run.pages;
        let is_sparse = self.base.features().contains(Features::SPARSE);
        let file_pages = size.div_ceil(PAGE);
        let placement = if is_sparse { Placement::Sparse { file_pages } } else { Placement::Dense };
        if self.files.get(id)?.rescue_file.is_none() {
            self.files.add_rescue_file(id, RescueFile::create(self.base, self.hidden)?)?;
        }
        let file = self.files.get_mut(id)?;
        let handle = file.base_handle()?;
        let rescue_file = file.rescue_file.as_mut().ok_or(Errno::EIO)?;
        let slot = rescue_file.place(pages, run.until, placement)?;
        let to = Position { handle: rescue_file.handle(), offset: FileOffset(slot * PAGE) };
        let times = mutants::copies(file.snapshots);
        let begin = pages.start * PAGE;
        let from = Position { handle, offset: FileOffset(begin) };
        let length = ByteCount((pages.end * PAGE).min(size).saturating_sub(begin));
        for _ in 0..times {
            let copied = match copies {
                Copies::MayShare => self.copier.copy(self.base, self.buffer, from, to, length),
                Copies::Apart => copy_through(self.base, self.buffer, from, to, length),
            };
            if let Err(error) = copied {
                let wasted = slot..slot + pages.end - pages.start;
                self.free(id, core::slice::from_ref(&wasted));
                return Err(error);
            }
        }
        *self.rescued += ByteCount(length.0 * times);
        Ok(Source::Rescued(slot))
    }

    /// Frees slots of the rescue file, or all of it when none of its pages is needed any more.
    pub fn free(&mut self, id: FileId, freed: &[Range<u64>]) {
        if mutants::leak_rescue() {
            return;
        }
        let Ok(file) = self.files.get_mut(id) else { return };
        if file.map.holdings().stored == PageCount::ZERO {
            if let Some(rescue_file) = self.files.take_rescue_file(id) {
                rescue_file.close(self.base, self.hidden);
            }
        } else if let Some(rescue_file) = &file.rescue_file {
            rescue_file.free(self.base, freed);
        }
    }
}
