//! The PVH start information from QEMU (xen/include/public/arch-x86/hvm/start_info.h).
//!
//! The tables are somewhere in the lowest 4 GiB, which is identity-mapped. They are copied first,
//! because their memory may be allocated later.

use crate::Error;
use crate::regions::{FirmwareRegion, MAX_FIRMWARE_REGIONS};

const MAGIC: u32 = 0x336e_c578;
/// The end of the loader's identity mapping.
const IDENTITY_BYTES: u64 = 1 << 32;

#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_count: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    start: u64,
    len_bytes: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryMapEntry {
    start: u64,
    len_bytes: u64,
    kind: u32,
    reserved: u32,
}

/// The machine as the firmware describes it.
pub struct Machine {
    regions: [FirmwareRegion; MAX_FIRMWARE_REGIONS],
    region_count: usize,
    /// The initrd's physical addresses, `[start, end)`; the start is page-aligned.
    pub initrd: (u64, u64),
    /// The physical address of the ACPI root table, if the firmware has one.
    pub rsdp: Option<u64>,
}

impl Machine {
    /// The firmware's memory map.
    pub fn regions(&self) -> &[FirmwareRegion] {
        &self.regions[..self.region_count]
    }

    /// Reads the machine's description from the `start_info` at `address`.
    ///
    /// # Safety
    /// `address` is the value that the PVH protocol passes in ebx.
    pub unsafe fn read(address: u64) -> Result<Self, Error> {
        // SAFETY: the protocol guarantees a `start_info` there; `copy` checks the range.
        let info = unsafe { copy::<StartInfo>(address, 0)? };
        if info.magic != MAGIC || info.version < 1 {
            return Err("not started by the PVH protocol with a memory map");
        }
        if info.module_count != 1 {
            return Err("no initrd: give QEMU the kernel and the ramdisk with -initrd");
        }
        // SAFETY: the `start_info` refers to a module entry there.
        let module = unsafe { copy::<Module>(info.modules, 0)? };
        let end = module.start.checked_add(module.len_bytes).filter(|&end| end <= IDENTITY_BYTES);
        let end = end.ok_or("the initrd lies beyond 4 GiB")?;
        if module.start % crate::FRAME_BYTES != 0 {
            return Err("the initrd does not start at a page boundary");
        }
        let empty = FirmwareRegion { start: 0, end: 0, kind: 0 };
        let mut regions = [empty; MAX_FIRMWARE_REGIONS];
        let region_count = info.memory_map_count as usize;
        if region_count > MAX_FIRMWARE_REGIONS {
            return Err("the firmware's memory map is too long");
        }
        for (index, region) in regions.iter_mut().take(region_count).enumerate() {
            // SAFETY: the `start_info` refers to a table of so many entries.
            let entry = unsafe { copy::<MemoryMapEntry>(info.memory_map, index as u64)? };
            let end = entry.start.saturating_add(entry.len_bytes);
            *region = FirmwareRegion { start: entry.start, end, kind: entry.kind };
        }
        let rsdp = Some(info.rsdp).filter(|&address| address != 0);
        Ok(Self { regions, region_count, initrd: (module.start, end), rsdp })
    }
}

/// Copies entry `index` of a table of `T` at the physical address `table`.
///
/// # Safety
/// There is such a table at that address.
unsafe fn copy<T: Copy>(table: u64, index: u64) -> Result<T, Error> {
    let bytes = size_of::<T>() as u64;
    let address = table
        .checked_add(index * bytes)
        .filter(|&address| address != 0 && address <= IDENTITY_BYTES - bytes)
        .ok_or("the firmware's tables lie beyond 4 GiB")?;
    // SAFETY: the address is mapped (identity, 4 GiB), and by the caller's promise holds a `T`, for
    // which all bit patterns are valid.
    Ok(unsafe { core::ptr::read_unaligned(address as *const T) })
}
