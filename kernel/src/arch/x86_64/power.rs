//! Power control: QEMU's isa-debug-exit, and the keyboard controller.

use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

const EXIT_PORT: u16 = 0xf4;
/// Exit code of an orderly power-off.
const OFF: u32 = 0x10;
/// Exit code of a kernel panic.
pub(super) const PANIC: u32 = 0x11;

/// Ends QEMU with a code. On a machine without that device, halts.
pub(super) fn exit(code: u32) -> ! {
    // SAFETY: the port ends QEMU or has no effect.
    unsafe { Port::new(EXIT_PORT).write(code) };
    loop {
        hlt();
    }
}

/// Powers the machine off.
pub fn off() -> ! {
    exit(OFF)
}

/// Stops after a fatal failure outside the kernel. QEMU's status is that of a panic.
pub fn failed() -> ! {
    exit(PANIC)
}

/// Resets the machine by the keyboard controller.
pub fn reset() -> ! {
    // SAFETY: pulses the reset line.
    unsafe { Port::<u8>::new(0x64).write(0xfe) };
    loop {
        hlt();
    }
}
