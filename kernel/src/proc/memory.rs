//! `/proc/PID/mem`: a process's memory as the process itself sees it (A7). Reading fetches
//! snapshot-backed pages; writing makes pages private.

use super::mutants;
use super::node::Node;
use crate::file::{FileObject, Io, ProcessView, Stat, UserBuffers, WriteOutcome, WritePosition};
use crate::mem::{PAGE_BYTES, Space, UserAddr, UserSlice};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// A process's memory, which is kept while this file is open.
pub struct ProcessMemory {
    node: Node,
    space: Arc<Space>,
}

impl ProcessMemory {
    /// ESRCH for a zombie.
    pub fn new(view: &ProcessView) -> Result<Self, Errno> {
        Ok(Self { node: Node::Memory(view.pid), space: view.space.clone().ok_or(Errno::ESRCH)? })
    }

    /// The bytes from `at` to the end of its page, at most `max`. EIO for an address outside the
    /// program's half, as on Linux.
    fn rest_of_page(at: FileOffset, max: ByteCount) -> Result<UserSlice, Errno> {
        let in_page = ByteCount::of_len(PAGE_BYTES - at.within_page());
        UserSlice::new(UserAddr(at.0), max.min(in_page)).map_err(|_| Errno::EIO)
    }
}

impl FileObject for ProcessMemory {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.node.stat())
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        let mut done = ByteCount::ZERO;
        while !to.remaining().is_zero() && (done.is_zero() || relax(Interrupt::Killable).is_ok()) {
            let mut page = [0; PAGE_BYTES];
            let piece = Self::rest_of_page(at.saturating_add(done), to.remaining());
            let copied = piece.and_then(|piece| {
                let bytes = page.get_mut(..piece.len()).unwrap_or_default();
                if !mutants::debugger_sees_zeros(&self.space, piece, bytes) {
                    self.space.copy_in(piece, bytes).map_err(|_| Errno::EIO)?;
                }
                to.put(io.space, bytes)
            });
            match copied {
                Ok(0) => break,
                Ok(count) => done += ByteCount::of_len(count),
                Err(error) if done.is_zero() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let WritePosition::At(start) = at else { return Err(Errno::EINVAL) };
        let mut bytes = ByteCount::ZERO;
        while !from.remaining().is_zero() && (bytes.is_zero() || relax(Interrupt::Killable).is_ok())
        {
            let mut page = [0; PAGE_BYTES];
            let piece = Self::rest_of_page(start.saturating_add(bytes), from.remaining());
            let copied = piece.and_then(|piece| {
                let taken = from.take(io.space, page.get_mut(..piece.len()).unwrap_or_default())?;
                self.space
                    .copy_out(piece.take(taken), page.get(..taken).unwrap_or_default())
                    .map_err(|_| Errno::EIO)
            });
            match copied {
                Ok(0) => break,
                Ok(count) => bytes += ByteCount::of_len(count),
                Err(error) if bytes.is_zero() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(WriteOutcome::from_start(start, bytes))
    }

    fn seekable(&self) -> bool {
        true
    }
}
