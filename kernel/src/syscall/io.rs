//! Reading and writing through descriptors.

use super::arguments::{buffers, open_file, position, vectors};
use super::mutants;
use crate::file::{
    Caller, Fd, FileObject, FileSystem, FileType, MAX_OFFSET, OpenFile, SetAttr, Status,
    UserBuffers, check_length, mapped,
};
use crate::mem::{UserAddr, UserSlice};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AllocateMode, AttrMask};
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

/// preadv2(2). No flag is supported; offset -1 means the file position.
pub fn preadv2(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<u64, Errno> {
    match (flags, offset) {
        (0, -1) => readv(current, fd, vector, count),
        (0, offset) => preadv(current, fd, vector, count, offset),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Implements pwritev2(2).
pub fn pwritev2(
    current: &dyn Caller,
    fd: Fd,
    vector: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<u64, Errno> {
    match (flags, offset) {
        (0, -1) => writev(current, fd, vector, count),
        (0, offset) => pwritev(current, fd, vector, count, offset),
        _ => Err(Errno::EOPNOTSUPP),
    }
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

/// SEEK_DATA and SEEK_HOLE as on a file system that does not report holes: all is data, and a hole
/// follows the end.
fn data_or_hole(file: &OpenFile, offset: i64, whence: u32) -> Result<u64, Errno> {
    let stat = file.object().stat()?;
    if stat.file_type != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    let at = u64::try_from(offset).ok().filter(|&at| at < stat.size.0).ok_or(Errno::ENXIO)?;
    Ok(if whence == linux::SEEK_DATA { at } else { stat.size.0 })
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

/// fallocate(2): allocates space, or punches a hole.
pub fn fallocate(
    current: &dyn Caller,
    fd: Fd,
    mode: u32,
    offset: i64,
    length: i64,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    let (Ok(offset), Ok(length @ 1..)) = (position(offset), u64::try_from(length)) else {
        return Err(Errno::EINVAL);
    };
    const KEEP: u32 = linux::FALLOC_FL_KEEP_SIZE;
    const PUNCH: u32 = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
    let allocation = match mode {
        0 => AllocateMode::Extend,
        KEEP => AllocateMode::KeepSize,
        PUNCH => AllocateMode::PunchHole,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    file.require(Status::WRITE)?;
    if !file.object().seekable() {
        return Err(Errno::ESPIPE);
    }
    if offset.checked_add(ByteCount(length)).is_none_or(|end| end > MAX_OFFSET) {
        return Err(Errno::EFBIG);
    }
    if allocation == AllocateMode::Extend {
        check_length(current, file.object(), offset - FileOffset::ZERO + ByteCount(length))?;
    }
    file.object().allocate(offset, ByteCount(length), allocation).map(|()| 0)
}

/// fadvise64(2). Advice has no visible effect.
pub fn fadvise64(
    current: &dyn Caller,
    fd: Fd,
    _offset: i64,
    length: i64,
    advice: u32,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    if file.object().stat()?.file_type == FileType::Pipe {
        return Err(Errno::ESPIPE);
    }
    if length < 0 || advice > linux::POSIX_FADV_NOREUSE { Err(Errno::EINVAL) } else { Ok(0) }
}
