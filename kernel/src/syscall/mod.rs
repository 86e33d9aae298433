//! System calls: one thin file a family, each handler decodes, checks and calls. The table is data.
//!
//! A handler is `fn(&Current, arguments…) -> Result<u64, Errno>`, with arguments of any integer
//! type; [`table`] gives it a number. Numbers, structures and errors are Linux's for x86_64.
//! Arguments are copied once, at the door (X4). To add a call: write the handler, add its line to
//! the table.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod attributes;
pub mod entry;
pub mod futex;
pub mod io;
pub mod ioctl;
pub mod ipc;
pub mod memory;
pub mod misc;
pub mod mounting;
mod mutants;
pub mod names;
pub mod open;
pub mod poll;
pub mod process;
pub mod random;
pub mod signal;
pub mod statx;
pub mod table;
pub mod time;
pub mod traced;
pub mod unknown;
pub mod xattr;
