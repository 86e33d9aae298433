//! Virtual addresses that the loader chooses for the kernel.
//!
//! The unit of allocation is one entry of the top-level table, 512 GiB, so that mappings are far
//! from each other. Entry 0 is never used: it maps the page of the jump.

use bootloader_api::config::Mapping;

use crate::Error;

/// Binary logarithm of the bytes that one top-level entry covers.
const SLOT_SHIFT: u32 = 39;

/// The first entry of the upper half.
const FIRST_UPPER_SLOT: usize = 256;

/// The top-level entries that are in use.
pub struct Slots {
    taken: [bool; 512],
    first: usize,
    last: usize,
}

impl Slots {
    /// Free entries are searched in `[start, end]`; by default, in the upper half.
    pub fn new(start: Option<u64>, end: Option<u64>) -> Self {
        let first = start.map_or(FIRST_UPPER_SLOT, |start| slot_of(start.saturating_add(0xfff)));
        let last = end.map_or(511, slot_of);
        let mut taken = [false; 512];
        taken[0] = true;
        Self { taken, first, last }
    }

    /// Marks the entries that `[start, start + len_bytes)` touches as in use.
    pub fn take(&mut self, start: u64, len_bytes: u64) {
        let last_byte = start.saturating_add(len_bytes.saturating_sub(1));
        for taken in self.taken.iter_mut().take(slot_of(last_byte) + 1).skip(slot_of(start)) {
            *taken = true;
        }
    }

    /// Reserves the entries of a fixed mapping, before any dynamic one is placed.
    pub fn take_fixed(&mut self, mapping: &Mapping, len_bytes: u64) -> Result<(), Error> {
        if let Mapping::FixedAddress(start) = *mapping {
            if slot_of(start) == 0 || start % 4096 != 0 {
                return Err("the kernel wants a mapping in the lowest 512 GiB or unaligned");
            }
            self.take(start, len_bytes);
        }
        Ok(())
    }

    /// The address for `mapping`: the requested one, or the start of a free entry.
    pub fn place(&mut self, mapping: &Mapping, len_bytes: u64) -> Result<u64, Error> {
        if let Mapping::FixedAddress(start) = *mapping {
            return Ok(start);
        }
        let count = len_bytes.div_ceil(1 << SLOT_SHIFT).max(1) as usize;
        let mut first = self.first;
        while first + count <= self.last + 1 {
            if self.taken.iter().skip(first).take(count).all(|taken| !taken) {
                let start = address_of(first);
                self.take(start, len_bytes.max(1));
                return Ok(start);
            }
            first += 1;
        }
        Err("no space left for the mappings that the kernel requests")
    }
}

/// The top-level entry that covers `address`.
fn slot_of(address: u64) -> usize {
    (address >> SLOT_SHIFT) as usize & 511
}

/// The first canonical address of an entry.
fn address_of(slot: usize) -> u64 {
    let address = (slot as u64) << SLOT_SHIFT;
    if slot < FIRST_UPPER_SLOT { address } else { address | 0xffff_0000_0000_0000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_mappings_keep_apart_from_fixed_ones() {
        let mut slots = Slots::new(None, None);
        let fixed = Mapping::FixedAddress(0xffff_8000_0000_0000);
        slots.take_fixed(&fixed, 1 << 40).unwrap();
        slots.take(0xffff_ffff_8000_0000, 0x10_0000);
        assert_eq!(slots.place(&fixed, 1 << 40).unwrap(), 0xffff_8000_0000_0000);
        assert_eq!(slots.place(&Mapping::Dynamic, 4096).unwrap(), 0xffff_8100_0000_0000);
        assert_eq!(slots.place(&Mapping::Dynamic, 4096).unwrap(), 0xffff_8180_0000_0000);
        assert!(slots.taken[511]);
    }

    #[test]
    fn a_full_or_low_range_is_an_error() {
        let mut slots = Slots::new(Some(0xffff_ff80_0000_0000), None);
        slots.take(0xffff_ffff_8000_0000, 0x1000);
        assert!(slots.place(&Mapping::Dynamic, 1).is_err());
        assert!(slots.take_fixed(&Mapping::FixedAddress(0x1000), 1).is_err());
    }
}
