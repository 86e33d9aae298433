//! A plugin of QEMU that counts the guest's instructions, user mode and kernel alike, by call
//! stack.
//!
//! Only what runs between two marks is counted (`user::sys::mark`). The plugin sees blocks of
//! instructions as they are executed, and the addresses at which calls and returns access the
//! stack; from these, [`calls`] follows the stacks of all threads. `cargo xtask profile` reads the
//! file and finds the functions.

#![deny(clippy::undocumented_unsafe_blocks)]

mod calls;
// In a test, nobody provides QEMU's functions.
#[cfg(not(test))]
mod plugin;
