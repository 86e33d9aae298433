//! The kernel's log: lines on COM2, by the `log` crate's macros.

use core::fmt::{self, Write};
use x86_64::instructions::port::Port;

/// COM2.
const PORT: u16 = 0x2f8;
const LINE_STATUS: u16 = 5;
const CAN_SEND: u8 = 0x20;

/// The log's device, without a lock: the kernel is never interrupted in the middle of a line.
pub struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the ports of a 16550: reading its status and sending a byte touch no memory.
            // A machine without one reads as ready.
            unsafe {
                while Port::<u8>::new(PORT + LINE_STATUS).read() & CAN_SEND == 0 {}
                Port::<u8>::new(PORT).write(byte);
            }
        }
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    /// What libraries say is theirs alone.
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("kernel")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let ms = super::clock::uptime_ms();
        // The line takes everything, so there is no error to lose.
        let _ = writeln!(Line, "[{:4}.{:03}] {}", ms / 1000, ms % 1000, record.args());
    }

    fn flush(&self) {}
}

pub(super) fn start() {
    static LOGGER: Logger = Logger;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}
