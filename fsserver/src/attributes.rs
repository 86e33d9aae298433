//! Rules on attributes that several servers share.

use fsproto::Time;

/// Maximum size of a file in bytes: offsets are signed on Linux.
pub(crate) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

/// A day in nanoseconds.
const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Whether a read at `now` updates the access time (`relatime`): it is not newer than the last
/// change, or at least a day old.
#[inline]
pub(crate) fn atime_is_due(atime: Time, mtime: Time, ctime: Time, now: Time) -> bool {
    atime <= mtime || atime <= ctime || now.0.saturating_sub(atime.0) >= DAY_NS
}
