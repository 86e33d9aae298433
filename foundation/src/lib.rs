//! The lowest layer: the vocabulary that the protocol, the file servers and the kernel share.
//!
//! Error numbers, page arithmetic, offsets and counts with their units, the kernel's counters and
//! knobs, the reader of tar archives, and the list of mutants. Everything else in the workspace may
//! import this crate; this crate imports no other of the workspace.
#![no_std]
#![forbid(unsafe_code)]

pub mod archive;
pub mod counter;
mod errno;
pub mod knob;
pub mod mutant;
mod page;
mod units;

pub use errno::Errno;
pub use page::{PAGE_BYTES, PAGE_SHIFT};
pub use units::{ByteCount, FileOffset, PageCount, SnapshotOffset};
