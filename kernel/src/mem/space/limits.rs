//! What an address space may have: regions, bytes in them (`RLIMIT_AS`), private writable bytes
//! (`RLIMIT_DATA`). All fail with ENOMEM, as on Linux.
#![forbid(unsafe_code)]

use super::{Space, SpaceState};
use crate::mem::limits::{INFINITE, Resource};
use crate::mem::{Backing, PAGE_BYTES, Page, PageRange, Prot, Region, RegionMap, USER_END};
use foundation::knob;
use foundation::{ByteCount, Errno, PageCount};

/// The label of the first stack.
pub const STACK: &str = "[stack]";

/// Bytes by which the charge is ahead of the regions, so that few operations change it.
const STEP_BYTES: usize = RegionMap::bytes(16);

/// Whether such memory counts as a program's data.
pub(super) fn is_data(prot: Prot, backing: &Backing, label: &str) -> bool {
    prot.contains(Prot::WRITE) && !backing.is_shared() && label != STACK
}

impl Space {
    /// Gives the first stack the length that a new `RLIMIT_STACK` allows, as far as the space below
    /// it is free. Pages that were used stay.
    pub fn limit_stack(&self, bytes: u64) -> Result<(), Errno> {
        self.change_regions(|state| state.limit_stack(PageCount(bytes / PAGE_BYTES as u64)))
    }
}

impl SpaceState {
    fn limit_stack(&mut self, pages: PageCount) -> Result<(), Errno> {
        let all = PageRange { start: Page(0), end: USER_END.page() };
        let Some((lowest, region)) =
            self.regions.overlapping(all).find(|(_, region)| region.label == STACK)
        else {
            return Ok(());
        };
        let (prot, touched) = (region.prot, region.touched);
        let is_plain = matches!(region.backing, Backing::Anonymous);
        let start = Page(all.end.0.saturating_sub(pages.0));
        if start < lowest.start {
            let more = PageRange { start, end: lowest.start };
            if self.regions.is_free(more) {
                self.check_growth(PageRange::new(start, PageCount::ZERO), more.pages(), false)?;
                self.check_regions(more, 1)?;
                let region = Region::new(more.pages(), prot, Backing::Anonymous, STACK);
                self.regions.insert(start, region);
                self.regions.merge(more);
            }
            return Ok(());
        }
        if !is_plain {
            return Ok(());
        }
        let unused = PageRange { start: lowest.start, end: start.min(lowest.end) };
        let mut used = None;
        if touched {
            self.table.for_each(unused, |page, _| used = used.or(Some(page)));
        }
        self.unmap(PageRange { end: used.unwrap_or(unused.end), ..unused })
    }

    /// Fails where splitting regions at both ends of a range, and adding `more` regions, could
    /// exceed the maximum (Q4), or what the account may have.
    pub(super) fn check_regions(&mut self, range: PageRange, more: usize) -> Result<(), Errno> {
        let most = RegionMap::bytes(self.regions.len() + 2 + more);
        let is_charged = (most..=most + 2 * STEP_BYTES).contains(&self.charge.bytes());
        if is_charged && self.regions.len() + 2 + more <= knob::MAX_REGIONS.get() as usize {
            // Two splits would fit: it does not matter whether there are any.
            return Ok(());
        }
        let splits =
            |page: Page| self.regions.find(page).is_some_and(|(found, _)| found.start != page);
        let splits = usize::from(splits(range.start)) + usize::from(splits(range.end));
        self.require_regions(self.regions.len() + splits + more)
    }

    /// Fails where there may not be so many regions; else they are charged.
    pub(super) fn require_regions(&mut self, count: usize) -> Result<(), Errno> {
        if count > knob::MAX_REGIONS.get() as usize {
            return Err(Errno::ENOMEM);
        }
        let (bytes, charged) = (RegionMap::bytes(count), self.charge.bytes());
        if bytes > charged || bytes + 2 * STEP_BYTES < charged {
            self.charge.resize(bytes + STEP_BYTES)?;
        }
        Ok(())
    }

    /// Fails where replacing a range by `pages` pages of memory would exceed a limit.
    pub(super) fn check_growth(
        &self,
        replaced: PageRange,
        pages: PageCount,
        is_data: bool,
    ) -> Result<(), Errno> {
        self.check_limit(Resource::AddressSpace, replaced, pages, |_| true)?;
        if is_data {
            self.check_limit(Resource::Data, replaced, pages, is_data_region)?;
        }
        Ok(())
    }

    /// Fails where more of a range becomes private writable memory than the limit allows.
    pub(super) fn check_protection(&self, range: PageRange, prot: Prot) -> Result<(), Errno> {
        if !prot.contains(Prot::WRITE) {
            return Ok(());
        }
        self.check_limit(Resource::Data, range, range.pages(), is_data_region)
    }

    fn check_limit(
        &self,
        resource: Resource,
        replaced: PageRange,
        pages: PageCount,
        counts: fn(&Region) -> bool,
    ) -> Result<(), Errno> {
        let limit = self.charge.account().limits.get(resource);
        if limit == INFINITE {
            return Ok(());
        }
        let all = self.regions.iter().filter(|(_, region)| counts(region));
        let kept = all.fold(pages, |sum, (range, _)| {
            sum + (range.pages() - range.intersect(replaced).pages())
        });
        if kept.bytes() > ByteCount(limit) { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

fn is_data_region(region: &Region) -> bool {
    is_data(region.prot, &region.backing, region.label)
}
