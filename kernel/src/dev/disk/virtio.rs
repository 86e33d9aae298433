//! Virtio block devices on PCI bus 0, driven by polling: a request takes only as long as QEMU needs
//! to copy. Queue and transport are those of the crate `virtio-drivers`; the requests are made here
//! (virtio 1.2, section 5.2), because the crate's own have one buffer each, and these have a frame
//! for each page.

use super::{Device, Driver, MAX_PAGES, SERIAL_BYTES};
use crate::mem::{Claim, Frame, PAGE_BYTES, PhysAddr, frame, phys};
use alloc::boxed::Box;
use core::ptr::NonNull;
use foundation::Errno;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal};
use x86_64::instructions::port::Port;

/// Physical memory that the direct map covers with every loader: all 32-bit PCI addresses.
const DIRECT_MAP_BYTES: u64 = 1 << 32;

/// PCI configuration space by ports ("mechanism 1").
struct Ports;

impl Ports {
    fn select(device: DeviceFunction, offset: u8) {
        let DeviceFunction { bus, device, function } = device;
        let address = 1 << 31
            | u32::from(bus) << 16
            | u32::from(device) << 11
            | u32::from(function) << 8
            | u32::from(offset & 0xfc);
        // SAFETY: this only selects a register.
        unsafe { Port::new(0xcf8).write(address) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, device: DeviceFunction, offset: u8) -> u32 {
        Self::select(device, offset);
        // SAFETY: reading configuration registers has no effect.
        unsafe { Port::new(0xcfc).read() }
    }

    fn write_word(&mut self, device: DeviceFunction, offset: u8, data: u32) {
        Self::select(device, offset);
        // SAFETY: the crate writes only registers of the device that this driver owns.
        unsafe { Port::new(0xcfc).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// Memory as the device sees it. Buffers in the direct map are shared in place; those on the stack
/// (a request's header and status) are copied by way of one page.
struct Memory;

/// Bytes of that page for each direction.
const SMALL_BYTES: usize = PAGE_BYTES / 2;

static SMALL: spin::Once<u64> = spin::Once::new();

fn small(direction: BufferDirection) -> (u64, *mut u8) {
    let start =
        *SMALL.call_once(|| Frame::zeroed_for(Claim::Kernel).map_or(0, |frame| frame.leak().0));
    let address =
        start + if direction == BufferDirection::DriverToDevice { 0 } else { SMALL_BYTES as u64 };
    (address, phys::phys_to_virt(PhysAddr(address)))
}

// SAFETY: memory is allocated from the frames, for one owner; shared buffers are translated by the
// direct map, or copied.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        let row = frame::take_row(pages as u64);
        let start = row.map(phys::phys_to_virt).and_then(NonNull::new);
        let Some((row, start)) = row.zip(start) else { return (0, NonNull::dangling()) };
        // SAFETY: the frames were just taken, for this.
        unsafe { start.write_bytes(0, pages * PAGE_BYTES) };
        (row.0, start)
    }

    unsafe fn dma_dealloc(_: u64, _: NonNull<u8>, _: usize) -> i32 {
        // Never freed: devices are kept for ever. It leaks only where starting one fails.
        0
    }

    unsafe fn mmio_phys_to_virt(address: u64, _: usize) -> NonNull<u8> {
        // `find` has checked that the address is in the direct map, which has no null pointer.
        NonNull::new(phys::phys_to_virt(PhysAddr(address))).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> u64 {
        if let Some(address) =
            phys::virt_to_phys(buffer.cast::<u8>().as_ptr() as u64, DIRECT_MAP_BYTES)
        {
            return address.0;
        }
        let (address, copy) = small(direction);
        assert!(buffer.len() <= SMALL_BYTES, "a request's header is small");
        // SAFETY: both have this length, and the caller owns the buffer.
        unsafe { copy.copy_from_nonoverlapping(buffer.cast::<u8>().as_ptr(), buffer.len()) };
        address
    }

    unsafe fn unshare(address: u64, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let (small, copy) = small(direction);
        if address == small && direction != BufferDirection::DriverToDevice {
            // SAFETY: as above.
            unsafe { buffer.cast::<u8>().as_ptr().copy_from_nonoverlapping(copy, buffer.len()) };
        }
    }
}

/// The only queue of a block device.
const QUEUE: u16 = 0;
/// Its descriptors: a request has one for its header, one for its status and one for each frame.
const QUEUE_SIZE: usize = 128;
const _: () = assert!(MAX_PAGES + 2 <= QUEUE_SIZE);

bitflags::bitflags! {
    /// The features that this driver uses (section 5.2.3).
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const VERSION_1 = 1 << 32;
    }
}

/// Kinds of requests (section 5.2.6).
#[derive(Clone, Copy)]
enum Kind {
    Read = 0,
    Write = 1,
    Flush = 4,
    GetId = 8,
}

/// Bytes of a request's header: its kind, 4 bytes unused, the first sector.
const HEADER_BYTES: usize = 16;

fn header(kind: Kind, sector: u64) -> [u8; HEADER_BYTES] {
    (u128::from(sector) << 64 | kind as u128).to_le_bytes()
}

/// The status of a request that was not carried out yet; 0 means success.
const NO_STATUS: u8 = 0xff;

struct Disk {
    queue: VirtQueue<Memory, QUEUE_SIZE>,
    transport: PciTransport,
    features: Features,
}

/// Starts each block device, in the order of their places on the bus, and passes it to `add`. A
/// device that cannot be started is reported and left out.
pub fn for_each(mut add: impl FnMut(Device)) {
    // Allocated now, so that requests need no memory.
    small(BufferDirection::Both);
    let devices = PciRoot::new(Ports)
        .enumerate_bus(0)
        .filter(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block));
    for (place, _) in devices {
        match start(place) {
            Some(device) => add(device),
            None => log::warn!("disk: the device at {place} cannot be used"),
        }
    }
}

fn start(place: DeviceFunction) -> Option<Device> {
    let mut root = PciRoot::new(Ports);
    root.set_command(place, Command::MEMORY_SPACE | Command::BUS_MASTER);
    let bars = root.bars(place).ok()?;
    let reachable = |(address, size): (u64, u64)| {
        address.checked_add(size).is_some_and(|end| end <= DIRECT_MAP_BYTES)
    };
    if !bars.iter().flatten().filter_map(|bar| bar.memory_address_size()).all(reachable) {
        log::warn!("disk: registers are above 4 GiB");
        return None;
    }
    let mut transport = PciTransport::new::<Memory, _>(&mut root, place).ok()?;
    let features = transport.begin_init(Features::all());
    // The configuration space begins with the number of sectors. Its alignment is 4 bytes.
    let read = |offset| transport.read_config_space::<u32>(offset).map(u64::from);
    let sectors = transport.read_consistent(|| Ok(read(0)? | read(4)? << 32)).ok()?;
    let mut queue = VirtQueue::new(&mut transport, QUEUE, false, false).ok()?;
    queue.set_dev_notify(false);
    transport.finish_init();
    let mut disk = Box::new(Disk { queue, transport, features });
    let serial = disk.serial().unwrap_or_default();
    let read_only = features.contains(Features::READ_ONLY);
    Some(Device { driver: disk, sectors, serial, read_only })
}

impl Disk {
    /// Sends a request and waits until it was carried out.
    fn carry_out<'a>(
        &mut self,
        inputs: &'a [&'a [u8]],
        outputs: &'a mut [&'a mut [u8]],
    ) -> Result<(), Errno> {
        let sent = self.queue.add_notify_wait_pop(inputs, outputs, &mut self.transport);
        sent.map(drop).map_err(|_| Errno::EIO)
    }

    /// The serial number. `None` where the device reports none.
    fn serial(&mut self) -> Option<[u8; SERIAL_BYTES]> {
        let (header, mut status) = (header(Kind::GetId, 0), [NO_STATUS]);
        // In a frame, because there is one small buffer for each direction.
        let mut frame = Frame::zeroed_for(Claim::Kernel).ok()?;
        let serial = frame.bytes_mut()?.first_chunk_mut::<SERIAL_BYTES>()?;
        self.carry_out(&[&header], &mut [&mut *serial, &mut status]).ok()?;
        checked(status).ok().map(|()| *serial)
    }
}

/// Turns a status byte into a result.
fn checked(status: [u8; 1]) -> Result<(), Errno> {
    if status == [0] { Ok(()) } else { Err(Errno::EIO) }
}

/// The length of the part of a frame that belongs to the first `bytes` bytes of a list of frames.
fn length_in(index: usize, bytes: usize) -> usize {
    bytes.saturating_sub(index * PAGE_BYTES).min(PAGE_BYTES)
}

impl Driver for Disk {
    fn read(&mut self, sector: u64, into: &mut [Frame], bytes: usize) -> Result<(), Errno> {
        let (header, mut status) = (header(Kind::Read, sector), [NO_STATUS]);
        let mut outputs: [&mut [u8]; MAX_PAGES + 1] = core::array::from_fn(|_| &mut [][..]);
        let count = bytes.div_ceil(PAGE_BYTES);
        for (index, (frame, output)) in into.iter_mut().zip(&mut outputs).take(count).enumerate() {
            // A frame that somebody else holds must not change.
            let page = frame.bytes_mut().ok_or(Errno::EIO)?;
            *output = page.get_mut(..length_in(index, bytes)).unwrap_or_default();
        }
        *outputs.get_mut(count).ok_or(Errno::EIO)? = &mut status;
        self.carry_out(&[&header], outputs.get_mut(..=count).unwrap_or_default())?;
        checked(status)
    }

    fn write(&mut self, sector: u64, from: &[Frame], bytes: usize) -> Result<(), Errno> {
        let (header, mut status) = (header(Kind::Write, sector), [NO_STATUS]);
        let mut inputs: [&[u8]; MAX_PAGES + 1] = [&[]; MAX_PAGES + 1];
        let count = bytes.div_ceil(PAGE_BYTES);
        inputs[0] = &header;
        for (index, (frame, input)) in
            from.iter().zip(inputs.iter_mut().skip(1)).take(count).enumerate()
        {
            *input = frame.bytes().get(..length_in(index, bytes)).unwrap_or_default();
        }
        let inputs = inputs.get(..=count).ok_or(Errno::EIO)?;
        self.carry_out(inputs, &mut [&mut status])?;
        checked(status)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if !self.features.contains(Features::FLUSH) {
            return Ok(());
        }
        let (header, mut status) = (header(Kind::Flush, 0), [NO_STATUS]);
        self.carry_out(&[&header], &mut [&mut status])?;
        checked(status)
    }
}
