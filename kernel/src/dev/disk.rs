//! The first virtio block device, by polling.
//!
//! The device is started when it is first used. Requests go through one buffer in physical memory,
//! one at a time. A request takes only as long as QEMU needs to copy, so the driver polls.
//!
//! Lock: `DISK`, whose holder waits for nothing but the device.

#[cfg(target_os = "none")]
mod virtio;

use crate::mem::PAGE_BYTES;
use crate::sync::{SleepLock, rank};
use foundation::{ByteCount, Errno, FileOffset};

/// Bytes of a sector, the unit of reads and writes.
pub const SECTOR: usize = 512;
/// Bytes of the buffer: the largest payload of a message to a file server.
pub const BUFFER_BYTES: usize = fsproto::MAX_PAYLOAD;
const _: () = assert!(BUFFER_BYTES.is_multiple_of(PAGE_BYTES));

/// A block device.
pub trait Driver: Send {
    /// Size in sectors.
    fn sectors(&self) -> u64;
    /// The buffer of [`BUFFER_BYTES`] bytes.
    fn buffer(&mut self) -> &mut [u8];
    /// Reads from `sector` on into the first `bytes` bytes of the buffer, a multiple of [`SECTOR`].
    fn read(&mut self, sector: u64, bytes: usize) -> Result<(), Errno>;
    /// Writes the first `bytes` bytes of the buffer from `sector` on, a multiple of [`SECTOR`].
    fn write(&mut self, sector: u64, bytes: usize) -> Result<(), Errno>;
}

#[cfg(target_os = "none")]
type Device = virtio::Disk;
#[cfg(not(target_os = "none"))]
type Device = NoDevice;

/// The host has no device.
#[cfg(not(target_os = "none"))]
enum NoDevice {}

#[cfg(not(target_os = "none"))]
impl Driver for NoDevice {
    fn sectors(&self) -> u64 {
        match *self {}
    }
    fn buffer(&mut self) -> &mut [u8] {
        match *self {}
    }
    fn read(&mut self, _: u64, _: usize) -> Result<(), Errno> {
        match *self {}
    }
    fn write(&mut self, _: u64, _: usize) -> Result<(), Errno> {
        match *self {}
    }
}

/// `None` before the first use; then the device, if there is one.
static DISK: SleepLock<Option<Option<Device>>, rank::Disk> = SleepLock::new(None);

fn with<T>(act: impl FnOnce(&mut dyn Driver) -> Result<T, Errno>) -> Result<T, Errno> {
    let mut disk = DISK.lock()?;
    #[cfg(target_os = "none")]
    let found = disk.get_or_insert_with(virtio::Disk::find);
    #[cfg(not(target_os = "none"))]
    let found = disk.get_or_insert(None);
    act(found.as_mut().ok_or(Errno::ENXIO)?)
}

/// The size of the device; ENXIO where there is none.
pub fn size() -> Result<ByteCount, Errno> {
    with(|device| Ok(size_of(device)))
}

fn size_of(device: &dyn Driver) -> ByteCount {
    ByteCount(device.sectors() * SECTOR as u64)
}

/// The sectors that contain a range of bytes, truncated to the buffer: the first sector, the number
/// of bytes, and the range within them. `None` at the end of the device.
fn cover(
    device: &dyn Driver,
    at: FileOffset,
    len: ByteCount,
) -> Option<(u64, usize, core::ops::Range<usize>)> {
    let sector = at.0 / SECTOR as u64;
    let start = (at.0 % SECTOR as u64) as usize;
    let left = ByteCount(size_of(device).0.checked_sub(at.0)?);
    let len = len.min(left).to_usize().min(BUFFER_BYTES - start);
    (len > 0).then(|| (sector, (start + len).next_multiple_of(SECTOR), start..start + len))
}

/// Reads up to `len` bytes from byte `at` on, and passes them to `take`. `None` at the end.
pub fn read<T>(
    at: FileOffset,
    len: ByteCount,
    take: impl FnOnce(&[u8]) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    with(|device| {
        let Some((sector, bytes, range)) = cover(device, at, len) else { return Ok(None) };
        device.read(sector, bytes)?;
        take(device.buffer().get(range).unwrap_or_default()).map(Some)
    })
}

/// Writes up to `len` bytes at byte `at`. `fill` provides the bytes and returns how many. Returns
/// the number of bytes written, or `None` at the end.
pub fn write(
    at: FileOffset,
    len: ByteCount,
    fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Option<usize>, Errno> {
    with(|device| {
        let Some((sector, bytes, range)) = cover(device, at, len) else { return Ok(None) };
        if range != (0..bytes) {
            device.read(sector, bytes)?;
        }
        let filled =
            fill(device.buffer().get_mut(range.clone()).unwrap_or_default())?.min(range.len());
        let end = range.start + filled;
        if !end.is_multiple_of(SECTOR) && range == (0..bytes) {
            // The last sector is incomplete and its other bytes were not read: leave it out.
            let whole = end / SECTOR * SECTOR;
            if whole > 0 {
                device.write(sector, whole)?;
            }
            return Ok(Some(whole));
        }
        device.write(sector, end.next_multiple_of(SECTOR))?;
        Ok(Some(filled))
    })
}
