//! Write-back of a mapped file's pages: a write of their frames, which are not copied here.

use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::{Features, WriteFlags};

use super::message::Payload;
use super::server_file::ServerFile;
use crate::mem::Frame;

/// Writes the first `length` bytes of adjacent pages at `at`. Returns how many bytes were written:
/// fewer also where the last page is written in part, since that one needs a message of its own.
pub fn write_pages(
    file: &ServerFile,
    at: FileOffset,
    pages: &[Frame],
    length: ByteCount,
) -> Result<ByteCount, Errno> {
    let whole = length.whole_pages().to_usize();
    // They are those of the first store, for which space was reserved.
    let mut flags = WriteFlags::empty();
    flags.set(WriteFlags::KEEP_TIMES, file.mount.features().contains(Features::KEEP_TIMES));
    let request = |length: ByteCount| fsproto::Write {
        handle: file.handle,
        offset: at,
        flags,
        data_bytes: length.0 as u32,
    };
    let sent;
    let (reply, _): (_, Payload) = if whole > 0 {
        let frames = pages.get(..whole).ok_or(Errno::EINVAL)?;
        sent = ByteCount::of_len(whole * PAGE_BYTES);
        file.mount.change_pages(file.id, &request(sent), frames)?
    } else {
        let page = pages.first().ok_or(Errno::EINVAL)?;
        let bytes = page.bytes().get(..length.to_usize()).ok_or(Errno::EINVAL)?;
        sent = length;
        file.mount.change(file.id, &request(sent), &[bytes])?
    };
    if reply.length > sent || reply.offset != at { Err(Errno::EIO) } else { Ok(reply.length) }
}
