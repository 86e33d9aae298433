//! What is left to a loader that cannot go on: one line on COM2, and an end.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use x86_64::instructions::hlt;
use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

/// COM2, where the kernel's log goes too.
const LOG_PORT: u16 = 0x2f8;
/// QEMU's isa-debug-exit.
const EXIT_PORT: u16 = 0xf4;
/// The exit code that says: the loader refused.
const EXIT_REFUSED: u32 = 0x12;

struct Log;

impl Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the ports of a 16550: reading its status and sending a byte touch no memory.
            unsafe {
                // A machine without the port reads 0xff, which counts as ready.
                while PortReadOnly::<u8>::new(LOG_PORT + 5).read() & 0x20 == 0 {}
                PortWriteOnly::<u8>::new(LOG_PORT).write(byte);
            }
        }
        Ok(())
    }
}

/// Says why, and ends QEMU.
pub fn refuse(reason: fmt::Arguments<'_>) -> ! {
    // The log accepts everything, so there is no error to lose.
    let _ = Log.write_fmt(format_args!("boot: {reason}\n"));
    // SAFETY: a port of QEMU's that ends it; on a machine without it nothing happens.
    unsafe { PortWriteOnly::<u32>::new(EXIT_PORT).write(EXIT_REFUSED) };
    loop {
        hlt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    refuse(format_args!("{info}"))
}
