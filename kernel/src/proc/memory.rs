//! `/proc/PID/mem`: another process's memory as it sees it itself (A7). A page that stands for
//! bytes of a snapshot is fetched; a byte written becomes that process's own.

use super::file::stat;
use super::node::Node;
use crate::file::{FileObject, Io, ProcessView, Stat, UserBuffers, WriteAt, Written};
use crate::mem::{PAGE_BYTES, Space, UserAddr, UserSlice};
use alloc::sync::Arc;
use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno};

/// A process's memory, which lives as long as this file is open.
pub struct ProcessMemory {
    node: Node,
    space: Arc<Space>,
}

impl ProcessMemory {
    /// ESRCH for one that has none any more.
    pub fn new(view: &ProcessView) -> Result<Self, Errno> {
        Ok(Self { node: Node::Memory(view.pid), space: view.space.clone().ok_or(Errno::ESRCH)? })
    }

    /// What is left of the page at an address, `most` bytes at most. Whatever is no address of a
    /// program is EIO, as on Linux.
    fn piece(at: u64, most: u64) -> Result<UserSlice, Errno> {
        let in_page = PAGE_BYTES as u64 - at % PAGE_BYTES as u64;
        UserSlice::new(UserAddr(at), ByteCount(most.min(in_page))).map_err(|_| Errno::EIO)
    }
}

impl FileObject for ProcessMemory {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(stat(self.node))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: u64) -> Result<u64, Errno> {
        let mut done = 0;
        while to.remaining() > 0 {
            let mut page = [0; PAGE_BYTES];
            let piece = Self::piece(at.saturating_add(done), to.remaining());
            let copied = piece.and_then(|piece| {
                let bytes = page.get_mut(..piece.len()).unwrap_or_default();
                if active(Mutant::DebuggerSeesZeros) {
                    self.space.try_copy_in(piece, bytes);
                } else {
                    self.space.copy_in(piece, bytes).map_err(|_| Errno::EIO)?;
                }
                to.put(io.space, bytes)
            });
            match copied {
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
        let WriteAt::Offset(start) = at else { return Err(Errno::EINVAL) };
        let mut bytes = 0;
        while from.remaining() > 0 {
            let mut page = [0; PAGE_BYTES];
            let piece = Self::piece(start.saturating_add(bytes), from.remaining());
            let copied = piece.and_then(|piece| {
                let taken = from.take(io.space, page.get_mut(..piece.len()).unwrap_or_default())?;
                self.space
                    .copy_out(piece.take(taken), page.get(..taken).unwrap_or_default())
                    .map_err(|_| Errno::EIO)
            });
            match copied {
                Ok(0) => break,
                Ok(count) => bytes += count as u64,
                Err(error) if bytes == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Written { bytes, end: start.saturating_add(bytes) })
    }

    fn seekable(&self) -> bool {
        true
    }
}
