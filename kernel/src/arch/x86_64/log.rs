//! The kernel's log: lines on COM2, written by the macros of crate `log`.

use super::serial;
use core::fmt::{self, Write};

/// Writes to the log's port, without a lock.
pub struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::send_to_log(text.as_bytes());
        Ok(())
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
        let ms = super::clock::uptime_ms();
        // `Line` never fails.
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
