//! The entries of a mapped file's pages change with the file (`mem::file_pages`).
#![forbid(unsafe_code)]

use super::{
    Space, SpaceState,
    access::base_flags,
    associate::release_frames,
    steps::{EVERYTHING, Step},
};
use crate::mem::file_pages::{FilePages, Mapper, Treatment};
use crate::mem::page_table::Flush;
use crate::mem::{Backing, FileMapping, Page, PageRange};
use crate::sync::Interrupted;

impl Space {
    /// The first part of a range that maps a file shared, and how: the file's pages, and where the
    /// range goes on behind it. `None` where there is none.
    pub fn next_mapped_file(
        &self,
        range: PageRange,
    ) -> Option<(FileMapping, PageRange, PageRange)> {
        if range.is_empty() {
            return None;
        }
        self.peek(|state| {
            state.regions.overlapping(range).find_map(|(own, region)| {
                let Backing::File { mapping, first } = &region.backing else { return None };
                let part = own.intersect(range);
                let pages = PageRange::new(Page(first + (part.start - own.start).0), part.pages());
                Some((mapping.clone(), pages, PageRange { start: part.end, ..range }))
            })
        })
    }

    /// Whether files are mapped shared in a range.
    pub fn maps_file_in(&self, range: PageRange) -> bool {
        self.next_mapped_file(range).is_some()
    }

    /// Whether files are mapped shared.
    pub fn maps_files(&self) -> bool {
        self.maps_file_in(EVERYTHING)
    }
}

impl Mapper for Space {
    /// In steps between which others run. No region moves meanwhile, so none is left out. A space
    /// that turns out to have no region of the file leaves its list.
    fn treat_file_pages(
        &self,
        file: &FilePages,
        pages: PageRange,
        how: Treatment,
    ) -> Result<(), Interrupted> {
        let (mut rest, mut is_mapped) = (None, false);
        let treated = self.in_steps(|state| {
            // From this step on no region moves.
            let Some(among) = state.files.among(file) else { return Ok(Step::Last) };
            let rest = rest.get_or_insert(among);
            let part = state.take_part(rest);
            is_mapped |= state.treat_file_pages(part, file, pages, how);
            if !rest.is_empty() {
                return Ok(Step::More);
            }
            if !is_mapped {
                state.files.remove(file);
            }
            Ok(Step::Last)
        });
        // A kill is all that can end it.
        treated.map_err(|_| Interrupted)
    }
}

impl SpaceState {
    /// Changes the entries within a part. Returns whether the part has a region of the file.
    fn treat_file_pages(
        &mut self,
        part: PageRange,
        file: &FilePages,
        pages: PageRange,
        how: Treatment,
    ) -> bool {
        let Self { table, flush, regions, .. } = self;
        let mut is_mapped = false;
        for (range, region) in regions.overlapping(part) {
            let Backing::File { mapping, first } = &region.backing else { continue };
            if !core::ptr::eq(&***mapping, file) {
                continue;
            }
            is_mapped = true;
            let first = Page(*first);
            let met = pages.intersect(PageRange::new(first, range.pages()));
            if !region.touched || met.is_empty() {
                continue;
            }
            let met = PageRange::new(range.start + (met.start - first), met.pages());
            let met = met.intersect(part);
            match how {
                Treatment::Protect => {
                    table.update(met, |_, _| base_flags(region.prot));
                    flush.merge(Flush::range(met));
                }
                Treatment::Unmap => release_frames(table, flush, met),
            }
        }
        is_mapped
    }
}
