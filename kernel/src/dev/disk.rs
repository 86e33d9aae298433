//! The first virtio block device: blocks in and out, by asking until it is done.
//!
//! Nobody starts it before somebody opens it. It is reached through one buffer in physical memory,
//! and takes one request at a time; a request takes as long as QEMU needs to copy, so nobody sleeps
//! meanwhile. Lock: `DISK`, whose holder waits for nothing but the device.

#[cfg(target_os = "none")]
mod virtio;

use crate::mem::PAGE_BYTES;
use crate::sync::{SleepLock, rank};
use foundation::{ByteCount, Errno, FileOffset};

/// Bytes of a sector: the least that is read or written.
pub const SECTOR: usize = 512;
/// Bytes of the buffer: what a message to a file server carries.
pub const BUFFER_BYTES: usize = fsproto::MAX_PAYLOAD;
const _: () = assert!(BUFFER_BYTES.is_multiple_of(PAGE_BYTES));

/// What a driver does.
pub trait Driver: Send {
    /// Sectors of the device.
    fn sectors(&self) -> u64;
    /// The buffer.
    fn buffer(&mut self) -> &mut [u8];
    /// Fills the first `bytes` bytes of the buffer from a sector on.
    fn read(&mut self, sector: u64, bytes: usize) -> Result<(), Errno>;
    /// Writes them.
    fn write(&mut self, sector: u64, bytes: usize) -> Result<(), Errno>;
}

#[cfg(target_os = "none")]
type Device = virtio::Disk;
#[cfg(not(target_os = "none"))]
type Device = NoDevice;

/// What the host has.
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

/// Not looked for yet; then what was found.
static DISK: SleepLock<Option<Option<Device>>, rank::Disk> = SleepLock::new(None);

fn with<T>(act: impl FnOnce(&mut dyn Driver) -> Result<T, Errno>) -> Result<T, Errno> {
    let mut disk = DISK.lock()?;
    #[cfg(target_os = "none")]
    let found = disk.get_or_insert_with(virtio::Disk::find);
    #[cfg(not(target_os = "none"))]
    let found = disk.get_or_insert(None);
    act(found.as_mut().ok_or(Errno::ENXIO)?)
}

/// Its size in bytes; ENXIO where there is none.
pub fn size() -> Result<ByteCount, Errno> {
    with(|device| Ok(size_of(device)))
}

fn size_of(device: &dyn Driver) -> ByteCount {
    ByteCount(device.sectors() * SECTOR as u64)
}

/// Sectors around a range of bytes, as far as the buffer goes: the first one, the bytes from there,
/// and which of those are the range.
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

/// Reads some bytes from byte `at` on, `len` at most, and shows them; nothing at the end.
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

/// Has some bytes filled in that go to byte `at`, `len` at most, and writes as many as it is told
/// that there are; nothing at the end.
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
            // Only part of it came: the rest of the last sector is not known.
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
