//! The virtio device: found on PCI bus 0, driven by the crate `virtio-drivers`.

use super::{BUFFER_BYTES, Driver, SECTOR};
use crate::mem::{Claim, Frame, PAGE_BYTES, PhysAddr, frame, phys};
use core::ptr::NonNull;
use foundation::Errno;
use virtio_drivers::device::blk::VirtIOBlk;
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
        // Never freed: the device is kept for ever. It leaks only where starting the device fails.
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

/// The device.
pub struct Disk {
    device: VirtIOBlk<Memory, PciTransport>,
    buffer: NonNull<u8>,
}

// SAFETY: this object owns the buffer.
unsafe impl Send for Disk {}

impl Disk {
    /// Finds the first device and starts it.
    pub fn find() -> Option<Self> {
        let mut root = PciRoot::new(Ports);
        let (place, _) = root
            .enumerate_bus(0)
            .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block))?;
        root.set_command(place, Command::MEMORY_SPACE | Command::BUS_MASTER);
        let bars = root.bars(place).ok()?;
        let reachable = |(address, size): (u64, u64)| {
            address.checked_add(size).is_some_and(|end| end <= DIRECT_MAP_BYTES)
        };
        if !bars.iter().flatten().filter_map(|bar| bar.memory_address_size()).all(reachable) {
            log::warn!("disk: its registers are above 4 GiB");
            return None;
        }
        let row = frame::take_row((BUFFER_BYTES / PAGE_BYTES) as u64)?;
        // Allocated now, so that swapping out needs no memory.
        small(BufferDirection::Both);
        let transport = PciTransport::new::<Memory, _>(&mut root, place).ok()?;
        debug_assert_eq!(transport.device_type(), DeviceType::Block);
        let mut device = VirtIOBlk::new(transport).ok()?;
        device.disable_interrupts();
        Some(Self { device, buffer: NonNull::new(phys::phys_to_virt(row))? })
    }

    fn part(&mut self, bytes: usize) -> &'static mut [u8] {
        // SAFETY: this object owns the buffer for ever, and it has this length; each caller is done
        // with it before the next one gets it.
        unsafe { core::slice::from_raw_parts_mut(self.buffer.as_ptr(), bytes.min(BUFFER_BYTES)) }
    }
}

impl Driver for Disk {
    fn sectors(&self) -> u64 {
        self.device.capacity()
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.part(BUFFER_BYTES)
    }

    fn read(&mut self, sector: u64, bytes: usize) -> Result<(), Errno> {
        let part = self.part(bytes / SECTOR * SECTOR);
        self.device.read_blocks(sector as usize, part).map_err(|_| Errno::EIO)
    }

    fn write(&mut self, sector: u64, bytes: usize) -> Result<(), Errno> {
        let part = self.part(bytes / SECTOR * SECTOR);
        self.device.write_blocks(sector as usize, part).map_err(|_| Errno::EIO)
    }
}
