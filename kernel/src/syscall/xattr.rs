//! Extended attributes: no file system here has any.

use super::arguments::{open_file, stat_at};
use crate::file::{Caller, Fd};
use crate::mem::UserAddr;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// EOPNOTSUPP for an existing file. Programs take it for an empty set of attributes.
fn unsupported(current: &dyn Caller, path: UserAddr, flags: u32) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, flags)?;
    Err(Errno::EOPNOTSUPP)
}

/// getxattr(2), setxattr(2) and removexattr(2).
pub fn attribute(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    unsupported(current, path, 0)
}

/// lgetxattr(2), lsetxattr(2) and lremovexattr(2).
pub fn link_attribute(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    unsupported(current, path, linux::AT_SYMLINK_NOFOLLOW)
}

/// fgetxattr(2), fsetxattr(2) and fremovexattr(2).
pub fn file_attribute(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path()?;
    Err(Errno::EOPNOTSUPP)
}

/// listxattr(2): an empty list.
pub fn list(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, 0).map(|_| 0)
}

/// Implements llistxattr(2).
pub fn list_link(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, linux::AT_SYMLINK_NOFOLLOW).map(|_| 0)
}

/// Implements flistxattr(2).
pub fn list_file(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path().map(|()| 0)
}
