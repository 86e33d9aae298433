//! Reads of snapshots. A range may consist of many runs, some of which the snapshot finds in the
//! file and some in the rescue file: each of the two is asked once for all of its runs, where the
//! base can read several ranges at once.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno, PAGE_BYTES, SnapshotOffset};
use fsproto::{Features, Handle};

use super::file::PAGE;
use super::rescue_map::Source;
use super::snapshot::SnapshotRecord;
use super::{Snapfs, mutants};
use crate::Base;
use crate::connection::Connection;
use crate::server::{Clock, Payload};

/// Runs that cover a range of a file, each with the place of its bytes in the buffer; none for a
/// hole.
pub(super) type Gathered = Vec<(Range<u64>, Option<usize>)>;

/// Length of a run in bytes.
fn length_of(run: &Range<u64>) -> usize {
    (run.end - run.start) as usize
}

/// The runs that are in the file, which lie in the buffer one after the other.
fn live(runs: &[(Range<u64>, Source)]) -> impl Iterator<Item = Range<u64>> + Clone {
    runs.iter().filter(|(_, source)| *source == Source::Live).map(|(run, _)| run.clone())
}

/// Where the byte of the file at `position` is in the buffer, if it is in one of the live runs.
fn place_of(mut live: impl Iterator<Item = Range<u64>>, position: u64) -> Option<usize> {
    let mut at = 0;
    let run = live.find(|run| {
        let is_here = run.contains(&position);
        at += if is_here { 0 } else { length_of(run) };
        is_here
    })?;
    Some(at + (position - run.start) as usize)
}

/// Reads ranges of a file on the base to `into`, one after the other.
pub(super) fn read_parts<C: Connection>(
    base: &mut Base<C>,
    handle: Handle,
    ranges: impl Iterator<Item = Range<u64>> + Clone,
    mut into: &mut [u8],
) -> Result<(), Errno> {
    if ranges.clone().nth(1).is_some() && base.features().contains(Features::READ_RANGES) {
        let total = ranges.clone().map(|range| length_of(&range)).sum::<usize>();
        return base.read_ranges(handle, ranges, into.get_mut(..total).ok_or(Errno::EIO)?);
    }
    for range in ranges {
        let (space, rest) =
            core::mem::take(&mut into).split_at_mut_checked(length_of(&range)).ok_or(Errno::EIO)?;
        base.read_exact(handle, range.start, space)?;
        into = rest;
    }
    Ok(())
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Reads bytes of a snapshot to the buffer.
    ///
    /// Live pages are read first. What was rescued before the base answered is known only then, so
    /// the map is consulted again, and rescued pages are read from the rescue file (C11).
    fn gather(&mut self, record: &SnapshotRecord, bytes: &Range<u64>) -> Result<Gathered, Errno> {
        let file = self.files.get(record.file)?;
        let base = file.base_handle()?;
        let before = self.sources_of(record, bytes)?;
        read_parts(&mut self.base, base, live(&before), self.buffer.bytes_mut())?;
        let after = match mutants::no_rescue_recheck() {
            true => mutants::all_live(&before),
            false => self.sources_of(record, bytes)?,
        };
        let rescued = after.iter().filter_map(|(run, source)| match source {
            Source::Rescued(slot) => {
                let begin = slot * PAGE + run.start % PAGE;
                Some(begin..begin + (run.end - run.start))
            }
            _ => None,
        });
        let live_bytes = live(&before).map(|run| length_of(&run)).sum::<usize>();
        let mut next = live_bytes.next_multiple_of(PAGE_BYTES);
        if rescued.clone().next().is_some() {
            let rescue_file = self.files.get(record.file)?.rescue_file.as_ref();
            let handle = rescue_file.ok_or(Errno::EIO)?.handle();
            let space = self.buffer.bytes_mut().get_mut(next..).ok_or(Errno::EIO)?;
            read_parts(&mut self.base, handle, rescued, space)?;
        }
        let place = |(run, source): (Range<u64>, Source)| {
            let at = match source {
                Source::Live => Some(place_of(live(&before), run.start).ok_or(Errno::EIO)?),
                Source::Rescued(_) => {
                    next += length_of(&run);
                    Some(next - length_of(&run))
                }
                Source::Hole | Source::LiveHole => None,
            };
            Ok((run, at))
        };
        after.into_iter().map(place).collect()
    }

    /// Reads a part of a snapshot (F1).
    #[inline]
    pub(super) fn read_snapshot(
        &mut self,
        record: &SnapshotRecord,
        offset: SnapshotOffset,
        length: ByteCount,
    ) -> Result<Payload<'_>, Errno> {
        let bytes = record.part(offset, length);
        mutants::on_page_in(self, record.file)?;
        let runs = self.gather(record, &bytes)?;
        let mut payload = Payload::empty();
        payload.reserve(runs.len());
        let space = self.buffer.bytes();
        let mut segment = 0..0;
        for (run, at) in &runs {
            match *at {
                Some(at) if at == segment.end => segment.end += length_of(run),
                Some(at) => {
                    payload.push(space.get(segment).unwrap_or_default());
                    segment = at..at + length_of(run);
                }
                None => {
                    payload.push(space.get(segment.clone()).unwrap_or_default());
                    payload.push_zeros(length_of(run));
                    segment.start = segment.end;
                }
            }
        }
        payload.push(space.get(segment).unwrap_or_default());
        Ok(payload)
    }
}
