//! The system call getrandom(2).

use super::arguments::buffers;
use crate::file::{Caller, random};
use crate::mem::UserAddr;
use foundation::{ByteCount, Errno};
use linux_raw_sys::general as linux;

/// Implements getrandom(2).
pub fn getrandom(
    current: &dyn Caller,
    buffer: UserAddr,
    length: ByteCount,
    flags: u32,
) -> Result<u64, Errno> {
    if flags & !(linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut to = buffers(buffer, length)?;
    random::put(current.space(), &mut to).map(|count| count.0)
}
