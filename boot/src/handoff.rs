//! The loader's main part, from the PVH entry to the jump into the kernel.

use bootloader_api::BootInfo;
use bootloader_api::config::Mapping;
use bootloader_api::info::{MemoryRegion, Optional};

use crate::entry::{self, Jump};
use crate::kernel_elf::KernelElf;
use crate::memory::Frames;
use crate::pvh::Machine;
use crate::regions::{FIRMWARE_RAM, MAX_REGIONS, RegionList};
use crate::slots::Slots;
use crate::space::Space;
use crate::{Error, FRAME_BYTES, align_down, align_up, archive, report};

/// Physical addresses below this are always mapped, because devices are there.
const DEVICE_END: u64 = 1 << 32;
/// Size of the boot information: the structure and all regions that it can list.
const BOOT_INFO_BYTES: u64 = (size_of::<BootInfo>()
    + align_of::<MemoryRegion>()
    + MAX_REGIONS * size_of::<MemoryRegion>()) as u64;
/// Upper bound for the kernel's stack: a larger one is a configuration error.
const MAX_STACK_BYTES: u64 = 1 << 24;

/// The entry point for the assembly.
#[unsafe(no_mangle)]
extern "C" fn loader_main(start_info: u64) -> ! {
    // SAFETY: called once, by the PVH entry, which passes the value of ebx.
    match unsafe { load(start_info) } {
        // SAFETY: `load` has set up everything that the jump requires.
        Ok(to) => unsafe { entry::jump(&to) },
        Err(reason) => report::refuse(format_args!("{reason}")),
    }
}

/// Virtual addresses of everything that the loader places.
struct Places {
    physical: Option<u64>,
    stack: u64,
    boot_info: u64,
    ramdisk: u64,
}

/// Loads the kernel, and returns the jump into it.
///
/// # Safety
/// `start_info` comes from the PVH protocol, and this is called once.
unsafe fn load(start_info: u64) -> Result<Jump, Error> {
    // SAFETY: the caller's promise.
    let machine = unsafe { Machine::read(start_info)? };
    let mut frames = Frames::new(&machine)?;
    let (initrd_start, initrd_end) = machine.initrd;
    // SAFETY: the initrd is in RAM, which is identity-mapped, and `Frames` does not use its frames.
    let initrd = unsafe {
        let len_bytes = (initrd_end - initrd_start) as usize;
        core::slice::from_raw_parts(initrd_start as *const u8, len_bytes)
    };
    let archive = archive::split(initrd)?;
    let kernel = KernelElf::parse(archive.kernel)?;
    let ramdisk = (initrd_start + archive.ramdisk_offset as u64, initrd_end);

    let mut space = Space::new(&mut frames)?;
    space.map_trampoline(&mut frames)?;
    for segment in kernel.segments() {
        space.load(&mut frames, &segment?)?;
    }
    let stack_bytes = align_up(kernel.config.kernel_stack_size)
        .filter(|&bytes| bytes != 0 && bytes <= MAX_STACK_BYTES)
        .ok_or("the kernel requests an invalid stack size")?;
    let places = map_all(&kernel, &machine, ramdisk, stack_bytes, &mut space, &mut frames)?;
    let recursive = kernel.config.mappings.page_table_recursive;
    let recursive_index = recursive.map(|mapping| recurse(&mut space, &mapping)).transpose()?;

    space.show_to_loader();
    let boot_info = place_boot_info(&machine, &frames, ramdisk, &places)?;
    boot_info.physical_memory_offset = places.physical.into();
    boot_info.recursive_index = recursive_index.into();
    boot_info.rsdp_addr = machine.rsdp.into();
    boot_info.tls_template = kernel.tls.into();
    boot_info.ramdisk_addr = Optional::Some(places.ramdisk);
    boot_info.ramdisk_len = ramdisk.1 - ramdisk.0;
    boot_info.kernel_stack_bottom = places.stack;
    boot_info.kernel_stack_len = stack_bytes;
    Ok(Jump {
        boot_info: places.boot_info,
        stack_top: places.stack + stack_bytes,
        page_table: space.root(),
        entry: kernel.entry,
    })
}

/// Maps everything except the kernel itself, at the addresses that the kernel requests.
fn map_all(
    kernel: &KernelElf<'_>,
    machine: &Machine,
    (ramdisk_start, ramdisk_end): (u64, u64),
    stack_bytes: u64,
    space: &mut Space,
    frames: &mut Frames,
) -> Result<Places, Error> {
    let wishes = &kernel.config.mappings;
    let ram = machine.regions().iter().filter(|region| region.kind == FIRMWARE_RAM);
    let physical_end = ram.map(|region| region.end).fold(DEVICE_END, u64::max);
    let ramdisk_bytes = align_up(ramdisk_end).unwrap_or(u64::MAX) - ramdisk_start;

    let mut slots = Slots::new(wishes.dynamic_range_start, wishes.dynamic_range_end);
    for segment in kernel.segments() {
        let segment = segment?;
        slots.take(segment.start, segment.memory_bytes);
    }
    slots.take_fixed(&wishes.kernel_stack, stack_bytes)?;
    slots.take_fixed(&wishes.boot_info, BOOT_INFO_BYTES)?;
    slots.take_fixed(&wishes.ramdisk_memory, ramdisk_bytes)?;
    if let Some(mapping) = &wishes.physical_memory {
        slots.take_fixed(mapping, physical_end)?;
    }

    let mut physical = None;
    if let Some(mapping) = &wishes.physical_memory {
        let offset = slots.place(mapping, physical_end)?;
        space.map_physical(frames, offset, physical_end)?;
        physical = Some(offset);
    }
    // The guard page is the first page of the range; no frame is mapped there.
    let guard_bytes = match wishes.kernel_stack {
        Mapping::Dynamic => FRAME_BYTES,
        Mapping::FixedAddress(_) => 0,
    };
    let stack = slots.place(&wishes.kernel_stack, stack_bytes + guard_bytes)? + guard_bytes;
    let stack_frames = frames.take(stack_bytes / FRAME_BYTES)?;
    space.map_data(frames, stack, stack_frames, stack_bytes)?;

    let boot_info = slots.place(&wishes.boot_info, BOOT_INFO_BYTES)?;
    let boot_info_frames = frames.take(BOOT_INFO_BYTES.div_ceil(FRAME_BYTES))?;
    space.map_data(frames, boot_info, boot_info_frames, BOOT_INFO_BYTES)?;

    let ramdisk = match (wishes.ramdisk_memory, physical) {
        (Mapping::Dynamic, Some(offset)) => offset + ramdisk_start,
        (mapping, _) => {
            let address = slots.place(&mapping, ramdisk_bytes)?;
            space.map_data(frames, address, ramdisk_start, ramdisk_bytes)?;
            address
        }
    };
    Ok(Places { physical, stack, boot_info, ramdisk })
}

/// Sets up the recursive page-table entry that the kernel requests.
fn recurse(space: &mut Space, mapping: &Mapping) -> Result<u16, Error> {
    let index = match *mapping {
        Mapping::Dynamic => 510,
        Mapping::FixedAddress(address) => (address >> 39) as u16 & 511,
    };
    space.map_recursively(index)?;
    Ok(index)
}

/// Writes the memory map and an otherwise empty boot information to their frames.
fn place_boot_info(
    machine: &Machine,
    frames: &Frames,
    ramdisk: (u64, u64),
    places: &Places,
) -> Result<&'static mut BootInfo, Error> {
    let info = places.boot_info as *mut BootInfo;
    // SAFETY: `BOOT_INFO_BYTES` at this address are mapped, in the loader's tables too, and used by
    // nothing else. The regions follow the structure, correctly aligned, and each is written before
    // it is read.
    let regions = unsafe {
        let first = info.add(1).cast::<u8>();
        let first = first.add(first.align_offset(align_of::<MemoryRegion>()));
        let first = first.cast::<MemoryRegion>();
        for index in 0..MAX_REGIONS {
            first.add(index).write(MemoryRegion::empty());
        }
        core::slice::from_raw_parts_mut(first, MAX_REGIONS)
    };
    let trampoline = entry::trampoline_address();
    let mut kept = [
        (trampoline, trampoline + FRAME_BYTES),
        frames.taken(),
        (align_down(ramdisk.0), align_up(ramdisk.1).ok_or("the ramdisk has no end")?),
    ];
    kept.sort_unstable();
    let mut list = RegionList::new(&mut *regions);
    list.fill(machine.regions(), &kept)?;
    let len = list.len();
    let (used, _) = regions.split_at_mut(len);
    // SAFETY: as above. The structure is written before the reference to it is created.
    unsafe {
        info.write(BootInfo::new(used.into()));
        Ok(&mut *info)
    }
}
