//! Memory for pages, in slabs, and the clock that chooses pages to evict.
//!
//! Pages lie in *slabs* because an allocator that aligns single pages needs about twice the memory.
//! All slabs have the same layout for the allocator, so it can reuse the memory of one for another.
//! A slab without pages is returned to the allocator, and places are taken from the first slabs
//! first, so the last ones become empty. With a budget, slabs are kept: memory that the allocator
//! has split up for others would not be available as a slab again.
//!
//! A clock sweeps over the places: one that was touched since the last sweep gets a second chance.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::Cell;

use foundation::{Errno, PAGE_BYTES};

use crate::buffer::AlignedBuffer;

/// Number of pages in a slab: 256 KiB, plus one page for the alignment.
pub(super) const SLAB_PAGES: usize = 64;
const _: () = assert!(SLAB_PAGES == u64::BITS as usize);

/// A page's location: slab and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    slab: u32,
    index: u8,
}

/// Memory for [`SLAB_PAGES`] pages.
struct Slab {
    /// Empty if the memory was returned to the allocator.
    memory: AlignedBuffer,
    /// Bit set of the places in use.
    used: u64,
    /// Bit set of the places touched since the last sweep. Readers set it.
    touched: Cell<u64>,
    /// The owner of each place in use.
    owners: [u32; SLAB_PAGES],
}

/// The pages that small files share.
#[derive(Default)]
pub(super) struct Slabs {
    slabs: Vec<Slab>,
    /// Indices of slabs with memory and a free place.
    roomy: BTreeSet<u32>,
    /// Indices of slabs without memory.
    bare: BTreeSet<u32>,
    used: u64,
    /// Number of free places that have memory.
    free: u64,
    /// Where the next sweep starts: slab and place.
    hand: (usize, usize),
    /// Whether empty slabs keep their memory.
    keeps: bool,
}

impl Slabs {
    /// Makes empty slabs keep their memory.
    pub fn keep_memory(&mut self) {
        self.keeps = true;
    }

    /// Number of places in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Allocates memory so that `places` can be taken without an allocation. ENOMEM.
    pub fn reserve(&mut self, places: u64) -> Result<(), Errno> {
        while self.free < places {
            let memory = AlignedBuffer::new(SLAB_PAGES * PAGE_BYTES)?;
            let number = match self.bare.pop_first() {
                Some(number) => number,
                None => {
                    self.slabs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    self.slabs.push(Slab {
                        memory: AlignedBuffer::default(),
                        used: 0,
                        touched: Cell::new(0),
                        owners: [0; SLAB_PAGES],
                    });
                    self.slabs.len() as u32 - 1
                }
            };
            if let Some(slab) = self.slabs.get_mut(number as usize) {
                slab.memory = memory;
            }
            self.roomy.insert(number);
            self.free += SLAB_PAGES as u64;
        }
        Ok(())
    }

    /// Takes a place for a page of this owner. Its bytes are undefined.
    pub fn take(&mut self, owner: u32) -> Result<Place, Errno> {
        self.reserve(1)?;
        let number = *self.roomy.first().ok_or(Errno::EIO)?;
        let slab = self.slabs.get_mut(number as usize).ok_or(Errno::EIO)?;
        let index = slab.used.trailing_ones() as u8;
        *slab.owners.get_mut(usize::from(index)).ok_or(Errno::EIO)? = owner;
        slab.used |= 1 << index;
        if slab.used == u64::MAX {
            self.roomy.remove(&number);
        }
        self.used += 1;
        self.free -= 1;
        Ok(Place { slab: number, index })
    }

    /// Frees a place.
    pub fn give(&mut self, Place { slab: number, index }: Place) {
        let Some(slab) = self.slabs.get_mut(number as usize) else { return };
        slab.used &= !(1 << index);
        self.used -= 1;
        self.free += 1;
        if slab.used == 0 && !self.keeps {
            slab.memory = AlignedBuffer::default();
            self.free -= SLAB_PAGES as u64;
            self.roomy.remove(&number);
            self.bare.insert(number);
        } else {
            self.roomy.insert(number);
        }
    }

    /// The bytes of a place. Counts as a touch.
    pub fn bytes(&self, Place { slab, index }: Place) -> Option<&[u8; PAGE_BYTES]> {
        let slab = self.slabs.get(slab as usize)?;
        slab.touched.set(slab.touched.get() | 1 << index);
        slab.memory.page(usize::from(index))
    }

    /// The same, for writing.
    pub fn bytes_mut(&mut self, Place { slab, index }: Place) -> Option<&mut [u8; PAGE_BYTES]> {
        let slab = self.slabs.get_mut(slab as usize)?;
        *slab.touched.get_mut() |= 1 << index;
        slab.memory.page_mut(usize::from(index))
    }

    /// The bytes of a place, without a touch.
    pub fn peek(&self, Place { slab, index }: Place) -> Option<&[u8; PAGE_BYTES]> {
        self.slabs.get(slab as usize)?.memory.page(usize::from(index))
    }

    /// Sweeps to the end of a slab, or until `most` untouched places were found. Returns these in
    /// order, with their owners.
    pub fn sweep(&mut self, most: usize) -> Vec<(u32, Place)> {
        let (number, from) = self.hand;
        let mut idle = Vec::new();
        if let Some(slab) = self.slabs.get_mut(number) {
            for (index, &owner) in (0..).zip(&slab.owners).skip(from) {
                if idle.len() == most {
                    self.hand = (number, usize::from(index));
                    return idle;
                }
                let bit = 1 << index;
                if slab.used & bit != 0 && slab.touched.get() & bit == 0 {
                    idle.push((owner, Place { slab: number as u32, index }));
                }
                *slab.touched.get_mut() &= !bit;
            }
        }
        self.hand = if number + 1 < self.slabs.len() { (number + 1, 0) } else { (0, 0) };
        idle
    }

    /// Number of sweeps that visit every place twice.
    pub fn sweeps_twice_around(&self, most: usize) -> usize {
        2 * (self.slabs.len() + 1) * SLAB_PAGES.div_ceil(most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_slabs_return_their_memory() {
        let mut slabs = Slabs::default();
        let taken: Vec<Place> = (0..200).map(|owner| slabs.take(owner).unwrap()).collect();
        assert!(
            taken.iter().all(|&place| slabs
                .bytes(place)
                .unwrap()
                .as_ptr()
                .addr()
                .is_multiple_of(PAGE_BYTES))
        );
        assert_eq!((slabs.slabs.len(), slabs.used(), slabs.free), (4, 200, 56));
        taken.into_iter().for_each(|place| slabs.give(place));
        assert_eq!((slabs.used(), slabs.free, slabs.bare.len()), (0, 0, 4));
        assert!(slabs.slabs.iter().all(|slab| slab.memory.bytes().is_empty()));
        let again = slabs.take(0).unwrap();
        assert_eq!((slabs.slabs.len(), slabs.free), (4, 63));
        slabs.give(again);
        assert_eq!(slabs.free, 0);
        slabs.keep_memory();
        let kept = slabs.take(0).unwrap();
        slabs.give(kept);
        assert_eq!((slabs.used(), slabs.free), (0, 64));
    }

    #[test]
    fn reserved_places_need_no_memory() {
        let mut slabs = Slabs::default();
        slabs.reserve(65).unwrap();
        assert_eq!((slabs.slabs.len(), slabs.free, slabs.used()), (2, 128, 0));
        let taken: Vec<Place> = (0..128).map(|owner| slabs.take(owner).unwrap()).collect();
        assert_eq!((slabs.slabs.len(), slabs.free), (2, 0));
        taken.into_iter().for_each(|place| slabs.give(place));
    }

    #[test]
    fn the_clock_gives_a_second_chance() {
        let mut slabs = Slabs::default();
        let places: Vec<Place> = (0..70).map(|owner| slabs.take(owner).unwrap()).collect();
        let owners =
            |idle: Vec<(u32, Place)>| idle.into_iter().map(|(owner, _)| owner).collect::<Vec<_>>();
        slabs.bytes(places[0]);
        slabs.bytes_mut(places[2]);
        slabs.peek(places[3]);
        assert_eq!(owners(slabs.sweep(3)), [1, 3, 4]);
        assert_eq!(owners(slabs.sweep(100)), (5..64).collect::<Vec<_>>());
        assert_eq!(owners(slabs.sweep(100)), (64..70).collect::<Vec<_>>());
        // Touched only before the last sweep.
        assert_eq!(owners(slabs.sweep(3)), [0, 1, 2]);
    }
}
