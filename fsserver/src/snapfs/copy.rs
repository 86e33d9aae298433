//! Copies of ranges on the base, and which files may share storage because of them.

use alloc::collections::BTreeSet;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{CloneRange, FileId, Handle, MAX_PAYLOAD, Write, WriteFlags, Written};

use crate::buffer::AlignedBuffer;
use crate::{Base, Connection};

/// Number of files that are remembered as sharing storage. Beyond it every file counts as sharing.
const MAX_SHARING: usize = 8192;

/// A byte of an open file on the base.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub handle: Handle,
    pub offset: FileOffset,
}

/// Copies ranges: by the base's own request, or by reading and writing where it has none.
pub(super) struct Copier {
    /// Whether the base supports [`CloneRange`]; false once it has refused.
    base_clones: bool,
    /// Files that the base may have let share storage: changing them may need space although
    /// nothing is added.
    sharing: BTreeSet<FileId>,
    all_share: bool,
}

impl Default for Copier {
    fn default() -> Self {
        Self { base_clones: true, sharing: BTreeSet::new(), all_share: false }
    }
}

impl Copier {
    /// Copies `length` bytes. Both ranges lie within their files, or at the end of the target.
    /// `buffer` holds the bytes on their way where the base does not copy by itself.
    pub fn copy<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        buffer: &mut AlignedBuffer,
        from: Position,
        to: Position,
        length: ByteCount,
    ) -> Result<Written, Errno> {
        if self.base_clones {
            let request = CloneRange {
                source: from.handle,
                source_offset: from.offset.0,
                target: to.handle,
                target_offset: to.offset,
                length,
            };
            match base.request(&request, &[]) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.base_clones = false,
                Err(error) => return Err(error),
                Ok(written) if written.length == length => return Ok(written),
                Ok(_) => return Err(Errno::EIO),
            }
        }
        copy_through(base, buffer, from, to, length)
    }

    /// The file took part in a copy.
    pub fn note_sharing(&mut self, id: FileId) {
        self.all_share |= self.sharing.len() >= MAX_SHARING;
        if !self.all_share {
            self.sharing.insert(id);
        }
    }

    /// Whether the file may share storage with another one.
    pub fn may_share(&self, id: FileId) -> bool {
        self.all_share || self.sharing.contains(&id)
    }
}

/// Copies by reading into `buffer` and writing from it: the copy shares no storage.
pub(super) fn copy_through<C: Connection>(
    base: &mut Base<C>,
    buffer: &mut AlignedBuffer,
    from: Position,
    to: Position,
    length: ByteCount,
) -> Result<Written, Errno> {
    let mut done = ByteCount::ZERO;
    let mut last = Written::default();
    while done < length {
        let count = (length - done).min(ByteCount::of_len(MAX_PAYLOAD));
        let bytes = buffer.bytes_mut().get_mut(..count.to_usize()).ok_or(Errno::EIO)?;
        base.read_exact(from.handle, (from.offset + done).0, bytes)?;
        let request = Write {
            handle: to.handle,
            offset: to.offset + done,
            flags: WriteFlags::empty(),
            data_bytes: bytes.len() as u32,
        };
        last = base.request(&request, &[bytes])?;
        if last.length != count {
            return Err(Errno::EIO);
        }
        done += count;
    }
    Ok(Written { length, offset: to.offset, ..last })
}
