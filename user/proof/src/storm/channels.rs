//! Full pipes, sockets and terminals, with descriptors under way.

use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::{abi, net};

/// Writes of one step, at most.
const WRITES: u64 = 64;
/// Bytes of the largest write.
const WRITE_BYTES: usize = 32 * PAGE_BYTES;

/// Pairs of descriptors: what is written to the second can be read from the first.
pub struct Channels {
    pairs: Vec<[Fd; 2]>,
    source: Vec<u8>,
}

impl Channels {
    pub fn new() -> Self {
        Self { pairs: Vec::new(), source: vec![0x61; WRITE_BYTES] }
    }

    fn open(random: &mut Random) -> Result<[Fd; 2]> {
        let kind = match random.below(5) {
            0 => net::SOCK_SEQPACKET,
            1 => net::SOCK_STREAM,
            2 => net::SOCK_DGRAM,
            3 => {
                let master = sys::open_pty()?;
                os::raw(abi::__NR_fcntl, &[master.argument(), 4, abi::O_NONBLOCK as usize])?;
                let path = sys::pty_path(master)?;
                let flags = abi::O_RDWR | abi::O_NONBLOCK | abi::O_NOCTTY;
                return Ok([sys::open(&path, flags, 0)?, master]);
            }
            _ => {
                let pair = sys::pipe(abi::O_NONBLOCK)?;
                const F_SETPIPE_SZ: usize = 1031;
                let bytes = 1 << random.below(24);
                let _ = os::raw(abi::__NR_fcntl, &[pair[1].argument(), F_SETPIPE_SZ, bytes]);
                return Ok(pair);
            }
        };
        sys::socketpair(kind | abi::O_NONBLOCK)
    }

    /// Sends one byte with a descriptor.
    fn send_descriptor(to: Fd, sent: Fd) {
        let byte = [b"x".as_ptr() as usize, 1];
        // A control message with one descriptor: length, level, type.
        let control: [u64; 3] = [20, 1 << 32 | 1, sent.0 as u64];
        let header: [usize; 7] =
            [0, 0, byte.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
        let _ = os::raw(abi::__NR_sendmsg, &[to.argument(), header.as_ptr() as usize, 0]);
    }
}

impl Worker for Channels {
    fn step(&mut self, random: &mut Random) -> Outcome {
        if self.pairs.is_empty() || random.below(2) == 0 {
            self.pairs.extend(Self::open(random));
        }
        let Some(last) = (self.pairs.len() as u64).checked_sub(1) else { return Ok(()) };
        let index = random.below(last + 1) as usize;
        let [from, to] = self.pairs[index];
        let length = match random.below(4) {
            0 => 0,
            1 => 1,
            2 => PAGE_BYTES,
            _ => random.below(WRITE_BYTES as u64) as usize,
        };
        for _ in 0..random.below(WRITES) {
            if sys::write(to, &self.source[..length]).is_err() {
                break;
            }
        }
        match random.below(6) {
            0 => Self::send_descriptor(to, from),
            1 => {
                let mut bytes = vec![0; WRITE_BYTES];
                let count = sys::read(from, &mut bytes).unwrap_or(0);
                let is_right = |byte: &u8| matches!(byte, 0x61 | b'x');
                check!(bytes[..count].iter().all(is_right), "a channel delivered a wrong byte");
            }
            2 => {
                let _ = self.pairs.swap_remove(index).map(sys::close);
            }
            _ => {}
        }
        Ok(())
    }
}
