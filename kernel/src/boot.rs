//! Kernel start: from the loader's boot information to the first process.
//!
//! The order matters: first traps and log, so that bugs are visible; then memory; then everything
//! that allocates; the scheduler last. This is also where layers are connected that do not know
//! each other.

extern crate alloc;

use alloc::sync::Arc;
use bootloader_api::config::Mapping;
use bootloader_api::info::{FrameBuffer, MemoryRegionKind, Optional, PixelFormat};
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use core::ops::Range;
use foundation::{Errno, archive};
use fsproto::OpenFlags;
use kernel::arch::Handlers;
use kernel::dev::disk;
use kernel::dev::framebuffer::{self, Layout};
use kernel::file::devices::{self, DeviceFileSystem};
use kernel::file::filesystem::{self, FileSystemType};
use kernel::file::namespace::{self, MountPoint};
use kernel::file::tty::registry;
use kernel::file::{Descriptor, FdTable, FileSystem, OnExec, OpenFile, OpenHow, Status};
use kernel::mem::{self, Account, PhysAddr};
use kernel::mount;
use kernel::proc::{ProcFileSystem, SysFileSystem, inspect};
use kernel::task::{self, init, scheduler};
use kernel::{arch, mem::frame::MAX_RANGES, syscall, trap};
use x86_64::VirtAddr;
use x86_64::structures::paging::{OffsetPageTable, PageTable, Translate};

/// Requests to the loader: physical memory mapped, all that it places in the upper half, and a
/// stack of 64 KiB, which is used until the first process runs.
const CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.mappings.dynamic_range_start = Some(UPPER_HALF);
    config.kernel_stack_size = 64 << 10;
    config
};

/// The start of the upper half of the address space, which is the kernel's.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

entry_point!(start, config = &CONFIG);

/// The functions for the CPU's entry points.
const HANDLERS: Handlers = Handlers {
    system_call: syscall::entry::system_call,
    thread_start: trap::thread_start,
    page_fault: trap::page_fault,
    exception: trap::exception,
    interrupt: trap::interrupt,
    report,
    running: syscall::entry::describe_running,
    show: framebuffer::notice::show,
};

/// The non-maskable interrupt: a question of gdb, or the monitor's `nmi`.
fn report() {
    if !inspect::answer() {
        task::report::report_threads();
    }
}

/// The least memory with which the servers have their floors and programs run, and the frames that
/// are free in such a machine after the loader, the kernel and a ramdisk of twice the usual size.
const LEAST_MIB: usize = 24;
const LEAST_FRAMES: usize = (16 << 20) / mem::PAGE_BYTES;

/// The first program: its member of the ramdisk, and the path that it is started with.
const INIT_MEMBER: &[u8] = b"sbin/init";
const INIT_PATH: &[u8] = b"/sbin/init";

fn start(info: &'static mut BootInfo) -> ! {
    let Some(&offset) = info.physical_memory_offset.as_ref() else {
        arch::power::failed(format_args!("the loader mapped no physical memory"))
    };
    // SAFETY: called first, on the loader's tables, with interrupts off. Physical memory is mapped
    // at `offset`.
    unsafe { arch::start(offset, &HANDLERS) };
    // First, so that it shows what goes wrong from here on.
    if let Some(screen) = core::mem::replace(&mut info.framebuffer, Optional::None).into_option() {
        start_screen(screen);
    }
    let Some(&ramdisk) = info.ramdisk_addr.as_ref() else { panic!("the loader passed no ramdisk") };
    let Some(ramdisk_start) = physical_start(offset, ramdisk, info.ramdisk_len) else {
        panic!("the ramdisk is not one range of physical memory")
    };
    if let Some(&root) = info.rsdp_addr.as_ref() {
        // SAFETY: the loader maps physical memory, 4 GiB at least, at the offset.
        unsafe { arch::power::set_tables(root, offset) };
    }
    take_memory(info, offset, ramdisk_start + info.ramdisk_len);
    let (ramdisk_bytes, frames) = (info.ramdisk_len, mem::frame::stats());
    log::info!(
        "Sloth {}: {} KiB of memory free, ramdisk of {} KiB",
        env!("CARGO_PKG_VERSION"),
        frames.free * 4,
        ramdisk_bytes >> 10
    );
    // SAFETY: the loader has mapped the ramdisk here. Nothing writes to it before its frames are
    // given to a process.
    let ramdisk =
        unsafe { core::slice::from_raw_parts(ramdisk as *const u8, ramdisk_bytes as usize) };

    disk::start();
    task::start();
    scheduler::at_idle(mount::close_waiting);
    registry::start();
    if framebuffer::layout().is_some() {
        registry::start_keyboard();
    }
    devices::set_ramdisk(PhysAddr(ramdisk_start), ramdisk_bytes);
    if frames.free < LEAST_FRAMES {
        arch::power::failed(format_args!(
            "this machine is too small: Sloth needs {LEAST_MIB} MiB of memory"
        ));
    }
    if let Err(error) = mount_own().and_then(|()| start_init(ramdisk)) {
        panic!("the first process could not be made: {}", error.text());
    }
    scheduler::run_first()
}

/// The physical address of the first of `bytes` bytes that the loader has mapped. `None` if they
/// are not mapped, or not to one range.
fn physical_start(offset: u64, start: u64, bytes: u64) -> Option<u64> {
    let root = (offset + arch::context::kernel_page_table()) as *mut PageTable;
    // SAFETY: the loader's tables are in use, in physical memory, which is mapped at the offset.
    // Nobody changes them meanwhile.
    let tables = unsafe { OffsetPageTable::new(&mut *root, VirtAddr::new(offset)) };
    let physical =
        |address| tables.translate_addr(VirtAddr::try_new(address).ok()?).map(|it| it.as_u64());
    let (first, last) = (physical(start)?, physical(start + bytes.checked_sub(1)?)?);
    (last - first == bytes - 1).then_some(first)
}

/// Takes over the screen that the loader has set up.
fn start_screen(screen: FrameBuffer) {
    let info = screen.info();
    let colour_bits = match info.pixel_format {
        PixelFormat::Rgb => [0, 8, 16],
        PixelFormat::Bgr => [16, 8, 0],
        PixelFormat::U8 => [0, 0, 0],
        _ => {
            log::warn!("the screen's format is not supported: {:?}", info.pixel_format);
            return;
        }
    };
    let layout = Layout {
        width: info.width as u32,
        height: info.height as u32,
        pixel_bytes: info.bytes_per_pixel as u32,
        line_bytes: (info.stride * info.bytes_per_pixel) as u32,
        colour_bits,
    };
    framebuffer::start(layout, screen.into_buffer());
}

/// Passes usable memory to the frame allocator. Of more ranges than it takes, the last are unused.
fn take_memory(info: &BootInfo, offset: u64, reserved_end: u64) {
    let mut usable = [const { Range { start: 0, end: 0 } }; MAX_RANGES];
    let regions =
        info.memory_regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable);
    let mut count: usize = 0;
    for region in regions {
        match count.checked_sub(1).and_then(|last| usable.get_mut(last)) {
            // Firmware lists many regions that are neighbours.
            Some(last) if last.end == region.start => last.end = region.end,
            _ => {
                let Some(next) = usable.get_mut(count) else { break };
                *next = region.start..region.end;
                count += 1;
            }
        }
    }
    let root = PhysAddr(arch::context::kernel_page_table());
    // SAFETY: the loader reports which memory is usable. The lower half of its tables is no longer
    // needed: this code is in the upper half.
    unsafe {
        arch::drop_lower_half(offset);
        mem::init(offset, &usable, reserved_end, root);
    }
}

/// The file systems that need no server.
static FILE_SYSTEM_TYPES: [FileSystemType; 3] = [
    FileSystemType { name: b"devtmpfs", make: || Arc::new(DeviceFileSystem) },
    FileSystemType { name: b"proc", make: || Arc::new(ProcFileSystem) },
    FileSystemType { name: b"sysfs", make: || Arc::new(SysFileSystem) },
];

/// Mounts the file systems that need no server.
fn mount_own() -> Result<(), Errno> {
    let mount = |path: &[u8], filesystem: Arc<dyn FileSystem>| {
        let source = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        namespace::root().mount(MountPoint { path: path.to_vec(), source, filesystem })
    };
    filesystem::register_types(&FILE_SYSTEM_TYPES);
    mount(b"/dev", filesystem::make(b"devtmpfs")?)?;
    mount(b"/proc", filesystem::make(b"proc")?)?;
    mount(b"/sys", filesystem::make(b"sysfs")?)
}

fn start_init(ramdisk: &[u8]) -> Result<(), Errno> {
    let program = archive::find(ramdisk, INIT_MEMBER).ok_or(Errno::ENOENT)?;
    let how = OpenHow { flags: OpenFlags::READ | OpenFlags::WRITE, mode: 0 };
    let (console, place) = namespace::root().open(b"/", b"/dev/console", how)?;
    let console = OpenFile::new(
        console,
        Status::READ | Status::WRITE,
        place.path,
        Some(place.filesystem),
        &Account::new(),
    )?;
    let mut files = FdTable::new();
    for _ in 0..3 {
        files.insert(Descriptor { file: console.clone(), on_exec: OnExec::Keep }, 0..3)?;
    }
    init::make(program, INIT_PATH, files)
}
