//! The transport of the file protocol in the guest: one end of a socket pair that preserves message
//! boundaries.
//!
//! A message is one packet: the header, then the payload. It is sent and received with one vectored
//! call, so that a payload that is page-aligned on both sides is not copied. Where the kernel can,
//! one call sends a message and receives the next one.

use crate::pages::PAGE_BYTES;
use crate::prelude::*;
use alloc::vec::Vec;
use fsproto::HEADER_BYTES;
use fsserver::{Inbox, Transport};
use sys::abi;

/// Messages up to this length are copied into one buffer before they are sent.
const SMALL_BYTES: usize = 512;

/// One end of a socket pair of type `SOCK_SEQPACKET`.
pub struct SocketTransport {
    fd: Fd,
    /// Where a small message is joined. Kept, because clearing it would cost each message.
    outgoing: [u8; SMALL_BYTES],
    /// Where a small message is received as a whole.
    incoming: [u8; SMALL_BYTES],
    exchange: Exchange,
}

/// Whether the kernel sends and receives in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// It may: Sloth's kernel does for servers.
    Tried,
    /// It does not, as Linux's: two calls do the same.
    Unknown,
}

impl SocketTransport {
    /// Takes over an open descriptor.
    pub fn new(fd: Fd) -> Self {
        let (outgoing, incoming) = ([0; SMALL_BYTES], [0; SMALL_BYTES]);
        Self { fd, outgoing, incoming, exchange: Exchange::Tried }
    }
}

/// Memory that a message is sent from or received into: one range, or several.
enum Place<'a> {
    One(*const u8, usize),
    Several(&'a [abi::iovec]),
    /// A header, and a payload of whole pages.
    Pages(&'a [abi::iovec; 2]),
}

impl Place<'_> {
    /// Bytes to send.
    fn bytes(bytes: &[u8]) -> Self {
        Self::One(bytes.as_ptr(), bytes.len())
    }

    /// Space to receive into.
    fn space(space: &mut [u8]) -> Self {
        Self::One(space.as_mut_ptr(), space.len())
    }

    /// The two arguments of a system call, and flags: `several` where they are a vector.
    fn arguments(&self, several: u32) -> (usize, usize, u32) {
        match self {
            Self::One(start, len_bytes) => (start.addr(), *len_bytes, 0),
            Self::Several(vector) => (vector.as_ptr().addr(), vector.len(), several),
            Self::Pages([header, payload]) => {
                let pages = (payload.iov_len as usize / PAGE_BYTES) as u32;
                let (header, payload) = (header.iov_base.addr(), payload.iov_base.addr());
                (header, payload, FROM_PAGES | pages << PAGES_SHIFT)
            }
        }
    }

    /// A header and one range of payload, on its way to the kernel or to another process.
    fn header_and(both: &[abi::iovec; 2]) -> Place<'_> {
        let [_, payload] = both;
        let is_whole = payload.iov_base.addr().is_multiple_of(PAGE_BYTES)
            && (payload.iov_len as usize).is_multiple_of(PAGE_BYTES);
        if is_whole { Place::Pages(both) } else { Place::Several(both) }
    }
}

fn vector(bytes: *const u8, len_bytes: usize) -> abi::iovec {
    abi::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len_bytes as abi::__kernel_size_t }
}

/// The address of the byte after an entry's bytes.
fn end(entry: &abi::iovec) -> usize {
    entry.iov_base.addr() + entry.iov_len as usize
}

/// The vector of a message that is not joined; `header` is the first entry.
fn gather(header: abi::iovec, payload: &[&[u8]]) -> Result<Vec<abi::iovec>> {
    let mut from = Vec::new();
    from.try_reserve_exact(1 + payload.len()).map_err(|_| Errno::ENOMEM)?;
    from.push(header);
    for part in payload {
        // A server's pages are often contiguous: they need one entry only.
        match from.get_mut(1..).and_then(<[_]>::last_mut) {
            Some(last) if end(last) == part.as_ptr().addr() => {
                last.iov_len += part.len() as abi::__kernel_size_t
            }
            _ => from.push(vector(part.as_ptr(), part.len())),
        }
    }
    Ok(from)
}

/// Calls `act` with the place of a message that is sent. A small one is joined in `small`: one
/// buffer costs the kernel less than a vector.
fn with_message<T>(
    small: &mut [u8; SMALL_BYTES],
    header: &[u8; HEADER_BYTES],
    payload: &[&[u8]],
    act: impl FnOnce(&Place<'_>) -> Result<T>,
) -> Result<T> {
    if payload.is_empty() {
        return act(&Place::bytes(header));
    }
    let total = HEADER_BYTES + payload.iter().map(|part| part.len()).sum::<usize>();
    let Some(joined) = small.get_mut(..total) else {
        let first = vector(header.as_ptr(), HEADER_BYTES);
        return match payload {
            [only] => act(&Place::header_and(&[first, vector(only.as_ptr(), only.len())])),
            parts => {
                let gathered = gather(first, parts)?;
                match gathered.first_chunk() {
                    Some(both) if gathered.len() == both.len() => act(&Place::header_and(both)),
                    _ => act(&Place::Several(&gathered)),
                }
            }
        };
    };
    let (front, mut rest) = joined.split_at_mut(HEADER_BYTES);
    front.copy_from_slice(header);
    for part in payload {
        let (space, behind) = rest.split_at_mut(part.len());
        space.copy_from_slice(part);
        rest = behind;
    }
    act(&Place::bytes(joined))
}

/// Calls `act` with a place for a message with a payload of up to `payload.len()` bytes, and one
/// more, which reveals one that is too long. `act` returns the length of the payload that came.
fn with_space(
    small: &mut [u8; SMALL_BYTES],
    header: &mut [u8; HEADER_BYTES],
    payload: &mut [u8],
    act: impl FnOnce(&Place<'_>) -> Result<Option<usize>>,
) -> Result<Option<usize>> {
    if let Some(space) = small.get_mut(..HEADER_BYTES + payload.len() + 1) {
        // One buffer costs the kernel less than a vector.
        let received = act(&Place::space(space))?;
        if let (Some(received), Some((front, rest))) = (received, space.split_first_chunk()) {
            *header = *front;
            let came = received.min(payload.len());
            let (to, from) = (payload.get_mut(..came), rest.get(..came));
            to.unwrap_or_default().copy_from_slice(from.unwrap_or_default());
        }
        return Ok(received);
    }
    let mut excess = 0u8;
    act(&Place::Several(&[
        vector(header.as_mut_ptr(), HEADER_BYTES),
        vector(payload.as_mut_ptr(), payload.len()),
        vector(&raw mut excess, 1),
    ]))
}

impl Transport for SocketTransport {
    fn receive(&mut self, header: &mut [u8; HEADER_BYTES], payload: &mut [u8]) -> Option<usize> {
        let fd = self.fd;
        with_space(&mut self.incoming, header, payload, |place| Ok(receive(fd, place))).ok()?
    }

    fn receive_whole(&mut self, inbox: &mut Inbox) -> Option<usize> {
        receive(self.fd, &Place::space(inbox.space()))
    }

    fn send(&mut self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> Result<()> {
        let fd = self.fd;
        with_message(&mut self.outgoing, header, payload, |from| {
            send(Shortage::of(payload), || send_once(fd, from)).map(drop)
        })
    }

    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        reply: &mut [u8; HEADER_BYTES],
        into: &mut [u8],
    ) -> Result<Option<usize>> {
        let Self { fd, outgoing, incoming, exchange: kind } = self;
        with_message(outgoing, header, payload, |from| {
            with_space(incoming, reply, into, |to| {
                exchange(*fd, kind, Shortage::of(payload), from, to)
            })
        })
    }

    fn send_then_receive(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        inbox: &mut Inbox,
    ) -> Result<Option<usize>> {
        let Self { fd, outgoing, exchange: kind, .. } = self;
        with_message(outgoing, header, payload, |from| {
            exchange(*fd, kind, Shortage::of(payload), from, &Place::space(inbox.space()))
        })
    }
}

/// Sends a message and receives the next one. Returns the length of that one's payload.
fn exchange(
    fd: Fd,
    kind: &mut Exchange,
    shortage: Shortage,
    from: &Place<'_>,
    to: &Place<'_>,
) -> Result<Option<usize>> {
    if *kind == Exchange::Tried {
        match send(shortage, || exchange_once(fd, from, to)) {
            Ok(0) => return Ok(None),
            Ok(received) if received >= HEADER_BYTES => return Ok(Some(received - HEADER_BYTES)),
            // A message shorter than a header is dropped.
            Ok(_) => return Ok(receive(fd, to)),
            Err(UNKNOWN) => *kind = Exchange::Unknown,
            // It was sent, and nothing was received.
            Err(SENT) => return Ok(receive(fd, to)),
            Err(error) => return Err(error),
        }
    }
    send(shortage, || send_once(fd, from))?;
    Ok(receive(fd, to))
}

/// The system call that sends a message and receives the next one, for servers on Sloth:
/// `exchange(fd, from, from_count, to, to_count, flags)`.
const EXCHANGE: u32 = 511;
/// `from`, or `to`, is a vector.
const FROM_SEVERAL: u32 = 1;
const TO_SEVERAL: u32 = 2;
/// `from` is a header, and `from_count` the address of whole pages, whose number is in the upper
/// bits of the flags.
const FROM_PAGES: u32 = 4;
const PAGES_SHIFT: u32 = 8;
/// No such system call.
const UNKNOWN: Errno = Errno::ENOSYS;
/// The message was sent, but none was received.
const SENT: Errno = Errno::EINPROGRESS;

fn exchange_once(fd: Fd, from: &Place<'_>, to: &Place<'_>) -> Result<usize> {
    let (from, from_count, first) = from.arguments(FROM_SEVERAL);
    let (to, to_count, second) = to.arguments(TO_SEVERAL);
    let flags = (first | second) as usize;
    // SAFETY: the kernel reads the bytes of `from` and writes within `to`, which are borrowed as
    // long as the call takes.
    sys::check(unsafe {
        sys::syscall(EXCHANGE, [fd.argument(), from, from_count, to, to_count, flags])
    })
}

fn send_once(fd: Fd, from: &Place<'_>) -> Result<usize> {
    // SAFETY: the kernel only reads the bytes, which are borrowed as long as the call takes.
    unsafe {
        match from {
            Place::One(start, len_bytes) => sys::call!(__NR_write, fd, *start, *len_bytes),
            Place::Several(vector) => sys::call!(__NR_writev, fd, vector.as_ptr(), vector.len()),
            Place::Pages(both) => sys::call!(__NR_writev, fd, both.as_ptr(), both.len()),
        }
    }
}

/// Receives a message. Returns the length of its payload.
fn receive(fd: Fd, to: &Place<'_>) -> Option<usize> {
    // SAFETY: the kernel writes within the ranges, which are borrowed as long as the call takes.
    payload_bytes(|| unsafe {
        match to {
            Place::One(start, len_bytes) => sys::call!(__NR_read, fd, *start, *len_bytes),
            Place::Several(vector) => sys::call!(__NR_readv, fd, vector.as_ptr(), vector.len()),
            Place::Pages(both) => sys::call!(__NR_readv, fd, both.as_ptr(), both.len()),
        }
    })
}

/// What is done where there is no memory for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    /// It is sent later: a header alone does not fail so.
    Patience,
    /// The caller learns it.
    Report,
}

impl Shortage {
    fn of(payload: &[&[u8]]) -> Self {
        if payload.is_empty() { Self::Patience } else { Self::Report }
    }
}

/// Whether an error reports a shortage, and not the end of the connection.
fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN)
}

/// Repeats what fails for want of memory, and lets others run in between. The kernel reserves
/// memory for one message of each direction, so a server does not wait long.
pub(crate) fn patiently<T>(
    mut attempt: impl FnMut() -> core::result::Result<T, Errno>,
) -> core::result::Result<T, Errno> {
    loop {
        match attempt() {
            Err(error) if is_shortage(error) => drop(sys::sched_yield()),
            result => return result,
        }
    }
}

/// Receives one message. Returns the length of its payload, or `None` if the connection has ended.
/// A message that cannot be delivered now stays in the queue.
fn payload_bytes(mut receive: impl FnMut() -> core::result::Result<usize, Errno>) -> Option<usize> {
    loop {
        match patiently(&mut receive) {
            Ok(0) => return None,
            // A message shorter than a header cannot be answered, and is dropped.
            Ok(received) if received < HEADER_BYTES => {}
            Ok(received) => return Some(received - HEADER_BYTES),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Sends one message, restarting after signals. Every error but a shortage, and those of
/// [`exchange`], ends the connection.
fn send(
    shortage: Shortage,
    mut attempt: impl FnMut() -> core::result::Result<usize, Errno>,
) -> core::result::Result<usize, Errno> {
    loop {
        match attempt() {
            Ok(count) => return Ok(count),
            Err(Errno::EINTR) => {}
            Err(error) if is_shortage(error) => match shortage {
                Shortage::Patience => drop(sys::sched_yield()),
                Shortage::Report => return Err(error),
            },
            Err(error @ (UNKNOWN | SENT)) => return Err(error),
            Err(_) => return Err(Errno::ENOTCONN),
        }
    }
}
