//! Memory for pages, in slabs, and the clock that chooses pages to evict.
//!
//! Pages lie in *slabs* because an allocator that aligns single pages needs about twice the memory.
//! All slabs have the same layout for the allocator, so it can reuse the memory of one for another.
//! A slab without pages is returned to the allocator, and places are taken from the first slabs
//! first, so the last ones become empty. With a budget, slabs up to its number are kept: memory
//! that the allocator has split up for others would not be available as a slab again. When the
//! budget shrinks, the pages of the last slabs move to the first ones.
//!
//! A clock sweeps over the places: one that was touched since the last sweep gets a second chance.

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

/// Places of a slab that follow one another.
#[derive(Debug)]
pub(super) struct Run {
    first: Place,
    count: u8,
}

impl Run {
    /// A run of one place.
    pub fn of(first: Place) -> Self {
        Self { first, count: 1 }
    }

    /// Adds a place. False where it does not follow the others.
    #[inline]
    pub fn push(&mut self, Place { slab, index }: Place) -> bool {
        let follows = slab == self.first.slab && index == self.first.index + self.count;
        self.count += u8::from(follows);
        follows
    }
}

/// Bytes of memory that a slab takes besides its pages.
pub(super) const SLAB_EXTRA_BYTES: u64 = (PAGE_BYTES + size_of::<Slab>() + 64) as u64;

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

/// A set of slabs, as bits. Its memory grows with the slabs, so inserting allocates nothing.
#[derive(Default)]
struct SlabSet {
    words: Vec<u64>,
    /// No bit is set in the words before this one.
    from: usize,
}

impl SlabSet {
    /// Makes it able to contain `slabs` slabs. ENOMEM.
    fn grow(&mut self, slabs: usize) -> Result<(), Errno> {
        let words = slabs.div_ceil(64);
        self.words
            .try_reserve(words.saturating_sub(self.words.len()))
            .map_err(|_| Errno::ENOMEM)?;
        self.words.resize(words.max(self.words.len()), 0);
        Ok(())
    }

    fn insert(&mut self, slab: u32) {
        let at = slab as usize / 64;
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << (slab % 64);
            self.from = self.from.min(at);
        }
    }

    fn remove(&mut self, slab: u32) {
        if let Some(word) = self.words.get_mut(slab as usize / 64) {
            *word &= !(1 << (slab % 64));
        }
    }

    /// The first slab.
    fn first(&mut self) -> Option<u32> {
        let word = loop {
            match self.words.get(self.from)? {
                0 => self.from += 1,
                word => break word,
            }
        };
        Some(self.from as u32 * 64 + word.trailing_zeros())
    }
}

/// The pages that small files share.
#[derive(Default)]
pub(super) struct Slabs {
    slabs: Vec<Slab>,
    /// Indices of slabs with memory and a free place.
    roomy: SlabSet,
    /// Indices of slabs without memory.
    bare: SlabSet,
    /// Number of slabs with memory.
    filled: usize,
    used: u64,
    /// Number of free places that have memory.
    free: u64,
    /// Where the next sweep starts: slab and place.
    hand: (usize, usize),
    /// Number of slabs up to which empty ones keep their memory.
    kept: usize,
}

impl Slabs {
    /// Makes empty slabs keep their memory while at most `slabs` have any.
    pub fn keep(&mut self, slabs: usize) {
        self.kept = slabs;
    }

    /// Number of slabs that have memory.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Number of places in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Allocates memory so that `places` can be taken without an allocation. ENOMEM.
    pub fn reserve(&mut self, places: u64) -> Result<(), Errno> {
        while self.free < places {
            let memory = AlignedBuffer::new(SLAB_PAGES * PAGE_BYTES)?;
            let number = match self.bare.first() {
                Some(number) => number,
                None => {
                    self.slabs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    self.roomy.grow(self.slabs.len() + 1)?;
                    self.bare.grow(self.slabs.len() + 1)?;
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
            self.bare.remove(number);
            self.filled += 1;
            self.roomy.insert(number);
            self.free += SLAB_PAGES as u64;
        }
        Ok(())
    }

    /// Takes a place for a page of this owner. Its bytes are undefined.
    pub fn take(&mut self, owner: u32) -> Result<Place, Errno> {
        self.reserve(1)?;
        let number = self.roomy.first().ok_or(Errno::EIO)?;
        let slab = self.slabs.get_mut(number as usize).ok_or(Errno::EIO)?;
        let index = slab.used.trailing_ones() as u8;
        *slab.owners.get_mut(usize::from(index)).ok_or(Errno::EIO)? = owner;
        slab.used |= 1 << index;
        if slab.used == u64::MAX {
            self.roomy.remove(number);
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
        if slab.used == 0 && self.filled > self.kept {
            slab.memory = AlignedBuffer::default();
            self.free -= SLAB_PAGES as u64;
            self.filled -= 1;
            self.roomy.remove(number);
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

    /// The bytes of a run's places. Counts as a touch of each.
    pub fn run_bytes(&self, run: &Run) -> Option<&[u8]> {
        let Run { first: Place { slab, index }, count } = *run;
        let slab = self.slabs.get(slab as usize)?;
        let bits = u64::MAX >> (SLAB_PAGES - usize::from(count)) << index;
        slab.touched.set(slab.touched.get() | bits);
        let start = usize::from(index) * PAGE_BYTES;
        slab.memory.bytes().get(start..start + usize::from(count) * PAGE_BYTES)
    }

    /// The bytes of a place, without a touch.
    pub fn peek(&self, Place { slab, index }: Place) -> Option<&[u8; PAGE_BYTES]> {
        self.slabs.get(slab as usize)?.memory.page(usize::from(index))
    }

    /// Moves a page of the last slab with memory to the first free place. Returns its owner and the
    /// new place; `None` once at most `most` slabs have memory, or no other slab has a free place.
    /// With its last page a slab returns its memory, unless it is to be [kept](Self::keep).
    pub fn pack(&mut self, most: usize) -> Option<(u32, Place)> {
        if self.filled <= most {
            return None;
        }
        let last = self.slabs.iter().rposition(|slab| !slab.memory.bytes().is_empty())? as u32;
        let slab = self.slabs.get(last as usize)?;
        let from = Place { slab: last, index: slab.used.trailing_zeros() as u8 };
        let Some(&owner) = slab.owners.get(usize::from(from.index)) else {
            // It is empty, and has kept its memory until now.
            self.used += 1;
            self.free -= 1;
            self.give(Place { slab: last, index: 0 });
            return self.pack(most);
        };
        if self.roomy.first()? == last {
            return None;
        }
        let to = self.take(owner).ok()?;
        let bytes = *self.peek(from)?;
        *self.bytes_mut(to)? = bytes;
        self.give(from);
        Some((owner, to))
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
        assert_eq!((slabs.used(), slabs.free, slabs.filled()), (0, 0, 0));
        assert!(slabs.slabs.iter().all(|slab| slab.memory.bytes().is_empty()));
        let again = slabs.take(0).unwrap();
        assert_eq!((slabs.slabs.len(), slabs.free), (4, 63));
        slabs.give(again);
        assert_eq!(slabs.free, 0);
        slabs.keep(1);
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
    fn pages_of_the_last_slabs_move_to_the_first() {
        let mut slabs = Slabs::default();
        slabs.keep(10);
        let mut places: Vec<Place> = (0..400).map(|owner| slabs.take(owner).unwrap()).collect();
        for (owner, &place) in places.iter().enumerate() {
            slabs.bytes_mut(place).unwrap()[0] = owner as u8;
        }
        let kept = |owner: &usize| owner.is_multiple_of(5);
        (0..400).filter(|owner| !kept(owner)).for_each(|owner| slabs.give(places[owner]));
        slabs.keep(2);
        while let Some((owner, place)) = slabs.pack(2) {
            places[owner as usize] = place;
        }
        assert_eq!((slabs.filled(), slabs.used(), slabs.free), (2, 80, 48));
        for owner in (0..400).filter(kept) {
            assert_eq!(slabs.peek(places[owner]).unwrap()[0], owner as u8);
        }
        // It does not go below what the pages take.
        slabs.keep(1);
        while slabs.pack(1).is_some() {}
        assert_eq!((slabs.filled(), slabs.used()), (2, 80));
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
