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

/// An option of prctl(2) in kernels for tests: of the claims for memory that the calling thread
/// makes from now on, the one of this number fails (from 1 on; 0: none). Returns how many were
/// counted since the last such call. EINVAL in other kernels.
pub const FAIL_CLAIM: i32 = 0x51_0001;

pub use errno::Errno;
pub use page::{PAGE_BYTES, PAGE_SHIFT};
pub use units::{ByteCount, FileOffset, PageCount, SnapshotOffset};
