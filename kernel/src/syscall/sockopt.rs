//! setsockopt(2) and getsockopt(2).

use super::address::load_half;
use super::arguments::{load, store, word};
use super::socket::open_socket;
use crate::file::socket::{Direction, Socket};
use crate::file::{Caller, Fd};
use crate::mem::UserAddr;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};
use linux_raw_sys::net;

/// `SOL_SOCKET`.
const SOL_SOCKET: u32 = 1;
/// Nanoseconds in a second and in a microsecond.
const SECOND_NS: u64 = 1_000_000_000;
const MICROSECOND_NS: u64 = 1000;
/// Options that are on or off and mean nothing here: each is kept as it was set.
const KEPT: [u32; 8] = [
    net::SO_DEBUG,
    net::SO_REUSEADDR,
    net::SO_DONTROUTE,
    net::SO_BROADCAST,
    net::SO_KEEPALIVE,
    net::SO_OOBINLINE,
    net::SO_TIMESTAMP,
    net::SO_PASSSEC,
];

/// A direction's option for its space, or its time.
fn direction(option: u32) -> Direction {
    match option {
        net::SO_SNDBUF | net::SO_SNDBUFFORCE | net::SO_SNDTIMEO => Direction::Send,
        _ => Direction::Receive,
    }
}

/// Implements setsockopt(2).
pub fn setsockopt(
    current: &dyn Caller,
    fd: Fd,
    level: u32,
    option: u32,
    at: UserAddr,
    length: i32,
) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    if length < 0 {
        return Err(Errno::EINVAL);
    }
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    if length < 4 {
        return Err(Errno::EINVAL);
    }
    let value = load_half(current, at)?;
    match option {
        net::SO_SNDBUF | net::SO_RCVBUF | net::SO_SNDBUFFORCE | net::SO_RCVBUFFORCE => {
            socket.options.set_buffer_bytes(direction(option), value);
        }
        net::SO_SNDTIMEO | net::SO_RCVTIMEO => {
            let limit_ns = duration(current, at, length)?;
            socket.options.set_timeout_ns(direction(option), limit_ns);
        }
        net::SO_PASSCRED => {
            socket.label().wants_credentials.store(value != 0, Ordering::Relaxed);
        }
        net::SO_LINGER => {
            if length < 8 {
                return Err(Errno::EINVAL);
            }
            let mut linger = [0; 8];
            load(current, at, &mut linger)?;
            socket.options.linger.store(word(&linger, 0), Ordering::Relaxed);
        }
        option if KEPT.contains(&option) => {
            let bit = 1 << option;
            let flags = &socket.options.flags;
            if value != 0 {
                flags.fetch_or(bit, Ordering::Relaxed);
            } else {
                flags.fetch_and(!bit, Ordering::Relaxed);
            }
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(0)
}

/// A `struct timeval` in nanoseconds. EDOM where it is none; no time for a negative one.
fn duration(current: &dyn Caller, at: UserAddr, length: i32) -> Result<u64, Errno> {
    if length < 16 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; 16];
    load(current, at, &mut bytes)?;
    let microseconds = word(&bytes, 8);
    if microseconds >= SECOND_NS / MICROSECOND_NS {
        return Err(Errno::EDOM);
    }
    match i64::from_le_bytes(word(&bytes, 0).to_le_bytes()) {
        // As on Linux, a negative time is over at once.
        ..0 => Ok(1),
        seconds => Ok((seconds as u64)
            .saturating_mul(SECOND_NS)
            .saturating_add(microseconds * MICROSECOND_NS)),
    }
}

/// The value of an option, and its length in bytes.
fn value(socket: &Socket, option: u32) -> Result<([u8; 16], usize), Errno> {
    let mut bytes = [0; 16];
    let mut put = |at: usize, value: &[u8]| {
        bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
    };
    let number = match option {
        net::SO_TYPE => socket.kind() as u32,
        net::SO_DOMAIN => net::AF_UNIX,
        net::SO_PROTOCOL | net::SO_PRIORITY => 0,
        net::SO_ERROR => socket.take_error().map_or(0, |error| error.0 as u32),
        net::SO_ACCEPTCONN => u32::from(socket.is_listening()),
        net::SO_PASSCRED => u32::from(socket.label().wants_credentials.load(Ordering::Relaxed)),
        net::SO_RCVLOWAT | net::SO_SNDLOWAT => 1,
        net::SO_SNDBUF | net::SO_RCVBUF => socket.options.buffer_bytes(direction(option)),
        net::SO_PEERCRED => {
            let known = socket.peer_credentials();
            let fields = known.map_or([0, u32::MAX, u32::MAX], |by| [by.pid, by.uid, by.gid]);
            fields.iter().enumerate().for_each(|(at, field)| put(4 * at, &field.to_le_bytes()));
            return Ok((bytes, 12));
        }
        net::SO_LINGER => {
            put(0, &socket.options.linger.load(Ordering::Relaxed).to_le_bytes());
            return Ok((bytes, 8));
        }
        net::SO_SNDTIMEO | net::SO_RCVTIMEO => {
            let limit_ns = socket.options.timeout_ns(direction(option));
            put(0, &(limit_ns / SECOND_NS).to_le_bytes());
            put(8, &(limit_ns % SECOND_NS / MICROSECOND_NS).to_le_bytes());
            return Ok((bytes, 16));
        }
        option if KEPT.contains(&option) => {
            (socket.options.flags.load(Ordering::Relaxed) >> option & 1) as u32
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    put(0, &number.to_le_bytes());
    Ok((bytes, 4))
}

/// Implements getsockopt(2).
pub fn getsockopt(
    current: &dyn Caller,
    fd: Fd,
    level: u32,
    option: u32,
    at: UserAddr,
    length_at: UserAddr,
) -> Result<u64, Errno> {
    let (_, socket) = open_socket(current, fd)?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let space = load_half(current, length_at)?;
    let space = usize::try_from(space as i32).map_err(|_| Errno::EINVAL)?;
    let (bytes, length) = value(&socket, option)?;
    let length = length.min(space);
    store(current, at, bytes.get(..length).unwrap_or_default())?;
    store(current, length_at, &(ByteCount::of_len(length).0 as u32).to_le_bytes())
}
