//! Locks, queued signals, timers, watches by poll(2): small kernel objects in great number.

use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use user::prelude::*;
use user::sys::abi;

/// Requests of one step.
const REQUESTS: u64 = 64;
/// The first real-time signal, which is blocked, so that it is queued.
const QUEUED: usize = 34;
/// Entries of the largest poll(2).
const POLLED: usize = 4096;

/// A file with locks.
pub struct Queues(Fd);

impl Queues {
    pub fn new() -> Result<Self> {
        sys::signal_mask(1 << (QUEUED - 1))?;
        sys::open(b"locked", abi::O_RDWR | abi::O_CREAT, 0o600).map(Self)
    }

    fn lock(&self, random: &mut Random) {
        const F_SETLK: usize = 6;
        // Type (write or none) and whence, start, length, process.
        let kind = u64::from(random.below(4) == 0) + 1;
        let lock: [u64; 4] = [kind, 2 * random.below(1 << 20), 1, 0];
        let _ = os::raw(abi::__NR_fcntl, &[self.0.argument(), F_SETLK, lock.as_ptr() as usize]);
    }

    fn queue() {
        let pid = sys::getpid() as usize;
        // A siginfo_t with the code SI_QUEUE.
        let mut info = [0i32; 32];
        (info[0], info[2]) = (QUEUED as i32, -1);
        let _ = os::raw(abi::__NR_rt_sigqueueinfo, &[pid, QUEUED, info.as_ptr() as usize]);
    }

    fn poll(&self) {
        let entry = abi::pollfd { fd: self.0.0, events: abi::POLLIN as i16, revents: 0 };
        let mut entries = vec![entry; POLLED];
        let _ = os::raw(abi::__NR_poll, &[entries.as_mut_ptr() as usize, entries.len(), 0]);
    }
}

impl Worker for Queues {
    fn step(&mut self, random: &mut Random) -> Outcome {
        for _ in 0..random.below(REQUESTS) {
            match random.below(4) {
                0 | 1 => self.lock(random),
                2 => Self::queue(),
                _ => {
                    let _ = sys::dup(self.0);
                }
            }
        }
        if random.below(8) == 0 {
            self.poll();
        }
        Ok(())
    }
}
