//! The machine: CPU set-up, traps, context switch, clock, serial ports, keyboard, log and power.
//!
//! The layers above use the names that are re-exported here. On the bare machine they are those of
//! `x86_64`; on the host they are replacements, so that all other modules can be built and tested
//! there. What only a machine can do panics on the host.
//!
//! This layer imports nothing of the kernel but `sync`. The layers above handle traps and system
//! calls, by functions that the boot code registers ([`Handlers`]).

pub mod acpi;
mod alarms;
mod handlers;
pub mod messages;
mod registers;
pub use alarms::{Alarm, Alarms, NEVER};
pub use handlers::{Exception, Handlers, ReturnPath};
pub use registers::{
    Cause, PageFault, Registers, SIGNAL_FLAGS, SavedRegisters, USER_END, UserAccess, vector,
};

/// The UARTs that the kernel drives.
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
pub use host::{clock, context, fpu, irq, keyboard, power, segments, serial, usage};
#[cfg(target_os = "none")]
pub use x86_64::{
    clock, context, drop_lower_half, fpu, irq, keyboard, power, segments, serial, start, usage,
};

/// CPU time, in cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycles {
    /// In user mode and in the kernel.
    pub total: u64,
    /// Those in the kernel.
    pub system: u64,
}

/// CPU time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

impl Spent {
    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_add(other.user_ns),
            system_ns: self.system_ns.saturating_add(other.system_ns),
        }
    }

    /// Both together.
    #[inline]
    pub fn total_ns(self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }
}

/// What CPUID reports for a leaf, with subleaf 0: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32) -> [u32; 4] {
    let found = core::arch::x86_64::__cpuid_count(leaf, 0);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// The CPU's time stamp counter: cycles since reset.
pub fn time_stamp() -> u64 {
    // SAFETY: reading the counter has no effect, and every x86_64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}
