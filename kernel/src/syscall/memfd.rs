//! memfd_create(2): a file without a name, on the server of the root directory.

use super::arguments::{install, only};
use crate::file::{Caller, OnExec, OpenFile, OpenHow, Status, namespace};
use crate::mem::{UserAddr, fallible};
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;

/// Bytes of a name, at most, as on Linux.
const MAX_NAME: usize = 249;
/// What precedes and follows the name where Linux shows it.
const BEFORE: &[u8] = b"/memfd:";
const AFTER: &[u8] = b" (deleted)";
/// Permission bits of the file.
const MODE: u16 = 0o777;

/// Implements memfd_create(2). EINVAL for huge pages and for seals, which do not exist here.
pub fn memfd_create(current: &dyn Caller, name: UserAddr, flags: u32) -> Result<u64, Errno> {
    only(flags, linux::MFD_CLOEXEC | linux::MFD_EXEC)?;
    let name = current.space().read_string(name, MAX_NAME + 1)?.ok_or(Errno::EINVAL)?;
    let how = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::UNNAMED;
    let (object, place) = namespace::root().open(b"/", b"/", OpenHow { flags: how, mode: MODE })?;
    let mut path: Vec<u8> = fallible::with_capacity(BEFORE.len() + name.len() + AFTER.len())?;
    for part in [BEFORE, &name, AFTER] {
        path.extend_from_slice(part);
    }
    let (status, filesystem) = (Status::READ | Status::WRITE, Some(place.filesystem));
    let file = OpenFile::new(object, status, path, filesystem, current.account())?;
    install(current, file, OnExec::close_if(flags & linux::MFD_CLOEXEC != 0))
}
