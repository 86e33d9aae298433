//! `/proc` and `/sys`: information about processes and the system, and the knobs of laziness.
//!
//! Every file is text that is generated when it is read from its start. Nothing is cached; only
//! settings can be written. From the bottom up: what texts are made of ([`lines`]), the texts
//! ([`system`], [`cpuinfo`], [`process`], [`details`], [`kept`]), the nodes with their attributes
//! ([`node`]), directories that never change ([`settings`], [`hardware`]), a process's memory as a
//! file ([`memory`]), the names and contents of nodes ([`tree`]), and the file system ([`file`]).
//! The same information for a debugger: [`inspect`].

#![forbid(unsafe_code)]

mod cpuinfo;
mod details;
mod file;
mod hardware;
pub mod inspect;
mod kept;
mod lines;
mod memory;
mod mutants;
mod node;
mod process;
mod settings;
mod system;
mod tree;

pub use file::{ProcFileSystem, SysFileSystem};
