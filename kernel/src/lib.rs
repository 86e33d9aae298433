//! The kernel of Sloth: read(2) maps the buffer to a snapshot, and pages come when they are
//! touched.
//!
//! A library that also builds on the host, where everything but the machine itself is tested, and a
//! small bare-metal binary.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod arch;
pub mod dev;
pub mod file;
pub mod mem;
pub mod mount;
pub mod proc;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod trace;
pub mod trap;
