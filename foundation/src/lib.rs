//! The lowest layer: the vocabulary that the protocol, the file servers and the kernel share.
//!
//! Plain types without policy: error numbers, page arithmetic, offsets and counts with their
//! units, and the list of mutants. Everything else in the workspace may import this crate; this
//! crate imports nothing.
#![no_std]
#![forbid(unsafe_code)]

mod errno;
pub mod mutant;
mod page;
mod units;

pub use errno::Errno;
pub use page::{PAGE_BYTES, PAGE_SHIFT};
pub use units::{ByteCount, FileOffset, PageCount, SnapshotOffset};
