//! The end of the machine, by QEMU's isa-debug-exit.

use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

const EXIT_PORT: u16 = 0xf4;
/// An orderly power-off.
const OFF: u32 = 0x10;
/// A kernel panic.
pub(super) const PANIC: u32 = 0x11;

/// Ends QEMU with a code; on a machine without that device, stops.
pub(super) fn exit(code: u32) -> ! {
    // SAFETY: the port ends QEMU or does nothing.
    unsafe { Port::new(EXIT_PORT).write(code) };
    loop {
        hlt();
    }
}

/// Powers off.
pub fn off() -> ! {
    exit(OFF)
}

/// Stops after a failure that is not the kernel's own; QEMU's status is that of a panic.
pub fn failed() -> ! {
    exit(PANIC)
}

/// Resets by the keyboard controller.
pub fn reset() -> ! {
    // SAFETY: pulses the reset line.
    unsafe { Port::<u8>::new(0x64).write(0xfe) };
    loop {
        hlt();
    }
}
