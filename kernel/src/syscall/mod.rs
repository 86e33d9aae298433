//! System calls: one file for each family of calls, and the table that lists all.
//!
//! A handler decodes its arguments, checks them and calls a lower layer. It is a `fn(&Current,
//! arguments…) -> Result<u64, Errno>` with up to six arguments of integer or address types;
//! [`table`] assigns its number. Numbers, structures and errors are Linux's for x86_64. Arguments
//! in memory are copied once, before they are checked (X4). To add a call, write the handler and
//! add a line to the table.
#![forbid(unsafe_code)]

mod address;
pub mod arguments;
pub mod attributes;
pub mod clocks;
pub mod clone;
mod control_data;
pub mod entry;
pub mod epoll;
pub mod event_files;
pub mod futex;
pub mod io;
pub mod ioctl;
pub mod ipc;
mod limits;
mod mark;
pub mod memfd;
pub mod memory;
pub mod message;
pub mod misc;
pub mod mounting;
mod mutants;
pub mod names;
pub mod open;
mod owner;
pub mod poll;
mod prctl;
pub mod priority;
pub mod process;
pub mod random;
pub mod ranges;
mod sched;
pub mod signal;
pub mod socket;
pub mod sockopt;
pub mod statx;
pub mod table;
pub mod time;
mod timers;
pub mod traced;
pub mod unknown;
pub mod xattr;
