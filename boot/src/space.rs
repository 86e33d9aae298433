//! The kernel's address space, under construction.
//!
//! Page tables are accessed by their physical addresses, which the loader has identity-mapped.

use x86_64::structures::paging::page::PageSize;
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageTable, PageTableFlags as Flags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::kernel_elf::{Access, Segment};
use crate::memory::Frames;
use crate::{Error, FRAME_BYTES, entry};

/// Flags of intermediate tables: permissions are decided by leaf entries alone.
const TABLE_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE);
/// Flags of data pages.
const DATA_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::NO_EXECUTE);

/// A set of page tables for the kernel.
pub struct Space {
    tables: OffsetPageTable<'static>,
    root: u64,
}

impl Space {
    /// An empty set of page tables.
    pub fn new(frames: &mut Frames) -> Result<Self, Error> {
        let root = frames.take(1)?;
        // SAFETY: a newly allocated frame, identity-mapped. Zeros are a valid, empty table, and are
        // written before the reference to it is created.
        let tables = unsafe {
            let table = root as *mut PageTable;
            table.write_bytes(0, 1);
            OffsetPageTable::new(&mut *table, VirtAddr::zero())
        };
        Ok(Self { tables, root })
    }

    /// The physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.root
    }

    fn map<S: PageSize>(
        &mut self,
        frames: &mut Frames,
        virtual_start: u64,
        physical_start: u64,
        flags: Flags,
    ) -> Result<(), Error>
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        let page = VirtAddr::try_new(virtual_start).map_err(|_| "a mapping is not canonical")?;
        let page = Page::<S>::from_start_address(page).map_err(|_| "a mapping is not aligned")?;
        let frame = PhysFrame::from_start_address(PhysAddr::new(physical_start))
            .map_err(|_| "a mapping's frame is not aligned")?;
        // SAFETY: these tables are not yet in use.
        let mapped =
            unsafe { self.tables.map_to_with_table_flags(page, frame, flags, TABLE_FLAGS, frames) };
        mapped.map_err(|_| "two mappings overlap, or memory ran out")?.ignore();
        Ok(())
    }

    /// Maps `[physical_start, physical_start + len_bytes)` as data at `virtual_start`.
    pub fn map_data(
        &mut self,
        frames: &mut Frames,
        virtual_start: u64,
        physical_start: u64,
        len_bytes: u64,
    ) -> Result<(), Error> {
        for offset in (0..len_bytes).step_by(FRAME_BYTES as usize) {
            let virtual_page = virtual_start.checked_add(offset).ok_or("a mapping wraps around")?;
            self.map::<Size4KiB>(frames, virtual_page, physical_start + offset, DATA_FLAGS)?;
        }
        Ok(())
    }

    /// Identity-maps the page of the jump, read-only.
    pub fn map_trampoline(&mut self, frames: &mut Frames) -> Result<(), Error> {
        let address = entry::trampoline_address();
        self.map::<Size4KiB>(frames, address, address, Flags::PRESENT)
    }

    /// Maps all physical addresses below `end` at `offset`, in the largest pages that the CPU has.
    pub fn map_physical(
        &mut self,
        frames: &mut Frames,
        offset: u64,
        end: u64,
    ) -> Result<(), Error> {
        let huge = has_huge_pages() && offset.is_multiple_of(Size1GiB::SIZE);
        let step = if huge { Size1GiB::SIZE } else { Size2MiB::SIZE };
        for physical in (0..end).step_by(step as usize) {
            let page = offset.checked_add(physical).ok_or("physical memory does not fit")?;
            if huge {
                self.map::<Size1GiB>(frames, page, physical, DATA_FLAGS)?;
            } else {
                self.map::<Size2MiB>(frames, page, physical, DATA_FLAGS)?;
            }
        }
        Ok(())
    }

    /// Allocates frames for `segment`, copies its bytes and maps it with its permissions.
    pub fn load(&mut self, frames: &mut Frames, segment: &Segment<'_>) -> Result<(), Error> {
        let first_page = segment.first_page();
        let len_bytes = segment.end_page() - first_page;
        let physical = frames.take(len_bytes / FRAME_BYTES)?;
        let leading_bytes = (segment.start - first_page) as usize;
        let data = segment.data;
        // SAFETY: the frames are newly allocated, identity-mapped, and `len_bytes` long; checking
        // the ELF file has shown that leading bytes and data fit.
        unsafe {
            let target = physical as *mut u8;
            target.write_bytes(0, leading_bytes);
            target.add(leading_bytes).copy_from_nonoverlapping(data.as_ptr(), data.len());
            let filled = leading_bytes + data.len();
            target.add(filled).write_bytes(0, len_bytes as usize - filled);
        }
        let flags = match segment.access {
            Access::Read => Flags::PRESENT | Flags::NO_EXECUTE,
            Access::Write => DATA_FLAGS,
            Access::Execute => Flags::PRESENT,
        };
        for offset in (0..len_bytes).step_by(FRAME_BYTES as usize) {
            self.map::<Size4KiB>(frames, first_page + offset, physical + offset, flags)?;
        }
        Ok(())
    }

    /// Points top-level entry `index` at the table itself.
    pub fn map_recursively(&mut self, index: u16) -> Result<(), Error> {
        let root = PhysAddr::new(self.root);
        let entry = &mut self.tables.level_4_table_mut()[usize::from(index & 511)];
        if !entry.is_unused() {
            return Err("the recursive entry is in use");
        }
        entry.set_addr(root, DATA_FLAGS);
        Ok(())
    }

    /// Makes the kernel's mappings visible to the loader, except for the lowest 512 GiB.
    pub fn show_to_loader(&self) {
        let theirs = self.tables.level_4_table();
        // SAFETY: the table that the loader runs on, identity-mapped. Only entries that were empty
        // change, so nothing is cached, and no other reference to it exists.
        let ours = unsafe { &mut *(entry::early_pml4_address() as *mut PageTable) };
        for (ours, theirs) in ours.iter_mut().zip(theirs.iter()).skip(1) {
            ours.clone_from(theirs);
        }
    }
}

/// Whether the CPU supports pages of 1 GiB.
fn has_huge_pages() -> bool {
    const HUGE_PAGES: u32 = 1 << 26;
    use core::arch::x86_64::__cpuid;
    __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).edx & HUGE_PAGES != 0
}
