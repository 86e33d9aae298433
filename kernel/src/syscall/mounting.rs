//! Mounting and unmounting.

use super::arguments::{base, only, open_file, path};
use crate::file::devices::DeviceFileSystem;
use crate::file::socket::Endpoint;
use crate::file::{Caller, Fd, FileSystem, downcast, namespace};
use crate::mount::{self, Trust};
use crate::proc::ProcFileSystem;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// mount(2): `sloth` with a server's descriptor in `data` (`fd=N`) and perhaps `untrusted`, `proc`
/// or `devtmpfs`; `swap`, likewise with a descriptor, is mounted nowhere.
pub fn mount(
    current: &dyn Caller,
    source: u64,
    target: u64,
    kind: u64,
    _flags: u64,
    data: u64,
) -> Result<u64, Errno> {
    let kind = path(current, kind)?;
    let source = if source == 0 { b"none".to_vec() } else { path(current, source)? };
    let target = path(current, target)?;
    let data = if data == 0 { Vec::new() } else { path(current, data)? };
    let root = namespace::root();
    // A server for the swap file: there is nothing to see of it.
    if kind == b"swap" {
        mount::swap::attach(server(current, &data)?)?;
        return Ok(0);
    }
    // Before the first file system there is no directory to mount on, and none is needed for the
    // root.
    let at = if target == b"/" {
        target
    } else {
        root.directory(&base(current, Fd::WORKING_DIRECTORY, &target)?, &target)?
    };
    let filesystem = make(current, &kind, &data)?;
    root.mount(namespace::MountPoint { path: at, source, filesystem })?;
    Ok(0)
}

/// umount2(2). Open files keep what they need of the file system.
pub fn umount2(current: &dyn Caller, target: u64, flags: u32) -> Result<u64, Errno> {
    const NO_FOLLOW: u32 = 8;
    only(flags, linux::MNT_FORCE | linux::MNT_DETACH | linux::MNT_EXPIRE | NO_FOLLOW)?;
    let target = path(current, target)?;
    let point =
        namespace::root().mount_point(&base(current, Fd::WORKING_DIRECTORY, &target)?, &target)?;
    let mount = namespace::root().unmount(&point)?;
    drop(mount);
    Ok(0)
}

/// A tree of the kind asked for.
fn make(current: &dyn Caller, kind: &[u8], data: &[u8]) -> Result<Arc<dyn FileSystem>, Errno> {
    match kind {
        b"proc" => Ok(Arc::new(ProcFileSystem)),
        b"devtmpfs" => Ok(Arc::new(DeviceFileSystem)),
        b"sloth" => {
            let untrusted = data.split(|&byte| byte == b',').any(|option| option == b"untrusted");
            mount::connect(
                server(current, data)?,
                if untrusted { Trust::Untrusted } else { Trust::Trusted },
            )
        }
        _ => Err(Errno::ENODEV),
    }
}

/// The connection to a server that `data` names. Whether its peer is marked (F8) shows with every
/// message that comes.
fn server(current: &dyn Caller, data: &[u8]) -> Result<Arc<Endpoint>, Errno> {
    let file = open_file(current, descriptor(data)?)?;
    downcast::<Endpoint>(file.object()).ok_or(Errno::EINVAL)
}

/// The descriptor in `fd=N`, among options separated by commas.
fn descriptor(data: &[u8]) -> Result<Fd, Errno> {
    let option = data
        .split(|&byte| byte == b',')
        .find_map(|option| option.strip_prefix(b"fd="))
        .ok_or(Errno::EINVAL)?;
    let number = core::str::from_utf8(option).ok().and_then(|number| number.parse().ok());
    number.map(Fd).ok_or(Errno::EINVAL)
}
