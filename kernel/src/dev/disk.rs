//! The disks: sectors, serial numbers, and who has which disk open.
//!
//! A transfer moves bytes between consecutive sectors and frames that the caller holds. So no
//! memory of a program is touched while a disk's lock is held, and a request that is queued
//! allocates nothing. Whether the bytes are a program's is not known here.
//!
//! A disk that was opened exclusively has no other opening: it is the property of whoever holds
//! that one, and of those who inherit it. Being marked as a server (F8) gives no right to a disk.
//!
//! Locks: `Disk::queue`, whose holder waits for nothing but the device; `Disk::openings`; `DISKS`.

mod transfer;
#[cfg(target_os = "none")]
mod virtio;

pub use transfer::{MAX_PAGES, Part, SECTOR};

use crate::mem::{Claim, Frame, fallible};
use crate::sync::{Mutex, SleepLock, rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno};

/// The most disks: one for each letter of `/dev/vda` to `/dev/vdz`.
const MAX_DISKS: usize = 26;
/// Bytes of a serial number, at most (virtio 1.2, section 5.2.6).
pub const SERIAL_BYTES: usize = 20;

/// A block device that carries out one request at a time. Requests allocate nothing.
pub trait Driver: Send {
    /// Fills the first `bytes` bytes of frames that nobody else holds, [`MAX_PAGES`] at most, from
    /// `sector` on. `bytes` is a multiple of [`SECTOR`] above 0.
    fn read(&mut self, sector: u64, into: &mut [Frame], bytes: usize) -> Result<(), Errno>;
    /// Writes the first `bytes` bytes of frames, likewise.
    fn write(&mut self, sector: u64, from: &[Frame], bytes: usize) -> Result<(), Errno>;
    /// Returns when all that was written is on stable storage.
    fn flush(&mut self) -> Result<(), Errno>;
}

/// What is known of a device when it is found.
pub struct Device {
    /// Carries out its requests, one at a time.
    pub driver: Box<dyn Driver>,
    /// Size in sectors.
    pub sectors: u64,
    /// The serial number, padded with zeros; empty if it has none.
    pub serial: [u8; SERIAL_BYTES],
    /// Whether writes fail.
    pub read_only: bool,
}

/// What a request needs.
struct Queue {
    driver: Box<dyn Driver>,
    /// One page for the sectors that a write covers only in part.
    edge: [Frame; 1],
    /// Whether the last write failed: only the first of several is logged.
    has_failed: bool,
}

#[derive(Default)]
struct Openings {
    shared: usize,
    exclusive: bool,
}

/// A block device that was found, for as long as the machine runs.
pub struct Disk {
    number: usize,
    sectors: u64,
    serial: [u8; SERIAL_BYTES],
    read_only: bool,
    queue: SleepLock<Queue, rank::Disk>,
    openings: Mutex<Openings, rank::DiskOpenings>,
}

/// All disks, in the order of their letters. None is ever removed.
static DISKS: Mutex<Vec<Arc<Disk>>, rank::Disks> = Mutex::new(Vec::new());

/// Finds the machine's disks and starts them. Called once, at boot.
#[cfg(target_os = "none")]
pub fn start() {
    virtio::for_each(|device| {
        if add(device).is_err() {
            log::warn!("disk: one is left out, there are too many or memory is short");
        }
    });
}

/// Adds a disk. It gets the next letter.
pub fn add(device: Device) -> Result<Arc<Disk>, Errno> {
    let Device { driver, sectors, serial, read_only } = device;
    let edge = [Frame::zeroed_for(Claim::Kernel)?];
    let mut disks = DISKS.lock();
    if disks.len() == MAX_DISKS {
        return Err(Errno::ENOSPC);
    }
    fallible::reserve(&mut *disks, 1)?;
    let disk = Arc::new(Disk {
        number: disks.len(),
        sectors,
        serial,
        read_only,
        queue: SleepLock::new(Queue { driver, edge, has_failed: false }),
        openings: Mutex::new(Openings::default()),
    });
    disks.push(disk.clone());
    Ok(disk)
}

/// The disk with a number: 0 for the first one.
pub fn get(number: usize) -> Option<Arc<Disk>> {
    DISKS.lock().get(number).cloned()
}

/// Whether others may open a disk, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// They may.
    Shared,
    /// They may not.
    Exclusive,
}

/// A disk that is open. Dropping this closes it.
pub struct Opening {
    disk: Arc<Disk>,
    sharing: Sharing,
}

impl Opening {
    /// What is open.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut openings = self.disk.openings.lock();
        match self.sharing {
            Sharing::Shared => openings.shared -= 1,
            Sharing::Exclusive => openings.exclusive = false,
        }
    }
}

impl Disk {
    /// Its number: 0 for `/dev/vda`.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Size in bytes, a multiple of [`SECTOR`].
    pub fn size(&self) -> ByteCount {
        ByteCount(self.sectors.saturating_mul(SECTOR as u64))
    }

    /// Its serial number; empty if it has none.
    pub fn serial(&self) -> &[u8] {
        let end = self.serial.iter().position(|&byte| byte == 0).unwrap_or(SERIAL_BYTES);
        self.serial.get(..end).unwrap_or_default()
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Opens the disk. EBUSY where somebody has it open exclusively, or at all if this opening
    /// shall be exclusive.
    pub fn open(self: &Arc<Self>, sharing: Sharing) -> Result<Opening, Errno> {
        let mut openings = self.openings.lock();
        if openings.exclusive || sharing == Sharing::Exclusive && openings.shared > 0 {
            return Err(Errno::EBUSY);
        }
        match sharing {
            Sharing::Shared => openings.shared += 1,
            Sharing::Exclusive => openings.exclusive = true,
        }
        Ok(Opening { disk: self.clone(), sharing })
    }
}
