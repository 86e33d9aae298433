//! The kernel of Sloth. Its read(2) is lazy: it maps the buffer to a snapshot, and pages are
//! fetched when they are touched.
//!
//! The library also builds on the host, where everything except the machine itself is tested. The
//! bare-metal binary is small.
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
