//! Ranges of files: storage for them, and advice about them.

use super::arguments::{only, open_file, position};
use crate::file::{Caller, Fd, FileType, MAX_OFFSET, Status, check_length};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::AllocateMode;
use linux_raw_sys::general as linux;

const KEEP: u32 = linux::FALLOC_FL_KEEP_SIZE;
const PUNCH: u32 = linux::FALLOC_FL_PUNCH_HOLE;
const ZERO: u32 = linux::FALLOC_FL_ZERO_RANGE;

/// What fallocate(2) does with the range, one step after the other.
fn steps(mode: u32) -> Result<&'static [AllocateMode], Errno> {
    match mode {
        0 => Ok(&[AllocateMode::Extend]),
        KEEP => Ok(&[AllocateMode::KeepSize]),
        mode if mode == PUNCH | KEEP => Ok(&[AllocateMode::PunchHole]),
        ZERO => Ok(&[AllocateMode::PunchHole, AllocateMode::Extend]),
        mode if mode == ZERO | KEEP => Ok(&[AllocateMode::PunchHole, AllocateMode::KeepSize]),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// fallocate(2): allocates space, punches a hole, or makes a range zeros. The other modes, which
/// move what follows, are EOPNOTSUPP.
pub fn fallocate(
    current: &dyn Caller,
    fd: Fd,
    mode: u32,
    offset: i64,
    length: i64,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    let (Ok(offset), Ok(length @ 1..)) = (position(offset), u64::try_from(length)) else {
        return Err(Errno::EINVAL);
    };
    let (steps, length) = (steps(mode)?, ByteCount(length));
    file.require(Status::WRITE)?;
    match file.object().type_and_mode()?.0 {
        FileType::Pipe => return Err(Errno::ESPIPE),
        FileType::Regular | FileType::BlockDevice => {}
        _ => return Err(Errno::ENODEV),
    }
    if offset.checked_add(length).is_none_or(|end| end > MAX_OFFSET) {
        return Err(Errno::EFBIG);
    }
    if steps.contains(&AllocateMode::Extend) {
        check_length(current, file.object(), offset - FileOffset::ZERO + length)?;
    }
    steps.iter().try_for_each(|&step| file.object().allocate(offset, length, step))?;
    Ok(0)
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
    if file.object().type_and_mode()?.0 == FileType::Pipe {
        return Err(Errno::ESPIPE);
    }
    if length < 0 || advice > linux::POSIX_FADV_NOREUSE { Err(Errno::EINVAL) } else { Ok(0) }
}

/// readahead(2). Has no visible effect either.
pub fn readahead(current: &dyn Caller, fd: Fd, _offset: i64, _length: u64) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::READ)?;
    match file.object().type_and_mode()?.0 {
        FileType::Regular | FileType::BlockDevice => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sync_file_range(2). Writes what was stored to mappings of the file, of whatever range.
pub fn sync_file_range(
    current: &dyn Caller,
    fd: Fd,
    offset: i64,
    length: i64,
    flags: u32,
) -> Result<u64, Errno> {
    const WRITE: u32 = linux::SYNC_FILE_RANGE_WRITE;
    const BEFORE: u32 = linux::SYNC_FILE_RANGE_WAIT_BEFORE;
    const AFTER: u32 = linux::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    only(flags, WRITE | BEFORE | AFTER)?;
    position(offset)?;
    position(offset.checked_add(length).ok_or(Errno::EINVAL)?)?;
    if length < 0 {
        return Err(Errno::EINVAL);
    }
    match file.object().type_and_mode()?.0 {
        FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    if flags != 0 {
        file.write_mapped()?;
    }
    Ok(0)
}
