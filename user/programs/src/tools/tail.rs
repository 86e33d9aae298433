//! `tail [-n LINES | -c BYTES] [FILE…]`: the end of files. A number with a plus sign counts from
//! the start.

use user::prelude::*;

use user::opt::{Options, size};

pub fn run(args: &Args) -> i32 {
    let options = Options::parse(
        &user::opt::with_old_counts(args),
        "n:c:",
        "tail [-n [+]LINES | -c [+]BYTES] [FILE...]",
    );
    let by_bytes = options.has(b'c');
    let text = options.value(if by_bytes { b'c' } else { b'n' }).unwrap_or(b"10");
    let from_start = text.strip_prefix(b"+");
    let Some(count) = size(from_start.or(text.strip_prefix(b"-")).unwrap_or(text)) else {
        eprintln!("tail: {}: not a number", Show(text));
        return 1;
    };
    let mut out = Out::standard();
    let status = user::io::for_each_input("tail", &options.operands, |_, fd| {
        let bytes = user::io::read_to_end(fd)?;
        let start = match (from_start.is_some(), by_bytes) {
            (true, true) => count.saturating_sub(1).min(bytes.len() as u64) as usize,
            (false, true) => bytes.len().saturating_sub(count as usize),
            (true, false) => line_start(&bytes, count.saturating_sub(1)),
            (false, false) => line_start(&bytes, lines_in(&bytes).saturating_sub(count)),
        };
        out.put(&bytes[start..]);
        Ok(())
    });
    out.finish("tail", status)
}

/// The number of lines. The last one may lack its newline.
fn lines_in(bytes: &[u8]) -> u64 {
    let unfinished = bytes.last().is_some_and(|byte| *byte != b'\n');
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + u64::from(unfinished)
}

/// The offset at which line `index` begins.
fn line_start(bytes: &[u8], index: u64) -> usize {
    let Some(before) = index.checked_sub(1) else { return 0 };
    let mut newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    newlines.nth(before as usize).map_or(bytes.len(), |(at, _)| at + 1)
}
