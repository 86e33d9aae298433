//! The file servers' carrier in the guest: one end of a socket pair that keeps messages apart.
//!
//! A message is one packet: the head, then the payload. It is sent and received with one vectored call, so that a payload that is page-aligned on
//! both sides need not be copied to stand behind its head.

use crate::prelude::*;
use alloc::vec::Vec;
use fsproto::HEAD_BYTES;
use fsserver::Port;
use sys::abi;

/// One end of a socket pair of type `SOCK_SEQPACKET`.
pub struct SocketPort(pub Fd);

fn vector(bytes: *const u8, len_bytes: usize) -> abi::iovec {
    abi::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len_bytes as abi::__kernel_size_t }
}

impl Port for SocketPort {
    fn receive(&mut self, head: &mut [u8; HEAD_BYTES], payload: &mut [u8]) -> Option<usize> {
        // What does not fit shows in one byte behind the payload.
        let mut excess = 0u8;
        let into = [vector(head.as_mut_ptr(), HEAD_BYTES), vector(payload.as_mut_ptr(), payload.len()), vector(&raw mut excess, 1)];
        loop {
            // SAFETY: the kernel writes within the three ranges, which are borrowed as long as the call takes.
            match unsafe { sys::call!(__NR_readv, self.0, into.as_ptr(), into.len()) } {
                Ok(0) => return None,
                // Shorter than a head: nothing that could be answered. It is as if it had not come.
                Ok(received) if received < HEAD_BYTES => {}
                Ok(received) => return Some(received - HEAD_BYTES),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn send(&mut self, head: &[u8; HEAD_BYTES], payload: &[&[u8]]) -> core::result::Result<(), fsproto::Errno> {
        let from: Vec<abi::iovec> =
            core::iter::once(&head[..]).chain(payload.iter().copied()).map(|bytes| vector(bytes.as_ptr(), bytes.len())).collect();
        loop {
            // SAFETY: the kernel only reads the ranges, which are borrowed as long as the call takes.
            match unsafe { sys::call!(__NR_writev, self.0, from.as_ptr(), from.len()) } {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(fsproto::Errno::ENOTCONN),
                Err(error) => return Err(fsproto::Errno(error.0)),
            }
        }
    }
}
