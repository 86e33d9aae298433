//! statx(2), and extended attributes, of which there are none.

use super::arguments::{found_at, only, open_file, path, stat_at, store};
use super::attributes::block_bytes;
use crate::file::{Caller, Fd, FileType, Stat, namespace};
use foundation::Errno;
use fsproto::{OpenFlags, Time};
use linux_raw_sys::general as linux;

/// Bytes of a `struct statx`.
const STATX_BYTES: usize = 256;
/// What is told: `STATX_BASIC_STATS`, whatever was asked for, as Linux does where it costs nothing.
const TOLD: u32 = linux::STATX_BASIC_STATS;
const NS_PER_S: i64 = 1_000_000_000;

/// statx(2).
pub fn statx(
    current: &dyn Caller,
    dir: Fd,
    path: u64,
    flags: u32,
    mask: u32,
    buffer: u64,
) -> Result<u64, Errno> {
    const SYNC: u32 = linux::AT_STATX_SYNC_TYPE;
    only(flags, linux::AT_EMPTY_PATH | linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | SYNC)?;
    if flags & SYNC == SYNC || mask & linux::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let stat = stat_at(current, dir, path, flags & !SYNC)?;
    store(current, buffer, &statx_bytes(&stat))
}

/// The fields in their order; birth time, mount and alignments are not told and 0.
fn statx_bytes(stat: &Stat) -> [u8; STATX_BYTES] {
    let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let number = |device: u64| {
        [device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xffff_ff00].map(|part| part as u32)
    };
    let time =
        |time: Time| [time.0.div_euclid(NS_PER_S) as u64, time.0.rem_euclid(NS_PER_S) as u64];
    let [major, minor] = number(stat.device_number);
    let [device_major, device_minor] = number(stat.device);
    let head = [
        both(TOLD, block_bytes(stat) as u32),
        0,
        both(stat.links, stat.uid),
        both(stat.gid, stat.linux_mode()),
        stat.inode,
        stat.size.0,
        stat.blocks,
        0,
    ];
    let times = [stat.atime, Time(0), stat.ctime, stat.mtime].into_iter().flat_map(time);
    let tail = [both(major, minor), both(device_major, device_minor)];
    let mut bytes = [0; STATX_BYTES];
    let words = head.into_iter().chain(times).chain(tail).flat_map(u64::to_le_bytes);
    bytes.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    bytes
}

/// EOPNOTSUPP for a file that is there: no file system here has extended attributes, which is what
/// programs take for "none, and go on".
fn unsupported(current: &dyn Caller, path: u64, flags: u32) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, flags)?;
    Err(Errno::EOPNOTSUPP)
}

/// getxattr(2) and setxattr(2) and removexattr(2).
pub fn attribute(current: &dyn Caller, path: u64) -> Result<u64, Errno> {
    unsupported(current, path, 0)
}

/// The same for links themselves.
pub fn link_attribute(current: &dyn Caller, path: u64) -> Result<u64, Errno> {
    unsupported(current, path, linux::AT_SYMLINK_NOFOLLOW)
}

/// The same for descriptors.
pub fn file_attribute(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path()?;
    Err(Errno::EOPNOTSUPP)
}

/// listxattr(2): an empty list.
pub fn list(current: &dyn Caller, path: u64) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, 0).map(|_| 0)
}

/// llistxattr(2).
pub fn list_link(current: &dyn Caller, path: u64) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, linux::AT_SYMLINK_NOFOLLOW).map(|_| 0)
}

/// flistxattr(2).
pub fn list_file(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path().map(|()| 0)
}

/// mknod(2).
pub fn mknod(current: &dyn Caller, path: u64, mode: u32, device: u64) -> Result<u64, Errno> {
    mknodat(current, Fd::WORKING_DIRECTORY, path, mode, device)
}

/// mknodat(2): regular files and named pipes; EPERM for the rest, which file servers do not keep.
pub fn mknodat(
    current: &dyn Caller,
    dir: Fd,
    address: u64,
    mode: u32,
    _device: u64,
) -> Result<u64, Errno> {
    let kind = match mode & linux::S_IFMT {
        0 | linux::S_IFREG => OpenFlags::empty(),
        linux::S_IFIFO => OpenFlags::PIPE,
        linux::S_IFDIR => return Err(Errno::EPERM),
        linux::S_IFSOCK | linux::S_IFCHR | linux::S_IFBLK => {
            return match found_at(current, dir, address, linux::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EEXIST),
                Err(Errno::ENOENT) => Err(Errno::EPERM),
                Err(error) => Err(error),
            };
        }
        _ => return Err(Errno::EINVAL),
    };
    let path = path(current, address)?;
    let mode = mode as u16 & 0o7777 & !current.context().lock().umask;
    let flags = kind | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    namespace::root().open(
        &super::arguments::base(current, dir, &path)?,
        &path,
        crate::file::OpenHow { flags, mode },
    )?;
    Ok(0)
}

/// fadvise64(2): advice changes nothing a program can see.
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

#[cfg(test)]
mod tests {
    use super::super::arguments::{half, word};
    use super::*;

    #[test]
    fn statx_is_laid_out_as_on_linux() {
        let stat = Stat {
            inode: 7,
            mode: 0o644,
            links: 2,
            uid: 3,
            gid: 4,
            size: foundation::ByteCount(9),
            device: 0x1203,
            mtime: Time(-1),
            ..Stat::default()
        };
        let bytes = statx_bytes(&stat);
        assert_eq!(
            (half(&bytes, 0), half(&bytes, 16), half(&bytes, 20), half(&bytes, 24)),
            (0x7ff, 2, 3, 4)
        );
        assert_eq!((half(&bytes, 28), word(&bytes, 32), word(&bytes, 40)), (0o100_644, 7, 9));
        assert_eq!((word(&bytes, 112) as i64, half(&bytes, 120)), (-1, 999_999_999));
        assert_eq!((half(&bytes, 136), half(&bytes, 140)), (0x12, 3));
        assert_eq!(size_of::<linux::statx>(), STATX_BYTES);
    }
}
