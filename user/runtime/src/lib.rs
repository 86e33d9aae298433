//! The guest's user space: a thin runtime, and what its programs share.
//!
//! Everything here speaks Linux's x86_64 system-call interface and nothing else, so every program
//! also runs on a Linux host: built for the host (with `std` underneath, for tests and debugging),
//! or the very ELF file that the guest runs.
//!
//! What is here: system calls ([`sys`]), errors ([`errno`]), start and heap ([`rt`]), output
//! ([`io`]), page-aligned buffers ([`pages`]), directory reading ([`fs`]), options ([`opt`]), the
//! line editor ([`edit`]), the shell ([`shell`]). The programs are in `src/bin`. Files are named by
//! bytes, not by text, as the kernel does.

#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

pub extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod edit;
pub mod errno;
pub mod fs;
pub mod io;
pub mod launch;
pub mod opt;
pub mod pages;
pub mod relay;
pub mod rt;
pub mod shell;
pub mod sys;
pub mod transport;

/// What every program wants at hand.
pub mod prelude {
    pub use crate::errno::Errno;
    pub use crate::io::{Out, Show, complain};
    pub use crate::rt::Args;
    pub use crate::sys::{self, Fd, Result};
    pub use crate::{eprint, eprintln, print, println, program};
    pub use alloc::string::String;
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
    pub use foundation::{ByteCount, FileOffset};
}
