//! Making, naming and connecting sockets.

use super::address::{Address, address, bytes_of, store_address};
use super::arguments::{base, install, open_file};
use super::ipc::{Options, install_pair, nonblocking, on_exec};
use crate::file::control::Name;
use crate::file::socket::{self, Key, Node, ShutDown, Socket, SocketKind};
use crate::file::{Caller, Fd, FileObject, OpenFile, OpenHow, Status, downcast, namespace};
use crate::mem::{UserAddr, fallible};
use alloc::sync::Arc;
use foundation::Errno;
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;
use linux_raw_sys::net;

/// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`, `SOCK_SEQPACKET`, and the first number that is none.
const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
const RAW: u32 = 3;
pub(super) const PACKET: u32 = 5;
const NO_KIND: u32 = 11;
/// Address families that have a number on Linux.
const FAMILIES: u32 = 46;
/// Flags in the argument for the kind.
const FLAGS: u32 = linux::O_CLOEXEC | linux::O_NONBLOCK;
/// Bits of the kind itself.
const KIND: u32 = 0xf;

/// The kind of a new socket. There is no network: EAFNOSUPPORT for other families.
fn kind(domain: u32, kind: u32, protocol: u32) -> Result<SocketKind, Errno> {
    if kind & !(FLAGS | KIND) != 0 {
        return Err(Errno::EINVAL);
    }
    if domain >= FAMILIES {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind & KIND >= NO_KIND {
        return Err(Errno::EINVAL);
    }
    if domain != net::AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol > net::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind & KIND {
        STREAM => Ok(SocketKind::Stream),
        DATAGRAM | RAW => Ok(SocketKind::Datagram),
        PACKET => Ok(SocketKind::Packet),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Implements socket(2).
pub fn socket(
    current: &dyn Caller,
    domain: u32,
    kind_and_flags: u32,
    protocol: u32,
) -> Result<u64, Errno> {
    let kind = kind(domain, kind_and_flags, protocol)?;
    let socket = Socket::new(kind, current.account())?;
    install_socket(current, socket, kind_and_flags)
}

/// Opens a descriptor for a socket.
fn install_socket(current: &dyn Caller, socket: Arc<Socket>, flags: u32) -> Result<u64, Errno> {
    let status = Status::READ | Status::WRITE | nonblocking(flags);
    let file = OpenFile::nameless(socket, status, current.account())?;
    install(current, file, on_exec(flags))
}

/// Implements socketpair(2).
pub fn socketpair(
    current: &dyn Caller,
    domain: u32,
    kind_and_flags: u32,
    protocol: u32,
    descriptors: UserAddr,
) -> Result<u64, Errno> {
    let kind = kind(domain, kind_and_flags, protocol)?;
    let (one, other) = Socket::pair(kind, current.pid(), current.account())?;
    let options = Options { on_exec: on_exec(kind_and_flags), status: nonblocking(kind_and_flags) };
    let both = Status::READ | Status::WRITE;
    install_pair(current, descriptors, (one, both), (other, both), options)
}

/// The open file of a socket, and the socket; ENOTSOCK for others.
pub(super) fn open_socket(
    current: &dyn Caller,
    fd: Fd,
) -> Result<(Arc<OpenFile>, Arc<Socket>), Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    let socket = downcast::<Socket>(file.object()).ok_or(Errno::ENOTSOCK)?;
    Ok((file, socket))
}

/// Finds the socket of a name; of an abstract one, for a socket of this kind.
pub(super) fn find(
    current: &dyn Caller,
    name: &Name,
    kind: SocketKind,
) -> Result<Arc<Socket>, Errno> {
    if name.is_abstract() {
        return socket::find(Key::Abstract(*name, kind));
    }
    let path = fallible::to_vec(name.bytes())?;
    let how = OpenHow { flags: OpenFlags::empty(), mode: 0 };
    let base = base(current, Fd::WORKING_DIRECTORY, &path)?;
    let (object, _) = namespace::root().open(&base, &path, how)?;
    let node = downcast::<Node>(&object).ok_or(Errno::ECONNREFUSED)?;
    socket::find(node.key())
}

/// Makes the node of a path.
fn make_node(current: &dyn Caller, name: &Name) -> Result<(Key, Arc<dyn FileObject>), Errno> {
    let path = fallible::to_vec(name.bytes())?;
    let mode = 0o777 & !current.context().lock().umask;
    let create = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let how = OpenHow { flags: OpenFlags::SOCKET | OpenFlags::WRITE | create, mode };
    let base = base(current, Fd::WORKING_DIRECTORY, &path)?;
    let made = namespace::root().open(&base, &path, how);
    let (object, _) =
        made.map_err(|error| if error == Errno::EEXIST { Errno::EADDRINUSE } else { error })?;
    let node = downcast::<Node>(&object).ok_or(Errno::EPERM)?;
    Ok((node.key(), node.file().clone()))
}

/// Removes the node of a socket that could not be bound.
fn remove_node(current: &dyn Caller, name: &Name) -> Result<(), Errno> {
    let path = fallible::to_vec(name.bytes())?;
    namespace::root().unlink(&base(current, Fd::WORKING_DIRECTORY, &path)?, &path)
}

/// Implements bind(2).
pub fn bind(current: &dyn Caller, fd: Fd, at: UserAddr, address_bytes: i32) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    match address(current, at, address_bytes)? {
        Address::Named(name) => {
            if socket.is_bound() {
                return Err(Errno::EINVAL);
            }
            let node = if name.is_abstract() { None } else { Some(make_node(current, &name)?) };
            let made = node.is_some();
            let bound = socket.bind(name, node);
            if bound.is_err() && made {
                remove_node(current, &name)?;
            }
            bound?;
        }
        Address::FamilyOnly => socket.bind_automatically()?,
        Address::Unspecified | Address::Nothing => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Implements listen(2).
pub fn listen(current: &dyn Caller, fd: Fd, backlog: u32) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    socket.listen(backlog, current.pid()).map(|()| 0)
}

/// Implements connect(2).
pub fn connect(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    address_bytes: i32,
) -> Result<u64, Errno> {
    let (file, socket) = open_socket(current, fd)?;
    match address(current, at, address_bytes)? {
        Address::Named(name) => {
            let to = find(current, &name, socket.kind())?;
            socket.connect(&file.io(current), to, current.pid())?;
        }
        Address::Unspecified if socket.kind() == SocketKind::Datagram => socket.disconnect(),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Implements accept(2).
pub fn accept(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    address_bytes: UserAddr,
) -> Result<u64, Errno> {
    accept4(current, fd, at, address_bytes, 0)
}

/// Implements accept4(2).
pub fn accept4(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    address_bytes: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = open_socket(current, fd)?;
    let accepted = socket.accept(&file.io(current))?;
    if !at.is_null() {
        let name = accepted.peer_name().ok().flatten();
        store_address(current, bytes_of(name.as_ref()), at, address_bytes)?;
    }
    install_socket(current, accepted, flags)
}

/// Implements getsockname(2).
pub fn getsockname(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    address_bytes: UserAddr,
) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    store_address(current, bytes_of(socket.label().name.get()), at, address_bytes)
}

/// Implements getpeername(2).
pub fn getpeername(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    address_bytes: UserAddr,
) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    let name = socket.peer_name()?;
    store_address(current, bytes_of(name.as_ref()), at, address_bytes)
}

/// Implements shutdown(2).
pub fn shutdown(current: &dyn Caller, fd: Fd, how: u32) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    let how = match how {
        0 => ShutDown::Reading,
        1 => ShutDown::Writing,
        2 => ShutDown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket.shut_down(how);
    Ok(0)
}
