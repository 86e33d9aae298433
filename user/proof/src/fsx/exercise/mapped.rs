//! Steps on a shared mapping of the file, which stays while the file changes by all other steps.
//!
//! The mapping is as long as the file can become. It is accessed within the file only: up to the
//! end of the page that the file ends in, behind which a page is SIGBUS.

use super::{Exercise, Mapping, Outcome, Part, same_bytes, same_count};
use crate::journal::Step;
use proof::os;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

impl Exercise<'_> {
    /// Accesses the mapping, or makes a call that concerns it.
    pub(super) fn mapped_step(&mut self) -> Outcome {
        match self.random.below(100) {
            0..30 => self.map_read(),
            30..65 => self.map_write(),
            65..73 => self.map_copy("read"),
            73..81 => self.map_copy("write"),
            81..88 => self.map_privately(),
            88..92 => self.map_again(),
            _ => self.map_advise(),
        }
    }

    /// A range of the file, up to its end.
    fn file_range(&mut self) -> (usize, usize) {
        let Part { length, .. } = self.part();
        let offset = self.number(self.file.len()).min(self.file.len());
        (offset, length.min(self.file.len() - offset))
    }

    /// The mapping from a place of the file on.
    fn mapped(&self, offset: usize, length: usize) -> &[u8] {
        let Some(map) = &self.map else { return &[] };
        // SAFETY: inside the mapping, which only this process stores to, through `&mut self`.
        unsafe { core::slice::from_raw_parts(map.at(offset) as *const u8, length) }
    }

    /// Checks all of the mapping, and that the bytes behind the end of the file are zeros.
    pub(super) fn check_map(&self) -> Outcome {
        if self.map.is_none() {
            return Ok(());
        }
        let mut expected = self.file.clone();
        expected.resize(expected.len().next_multiple_of(PAGE_BYTES), 0);
        let found = self.mapped(0, expected.len());
        same_bytes(|| String::from("the mapping"), 0, found, &expected)
    }

    fn map_read(&mut self) -> Outcome {
        let (offset, length) = self.file_range();
        self.journal.note(Step::Mapped { how: "load from the mapping", offset, length });
        let found = self.mapped(offset, length);
        same_bytes(
            || String::from("the mapping"),
            offset,
            found,
            &self.file[offset..offset + length],
        )
    }

    /// Stores to a range; if it reaches past the end of the file, the file is extended before.
    fn map_write(&mut self) -> Outcome {
        let most = self.settings.max_bytes;
        let Part { length, .. } = self.part();
        let offset = self.number(most).min(most);
        let mut length = length.min(most - offset);
        if self.random.below(2) == 0 {
            length = length.min(1 + self.random.below(100) as usize);
        }
        let end = offset + length;
        if end > self.file.len() {
            self.journal.note(Step::Truncate { from: self.file.len(), to: end });
            sys::ftruncate(self.fd, ByteCount(end as u64))
                .map_err(|error| format!("ftruncate: {error:?}"))?;
            self.file.resize(end, 0);
        }
        self.journal.note(Step::Mapped { how: "store to the mapping", offset, length });
        let bytes = &mut self.file[offset..end];
        proof::random::fill(self.random.draw(), 0, bytes);
        if let Some(map) = &self.map {
            // SAFETY: inside the mapping, to which no reference exists.
            let mapped =
                unsafe { core::slice::from_raw_parts_mut(map.at(offset) as *mut u8, length) };
            mapped.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// A transfer between the file and its own mapping; source and target do not overlap.
    fn map_copy(&mut self, how: &'static str) -> Outcome {
        let (from, length) = self.file_range();
        let (to, most) = self.file_range();
        let length = length.min(most).min(from.abs_diff(to));
        self.journal.note(Step::MapCopy { how, from, to, length });
        let Some(map) = &self.map else { return Ok(()) };
        let count = match how {
            "read" => os::pread(self.fd, map.at(to), length, from as u64),
            _ => os::pwrite(self.fd, map.at(from), length, to as u64),
        };
        same_count(how, count, length)?;
        self.file.copy_within(from..from + length, to);
        Ok(())
    }

    /// A private mapping shows what was stored, and its own stores stay its own.
    fn map_privately(&mut self) -> Outcome {
        let (offset, length) = self.file_range();
        self.journal.note(Step::Mapped { how: "private mapping", offset, length });
        if length == 0 {
            return Ok(());
        }
        let first = offset / PAGE_BYTES * PAGE_BYTES;
        let bytes = offset + length - first;
        let map = Mapping::map(self.fd, first as u64, bytes, os::READ_WRITE, abi::MAP_PRIVATE)
            .map_err(|error| format!("a private mapping: {error:?}"))?;
        let found = map.bytes(0, bytes);
        same_bytes(
            || String::from("a private mapping"),
            first,
            &found,
            &self.file[first..first + bytes],
        )?;
        map.store(offset - first, !found[offset - first]);
        Ok(())
    }

    /// Maps the file anew, before the old mapping goes or after.
    fn map_again(&mut self) -> Outcome {
        self.journal.note(Step::Ask("a new mapping"));
        if self.random.below(2) == 0 {
            self.map = None;
        }
        self.map = Some(Mapping::of_file(self.fd, self.settings.max_bytes)?);
        Ok(())
    }

    /// msync(2) or madvise(2), which change nothing.
    fn map_advise(&mut self) -> Outcome {
        let how = self.random.below(3);
        let Some(map) = &self.map else { return Ok(()) };
        let advise = |advice: u32| {
            let given = [map.at(0), map.len_bytes(), advice as usize];
            os::raw(abi::__NR_madvise, &given).map(drop)
        };
        let (name, done) = match how {
            0 => ("msync", map.sync()),
            1 => ("madvise, not needed", advise(abi::MADV_DONTNEED)),
            _ => ("madvise, needed", advise(abi::MADV_WILLNEED)),
        };
        self.journal.note(Step::Ask(name));
        done.map_err(|error| format!("{name}: {error:?}"))
    }
}
