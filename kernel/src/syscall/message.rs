//! Sending to sockets, and receiving from them.

use super::address::{Address, AddressBytes, address, bytes_of, store_address, store_prefix};
use super::arguments::{buffers, half, load, store, vectors, word};
use super::control_data::{Place, load_control};
use super::io::with_signal;
use super::socket::{find, open_socket};
use crate::file::socket::{Parcel, Receive, Received, Socket, SocketKind};
use crate::file::{Caller, Fd, Io, OnExec, OpenFile, UserBuffers};
use crate::mem::UserAddr;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};
use linux_raw_sys::net;

/// `MSG_WAITFORONE`: recvmmsg(2) waits for the first message only.
const WAIT_FOR_ONE: u32 = 0x1_0000;
/// A flag for programs of 32 bits, which others may not use.
const COMPATIBLE: u32 = 0x8000_0000;

/// How a call transfers. EOPNOTSUPP for data out of band; other flags have no meaning here.
fn io<'a>(current: &'a dyn Caller, file: &OpenFile, flags: u32) -> Result<Io<'a>, Errno> {
    if flags & net::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let io = file.io(current);
    Ok(Io { nonblocking: io.nonblocking || flags & net::MSG_DONTWAIT != 0, ..io })
}

/// Adds to a parcel whom an address names. A connection of packets ignores it.
fn to(
    current: &dyn Caller,
    socket: &Socket,
    parcel: &mut Parcel,
    (at, length): (UserAddr, i32),
) -> Result<(), Errno> {
    if at.is_null() || socket.kind() == SocketKind::Packet {
        return Ok(());
    }
    if socket.kind() == SocketKind::Stream && length != 0 {
        let is_connected = socket.peer_name().is_ok();
        return Err(if is_connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
    }
    match address(current, at, length)? {
        Address::Nothing => Ok(()),
        Address::Named(name) => {
            parcel.to = Some(find(current, &name, socket.kind())?);
            Ok(())
        }
        Address::Unspecified | Address::FamilyOnly => Err(Errno::EINVAL),
    }
}

fn send(
    current: &dyn Caller,
    (file, socket): (&OpenFile, &Socket),
    from: &mut UserBuffers,
    parcel: Parcel,
    flags: u32,
) -> Result<u64, Errno> {
    let sent = socket.send(&io(current, file, flags)?, from, parcel);
    if flags & net::MSG_NOSIGNAL != 0 || socket.kind() != SocketKind::Stream {
        sent.map(|count| count.0)
    } else {
        with_signal(current, sent)
    }
}

/// Implements sendto(2).
pub fn sendto(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
    flags: u32,
    at: UserAddr,
    address_bytes: i32,
) -> Result<u64, Errno> {
    let (file, socket) = open_socket(current, fd)?;
    let mut parcel = Parcel::default();
    to(current, &socket, &mut parcel, (at, address_bytes))?;
    send(current, (&file, &socket), &mut buffers(buffer, length)?, parcel, flags)
}

fn receive(
    current: &dyn Caller,
    (file, socket): (&OpenFile, &Socket),
    buffers: &mut UserBuffers,
    flags: u32,
) -> Result<Received, Errno> {
    let how = Receive { stays: flags & net::MSG_PEEK != 0, all: flags & net::MSG_WAITALL != 0 };
    socket.receive(&io(current, file, flags)?, buffers, how)
}

/// What a call returns that has received.
fn count(socket: &Socket, received: &Received, flags: u32) -> u64 {
    let is_message = socket.kind() != SocketKind::Stream;
    if flags & net::MSG_TRUNC != 0 && is_message { received.length.0 } else { received.copied.0 }
}

/// Implements recvfrom(2).
pub fn recvfrom(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: ByteCount,
    flags: u32,
    at: UserAddr,
    address_bytes: UserAddr,
) -> Result<u64, Errno> {
    let (file, socket) = open_socket(current, fd)?;
    let received = receive(current, (&file, &socket), &mut buffers(buffer, length)?, flags)?;
    if !at.is_null() {
        store_address(current, sender(&socket, &received), at, address_bytes)?;
    }
    Ok(count(&socket, &received, flags))
}

/// The address of the sender, if it has one.
fn sender(socket: &Socket, received: &Received) -> AddressBytes {
    socket.sender(received).map_or(AddressBytes::NONE, |name| bytes_of(Some(&name)))
}

/// Size of a `struct msghdr` in bytes: name and its length, vector and its length, control data and
/// their length, flags.
const HEADER_BYTES: usize = 56;
/// Size of a `struct mmsghdr` in bytes: a header, and the length of what was sent or received.
const MANY_BYTES: u64 = 64;
/// Messages of one call, at most.
const MAX_MESSAGES: u32 = 1024;

/// A `struct msghdr`.
struct Header {
    at: UserAddr,
    bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// Copies it from a program. EINVAL for a negative length of the name.
    fn load(current: &dyn Caller, at: UserAddr) -> Result<Self, Errno> {
        let mut bytes = [0; HEADER_BYTES];
        load(current, at, &mut bytes)?;
        let header = Self { at, bytes };
        if header.name().1 < 0 { Err(Errno::EINVAL) } else { Ok(header) }
    }

    fn vectors(&self, current: &dyn Caller) -> Result<UserBuffers, Errno> {
        let count = word(&self.bytes, 24);
        if count > 1024 {
            Err(Errno::EMSGSIZE)
        } else {
            vectors(current, UserAddr(word(&self.bytes, 16)), count)
        }
    }

    /// Where the name is, and its length in bytes.
    fn name(&self) -> (UserAddr, i32) {
        (UserAddr(word(&self.bytes, 0)), half(&self.bytes, 8) as i32)
    }

    /// Where the control data are, and their length in bytes.
    fn control(&self) -> (UserAddr, u64) {
        (UserAddr(word(&self.bytes, 32)), word(&self.bytes, 40))
    }

    /// The address of a field.
    fn field(&self, offset: u64) -> Result<UserAddr, Errno> {
        self.at.checked_add(ByteCount(offset)).ok_or(Errno::EFAULT)
    }
}

/// Implements sendmsg(2).
pub fn sendmsg(current: &dyn Caller, fd: Fd, at: UserAddr, flags: u32) -> Result<u64, Errno> {
    if flags & COMPATIBLE != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = open_socket(current, fd)?;
    send_header(current, (&file, &socket), at, flags)
}

fn send_header(
    current: &dyn Caller,
    (file, socket): (&OpenFile, &Socket),
    at: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    let header = Header::load(current, at)?;
    let mut from = header.vectors(current)?;
    let (control_at, control_bytes) = header.control();
    let control = load_control(current, control_at, control_bytes)?;
    let mut parcel = Parcel { to: None, files: control.files, credentials: control.credentials };
    to(current, socket, &mut parcel, header.name())?;
    send(current, (file, socket), &mut from, parcel, flags)
}

/// Implements recvmsg(2).
pub fn recvmsg(current: &dyn Caller, fd: Fd, at: UserAddr, flags: u32) -> Result<u64, Errno> {
    if flags & COMPATIBLE != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = open_socket(current, fd)?;
    receive_header(current, (&file, &socket), at, flags)
}

fn receive_header(
    current: &dyn Caller,
    (file, socket): (&OpenFile, &Socket),
    at: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    let header = Header::load(current, at)?;
    let mut buffers = header.vectors(current)?;
    let mut received = receive(current, (file, socket), &mut buffers, flags)?;
    let count = count(socket, &received, flags);
    let mut returned = flags & net::MSG_CMSG_CLOEXEC;
    if received.copied < received.length {
        returned |= net::MSG_TRUNC;
    }
    let (name_at, space) = header.name();
    if !name_at.is_null() {
        let name = sender(socket, &received);
        let length = store_prefix(current, &name, name_at, space as usize)?;
        store(current, header.field(8)?, &length.to_le_bytes())?;
    }
    let (control_at, control_bytes) = header.control();
    let left = if control_at.is_null() { 0 } else { control_bytes };
    let mut place = Place { at: control_at, left, is_truncated: false };
    let wants = socket.label().wants_credentials.load(Ordering::Relaxed);
    let on_exec = OnExec::close_if(flags & net::MSG_CMSG_CLOEXEC != 0);
    place.deliver(current, received.control.take(), wants, on_exec)?;
    if place.is_truncated {
        returned |= net::MSG_CTRUNC;
    }
    store(current, header.field(40)?, &(left - place.left).to_le_bytes())?;
    store(current, header.field(48)?, &returned.to_le_bytes())?;
    Ok(count)
}

/// Transfers messages one by one, with the length of each. The number of those that were, or the
/// error of the first one.
fn many(
    current: &dyn Caller,
    at: UserAddr,
    messages: u32,
    mut transfer: impl FnMut(UserAddr, u32) -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    for index in 0..messages.min(MAX_MESSAGES) {
        let place = |offset| {
            let offset = u64::from(index) * MANY_BYTES + offset;
            at.checked_add(ByteCount(offset)).ok_or(Errno::EFAULT)
        };
        let step = place(0).and_then(|header| {
            let length = transfer(header, index)?;
            store(current, place(HEADER_BYTES as u64)?, &(length as u32).to_le_bytes())
        });
        match step {
            Ok(_) => {}
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index.into()),
        }
    }
    Ok(messages.min(MAX_MESSAGES).into())
}

/// Implements sendmmsg(2).
pub fn sendmmsg(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    messages: u32,
    flags: u32,
) -> Result<u64, Errno> {
    if flags & COMPATIBLE != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = open_socket(current, fd)?;
    many(current, at, messages, |header, _| send_header(current, (&file, &socket), header, flags))
}

/// recvmmsg(2). As on Linux, the time is looked at after each message only.
pub fn recvmmsg(
    current: &dyn Caller,
    fd: Fd,
    at: UserAddr,
    messages: u32,
    flags: u32,
    timeout: UserAddr,
) -> Result<u64, Errno> {
    if flags & COMPATIBLE != 0 {
        return Err(Errno::EINVAL);
    }
    let limit_ns = super::poll::duration(current, timeout, 1)?;
    let start_ns = crate::arch::clock::now_ns();
    let (file, socket) = open_socket(current, fd)?;
    many(current, at, messages, |header, index| {
        let elapsed_ns = crate::arch::clock::now_ns().saturating_sub(start_ns);
        if index > 0 && limit_ns.is_some_and(|limit_ns| elapsed_ns >= limit_ns) {
            return Err(Errno::EAGAIN);
        }
        let waits_for_one = index > 0 && flags & WAIT_FOR_ONE != 0;
        let flags = if waits_for_one { flags | net::MSG_DONTWAIT } else { flags };
        receive_header(current, (&file, &socket), header, flags)
    })
}
