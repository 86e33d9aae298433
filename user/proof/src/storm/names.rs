//! Many names: files, directories below each other, links and attributes.

use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use user::prelude::*;
use user::sys::abi;

/// Names of one step.
const NAMES: u64 = 64;

/// Directories below each other, at most: the longest path must be one that can be named.
const DEPTH: u64 = 12;

/// The number of names so far, and the depth of the working directory.
pub struct Names(u64, u64);

impl Names {
    pub fn new() -> Self {
        Self(0, 0)
    }

    fn make(&mut self, random: &mut Random) -> Result<()> {
        let long = "n".repeat(random.below(200) as usize);
        let name = format!("{}-{long}", self.0).into_bytes();
        let other = format!("{}-{long}", random.below(self.0 + 1)).into_bytes();
        match random.below(8) {
            0 if self.1 < DEPTH => {
                sys::mkdir(&name, 0o700)?;
                self.1 += 1;
                sys::chdir(&name)
            }
            1 => sys::symlink(&other, &name),
            2 => sys::link(&other, &name),
            3 => sys::rename(&other, &name),
            4 => sys::unlink(&other),
            _ => {
                let fd = sys::open(&name, abi::O_RDWR | abi::O_CREAT, 0o600)?;
                let value = vec![1u8; random.below(4096) as usize];
                let _ = os::raw(
                    abi::__NR_fsetxattr,
                    &[
                        fd.argument(),
                        c"user.name".as_ptr() as usize,
                        value.as_ptr() as usize,
                        value.len(),
                        0,
                    ],
                );
                sys::close(fd)
            }
        }
    }
}

impl Worker for Names {
    fn step(&mut self, random: &mut Random) -> Outcome {
        for _ in 0..random.below(NAMES) {
            let _ = self.make(random);
            self.0 += 1;
        }
        if random.below(8) == 0 {
            let _ = user::fs::list(b".");
        }
        Ok(())
    }
}
