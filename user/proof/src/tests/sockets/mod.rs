//! Sockets of the family `AF_UNIX`: calls for their tests.

mod control;
mod datagrams;
mod names;
mod options;
mod streams;

use proof::kit::{Outcome, raw};
use user::prelude::*;
use user::sys::abi;

pub const UNIX: usize = 1;
pub const STREAM: u32 = 1;
pub const DATAGRAM: u32 = 2;
pub const PACKET: u32 = 5;
pub const NONBLOCKING: u32 = abi::O_NONBLOCK;

pub const DONT_WAIT: u32 = 0x40;
pub const PEEK: u32 = 2;
pub const TRUNCATED: u32 = 0x20;
pub const CONTROL_TRUNCATED: u32 = 8;
pub const WAIT_ALL: u32 = 0x100;
pub const NO_SIGNAL: u32 = 0x4000;
pub const CLOSE_ON_EXEC: u32 = 0x4000_0000;

pub const ENOPROTOOPT: Errno = Errno(92);
pub const EPROTONOSUPPORT: Errno = Errno(93);
pub const ESOCKTNOSUPPORT: Errno = Errno(94);
pub const EADDRINUSE: Errno = Errno(98);
pub const EISCONN: Errno = Errno(106);
pub const ETOOMANYREFS: Errno = Errno(109);

/// socket(2).
pub fn socket(kind: u32) -> Result<Fd> {
    raw(abi::__NR_socket, &[UNIX, kind as usize, 0]).map(|fd| Fd(fd as i32))
}

/// The address of a name: a path without its zero, or an abstract name with its first zero.
pub fn address(name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend_from_slice(name);
    bytes
}

/// A call with an address: bind(2), connect(2).
pub fn named(call: u32, fd: Fd, name: &[u8]) -> Result<usize> {
    let address = address(name);
    raw(call, &[fd.argument(), address.as_ptr() as usize, address.len()])
}

pub fn bind(fd: Fd, name: &[u8]) -> Result<usize> {
    named(abi::__NR_bind, fd, name)
}

pub fn connect(fd: Fd, name: &[u8]) -> Result<usize> {
    named(abi::__NR_connect, fd, name)
}

pub fn listen(fd: Fd, backlog: usize) -> Result<usize> {
    raw(abi::__NR_listen, &[fd.argument(), backlog])
}

pub fn accept(fd: Fd) -> Result<Fd> {
    raw(abi::__NR_accept4, &[fd.argument(), 0, 0, 0]).map(|fd| Fd(fd as i32))
}

/// A call that stores an address: getsockname(2), getpeername(2), accept(2).
pub fn naming(call: u32, fd: Fd) -> Result<(usize, Vec<u8>)> {
    let (mut bytes, mut length) = ([0xeeu8; 128], 128u32);
    let result =
        raw(call, &[fd.argument(), bytes.as_mut_ptr() as usize, &raw mut length as usize])?;
    Ok((result, bytes[..length as usize].to_vec()))
}

pub fn own_name(fd: Fd) -> Result<Vec<u8>> {
    naming(abi::__NR_getsockname, fd).map(|(_, name)| name)
}

pub fn peer_name(fd: Fd) -> Result<Vec<u8>> {
    naming(abi::__NR_getpeername, fd).map(|(_, name)| name)
}

/// The address of a path, as it is reported.
pub fn reported(path: &[u8]) -> Vec<u8> {
    let mut bytes = address(path);
    bytes.push(0);
    bytes
}

pub fn shut_down(fd: Fd, how: usize) -> Result<usize> {
    raw(abi::__NR_shutdown, &[fd.argument(), how])
}

pub fn send(fd: Fd, bytes: &[u8], flags: u32) -> Result<usize> {
    let buffer = bytes.as_ptr() as usize;
    raw(abi::__NR_sendto, &[fd.argument(), buffer, bytes.len(), flags as usize, 0, 0])
}

pub fn send_to(fd: Fd, bytes: &[u8], flags: u32, name: &[u8]) -> Result<usize> {
    let (buffer, to) = (bytes.as_ptr() as usize, address(name));
    let arguments = [fd.argument(), buffer, bytes.len(), flags as usize];
    raw(abi::__NR_sendto, &[&arguments[..], &[to.as_ptr() as usize, to.len()]].concat())
}

/// recv(2) of at most 64 bytes.
pub fn receive(fd: Fd, flags: u32) -> Result<Vec<u8>> {
    let mut bytes = [0; 64];
    let buffer = bytes.as_mut_ptr() as usize;
    let count = raw(abi::__NR_recvfrom, &[fd.argument(), buffer, 64, flags as usize, 0, 0])?;
    Ok(bytes[..count.min(64)].to_vec())
}

/// recvfrom(2) of at most 64 bytes, with the sender's address.
pub fn receive_from(fd: Fd, flags: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut bytes, mut name, mut length) = ([0u8; 64], [0u8; 128], 128u32);
    let arguments = [fd.argument(), bytes.as_mut_ptr() as usize, 64, flags as usize];
    let rest = [name.as_mut_ptr() as usize, &raw mut length as usize];
    let count = raw(abi::__NR_recvfrom, &[arguments, [rest[0], rest[1], 0, 0]].concat()[..6])?;
    Ok((bytes[..count].to_vec(), name[..length as usize].to_vec()))
}

/// A `struct msghdr` with one buffer, and what is needed around it.
pub struct Message {
    words: [usize; 7],
    vector: [usize; 2],
    pub bytes: Vec<u8>,
    pub control: Vec<u8>,
    pub name: Vec<u8>,
}

impl Message {
    /// With these bytes, or space for bytes, and for control data.
    pub fn new(bytes: &[u8], control: &[u8]) -> Self {
        Self {
            words: [0; 7],
            vector: [0; 2],
            bytes: bytes.to_vec(),
            control: control.to_vec(),
            name: Vec::new(),
        }
    }

    fn header(&mut self) -> usize {
        self.vector = [self.bytes.as_mut_ptr() as usize, self.bytes.len()];
        let pointer = |bytes: &mut Vec<u8>| {
            if bytes.is_empty() { 0 } else { bytes.as_mut_ptr() as usize }
        };
        self.words = [
            pointer(&mut self.name),
            self.name.len(),
            self.vector.as_ptr() as usize,
            1,
            pointer(&mut self.control),
            self.control.len(),
            0xdead_beef,
        ];
        self.words.as_mut_ptr() as usize
    }

    pub fn send(&mut self, fd: Fd, flags: u32) -> Result<usize> {
        let header = self.header();
        raw(abi::__NR_sendmsg, &[fd.argument(), header, flags as usize])
    }

    /// Truncates bytes, name and control data to what was received.
    pub fn receive(&mut self, fd: Fd, flags: u32) -> Result<usize> {
        let header = self.header();
        let count = raw(abi::__NR_recvmsg, &[fd.argument(), header, flags as usize])?;
        // SAFETY: the kernel has stored to the words, which the compiler cannot see.
        let words = unsafe { (&raw const self.words).read_volatile() };
        self.words = words;
        self.bytes.truncate(count);
        self.name.truncate(words[1] & 0xffff_ffff);
        self.control.truncate(words[5]);
        Ok(count)
    }

    /// `msg_flags` of what was received.
    pub fn flags(&self) -> u32 {
        self.words[6] as u32
    }

    /// The control data that were received: type, and contents.
    pub fn parts(&self) -> Vec<(u32, Vec<u8>)> {
        let (mut parts, mut rest) = (Vec::new(), &self.control[..]);
        while rest.len() >= 16 {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let kind = u32::from_le_bytes(rest[12..16].try_into().unwrap());
            parts.push((kind, rest[16..length.min(rest.len())].to_vec()));
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        parts
    }

    /// The descriptors that were received.
    pub fn descriptors(&self) -> Vec<Fd> {
        let found = self.parts().into_iter().find(|(kind, _)| *kind == SCM_RIGHTS);
        let contents = found.map(|(_, contents)| contents).unwrap_or_default();
        contents.chunks(4).map(|fd| Fd(i32::from_le_bytes(fd.try_into().unwrap()))).collect()
    }
}

pub const SCM_RIGHTS: u32 = 1;
pub const CREDENTIALS: u32 = 2;

/// Control data of one kind, with their padding.
pub fn control(kind: u32, contents: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + contents.len()).to_le_bytes().to_vec();
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Control data with descriptors.
pub fn descriptor_data(descriptors: &[Fd]) -> Vec<u8> {
    let contents: Vec<u8> = descriptors.iter().flat_map(|fd| fd.0.to_le_bytes()).collect();
    control(SCM_RIGHTS, &contents)
}

pub fn set_option(fd: Fd, option: usize, value: &[u8]) -> Result<usize> {
    let at = value.as_ptr() as usize;
    raw(abi::__NR_setsockopt, &[fd.argument(), 1, option, at, value.len()])
}

pub fn option(fd: Fd, option: usize) -> Result<Vec<u8>> {
    let (mut value, mut length) = ([0u8; 64], 64u32);
    let (at, length_at) = (value.as_mut_ptr() as usize, &raw mut length as usize);
    raw(abi::__NR_getsockopt, &[fd.argument(), 1, option, at, length_at])?;
    Ok(value[..length as usize].to_vec())
}

pub fn number(fd: Fd, which: usize) -> Result<u32> {
    option(fd, which).map(|value| u32::from_le_bytes(value[..4].try_into().unwrap()))
}

/// A listening socket of a name, a socket that is connected to it, and the accepted one.
pub fn connection(kind: u32, name: &[u8]) -> Outcome<[Fd; 3]> {
    let (listener, client) = (ok!(socket(kind)), ok!(socket(kind)));
    ok!(bind(listener, name));
    ok!(listen(listener, 5));
    ok!(connect(client, name));
    Ok([listener, client, ok!(accept(listener))])
}
