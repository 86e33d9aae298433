//! The runtime library of the guest's programs.
//!
//! It uses Linux's x86_64 system-call interface only, so every program also runs on a Linux host:
//! built for the host (on top of `std`, for tests and debugging), or as the ELF file that the guest
//! runs.
//!
//! Contents: system calls ([`sys`]), start ([`rt`]), the heap ([`heap`]), output ([`io`]),
//! page-aligned buffers ([`pages`]), directories ([`fs`]), options ([`opt`]), the transport and the
//! relay of the file protocol ([`transport`], [`relay`]), the line editor ([`edit`]), the shell
//! ([`shell`]). The programs are in the packages `programs` and `proof`. File names are bytes, as
//! in the kernel.

#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

pub extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod edit;
pub mod fs;
pub mod heap;
pub mod io;
pub mod launch;
pub mod opt;
pub mod pages;
pub mod relay;
pub mod rt;
pub mod shell;
pub mod sys;
pub mod transport;

/// The names that nearly every program uses.
pub mod prelude {
    pub use crate::io::{Out, Show, complain};
    pub use crate::rt::Args;
    pub use crate::sys::{self, Fd, Result};
    pub use crate::{eprint, eprintln, print, println, program};
    pub use alloc::string::String;
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
    pub use foundation::Errno;
    pub use foundation::{ByteCount, FileOffset};
}
