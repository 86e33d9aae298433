//! Transfers between a disk and frames.
//!
//! Disks move whole sectors. The bytes of a [`Part`] begin in its frames where they begin in their
//! first sector, so that frames and sectors have the same boundaries. A write of part of a sector
//! reads the sector first, under the same lock, so that no other write comes between.

use super::{Disk, Opening};
use crate::mem::{Frame, PAGE_BYTES};
use foundation::{ByteCount, Errno, FileOffset};

/// Bytes of a sector, the unit of reads and writes.
pub const SECTOR: usize = 512;
/// Pages of one transfer, at most: the largest payload of a message to a file server.
pub const MAX_PAGES: usize = fsproto::MAX_PAYLOAD / PAGE_BYTES;
const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR));

/// Bytes of a disk that one transfer can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    sector: u64,
    /// Bytes of the first sector that precede them.
    start: usize,
    len: usize,
}

impl Part {
    /// Where the bytes begin in the first frame.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The number of bytes, above 0.
    pub fn bytes(&self) -> usize {
        self.len
    }

    /// The end of the bytes, from the start of the first frame.
    pub fn end(&self) -> usize {
        self.start + self.len
    }

    /// The number of frames needed.
    pub fn pages(&self) -> usize {
        self.end().div_ceil(PAGE_BYTES)
    }

    /// Whether only whole sectors are covered.
    pub fn is_aligned(&self) -> bool {
        self.start == 0 && self.len.is_multiple_of(SECTOR)
    }

    /// The bytes that lie in the first `pages` frames. `None` for none.
    pub fn within(self, pages: usize) -> Option<Self> {
        let len = self.len.min((pages * PAGE_BYTES).checked_sub(self.start)?);
        (len > 0).then_some(Self { len, ..self })
    }

    /// Bytes of the sectors that are covered, in whole or in part.
    fn sector_bytes(&self) -> usize {
        self.end().next_multiple_of(SECTOR)
    }
}

impl Disk {
    /// The first bytes of a range, as many as one transfer can move. `None` where the range is
    /// empty or begins at or past the end of the disk.
    pub fn part(&self, at: FileOffset, len: ByteCount) -> Option<Part> {
        let (sector, start) = (at.0 / SECTOR as u64, (at.0 % SECTOR as u64) as usize);
        let left = ByteCount(self.size().0.checked_sub(at.0)?);
        let len = len.min(left).to_usize().min(MAX_PAGES * PAGE_BYTES - start);
        (len > 0).then_some(Part { sector, start, len })
    }
}

impl Opening {
    /// Reads a part into frames that nobody else holds. The other bytes of its sectors are read,
    /// too.
    pub fn read(&self, part: Part, into: &mut [Frame]) -> Result<(), Errno> {
        debug_assert_eq!(into.len(), part.pages());
        self.disk().queue.lock()?.driver.read(part.sector, into, part.sector_bytes())
    }

    /// Writes a part from frames. Nobody else may hold them unless the part is aligned, because the
    /// other bytes of its sectors are filled in.
    pub fn write(&self, part: Part, from: &mut [Frame]) -> Result<(), Errno> {
        debug_assert_eq!(from.len(), part.pages());
        let mut queue = self.disk().queue.lock()?;
        let queue = &mut *queue;
        for edge in [part.start, part.end()].into_iter().filter(|edge| edge % SECTOR != 0) {
            let first = edge / SECTOR * SECTOR;
            let others = if edge == part.start { first..edge } else { edge..first + SECTOR };
            queue.driver.read(part.sector + (first / SECTOR) as u64, &mut queue.edge, SECTOR)?;
            let [read] = &queue.edge;
            let page = from.get_mut(first / PAGE_BYTES).and_then(Frame::bytes_mut);
            let page = page.ok_or(Errno::EIO)?;
            for at in others {
                let byte = read.bytes().get(at - first).copied().unwrap_or_default();
                page.get_mut(at % PAGE_BYTES).into_iter().for_each(|to| *to = byte);
            }
        }
        let written = queue.driver.write(part.sector, from, part.sector_bytes());
        if let (Err(error), false) = (&written, queue.has_failed) {
            let (serial, error) = (self.disk().serial().escape_ascii(), error.text());
            log::warn!("disk {serial}: a write failed ({error}); the host's disk may be full");
        }
        queue.has_failed = written.is_err();
        written
    }

    /// Returns when all that was written is on stable storage.
    pub fn flush(&self) -> Result<(), Errno> {
        self.disk().queue.lock()?.driver.flush()
    }
}
