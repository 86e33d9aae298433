//! `sort [-n] [-r] [-u] [FILE…]`: sorts lines by their bytes, or by the number they begin with.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "nru", "sort [-n] [-r] [-u] [FILE...]");
    let mut text = Vec::new();
    let status = user::io::for_each_input("sort", &options.operands, |_, fd| {
        text.extend(user::io::read_to_end(fd)?);
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        Ok(())
    });
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // The empty text after the last newline is not a line.
    lines.pop();
    if options.has(b'n') {
        lines.sort_by(|a, b| leading_number(a).cmp(&leading_number(b)).then_with(|| a.cmp(b)));
    } else {
        lines.sort();
    }
    if options.has(b'r') {
        lines.reverse();
    }
    if options.has(b'u') {
        lines.dedup();
    }
    let mut out = Out::standard();
    for line in lines {
        out.put(line);
        out.put(b"\n");
    }
    out.finish("sort", status)
}

fn leading_number(line: &[u8]) -> i64 {
    let line = line.trim_ascii_start();
    let (sign, digits) = line.strip_prefix(b"-").map_or((1, line), |digits| (-1, digits));
    let length = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    sign * user::opt::number::<i64>(&digits[..length]).unwrap_or(0)
}
