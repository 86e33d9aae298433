//! Reading and writing through descriptors.

use super::arguments::{buffers, open_file, position, vectors};
use super::mutants;
use crate::file::{
    Caller, Fd, FileObject, FileSystem, FileType, MovesPosition, OpenFile, SetAttr, Status,
    UserBuffers, Wanted, check_length, mapped,
};
use crate::mem::{UserAddr, UserSlice};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::AttrMask;
use linux_raw_sys::general as linux;

/// The signal for a write without readers.
const SIGPIPE: u8 = linux::SIGPIPE as u8;

/// Raises SIGPIPE where a write gave EPIPE.
pub(super) fn with_signal(
    current: &dyn Caller,
    written: Result<ByteCount, Errno>,
) -> Result<u64, Errno> {
    if written == Err(Errno::EPIPE) {
        current.raise(SIGPIPE);
    }
    written.map(|count| count.0)
}

/// Implements read(2).
pub fn read(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::READ)?;
    let mut to = UserBuffers::one(UserSlice::new(buffer, length)?);
    file.read(current, &mut to).map(|count| count.0)
}

/// Implements write(2).
pub fn write(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::WRITE)?;
    let written = file.write(current, &mut UserBuffers::one(UserSlice::new(buffer, length)?));
    with_signal(current, written)
}

/// Moves bytes by a vector, which is copied from the program once (X4). `transfer` gets the number
/// of bytes that were moved before.
fn by_vector(
    current: &dyn Caller,
    vector: UserAddr,
    count: u64,
    mut transfer: impl FnMut(&mut UserBuffers, ByteCount) -> Result<ByteCount, Errno>,
) -> Result<ByteCount, Errno> {
    if let Some(result) = mutants::vector_again(current, vector, count, &mut transfer) {
        return result;
    }
    transfer(&mut vectors(current, vector, count)?, ByteCount::ZERO)
}

/// Implements readv(2).
pub fn readv(current: &dyn Caller, fd: Fd, vector: UserAddr, count: u64) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::READ)?;
    by_vector(current, vector, count, |to, _| file.read(current, to)).map(|count| count.0)
}

/// Implements writev(2).
pub fn writev(current: &dyn Caller, fd: Fd, vector: UserAddr, count: u64) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::WRITE)?;
    let written = by_vector(current, vector, count, |from, _| file.write(current, from));
    with_signal(current, written)
}

/// Implements pread64(2).
pub fn pread64(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
    offset: i64,
) -> Result<u64, Errno> {
    let at = position(offset)?;
    let file = open_file(current, fd)?;
    file.require_positions()?;
    file.require(Status::READ)?;
    file.read_at(current, &mut buffers(buffer, length)?, at).map(|count| count.0)
}

/// Implements pwrite64(2).
pub fn pwrite64(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
    offset: i64,
) -> Result<u64, Errno> {
    let at = position(offset)?;
    let file = open_file(current, fd)?;
    file.require_positions()?;
    file.require(Status::WRITE)?;
    file.write_at(current, &mut buffers(buffer, length)?, at).map(|count| count.0)
}

/// preadv(2). On this architecture the lower half of the offset is all of it.
pub fn preadv(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
) -> Result<u64, Errno> {
    let at = position(offset)?;
    let file = open_file(current, fd)?;
    file.require_positions()?;
    file.require(Status::READ)?;
    by_vector(current, vector, count, |to, done| file.read_at(current, to, at + done))
        .map(|count| count.0)
}

/// Implements pwritev(2).
pub fn pwritev(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
) -> Result<u64, Errno> {
    let at = position(offset)?;
    let file = open_file(current, fd)?;
    file.require_positions()?;
    file.require(Status::WRITE)?;
    by_vector(current, vector, count, |from, done| file.write_at(current, from, at + done))
        .map(|count| count.0)
}

/// What preadv2(2) and pwritev2(2) can do besides. Without effect: `RWF_HIPRI`, and for reads
/// `RWF_SYNC` and `RWF_DSYNC`.
fn transfer_flags(flags: u32) -> Result<(), Errno> {
    const HIGH_PRIORITY: u32 = linux::RWF_HIPRI;
    let known = HIGH_PRIORITY | linux::RWF_SYNC | linux::RWF_DSYNC | linux::RWF_APPEND;
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// preadv2(2). Offset -1 means the file position. EOPNOTSUPP for flags that are not known, and for
/// `RWF_NOWAIT`.
pub fn preadv2(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<u64, Errno> {
    transfer_flags(flags)?;
    match offset {
        -1 => readv(current, fd, vector, count),
        offset => preadv(current, fd, vector, count, offset),
    }
}

/// pwritev2(2), as [`preadv2`]. With `RWF_APPEND` it writes at the end of the file; with `RWF_SYNC`
/// or `RWF_DSYNC` it returns when the data are on stable storage.
pub fn pwritev2(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<u64, Errno> {
    transfer_flags(flags)?;
    let written = match (flags & linux::RWF_APPEND, offset) {
        (0, -1) => writev(current, fd, vector, count),
        (0, offset) => pwritev(current, fd, vector, count, offset),
        (_, -1) => append(current, fd, vector, count, MovesPosition::Yes),
        (_, offset) => {
            position(offset)?;
            append(current, fd, vector, count, MovesPosition::No)
        }
    }?;
    if flags & (linux::RWF_SYNC | linux::RWF_DSYNC) != 0 && written > 0 {
        fsync(current, fd)?;
    }
    Ok(written)
}

/// Writes at the end of a file that was not opened for that.
fn append(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    moves: MovesPosition,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::WRITE)?;
    if moves == MovesPosition::No {
        file.require_positions()?;
    }
    let written = by_vector(current, vector, count, |from, _| file.append(current, from, moves));
    with_signal(current, written)
}

/// Implements lseek(2).
pub fn lseek(current: &dyn Caller, fd: Fd, offset: i64, whence: u32) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    file.with_position(|position| {
        let from = |base: u64| {
            let target = i64::try_from(base).ok().and_then(|base| base.checked_add(offset));
            target.and_then(|target| u64::try_from(target).ok()).ok_or(Errno::EINVAL)
        };
        let target = match whence {
            linux::SEEK_SET => from(0)?,
            linux::SEEK_CUR => from(position.0)?,
            linux::SEEK_END => from(file.object().stat()?.size.0)?,
            linux::SEEK_DATA | linux::SEEK_HOLE => data_or_hole(&file, offset, whence)?,
            _ => return Err(Errno::EINVAL),
        };
        *position = FileOffset(target);
        Ok(target)
    })
}

/// SEEK_DATA and SEEK_HOLE. A hole follows the end of every file.
fn data_or_hole(file: &OpenFile, offset: i64, whence: u32) -> Result<u64, Errno> {
    let stat = file.object().stat()?;
    if stat.file_type != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    let at = u64::try_from(offset).ok().filter(|&at| at < stat.size.0).ok_or(Errno::ENXIO)?;
    let wanted = if whence == linux::SEEK_DATA { Wanted::Data } else { Wanted::Hole };
    match (file.object().find(FileOffset(at), stat.size, wanted)?, wanted) {
        (Some(found), _) => Ok(found.0),
        (None, Wanted::Hole) => Ok(stat.size.0),
        (None, Wanted::Data) => Err(Errno::ENXIO),
    }
}

/// fsync(2) and fdatasync(2).
pub fn fsync(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    let written = file.write_mapped();
    let synchronised = file.object().sync();
    written.and(synchronised).map(|()| 0)
}

/// sync(2). Never fails. Waits for each server in turn.
pub fn sync(_: &dyn Caller) -> Result<u64, Errno> {
    let mounts = crate::file::namespace::root().mounts();
    for mount in &mounts {
        // The call has no way to report an error.
        let _ = sync_mount(&*mount.filesystem);
    }
    let is_written = |device| mounts.iter().any(|mount| mount.filesystem.device() == Some(device));
    mapped::write_others(is_written);
    Ok(0)
}

/// Implements syncfs(2).
pub fn syncfs(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    if let Some(filesystem) = file.filesystem() {
        sync_mount(&**filesystem)?;
    }
    Ok(0)
}

/// Waits for the server of this mount only.
fn sync_mount(filesystem: &dyn FileSystem) -> Result<(), Errno> {
    if let Some(device) = filesystem.device() {
        mapped::write_mount(device);
    }
    filesystem.sync()
}

/// Changes a file's length.
fn resize(current: &dyn Caller, object: &Arc<dyn FileObject>, length: i64) -> Result<u64, Errno> {
    let size = position(length)? - FileOffset::ZERO;
    check_length(current, object, size)?;
    let change = SetAttr { mask: AttrMask::SIZE, size, ..SetAttr::default() };
    object.set_attr(&change).map(|()| 0)
}

/// Implements truncate(2).
pub fn truncate(current: &dyn Caller, path: UserAddr, length: i64) -> Result<u64, Errno> {
    position(length)?;
    let found =
        super::arguments::open_at(current, Fd::WORKING_DIRECTORY, path, fsproto::OpenFlags::WRITE)?;
    resize(current, &found.object, length)
}

/// Implements ftruncate(2).
pub fn ftruncate(current: &dyn Caller, fd: Fd, length: i64) -> Result<u64, Errno> {
    position(length)?;
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    file.require(Status::WRITE).map_err(|_| Errno::EINVAL)?;
    resize(current, file.object(), length)
}
