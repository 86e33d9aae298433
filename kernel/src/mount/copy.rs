//! The copying read: bytes of a file or a snapshot, one message after the other.

use foundation::counter::Counter;
use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::{Handle, MAX_PAYLOAD};

use super::known::Touches;
use super::server_file::ServerFile;
use crate::file::{Io, UserBuffers};
use crate::mem::make_room;

/// Frames that a copying read leaves free for programs: one more message, and as much again for
/// what the program does next.
const MARGIN_FRAMES: usize = 2 * MAX_PAYLOAD / PAGE_BYTES;

/// Copies up to `length` bytes from byte `offset` of an open file or a snapshot of it. Returns
/// fewer at its end, at the end of writable memory, and where an error follows the first bytes.
///
/// `offset` is a file offset or a snapshot offset, depending on `handle`.
pub(super) fn copy(
    file: &ServerFile,
    handle: Handle,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
    length: ByteCount,
) -> Result<ByteCount, Errno> {
    let mut done = ByteCount::ZERO;
    while done < length {
        // A read must not take the last frames: a program that gets a short count has to be able
        // to continue.
        if !done.is_zero()
            && !io.space.policy.is_server()
            && !make_room(MARGIN_FRAMES, io.space.policy.claim())?
        {
            break;
        }
        let wanted = (length - done).min(ByteCount::of_len(MAX_PAYLOAD));
        let at = offset.checked_add(done.0).ok_or(Errno::EINVAL)?;
        match copy_message(file, handle, io, to, at, wanted) {
            Ok(copied) => {
                done += copied;
                if copied < wanted {
                    break;
                }
            }
            Err(error) if done.is_zero() => return Err(error),
            Err(_) => break,
        }
    }
    io.space.counters.add(Counter::BytesReadEager, done.0);
    Ok(done)
}

fn copy_message(
    file: &ServerFile,
    handle: Handle,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
    length: ByteCount,
) -> Result<ByteCount, Errno> {
    let request = fsproto::Read { handle, offset, length: length.0 as u32 };
    let touches = Touches::File(file.id);
    let (_, payload) = file.mount.session().call_touching(touches, &request, &[])?;
    if payload.len() > length.to_usize() {
        return Err(Errno::EIO);
    }
    let mut copied = 0;
    for part in payload.parts() {
        match to.put(io.space, part) {
            Ok(count) => {
                copied += count;
                if count < part.len() {
                    break;
                }
            }
            Err(error) if copied == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(ByteCount::of_len(copied))
}
