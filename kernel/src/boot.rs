//! The start: what the loader hands over becomes frames, a ramdisk and the first process.
//!
//! The order matters: traps and log first, so that a bug shows; memory before anything that
//! allocates; the scheduler last.

extern crate alloc;

use alloc::sync::Arc;
use bootloader_api::config::Mapping;
use bootloader_api::info::MemoryRegionKind;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use core::ops::Range;
use foundation::{Errno, archive};
use fsproto::OpenFlags;
use kernel::arch::Handlers;
use kernel::file::devices::{self, DeviceFileSystem};
use kernel::file::namespace::{self, MountPoint};
use kernel::file::{Descriptor, FdTable, FileSystem, OnExec, OpenFile, OpenHow, Status};
use kernel::mem::{self, PhysAddr};
use kernel::proc::ProcFileSystem;
use kernel::task::{self, init, scheduler};
use kernel::{arch, mem::frame::MAX_RANGES, syscall, trap};

/// Physical memory is mapped, and the stack is roomy: it is left for good when the first process
/// runs.
const CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.kernel_stack_size = 64 << 10;
    config
};

entry_point!(start, config = &CONFIG);

/// What the CPU's entry points call. `arch` knows none of the layers above it.
const HANDLERS: Handlers = Handlers {
    system_call: syscall::entry::system_call,
    thread_start: trap::thread_start,
    page_fault: trap::page_fault,
    exception: trap::exception,
    interrupt: trap::interrupt,
    report: task::report::report_threads,
};

/// Where the first program lies in the ramdisk, and under what name it is started.
const INIT_MEMBER: &[u8] = b"sbin/init";
const INIT_PATH: &[u8] = b"/sbin/init";

fn start(info: &'static mut BootInfo) -> ! {
    let Some(&offset) = info.physical_memory_offset.as_ref() else { arch::power::failed() };
    // SAFETY: the first thing that runs, on the loader's tables, with interrupts off; physical
    // memory is mapped at `offset`.
    unsafe { arch::start(offset, &HANDLERS) };
    let Some(&ramdisk) = info.ramdisk_addr.as_ref() else { panic!("the loader gave no ramdisk") };
    let ramdisk_start = ramdisk.wrapping_sub(offset);
    take_memory(info, offset, ramdisk_start + info.ramdisk_len);
    let (ramdisk_bytes, frames) = (info.ramdisk_len, mem::frame::stats());
    log::info!(
        "Sloth {}: {} KiB of memory free, ramdisk of {} KiB",
        env!("CARGO_PKG_VERSION"),
        frames.free * 4,
        ramdisk_bytes >> 10
    );
    // SAFETY: the loader mapped the ramdisk here, and nobody writes to it before its frames are
    // given away, which needs a process.
    let ramdisk =
        unsafe { core::slice::from_raw_parts(ramdisk as *const u8, ramdisk_bytes as usize) };

    task::start();
    devices::start();
    devices::set_ramdisk(PhysAddr(ramdisk_start), ramdisk_bytes);
    if let Err(error) = mount_own().and_then(|()| start_init(ramdisk)) {
        panic!("the first process could not be made: {}", error.text());
    }
    scheduler::run_first()
}

/// Turns the memory map into frames.
fn take_memory(info: &BootInfo, offset: u64, reserved_end: u64) {
    let mut usable = [const { Range { start: 0, end: 0 } }; MAX_RANGES];
    let regions =
        info.memory_regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable);
    for (slot, region) in usable.iter_mut().zip(regions) {
        *slot = region.start..region.end;
    }
    let root = PhysAddr(arch::context::kernel_page_table());
    // SAFETY: the loader says what is usable, and the lower half of its tables is not needed any
    // more: this code lies in the upper one.
    unsafe {
        arch::drop_lower_half(offset);
        mem::init(offset, &usable, reserved_end, root);
    }
}

/// What is there without a server.
fn mount_own() -> Result<(), Errno> {
    let mount = |path: &[u8], filesystem: Arc<dyn FileSystem>| {
        let source = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        namespace::root().mount(MountPoint { path: path.to_vec(), source, filesystem })
    };
    mount(b"/dev", Arc::new(DeviceFileSystem))?;
    syscall::mounting::register_proc(|| Arc::new(ProcFileSystem));
    mount(b"/proc", Arc::new(ProcFileSystem))
}

fn start_init(ramdisk: &[u8]) -> Result<(), Errno> {
    let program = archive::find(ramdisk, INIT_MEMBER).ok_or(Errno::ENOENT)?;
    let how = OpenHow { flags: OpenFlags::READ | OpenFlags::WRITE, mode: 0 };
    let (console, place) = namespace::root().open(b"/", b"/dev/console", how)?;
    let console =
        OpenFile::new(console, Status::READ | Status::WRITE, place.path, Some(place.filesystem));
    let mut files = FdTable::new();
    for _ in 0..3 {
        files.insert(Descriptor { file: console.clone(), on_exec: OnExec::Keep }, 0)?;
    }
    init::make(program, INIT_PATH, files)
}
