//! The transport of the file protocol in the guest: one end of a socket pair that preserves message
//! boundaries.
//!
//! A message is one packet: the header, then the payload. It is sent and received with one vectored
//! call, so that a payload that is page-aligned on both sides is not copied.

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
    /// Where a small message is joined, or received as a whole. Kept, because clearing it would
    /// cost each message.
    small: [u8; SMALL_BYTES],
}

impl SocketTransport {
    /// Takes over an open descriptor.
    pub fn new(fd: Fd) -> Self {
        Self { fd, small: [0; SMALL_BYTES] }
    }
}

fn vector(bytes: *const u8, len_bytes: usize) -> abi::iovec {
    abi::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len_bytes as abi::__kernel_size_t }
}

/// The address of the byte after an entry's bytes.
fn end(entry: &abi::iovec) -> usize {
    entry.iov_base.addr() + entry.iov_len as usize
}

impl Transport for SocketTransport {
    fn receive(&mut self, header: &mut [u8; HEADER_BYTES], payload: &mut [u8]) -> Option<usize> {
        if HEADER_BYTES + payload.len() < SMALL_BYTES {
            // One buffer costs the kernel less than a vector. One more byte reveals a message that
            // is too long.
            let space = self.small.get_mut(..HEADER_BYTES + payload.len() + 1)?;
            let received = receive_into(self.fd, space)?;
            let (front, rest) = space.split_first_chunk()?;
            *header = *front;
            let came = received.min(payload.len());
            payload.get_mut(..came)?.copy_from_slice(rest.get(..came)?);
            return Some(received);
        }
        // A message that is too long reaches the byte after the payload.
        let mut excess = 0u8;
        let into = [
            vector(header.as_mut_ptr(), HEADER_BYTES),
            vector(payload.as_mut_ptr(), payload.len()),
            vector(&raw mut excess, 1),
        ];
        // SAFETY: the kernel writes within the three ranges, which are borrowed as long as the call
        // takes.
        payload_bytes(|| unsafe { sys::call!(__NR_readv, self.fd, into.as_ptr(), into.len()) })
    }

    fn receive_whole(&mut self, inbox: &mut Inbox) -> Option<usize> {
        receive_into(self.fd, inbox.space())
    }

    fn send(&mut self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> Result<()> {
        let total = HEADER_BYTES + payload.iter().map(|part| part.len()).sum::<usize>();
        if total == HEADER_BYTES {
            return patiently(|| {
                // SAFETY: the kernel only reads the bytes, which are borrowed as long as the call
                // takes.
                transmit(|| unsafe {
                    sys::call!(__NR_write, self.fd, header.as_ptr(), header.len())
                })
            });
        }
        // Small messages are joined here: one buffer costs the kernel less than a vector.
        if let Some(joined) = self.small.get_mut(..total) {
            let (front, mut rest) = joined.split_at_mut(HEADER_BYTES);
            front.copy_from_slice(header);
            for part in payload {
                let (space, behind) = rest.split_at_mut(part.len());
                space.copy_from_slice(part);
                rest = behind;
            }
            // SAFETY: the kernel only reads the bytes, which are borrowed as long as the call
            // takes.
            return transmit(|| unsafe {
                sys::call!(__NR_write, self.fd, joined.as_ptr(), joined.len())
            });
        }
        let mut from = Vec::new();
        from.try_reserve_exact(1 + payload.len()).map_err(|_| Errno::ENOMEM)?;
        from.push(vector(header.as_ptr(), HEADER_BYTES));
        for part in payload {
            // A server's pages are often contiguous: they need one entry only.
            match from.get_mut(1..).and_then(<[_]>::last_mut) {
                Some(last) if end(last) == part.as_ptr().addr() => {
                    last.iov_len += part.len() as abi::__kernel_size_t
                }
                _ => from.push(vector(part.as_ptr(), part.len())),
            }
        }
        // SAFETY: the kernel only reads the ranges, which are borrowed as long as the call takes.
        transmit(|| unsafe { sys::call!(__NR_writev, self.fd, from.as_ptr(), from.len()) })
    }
}

/// Receives a message into one buffer. Returns the length of its payload.
fn receive_into(fd: Fd, space: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes within the buffer, which is borrowed as long as the call takes.
    payload_bytes(|| unsafe { sys::call!(__NR_read, fd, space.as_mut_ptr(), space.len()) })
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

/// Sends one message, restarting after signals. Every error but a shortage ends the connection.
fn transmit(
    mut send: impl FnMut() -> core::result::Result<usize, Errno>,
) -> core::result::Result<(), Errno> {
    loop {
        match send() {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) if is_shortage(error) => return Err(error),
            Err(_) => return Err(Errno::ENOTCONN),
        }
    }
}
