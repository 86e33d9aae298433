//! What the layers above do when the CPU enters the kernel from user mode.
//!
//! `arch` knows none of these layers. The boot code passes one [`Handlers`] to `arch::start` before
//! the first program runs. This is the only way from entry code upward, except for interrupt lines
//! (`irq::register`).

use super::{PageFault, SavedRegisters};
use core::fmt;

/// How a system call returns to user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReturnPath {
    /// All registers are loaded from where they were saved (`iret`).
    Full = 0,
    /// Only the result has changed (`sysret`): the callee-saved registers still hold the
    /// program's values.
    Fast = 1,
}

/// An exception in user mode that is not a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The CPU's vector, 0 to 31 (see [`super::vector`]).
    pub vector: u8,
    /// Address of the instruction: the faulting one, or the next one after a trap.
    pub instruction: u64,
}

/// The functions that entry code calls, with interrupts off, on the kernel stack of the running
/// thread. They may wait, and end the thread instead of returning.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Handlers {
    /// Carries out a system call and puts its result into the registers.
    pub system_call: extern "C" fn(SavedRegisters<'_>) -> ReturnPath,
    /// A new thread is about to enter user mode for the first time.
    pub thread_start: extern "C" fn(),
    /// User mode raised a page fault. On return the instruction is executed again.
    pub page_fault: fn(PageFault),
    /// User mode raised another exception.
    pub exception: fn(Exception),
    /// An interrupt of user mode has been served.
    pub interrupt: fn(),
    /// A non-maskable interrupt requests a report of all threads. May come anywhere in the
    /// kernel.
    pub report: fn(),
    /// The kernel has panicked: writes what runs. Waits for no lock.
    pub running: fn(&mut dyn fmt::Write) -> fmt::Result,
    /// The machine stops: shows a part of the reason on the screen, if there is one. Waits for no
    /// lock.
    pub show: fn(&str),
}
