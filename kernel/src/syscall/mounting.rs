//! Mounting and unmounting.

use super::arguments::{base, only, open_file, path};
use crate::file::socket::{Endpoint, Socket};
use crate::file::{Caller, Fd, FileSystem, downcast_ref, filesystem, namespace};
use crate::mem::UserAddr;
use crate::mount::{self, Trust};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// The first process.
const INIT: u32 = 1;

/// mount(2). Types are `sloth`, with a server's descriptor in `data` (`fd=N`) and optionally
/// `untrusted`, or `direct=N` with the server's end of its connection with its base (F9); `proc`;
/// `devtmpfs`; and `swap`, also with a descriptor, which has no mount point and is for init only.
pub fn mount(
    current: &dyn Caller,
    source: UserAddr,
    target: UserAddr,
    kind: UserAddr,
    _flags: u64,
    data: UserAddr,
) -> Result<u64, Errno> {
    let kind = path(current, kind)?;
    let source = if source.is_null() { b"none".to_vec() } else { path(current, source)? };
    let target = path(current, target)?;
    let data = if data.is_null() { Vec::new() } else { path(current, data)? };
    let root = namespace::root();
    // A server for the swap file. It sees the memory of all programs, so only init may name it; a
    // mark as a server gives no right.
    if kind == b"swap" {
        if current.pid() != INIT {
            return Err(Errno::EPERM);
        }
        mount::swap::attach(server(current, &data)?)?;
        return Ok(0);
    }
    // The root needs no directory to mount on.
    let at = if target == b"/" {
        target
    } else {
        root.directory(&base(current, Fd::WORKING_DIRECTORY, &target)?, &target)?
    };
    let filesystem = make(current, &kind, &data)?;
    root.mount(namespace::MountPoint { path: at, source, filesystem })?;
    Ok(0)
}

/// umount2(2). Open files keep the file system alive.
pub fn umount2(current: &dyn Caller, target: UserAddr, flags: u32) -> Result<u64, Errno> {
    const NO_FOLLOW: u32 = 8;
    only(flags, linux::MNT_FORCE | linux::MNT_DETACH | linux::MNT_EXPIRE | NO_FOLLOW)?;
    let target = path(current, target)?;
    let point =
        namespace::root().mount_point(&base(current, Fd::WORKING_DIRECTORY, &target)?, &target)?;
    let mount = namespace::root().unmount(&point)?;
    drop(mount);
    Ok(0)
}

/// A file system of the type `kind`. ENODEV where there is none.
fn make(current: &dyn Caller, kind: &[u8], data: &[u8]) -> Result<Arc<dyn FileSystem>, Errno> {
    match kind {
        b"sloth" => {
            let untrusted = data.split(|&byte| byte == b',').any(|option| option == b"untrusted");
            let base = descriptor(data, b"direct=")?.map(|fd| endpoint(current, fd)).transpose()?;
            let trust = if untrusted { Trust::Untrusted } else { Trust::Trusted };
            mount::connect(server(current, data)?, base, trust)
        }
        name => filesystem::make(name),
    }
}

/// The connection to the server that `data` names. Whether the peer is marked as a server (F8) is
/// checked with each message.
fn server(current: &dyn Caller, data: &[u8]) -> Result<Arc<Endpoint>, Errno> {
    endpoint(current, descriptor(data, b"fd=")?.ok_or(Errno::EINVAL)?)
}

/// The packet socket of a descriptor. EINVAL for any other object.
fn endpoint(current: &dyn Caller, fd: Fd) -> Result<Arc<Endpoint>, Errno> {
    let file = open_file(current, fd)?;
    let socket = downcast_ref::<Socket>(file.object()).ok_or(Errno::EINVAL)?;
    socket.endpoint().cloned().ok_or(Errno::EINVAL)
}

/// The descriptor in the option that begins with `name`, among options separated by commas. EINVAL
/// where it is no number.
fn descriptor(data: &[u8], name: &[u8]) -> Result<Option<Fd>, Errno> {
    let option = data.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(name));
    let Some(option) = option else { return Ok(None) };
    let number = core::str::from_utf8(option).ok().and_then(|number| number.parse().ok());
    number.map(|number| Some(Fd(number))).ok_or(Errno::EINVAL)
}
