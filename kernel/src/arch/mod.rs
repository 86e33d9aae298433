//! The machine: CPU set-up, traps, context switch, clock, log and power.
//!
//! Everything above uses the names re-exported here. On the bare machine they are `x86_64`'s; on
//! the host they are stand-ins, so that all other modules build and are tested there (what only a
//! machine can do panics there: no host test gets to it).
//!
//! This layer imports nothing of the kernel. Traps and system calls are handled by the layers above,
//! through the functions in [`Handlers`] that the boot code registers.

mod handlers;
mod registers;
pub use handlers::{Exception, Handlers, ReturnPath};
pub use registers::{
    Cause, PageFault, Registers, SIGNAL_FLAGS, SavedRegisters, USER_END, UserAccess, vector,
};

/// The serial ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialPort {
    /// COM1: the console.
    Console,
    /// COM2: the kernel's log, and the standard error of a command.
    Log,
    /// COM3: the control channel, on which init reports the exit status.
    Control,
}

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod x86_64;

#[cfg(not(target_os = "none"))]
pub use host::{clock, context, fpu, irq, power, segments, serial};
#[cfg(target_os = "none")]
pub use x86_64::{clock, context, drop_lower_half, fpu, irq, power, segments, serial, start};
