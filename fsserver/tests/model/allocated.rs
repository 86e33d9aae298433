//! Storage that was allocated: a write to it never fails for want of space (Q1), whatever was
//! shared, snapshotted or reserved before, and however full the base is.

use std::ops::Range;

use foundation::Errno;
use fsproto::{AllocateMode, Features, Handle, OpenFlags};

use super::common::{CREATE, pattern};
use super::{Faults, World, put};

const PAGE: u64 = 4096;

/// The pages that a range of bytes touches.
fn pages_of(bytes: Range<u64>) -> Range<u64> {
    bytes.start / PAGE..bytes.end.div_ceil(PAGE)
}

impl World {
    /// Storage was allocated for a range of a file, as far as it lies within the file.
    pub fn allocated(&mut self, file: usize, offset: u64, length: u64) {
        let end = (offset + length).min(self.contents[file].len() as u64);
        if offset < end {
            self.allocated[file].extend(pages_of(offset..end));
        }
    }

    /// A range of a file may have become a hole.
    pub fn freed(&mut self, file: usize, bytes: Range<u64>) {
        let pages = pages_of(bytes);
        self.allocated[file].retain(|page| !pages.contains(page));
    }

    /// A file may share storage with another one.
    pub fn shared(&mut self, file: usize) {
        self.allocated[file].clear();
    }

    /// Uses up all space. Returns the file that has it.
    fn fill_up(&mut self) -> Option<Handle> {
        let few = 200;
        if self.tower.base_free() > few {
            return None;
        }
        let (filler, _) = self.tower.files.open("filler", CREATE | OpenFlags::EXCLUSIVE).unwrap();
        let full = (0..=few).find_map(|page| {
            self.tower.files.write(filler, page * PAGE, &[1; PAGE as usize]).err()
        });
        assert_eq!(full, Some(Errno::ENOSPC));
        Some(filler)
    }

    /// Writes to allocated storage while the base is full.
    pub fn write_allocated(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let (offset, length) = self.random.range(self.contents[file].len() as u64);
        if self.random.below(2) == 0 && length > 0 && self.faults == Faults::None {
            match self.tower.files.allocate(handle, offset, length, AllocateMode::KeepSize) {
                Ok(_) => self.allocated(file, offset, length),
                Err(error) => assert_eq!(error, Errno::ENOSPC),
            }
        }
        let pages: Vec<u64> = self.allocated[file].iter().copied().collect();
        // A map that is too large refuses changes, too.
        let counts = !self.lacking.contains(Features::COUNT_SPACE) && !self.has_small_maps;
        if pages.is_empty() || self.faults != Faults::None || !counts {
            return;
        }
        let filler = self.fill_up();
        for page in pages {
            let size = self.contents[file].len() as u64;
            let bytes = page * PAGE..((page + 1) * PAGE).min(size);
            let (within, length) = self.random.range(bytes.end - bytes.start);
            let (offset, data) =
                (bytes.start + within, pattern(self.random.below(1 << 30), length as usize));
            let written = self.tower.files.write(handle, offset, &data);
            assert_eq!(written.map(|written| written.length.0), Ok(length), "page {page}");
            put(&mut self.contents[file], offset as usize, &data);
        }
        if let Some(filler) = filler {
            self.check();
            self.tower.files.close(filler).unwrap();
            self.tower.files.remove("filler").unwrap();
        }
    }
}
