//! The kernel's log: lines on COM2, written by the macros of crate `log`.

use super::serial;
use crate::arch::messages;
use core::fmt::{self, Write};

/// Writes to the log's port, without a lock.
pub struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::send_to_log(text.as_bytes());
        Ok(())
    }
}

/// Writes why the machine stops: to the log's port and to the screen, without a lock.
pub struct LastLine;

impl Write for LastLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (super::entry::handlers().show)(text);
        Line.write_str(text)
    }
}

struct Logger;

impl log::Log for Logger {
    /// Messages of libraries are discarded.
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("kernel")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let us = super::clock::uptime_us();
        let (seconds, ms) = (us / 1_000_000, us / 1000 % 1000);
        // `Line` never fails.
        let _ = writeln!(Line, "[{seconds:4}.{ms:03}] {}", record.args());
        messages::keep(us, *record.args());
    }

    fn flush(&self) {}
}

pub(super) fn start() {
    static LOGGER: Logger = Logger;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}
