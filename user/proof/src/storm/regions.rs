//! As many regions as possible: pages of alternating protection, holes, moves, forks.

use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

/// Pages of one area.
const AREA_PAGES: u64 = 4096;
/// Changes of one step.
const CHANGES: u64 = 256;

/// Areas of inaccessible memory, whose pages are changed one by one.
pub struct Regions(Vec<usize>);

impl Regions {
    pub fn new() -> Self {
        Self(Vec::new())
    }
}

impl Worker for Regions {
    fn step(&mut self, random: &mut Random) -> Outcome {
        let bytes = AREA_PAGES as usize * PAGE_BYTES;
        if self.0.is_empty() || random.below(16) == 0 {
            let flags = abi::MAP_PRIVATE | abi::MAP_NORESERVE;
            self.0.extend(os::mmap(0, bytes, abi::PROT_NONE, flags));
        }
        if self.0.is_empty() {
            return Ok(());
        }
        let area = self.0[random.below(self.0.len() as u64) as usize];
        for _ in 0..CHANGES {
            let at = area + random.below(AREA_PAGES) as usize * PAGE_BYTES;
            let protection = [abi::PROT_NONE, abi::PROT_READ, os::READ_WRITE];
            let _ = match random.below(8) {
                0 => os::munmap(at, PAGE_BYTES),
                1 => {
                    let flags = abi::MAP_PRIVATE | abi::MAP_FIXED;
                    os::mmap(at, PAGE_BYTES, os::READ_WRITE, flags).map(drop)
                }
                _ => os::mprotect(at, PAGE_BYTES, protection[random.below(3) as usize]),
            };
        }
        match random.below(24) {
            0 => {
                if let Ok(None) = sys::fork() {
                    let _ = os::munmap(area, bytes);
                    sys::exit(0)
                }
                let _ = sys::wait(-1, 0);
            }
            1 => {
                const MADV_DONTNEED: usize = 4;
                let _ = os::raw(abi::__NR_madvise, &[area, bytes, MADV_DONTNEED]);
            }
            _ => {}
        }
        Ok(())
    }
}
