//! What is kept of the files of small programs: all their bytes, as long as they do not change.
//!
//! As for read-ahead, the server has declared that its files change only by this kernel's requests,
//! and each of these is announced to [`read_ahead`](super::read_ahead). Reading the bytes updates
//! the access time (X6); the programs that are started from what is kept would not update it again
//! within a day.

use foundation::{ByteCount, Errno};

use super::copy::copy;
use super::read::reason_for_eager;
use super::server_file::ServerFile;
use crate::file::{Io, UserBuffers};
use crate::mem::{KeptFile, Space, kept_file::MAX_KEPT_BYTES};
use alloc::sync::Arc;

/// All bytes of an open file: those that are kept, or else they are read and kept. `None` where the
/// file is empty or too large, changes, may change unnoticed, or reads of this space are eager.
pub(super) fn kept(file: &ServerFile, space: &Arc<Space>) -> Result<Option<KeptFile>, Errno> {
    let length = file.size;
    let is_small = !length.is_zero() && length < ByteCount::of_len(MAX_KEPT_BYTES);
    if !is_small || !file.mount.is_sole() || reason_for_eager(file, space).is_some() {
        return Ok(None);
    }
    let read_ahead = file.mount.read_ahead();
    if let Some(kept) = read_ahead.find_file(file.id) {
        return Ok(Some(kept));
    }
    let Some(before) = read_ahead.change_count(file.id) else { return Ok(None) };
    let io = Io { space, caller: None, nonblocking: false };
    // One byte more: the file may be longer than it was when it was opened.
    let wanted = length + ByteCount(1);
    let mut buffers = UserBuffers::kernel(wanted.to_usize());
    let count = copy(file, file.handle, &io, &mut buffers, 0, wanted)?;
    let Ok(kept) = KeptFile::new(&buffers.into_bytes()) else { return Ok(None) };
    let is_whole = count == length && read_ahead.keep_file(file.id, before, &kept);
    Ok(is_whole.then_some(kept))
}
