//! The system call statx(2).

use super::arguments::{only, stat_at, store};
use super::attributes::{block_bytes, put_words};
use crate::file::{Caller, Fd, Stat};
use crate::mem::UserAddr;
use foundation::Errno;
use fsproto::Time;
use linux_raw_sys::general as linux;

/// Size of a `struct statx`, in bytes.
const STATX_BYTES: usize = 256;
/// The fields that are filled, whatever the request is, as on Linux. The birth time is added where
/// it is known.
const FILLED: u32 = linux::STATX_BASIC_STATS;
const NS_PER_S: i64 = 1_000_000_000;

/// Implements statx(2).
pub fn statx(
    current: &dyn Caller,
    dir: Fd,
    path: UserAddr,
    flags: u32,
    mask: u32,
    buffer: UserAddr,
) -> Result<u64, Errno> {
    const SYNC: u32 = linux::AT_STATX_SYNC_TYPE;
    only(flags, linux::AT_EMPTY_PATH | linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | SYNC)?;
    if flags & SYNC == SYNC || mask & linux::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let stat = stat_at(current, dir, path, flags & !SYNC)?;
    store(current, buffer, &statx_bytes(&stat))
}

/// The fields in their order. Mount and alignments are 0.
fn statx_bytes(stat: &Stat) -> [u8; STATX_BYTES] {
    let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let number = |device: u64| {
        [device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xffff_ff00].map(|part| part as u32)
    };
    let time =
        |time: Time| [time.0.div_euclid(NS_PER_S) as u64, time.0.rem_euclid(NS_PER_S) as u64];
    let [major, minor] = number(stat.device_number);
    let [device_major, device_minor] = number(stat.device);
    let filled = FILLED | if stat.btime.is_some() { linux::STATX_BTIME } else { 0 };
    let fields = [
        both(filled, block_bytes(stat) as u32),
        0,
        both(stat.links, stat.uid),
        both(stat.gid, stat.linux_mode()),
        stat.inode,
        stat.size.0,
        stat.blocks,
        0,
    ];
    let times = [stat.atime, stat.btime.unwrap_or_default(), stat.ctime, stat.mtime]
        .into_iter()
        .flat_map(time);
    let devices = [both(major, minor), both(device_major, device_minor)];
    let mut bytes = [0; STATX_BYTES];
    put_words(&mut bytes, fields.into_iter().chain(times).chain(devices));
    bytes
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
            btime: Some(Time(NS_PER_S)),
            ..Stat::default()
        };
        let bytes = statx_bytes(&stat);
        assert_eq!(
            (half(&bytes, 0), half(&bytes, 16), half(&bytes, 20), half(&bytes, 24)),
            (0xfff, 2, 3, 4)
        );
        assert_eq!(word(&bytes, 80), 1);
        assert_eq!(half(&statx_bytes(&Stat { btime: None, ..stat }), 0), 0x7ff);
        assert_eq!((half(&bytes, 28), word(&bytes, 32), word(&bytes, 40)), (0o100_644, 7, 9));
        assert_eq!((word(&bytes, 112) as i64, half(&bytes, 120)), (-1, 999_999_999));
        assert_eq!((half(&bytes, 136), half(&bytes, 140)), (0x12, 3));
        assert_eq!(size_of::<linux::statx>(), STATX_BYTES);
    }
}
