//! Much private or shared memory, with known content: stored to, locked, forked, swapped, compared.

use crate::worker::Worker;
use proof::kit::{Outcome, load, store};
use proof::os;
use proof::random::Random;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

/// Pages of the largest piece.
const PIECE_PAGES: u64 = 1024;
/// Pages that are compared at once.
const COMPARED_PAGES: u64 = 64;

/// What kind of memory is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Private,
    Shared,
}

/// A mapping. Each page is marked with its position and the mapping's mark.
struct Piece {
    start: usize,
    pages: usize,
    mark: u64,
}

pub struct Memory {
    held: Held,
    pieces: Vec<Piece>,
    /// Pages that are held at most.
    limit: usize,
}

impl Memory {
    /// Holds from an eighth to twice the machine's memory.
    pub fn new(held: Held, random: &mut Random) -> Result<Self> {
        let info = sys::sysinfo()?;
        let total = info.totalram * u64::from(info.mem_unit.max(1)) / PAGE_BYTES as u64;
        let limit = total * (1 + random.below(16)) / 8;
        Ok(Self { held, pieces: Vec::new(), limit: limit as usize })
    }

    fn pages(&self) -> usize {
        self.pieces.iter().map(|piece| piece.pages).sum()
    }

    fn grow(&mut self, random: &mut Random) {
        let flags = match (self.held, random.below(4)) {
            (Held::Private, 0) => abi::MAP_PRIVATE | abi::MAP_POPULATE,
            (Held::Private, _) => abi::MAP_PRIVATE | abi::MAP_NORESERVE,
            (Held::Shared, _) => abi::MAP_SHARED,
        };
        let pages = 1 + random.below(PIECE_PAGES) as usize;
        if let Ok(start) = os::mmap(0, pages * PAGE_BYTES, os::READ_WRITE, flags) {
            let piece = Piece { start, pages, mark: random.draw() };
            (0..pages).for_each(|page| piece.mark(page));
            self.pieces.push(piece);
        }
    }

    /// Lets a child compare and store to a piece, and checks what is seen of that here.
    fn share(&self, piece: &Piece, random: &mut Random) -> Outcome {
        let (first, changed) =
            (random.below(piece.pages as u64) as usize, random.below(piece.pages as u64) as usize);
        let Ok(child) = sys::fork() else { return Ok(()) };
        let Some(child) = child else {
            let outcome = piece.compare(first);
            if outcome.is_ok() {
                store(piece.start + changed * PAGE_BYTES + PAGE_BYTES - 1, 1);
            }
            sys::exit(outcome.map_or(crate::driver::WRONG, |()| 0))
        };
        let status = ok!(sys::wait_for(child));
        check!(status.exit_code() != Some(crate::driver::WRONG), "a child found a wrong byte");
        let seen = load(piece.start + changed * PAGE_BYTES + PAGE_BYTES - 1);
        let wanted = u8::from(self.held == Held::Shared);
        check!(
            status.exit_code() != Some(0) || seen == wanted,
            "a child's store: {seen} instead of {wanted}"
        );
        store(piece.start + changed * PAGE_BYTES + PAGE_BYTES - 1, 0);
        Ok(())
    }
}

impl Worker for Memory {
    fn step(&mut self, random: &mut Random) -> Outcome {
        if self.pieces.is_empty() || (random.below(3) == 0 && self.pages() < self.limit) {
            self.grow(random);
        }
        let Some(last) = (self.pieces.len() as u64).checked_sub(1) else { return Ok(()) };
        let index = random.below(last + 1) as usize;
        let piece = &self.pieces[index];
        let (start, length) = (piece.start, piece.pages * PAGE_BYTES);
        match random.below(12) {
            0 => {
                let _ = os::raw(abi::__NR_mlock, &[start, length]);
            }
            1 => {
                let _ = os::raw(abi::__NR_munlock, &[start, length]);
            }
            2 | 3 => self.share(piece, random)?,
            4 => {
                piece.compare(random.below(piece.pages as u64) as usize)?;
                let _ = os::munmap(start, length);
                self.pieces.swap_remove(index);
            }
            5 => {
                if let Ok(moved) = os::mremap(start, length, 2 * length) {
                    let piece = &mut self.pieces[index];
                    piece.start = moved;
                    (piece.pages..2 * piece.pages).for_each(|page| piece.mark(page));
                    piece.pages *= 2;
                }
            }
            6 => {
                for protection in [abi::PROT_NONE, os::READ_WRITE] {
                    let _ = os::mprotect(start, length, protection);
                }
            }
            _ => piece.compare(random.below(piece.pages as u64) as usize)?,
        }
        Ok(())
    }
}

impl Piece {
    fn word(&self, page: usize) -> (*mut u64, u64) {
        ((self.start + page * PAGE_BYTES) as *mut u64, self.mark ^ page as u64)
    }

    fn mark(&self, page: usize) {
        let (word, mark) = self.word(page);
        // SAFETY: the mapping is this piece's, and no reference into it exists.
        unsafe { word.write_volatile(mark) }
    }

    /// Compares some pages from `first` on.
    fn compare(&self, first: usize) -> Outcome {
        for page in first..self.pages.min(first + COMPARED_PAGES as usize) {
            let (word, mark) = self.word(page);
            // SAFETY: as above.
            let found = unsafe { word.read_volatile() };
            check!(found == mark, "page {page} of {}: {found:#x}, not {mark:#x}", self.pages);
        }
        Ok(())
    }
}
