//! Error reports of the loader: one line on COM2, then the end of the machine.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use uart_16550::Uart16550;
use x86_64::instructions::hlt;
use x86_64::instructions::port::PortWriteOnly;

/// COM2, the port of the kernel's log.
const LOG_PORT: u16 = 0x2f8;
/// The I/O port of QEMU's isa-debug-exit.
const EXIT_PORT: u16 = 0xf4;
/// The exit code for an error of the loader.
const EXIT_REFUSED: u32 = 0x12;

struct Log;

impl Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the standard I/O ports of COM2, which touch no memory.
        let Ok(mut uart) = (unsafe { Uart16550::new_port(LOG_PORT) }) else { return Ok(()) };
        // Byte by byte, because the FIFO is not enabled. A machine without the port reads as ready.
        for byte in text.as_bytes() {
            while uart.send_bytes(core::slice::from_ref(byte)) == 0 {}
        }
        Ok(())
    }
}

/// Prints the reason, and ends QEMU.
pub fn refuse(reason: fmt::Arguments<'_>) -> ! {
    // `Log` never fails.
    let _ = Log.write_fmt(format_args!("boot: {reason}\n"));
    // SAFETY: the port ends QEMU or has no effect.
    unsafe { PortWriteOnly::<u32>::new(EXIT_PORT).write(EXIT_REFUSED) };
    loop {
        hlt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    refuse(format_args!("{info}"))
}
