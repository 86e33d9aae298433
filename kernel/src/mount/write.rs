//! write(2) to a server's file: the bytes travel, a message at a time.

use alloc::vec::Vec;

use fsproto::{Errno, MAX_PAYLOAD, WriteFlags};

use super::remote_file::RemoteFile;
use crate::file::{Io, UserBuffers, WriteAt, Written};

/// Writes all of `from` that can be written. An error counts only where nothing was written before it.
pub fn write(file: &RemoteFile, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
    let mut done = Written::default();
    let mut at = at;
    while from.remaining() > 0 {
        match write_message(file, io, from, at) {
            Ok(written) => {
                done = Written { bytes: done.bytes + written.bytes, end: written.end };
                if written.bytes == 0 {
                    break;
                }
                // What follows an append follows it in the file only if nobody else appends: the server decides again.
                if at != WriteAt::End {
                    at = WriteAt::Offset(written.end);
                }
            }
            Err(error) if done.bytes == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn write_message(file: &RemoteFile, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
    let wanted = from.remaining().min(MAX_PAYLOAD as u64) as usize;
    let mut data = Vec::new();
    data.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
    data.resize(wanted, 0);
    let taken = from.take(io.space, &mut data)?;
    data.truncate(taken);
    let (offset, flags) = match at {
        WriteAt::Offset(offset) => (offset, WriteFlags::empty()),
        WriteAt::End => (0, WriteFlags::APPEND),
    };
    let request = fsproto::Write { handle: file.handle(), offset, flags, data_bytes: taken as u32 };
    let (reply, _) = file.mount().session().call(&request, &[&data])?;
    let end = reply.offset.checked_add(reply.length).filter(|_| reply.length <= taken as u64).ok_or(Errno::EIO)?;
    Ok(Written { bytes: reply.length, end })
}
