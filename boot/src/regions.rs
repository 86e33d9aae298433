//! The kernel's memory map: the firmware's map, minus the RAM that must stay reserved.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::{Error, FRAME_BYTES, align_down, align_up};

/// Upper bound for the firmware's regions that are used. QEMU reports about ten.
pub const MAX_FIRMWARE_REGIONS: usize = 64;

/// Upper bound for reserved ranges.
const MAX_KEPT: usize = 4;

/// Upper bound for regions in the kernel's map: each reserved range splits at most one into three.
pub const MAX_REGIONS: usize = MAX_FIRMWARE_REGIONS + 2 * MAX_KEPT;

/// The firmware's type of RAM.
pub const FIRMWARE_RAM: u32 = 1;

/// One entry of the firmware's map, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmwareRegion {
    /// The first physical address.
    pub start: u64,
    /// The first physical address after it.
    pub end: u64,
    /// The firmware's type.
    pub kind: u32,
}

/// A list of regions, in memory of the caller.
pub struct RegionList<'a> {
    slots: &'a mut [MemoryRegion],
    len: usize,
}

impl<'a> RegionList<'a> {
    /// An empty list with space for `slots`.
    pub fn new(slots: &'a mut [MemoryRegion]) -> Self {
        Self { slots, len: 0 }
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, start: u64, end: u64, kind: MemoryRegionKind) -> Result<(), Error> {
        if start >= end {
            return Ok(());
        }
        let slot = self.slots.get_mut(self.len).ok_or("the memory map has too many pieces")?;
        *slot = MemoryRegion { start, end, kind };
        self.len += 1;
        Ok(())
    }

    /// Lists the regions of `firmware`, with the ranges of `kept` (ascending, page-aligned) cut out
    /// of the RAM.
    pub fn fill(&mut self, firmware: &[FirmwareRegion], kept: &[(u64, u64)]) -> Result<(), Error> {
        for region in firmware {
            if region.kind == FIRMWARE_RAM {
                self.fill_ram(region, kept)?;
            } else {
                let kind = MemoryRegionKind::UnknownBios(region.kind);
                self.push(region.start, region.end, kind)?;
            }
        }
        Ok(())
    }

    fn fill_ram(&mut self, ram: &FirmwareRegion, kept: &[(u64, u64)]) -> Result<(), Error> {
        // Frame 0 is excluded: its address would be a null pointer.
        let mut start = align_up(ram.start).unwrap_or(u64::MAX).max(FRAME_BYTES);
        let end = align_down(ram.end);
        for &(kept_start, kept_end) in kept {
            if kept_end <= start || kept_start >= end {
                continue;
            }
            self.push(start, kept_start.min(end), MemoryRegionKind::Usable)?;
            let kept_start = kept_start.max(start);
            self.push(kept_start, kept_end.min(end), MemoryRegionKind::Bootloader)?;
            start = kept_end;
        }
        self.push(start, end, MemoryRegionKind::Usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryRegionKind::{Bootloader, Usable};

    fn filled(firmware: &[FirmwareRegion], kept: &[(u64, u64)]) -> Vec<MemoryRegion> {
        let mut slots = vec![MemoryRegion::empty(); MAX_REGIONS];
        let mut list = RegionList::new(&mut slots);
        list.fill(firmware, kept).unwrap();
        let len = list.len();
        slots.truncate(len);
        slots
    }

    #[test]
    fn kept_ranges_are_cut_out() {
        let ram = FirmwareRegion { start: 0x10_0000, end: 0x20_0123, kind: FIRMWARE_RAM };
        let regions = filled(&[ram], &[(0x11_0000, 0x12_0000), (0x1f_0000, 0x20_0000)]);
        let expected = [
            (0x10_0000, 0x11_0000, Usable),
            (0x11_0000, 0x12_0000, Bootloader),
            (0x12_0000, 0x1f_0000, Usable),
            (0x1f_0000, 0x20_0000, Bootloader),
        ];
        let regions: Vec<_> = regions.iter().map(|r| (r.start, r.end, r.kind)).collect();
        assert_eq!(regions, expected);
    }

    #[test]
    fn frame_zero_is_never_usable_and_reserved_stays_reserved() {
        let low = FirmwareRegion { start: 0, end: 0x9_fc00, kind: FIRMWARE_RAM };
        let rom = FirmwareRegion { start: 0x9_fc00, end: 0xa_0000, kind: 2 };
        let regions = filled(&[low, rom], &[]);
        assert_eq!((regions[0].start, regions[0].end), (0x1000, 0x9_f000));
        assert_eq!(regions[1].kind, MemoryRegionKind::UnknownBios(2));
    }

    #[test]
    fn too_many_pieces_is_an_error() {
        let mut slots = [MemoryRegion::empty(); 1];
        let ram = FirmwareRegion { start: 0x10_0000, end: 0x20_0000, kind: FIRMWARE_RAM };
        assert!(RegionList::new(&mut slots).fill(&[ram], &[(0x11_0000, 0x12_0000)]).is_err());
    }
}
