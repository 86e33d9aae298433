//! Frames for the kernel, allocated upwards from the end of the loader.
//!
//! Allocated frames are contiguous, which keeps the kernel's memory map short. None is freed.

use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

use crate::pvh::Machine;
use crate::regions::FIRMWARE_RAM;
use crate::{Error, FRAME_BYTES, align_down, align_up, entry};

/// The frame allocator.
pub struct Frames {
    start: u64,
    next: u64,
    end: u64,
}

impl Frames {
    /// Finds the RAM range around the loader, up to the initrd if that is above.
    pub fn new(machine: &Machine) -> Result<Self, Error> {
        let start = align_up(entry::image_end()).ok_or("the loader has no end")?;
        let ram = machine
            .regions()
            .iter()
            .find(|region| {
                region.kind == FIRMWARE_RAM && (region.start..region.end).contains(&start)
            })
            .ok_or("the loader does not lie in RAM")?;
        let (initrd_start, initrd_end) = machine.initrd;
        if initrd_start < start && initrd_end > entry::trampoline_address() {
            return Err("the initrd lies over the loader");
        }
        let mut end = align_down(ram.end);
        if initrd_start >= start {
            end = end.min(initrd_start);
        }
        Ok(Self { start, next: start, end })
    }

    /// Allocates `count` contiguous frames, with undefined contents. Returns their physical
    /// address.
    pub fn take(&mut self, count: u64) -> Result<u64, Error> {
        let start = self.next;
        let next = count.checked_mul(FRAME_BYTES).and_then(|bytes| start.checked_add(bytes));
        self.next = next.filter(|&next| next <= self.end).ok_or("not enough memory to boot")?;
        Ok(start)
    }

    /// The frames allocated so far, `[start, end)`.
    pub fn taken(&self) -> (u64, u64) {
        (self.start, self.next)
    }
}

// SAFETY: each frame is RAM that nothing else uses, and is allocated once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let address = self.take(1).ok()?;
        Some(PhysFrame::containing_address(PhysAddr::new(address)))
    }
}
