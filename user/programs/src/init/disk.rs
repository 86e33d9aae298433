//! The disk for temporary data: the one with the serial number `scratch`, if there is one.
//!
//! It is split: first come the files that are added to the root and do not fit into memory, if
//! there are any. Of the rest, memfs spills files to the first half, and the swap file is in the
//! second half. Neither server knows of the other, and nothing on the disk outlives the machine. No
//! other disk is touched. init opens the disk exclusively and keeps the descriptor, which only the
//! two servers inherit: nobody else can open the disk, not even while a server is started again.

use fsserver::BlockDevice;
use user::prelude::*;
use user::sys::abi;

/// Where the kernel shows the disk, whatever its letter, which depends on what other disks there
/// are.
const SCRATCH: &[u8] = b"/dev/disk/by-id/virtio-scratch";

/// One half of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Half {
    First,
    Second,
}

/// The disk, or a part of it, as a block device.
#[derive(Clone, Copy)]
pub struct Disk {
    pub fd: Fd,
    first: u64,
    /// Size of the part in blocks.
    pub blocks: u64,
}

impl Disk {
    /// Opens the disk for as long as the machine runs; `None` if there is none.
    pub fn open() -> Option<Self> {
        let flags = abi::O_RDWR | abi::O_EXCL | abi::O_CLOEXEC;
        let fd = match sys::open(SCRATCH, flags, 0) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return None,
            Err(error) => {
                complain("init", SCRATCH, error);
                return None;
            }
        };
        let bytes = sys::fstat(fd).map_or(0, |stat| stat.st_size as u64);
        Some(Self { fd, first: 0, blocks: bytes / foundation::PAGE_BYTES as u64 })
    }

    /// The same device, with so many blocks of it, and with the others.
    pub fn split(self, blocks: u64) -> [Self; 2] {
        let blocks = blocks.min(self.blocks);
        let others = Self { first: self.first + blocks, blocks: self.blocks - blocks, ..self };
        [Self { blocks, ..self }, others]
    }

    /// The same device, with the blocks of one half only.
    pub fn half(self, half: Half) -> Self {
        let [first, second] = self.split(self.blocks / 2);
        if half == Half::First { first } else { second }
    }

    /// The offset on the disk at which a block begins.
    fn byte(&self, block: u64) -> u64 {
        (self.first + block) * foundation::PAGE_BYTES as u64
    }
}

impl BlockDevice for Disk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<()> {
        whole(sys::pread(self.fd, into, FileOffset(self.byte(first))), into.len())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<()> {
        whole(sys::pwrite(self.fd, from, FileOffset(self.byte(first))), from.len())
    }
}

/// Turns a short transfer into EIO: the disk transfers all bytes or fails.
fn whole(result: Result<usize>, wanted: usize) -> Result<()> {
    if result == Ok(wanted) { Ok(()) } else { Err(foundation::Errno::EIO) }
}
