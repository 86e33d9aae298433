//! What a program's bytes stand for, as write(2) sees them (W1).

use super::{AddressSpace, Space};
use crate::mem::{Backing, PageRange, Prot, Snapshot, UserAddr, UserSlice, page_table::EntryFlags};
use alloc::{sync::Arc, vec::Vec};
use foundation::{
    ByteCount, PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};

/// Bytes in a row of one kind.
#[derive(Clone)]
pub enum Run {
    /// The program's own: stored to, anonymous, or a part of a page.
    Own {
        /// How many.
        bytes: ByteCount,
    },
    /// Whole pages that nobody stored to: they are these bytes of a snapshot.
    Clean {
        /// Which.
        snapshot: Arc<Snapshot>,
        /// First byte of it.
        offset: SnapshotOffset,
        /// How many.
        bytes: ByteCount,
    },
}

impl Run {
    /// How many bytes.
    pub fn bytes(&self) -> ByteCount {
        match self {
            Self::Own { bytes } | Self::Clean { bytes, .. } => *bytes,
        }
    }

    /// Whether `next` only goes on with this; then this one grows.
    fn absorb(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Own { bytes }, Self::Own { bytes: more }) => *bytes += *more,
            (
                Self::Clean { snapshot, offset, bytes },
                Self::Clean { snapshot: other, offset: at, bytes: more },
            ) if Arc::ptr_eq(snapshot, other) && *offset + *bytes == *at => {
                *bytes += *more;
            }
            _ => return false,
        }
        true
    }
}

/// Runs in order, at most so many.
struct Runs {
    list: Vec<Run>,
    max: usize,
}

impl Runs {
    /// Adds a run that is not empty; `None` where it would be one too many, or memory is short.
    fn push(&mut self, run: Run) -> Option<()> {
        if run.bytes().is_zero() || self.list.last_mut().is_some_and(|last| last.absorb(&run)) {
            return Some(());
        }
        if self.list.len() == self.max {
            return None;
        }
        self.list.try_reserve(1).ok()?;
        self.list.push(run);
        Some(())
    }
}

impl Space {
    /// What the bytes from the start of `slice` stand for, `max` runs at most. Touches no page;
    /// costs time for mapped ones. Bytes of snapshots that are not `wanted` are `Own`, and so are
    /// bytes that are not mapped at all: copying them finds that out.
    pub fn runs(
        &self,
        slice: UserSlice,
        max: usize,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Vec<Run> {
        let mut runs = Runs { list: Vec::new(), max };
        self.with(|space| space.runs(slice, &mut runs, wanted));
        runs.list
    }
}

impl AddressSpace {
    fn runs(
        &self,
        slice: UserSlice,
        runs: &mut Runs,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Option<()> {
        let whole = slice.whole_pages();
        let mut at = slice.addr();
        let own = |from: UserAddr, to: UserAddr| Run::Own { bytes: ByteCount(to.0 - from.0) };
        // A range of no pages still has a place, which may lie behind the slice's end.
        let overlapping = self.regions.overlapping(whole).filter(|_| !whole.is_empty());
        for (found, region) in overlapping {
            let Backing::Snapshot { snapshot, offset } = &region.backing else { continue };
            if !region.prot.contains(Prot::READ) || !wanted(snapshot) {
                continue;
            }
            let clean = |pages: PageRange| Run::Clean {
                snapshot: snapshot.clone(),
                offset: *offset + (pages.start - found.start).bytes(),
                bytes: pages.pages().bytes(),
            };
            let part = found.intersect(whole);
            runs.push(own(at, part.start.user_start()))?;
            let mut next = part.start;
            let mut full = Some(());
            if region.touched && !mutant::active(Mutant::StoreIgnoredInRuns) {
                self.table.for_each(part, |page, entry| {
                    if full.is_some() && entry.has(EntryFlags::PRIVATE) {
                        full = runs
                            .push(clean(PageRange { start: next, end: page }))
                            .and_then(|()| runs.push(Run::Own { bytes: PageCount(1).bytes() }));
                        next = page.next();
                    }
                });
            }
            full?;
            runs.push(clean(PageRange { start: next, end: part.end }))?;
            at = part.end.user_start();
        }
        runs.push(own(at, slice.end()))
    }
}
