//! Extended attributes: no file system here has any.

use super::arguments::{open_file, stat_at};
use crate::file::{Caller, Fd};
use crate::mem::UserAddr;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// Longest name of an attribute in bytes, as on Linux.
const MAX_NAME: usize = 255;
/// Longest value of an attribute in bytes, as on Linux.
const MAX_VALUE: u64 = 65536;

/// Checks the name of an attribute. EFAULT, ERANGE for one that is empty or too long.
fn check_name(current: &dyn Caller, name: UserAddr) -> Result<(), Errno> {
    match current.space().read_string(name, MAX_NAME + 1)? {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(Errno::ERANGE),
    }
}

/// The result of asking for an attribute of an existing file, or of removing it. Programs take it
/// for an empty set of attributes.
fn unsupported(current: &dyn Caller, name: UserAddr) -> Result<u64, Errno> {
    check_name(current, name)?;
    Err(Errno::EOPNOTSUPP)
}

/// The result of setting an attribute of an existing file. EINVAL for unknown flags, E2BIG for a
/// value that is too long.
fn cannot_set(current: &dyn Caller, name: UserAddr, length: u64, flags: u32) -> Result<u64, Errno> {
    super::arguments::only(flags, linux::XATTR_CREATE | linux::XATTR_REPLACE)?;
    check_name(current, name)?;
    if length > MAX_VALUE { Err(Errno::E2BIG) } else { Err(Errno::EOPNOTSUPP) }
}

/// Implements setxattr(2).
pub fn setxattr(
    current: &dyn Caller,
    path: UserAddr,
    name: UserAddr,
    _value: UserAddr,
    length: u64,
    flags: u32,
) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, 0)?;
    cannot_set(current, name, length, flags)
}

/// Implements lsetxattr(2).
pub fn lsetxattr(
    current: &dyn Caller,
    path: UserAddr,
    name: UserAddr,
    _value: UserAddr,
    length: u64,
    flags: u32,
) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, linux::AT_SYMLINK_NOFOLLOW)?;
    cannot_set(current, name, length, flags)
}

/// Implements fsetxattr(2).
pub fn fsetxattr(
    current: &dyn Caller,
    fd: Fd,
    name: UserAddr,
    _value: UserAddr,
    length: u64,
    flags: u32,
) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path()?;
    cannot_set(current, name, length, flags)
}

/// getxattr(2) and removexattr(2).
pub fn getxattr(current: &dyn Caller, path: UserAddr, name: UserAddr) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, 0)?;
    unsupported(current, name)
}

/// lgetxattr(2) and lremovexattr(2).
pub fn lgetxattr(current: &dyn Caller, path: UserAddr, name: UserAddr) -> Result<u64, Errno> {
    stat_at(current, Fd::WORKING_DIRECTORY, path, linux::AT_SYMLINK_NOFOLLOW)?;
    unsupported(current, name)
}

/// fgetxattr(2) and fremovexattr(2).
pub fn fgetxattr(current: &dyn Caller, fd: Fd, name: UserAddr) -> Result<u64, Errno> {
    open_file(current, fd)?.require_not_path()?;
    unsupported(current, name)
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
