//! Attributes of files and file systems.

use super::arguments::{Found, found_at, load, only, open_file, path, stat_at, store, word};
use crate::file::{Caller, Fd, FileSystemFigures, FileType, SetAttr, Stat, namespace, tasks};
use crate::mem::UserAddr;
use foundation::Errno;
use foundation::knob;
use fsproto::{AttrMask, Time};
use linux_raw_sys::general as linux;

const EMPTY: u32 = linux::AT_EMPTY_PATH;
const NO_FOLLOW: u32 = linux::AT_SYMLINK_NOFOLLOW;

/// Size of a `struct stat`, in bytes.
const STAT_BYTES: usize = 144;
/// The unit of block counts in `struct statfs`, in bytes.
const BLOCK_BYTES: u64 = 4096;
const NS_PER_S: i64 = 1_000_000_000;

/// `st_blksize`, by which programs size their buffers. For files it is larger than a page, so that
/// reads are few and cover whole pages. It does not depend on laziness, which programs must not
/// notice.
pub(super) fn block_bytes(stat: &Stat) -> u64 {
    if stat.file_type == FileType::Regular {
        knob::BLOCK_BYTES.get().max(BLOCK_BYTES)
    } else {
        BLOCK_BYTES
    }
}

/// Writes words from the start of a structure on, as far as it has space for whole ones. Not byte
/// by byte: every stat(2) does this.
pub(super) fn put_words(bytes: &mut [u8], words: impl IntoIterator<Item = u64>) {
    for (to, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

fn stat_bytes(stat: &Stat) -> [u8; STAT_BYTES] {
    let seconds = |time: Time| time.0.div_euclid(NS_PER_S) as u64;
    let nanoseconds = |time: Time| time.0.rem_euclid(NS_PER_S) as u64;
    let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let fields = [
        stat.device,
        stat.inode,
        u64::from(stat.links),
        both(stat.linux_mode(), stat.uid),
        both(stat.gid, 0),
        stat.device_number,
        stat.size.0,
        block_bytes(stat),
        stat.blocks,
        seconds(stat.atime),
        nanoseconds(stat.atime),
        seconds(stat.mtime),
        nanoseconds(stat.mtime),
        seconds(stat.ctime),
        nanoseconds(stat.ctime),
    ];
    let mut bytes = [0; STAT_BYTES];
    put_words(&mut bytes, fields);
    bytes
}

/// Implements stat(2).
pub fn stat(current: &dyn Caller, path: UserAddr, buffer: UserAddr) -> Result<u64, Errno> {
    newfstatat(current, Fd::WORKING_DIRECTORY, path, buffer, 0)
}

/// Implements lstat(2).
pub fn lstat(current: &dyn Caller, path: UserAddr, buffer: UserAddr) -> Result<u64, Errno> {
    newfstatat(current, Fd::WORKING_DIRECTORY, path, buffer, NO_FOLLOW)
}

/// Implements fstat(2).
pub fn fstat(current: &dyn Caller, fd: Fd, buffer: UserAddr) -> Result<u64, Errno> {
    let stat = open_file(current, fd)?.object().stat()?;
    store(current, buffer, &stat_bytes(&stat))
}

/// Implements newfstatat(2).
pub fn newfstatat(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    buffer: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, EMPTY | NO_FOLLOW | linux::AT_NO_AUTOMOUNT)?;
    let stat = stat_at(current, dir, path, flags)?;
    store(current, buffer, &stat_bytes(&stat))
}

/// Implements access(2).
pub fn access(current: &dyn Caller, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    faccessat2(current, Fd::WORKING_DIRECTORY, path, mode, 0)
}

/// faccessat(2), as a system call without flags.
pub fn faccessat(current: &dyn Caller, dir: Fd, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    faccessat2(current, dir, path, mode, 0)
}

/// faccessat2(2). Every process is root: it may read and write everything, and execute what has any
/// execute permission.
pub fn faccessat2(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    mode: u32,
    flags: u32,
) -> Result<u64, Errno> {
    only(mode, linux::R_OK | linux::W_OK | linux::X_OK)?;
    only(flags, EMPTY | NO_FOLLOW | linux::AT_EACCESS)?;
    let stat = stat_at(current, dir, path, flags)?;
    let executable = stat.file_type == FileType::Directory || stat.mode & 0o111 != 0;
    if mode & linux::X_OK != 0 && !executable { Err(Errno::EACCES) } else { Ok(0) }
}

fn change(found: &Found, change: SetAttr) -> Result<u64, Errno> {
    found.object.set_attr(&change)?;
    Ok(0)
}

fn mode_change(mode: u32) -> SetAttr {
    SetAttr { mask: AttrMask::MODE, mode: mode as u16 & 0o7777, ..SetAttr::default() }
}

/// Implements chmod(2).
pub fn chmod(current: &dyn Caller, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    fchmodat(current, Fd::WORKING_DIRECTORY, path, mode)
}

/// Implements fchmod(2).
pub fn fchmod(current: &dyn Caller, fd: Fd, mode: u32) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    file.object().set_attr(&mode_change(mode))?;
    Ok(0)
}

/// fchmodat(2), as a system call without flags.
pub fn fchmodat(current: &dyn Caller, dir: Fd, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    change(&found_at(current, dir, path, 0)?, mode_change(mode))
}

/// fchmodat2(2): fchmodat(2) with flags. EOPNOTSUPP for a symbolic link itself, as on Linux.
pub fn fchmodat2(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    mode: u32,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, EMPTY | NO_FOLLOW)?;
    let found = found_at(current, dir, path, flags)?;
    if found.object.type_and_mode()?.0 == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    change(&found, mode_change(mode))
}

/// An owner or group of -1 is unchanged. The file loses its set-user-ID and set-group-ID bits in
/// any case, as on Linux.
fn owner_change(uid: u32, gid: u32) -> SetAttr {
    let mut mask = AttrMask::CLEAR_SET_ID;
    mask.set(AttrMask::UID, uid != u32::MAX);
    mask.set(AttrMask::GID, gid != u32::MAX);
    SetAttr { mask, uid, gid, ..SetAttr::default() }
}

/// Implements chown(2).
pub fn chown(current: &dyn Caller, path: UserAddr, uid: u32, gid: u32) -> Result<u64, Errno> {
    fchownat(current, Fd::WORKING_DIRECTORY, path, uid, gid, 0)
}

/// Implements lchown(2).
pub fn lchown(current: &dyn Caller, path: UserAddr, uid: u32, gid: u32) -> Result<u64, Errno> {
    fchownat(current, Fd::WORKING_DIRECTORY, path, uid, gid, NO_FOLLOW)
}

/// Implements fchown(2).
pub fn fchown(current: &dyn Caller, fd: Fd, uid: u32, gid: u32) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    file.object().set_attr(&owner_change(uid, gid))?;
    Ok(0)
}

/// Implements fchownat(2).
pub fn fchownat(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, EMPTY | NO_FOLLOW)?;
    change(&found_at(current, dir, path, flags)?, owner_change(uid, gid))
}

/// utimensat(2). A null path refers to the descriptor.
pub fn utimensat(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    times: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, EMPTY | NO_FOLLOW)?;
    let times = new_times(current, times)?;
    if times.mask.is_empty() {
        return Ok(0);
    }
    if path.is_null() && dir != Fd::WORKING_DIRECTORY {
        only(flags, 0)?;
        let file = open_file(current, dir)?;
        file.require_not_path()?;
        file.object().set_attr(&times)?;
        return Ok(0);
    }
    change(&found_at(current, dir, path, flags)?, times)
}

/// utimes(2): with microseconds.
pub fn utimes(current: &dyn Caller, path: UserAddr, times: UserAddr) -> Result<u64, Errno> {
    futimesat(current, Fd::WORKING_DIRECTORY, path, times)
}

/// futimesat(2): with microseconds.
pub fn futimesat(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    times: UserAddr,
) -> Result<u64, Errno> {
    let mut wanted = new_times(current, UserAddr::NULL)?;
    if !times.is_null() {
        let mut bytes = [0; 32];
        load(current, times, &mut bytes)?;
        let time = |at: usize| match (word(&bytes, at) as i64, word(&bytes, at + 8)) {
            (seconds, micros @ 0..1_000_000) => {
                Ok(Time(seconds.saturating_mul(NS_PER_S).saturating_add(micros as i64 * 1000)))
            }
            _ => Err(Errno::EINVAL),
        };
        (wanted.atime, wanted.mtime) = (time(0)?, time(16)?);
    }
    change(&found_at(current, dir, path, 0)?, wanted)
}

/// utime(2): with whole seconds.
pub fn utime(current: &dyn Caller, path: UserAddr, times: UserAddr) -> Result<u64, Errno> {
    let mut wanted = new_times(current, UserAddr::NULL)?;
    if !times.is_null() {
        let mut bytes = [0; 16];
        load(current, times, &mut bytes)?;
        let time = |at: usize| Time((word(&bytes, at) as i64).saturating_mul(NS_PER_S));
        (wanted.atime, wanted.mtime) = (time(0), time(8));
    }
    change(&found_at(current, Fd::WORKING_DIRECTORY, path, 0)?, wanted)
}

/// Access and modification time. A null pointer means now.
fn new_times(current: &dyn Caller, address: UserAddr) -> Result<SetAttr, Errno> {
    let now = tasks().map_or(Time(0), |tasks| tasks.now());
    let both = AttrMask::ATIME | AttrMask::MTIME;
    let mut change = SetAttr { mask: both, atime: now, mtime: now, ..SetAttr::default() };
    if address.is_null() {
        return Ok(change);
    }
    const NOW: u64 = linux::UTIME_NOW as u64;
    const OMIT: u64 = linux::UTIME_OMIT as u64;
    let mut bytes = [0; 32];
    load(current, address, &mut bytes)?;
    for (at, which) in [(0, AttrMask::ATIME), (16, AttrMask::MTIME)] {
        let (seconds, nanoseconds) = (word(&bytes, at) as i64, word(&bytes, at + 8));
        let time = match nanoseconds {
            NOW => now,
            OMIT => {
                change.mask -= which;
                continue;
            }
            0..1_000_000_000 => {
                Time(seconds.saturating_mul(NS_PER_S).saturating_add(nanoseconds as i64))
            }
            _ => return Err(Errno::EINVAL),
        };
        if which == AttrMask::ATIME {
            change.atime = time;
        } else {
            change.mtime = time;
        }
    }
    Ok(change)
}

/// Implements umask(2).
pub fn umask(current: &dyn Caller, mask: u32) -> Result<u64, Errno> {
    let mask = mask as u16 & 0o777;
    Ok(u64::from(core::mem::replace(&mut current.context().lock().umask, mask)))
}

fn statfs_bytes(figures: &FileSystemFigures) -> [u8; 120] {
    const NAME_BYTES: u64 = fsproto::MAX_NAME as u64;
    let FileSystemFigures { magic, blocks, blocks_free, files, files_free, .. } = *figures;
    let words = [
        magic,
        BLOCK_BYTES,
        blocks,
        blocks_free,
        blocks_free,
        files,
        files_free,
        0,
        NAME_BYTES,
        BLOCK_BYTES,
    ];
    let mut bytes = [0; 120];
    put_words(&mut bytes, words);
    bytes
}

/// Implements statfs(2).
pub fn statfs(current: &dyn Caller, address: UserAddr, buffer: UserAddr) -> Result<u64, Errno> {
    let path = path(current, address)?;
    let base = super::arguments::base(current, Fd::WORKING_DIRECTORY, &path)?;
    let figures = namespace::root().figures(&base, &path)?;
    store(current, buffer, &statfs_bytes(&figures))
}

/// Implements fstatfs(2).
pub fn fstatfs(current: &dyn Caller, fd: Fd, buffer: UserAddr) -> Result<u64, Errno> {
    /// `PIPEFS_MAGIC`: reported for objects without a file system.
    const NAMELESS: u64 = 0x5049_5045;
    let file = open_file(current, fd)?;
    let figures = match file.filesystem() {
        Some(filesystem) => filesystem.figures()?,
        None => FileSystemFigures { magic: NAMELESS, ..FileSystemFigures::default() },
    };
    store(current, buffer, &statfs_bytes(&figures))
}

#[cfg(test)]
mod tests {
    use super::super::arguments::half;
    use super::*;

    #[test]
    fn stat_is_laid_out_as_on_linux() {
        let stat = Stat {
            inode: 7,
            file_type: FileType::Regular,
            mode: 0o644,
            uid: 3,
            gid: 4,
            size: foundation::ByteCount(9),
            mtime: Time(-1),
            ..Stat::default()
        };
        let bytes = stat_bytes(&stat);
        assert_eq!(
            (word(&bytes, 8), half(&bytes, 24), half(&bytes, 28), half(&bytes, 32)),
            (7, 0o100_644, 3, 4)
        );
        assert_eq!(
            (word(&bytes, 48), word(&bytes, 88) as i64, word(&bytes, 96)),
            (9, -1, 999_999_999)
        );
        assert_eq!(size_of::<linux::stat>(), STAT_BYTES);
        assert_eq!(size_of::<linux::statfs64>(), 120);
    }
}
