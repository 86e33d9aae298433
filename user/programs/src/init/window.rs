//! The console's size: for each change of the user's terminal, `cargo xtask run` sends a line
//! `size ROWS COLUMNS` on the control channel.

use crate::session::{open_raw, start_helper};
use user::prelude::*;
use user::sys::{Window, abi};

/// Limit for a line.
const LINE_BYTES: usize = 64;

/// Starts the process that keeps the console's size.
pub fn start() -> Result<()> {
    start_helper(b"the console's size", keep)
}

/// Sets the size that each line has, until the channel ends.
fn keep() -> Result<()> {
    // Its own session, so that no key of the terminal reaches it as a signal.
    sys::setsid()?;
    let console = sys::open(b"/dev/console", abi::O_RDWR | abi::O_NOCTTY, 0)?;
    let channel = open_raw(b"/dev/ttyS2")?;
    let mut buffer = [0; LINE_BYTES];
    let mut line = Vec::new();
    loop {
        let count = sys::read(channel, &mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for &byte in buffer.get(..count).unwrap_or_default() {
            if byte == b'\n' {
                if let Some(window) = parse(&line) {
                    sys::set_window(console, window)?;
                }
                line.clear();
            } else if line.len() < LINE_BYTES {
                line.push(byte);
            }
        }
    }
}

/// The size in a line, if it is one of this form.
fn parse(line: &[u8]) -> Option<Window> {
    let line = core::str::from_utf8(line).ok()?.trim_ascii_end();
    let (rows, columns) = line.strip_prefix("size ")?.split_once(' ')?;
    Some(Window { rows: rows.parse().ok()?, columns: columns.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rows_and_columns() {
        assert_eq!(parse(b"size 24 80\r"), Some(Window { rows: 24, columns: 80 }));
        for bad in
            [&b""[..], b"size", b"size 1", b"size 1 2 3", b"size -1 2", b"size 65536 1", b"x 1 2"]
        {
            assert_eq!(parse(bad), None);
        }
    }
}
