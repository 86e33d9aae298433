//! `/proc`: what the kernel tells about processes and itself, and the knobs of laziness.
//!
//! Every file is text that is made when it is read from its start. Nothing is cached, nothing but
//! knobs can be written. Paths are walked component by component into a [`Node`]; a node says what
//! kind of file it is, makes its text, lists its names.

mod file;
mod kept;
mod memory;
mod node;
mod process;
mod system;

pub use file::ProcFileSystem;
