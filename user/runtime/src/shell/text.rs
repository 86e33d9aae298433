//! The output of `echo` and `printf`, and the names of signals. The tools of these names share it.

use crate::prelude::*;

/// The output of `echo`: `-n` omits the newline, `-e` expands escapes.
pub fn echo(arguments: &[&[u8]]) -> Vec<u8> {
    let (mut newline, mut escapes) = (true, false);
    let mut rest = arguments;
    while let [first, after @ ..] = rest {
        match *first {
            b"-n" => newline = false,
            b"-e" => escapes = true,
            b"-ne" | b"-en" => (newline, escapes) = (false, true),
            _ => break,
        }
        rest = after;
    }
    let mut text = rest.join(&b' ');
    if escapes {
        text = unescape(&text).0;
    }
    if newline {
        text.push(b'\n');
    }
    text
}

/// Expands backslash escapes. Returns whether `\c` asked to end all output.
fn unescape(text: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = after;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'e' => out.push(27),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' => out.push(b'\\'),
            b'c' => return (out, true),
            b'x' => out.push(take_number(&mut rest, 16, 2)),
            b'0' => out.push(take_number(&mut rest, 8, 3)),
            b'1'..=b'7' => {
                let mut digits = &text[text.len() - rest.len() - 1..];
                out.push(take_number(&mut digits, 8, 3));
                rest = digits;
            }
            _ => out.extend([b'\\', escape]),
        }
    }
    (out, false)
}

/// Parses up to `most` digits of `radix` from the front of `text`.
fn take_number(text: &mut &[u8], radix: u32, most: usize) -> u8 {
    let mut value = 0u32;
    for _ in 0..most {
        let Some((&byte, after)) = text.split_first() else { break };
        let Some(digit) = (byte as char).to_digit(radix) else { break };
        value = value * radix + digit;
        *text = after;
    }
    value as u8
}

/// The output of `printf FORMAT ARGUMENTS…`, and whether all arguments were valid. The format is
/// reused while arguments are left.
pub fn printf(format: &[u8], arguments: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut good = true;
    let mut arguments = arguments.iter();
    loop {
        let before = arguments.len();
        let mut rest = format;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte == b'%' {
                good &= conversion(&mut rest, &mut arguments, &mut out);
            } else {
                let length = rest.iter().position(|&byte| byte == b'%').unwrap_or(rest.len());
                let (text, end) = unescape(
                    &format[format.len() - rest.len() - 1..format.len() - rest.len() + length],
                );
                out.extend(text);
                if end {
                    return (out, good);
                }
                rest = &rest[length..];
            }
        }
        if arguments.len() == 0 || arguments.len() == before {
            return (out, good);
        }
    }
}

/// Applies one `%` conversion; `rest` begins after the percent sign.
fn conversion(
    rest: &mut &[u8],
    arguments: &mut core::slice::Iter<'_, &[u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let flags = rest.iter().position(|byte| !b"-0+ #".contains(byte)).unwrap_or(rest.len());
    let (left, zero) = (rest[..flags].contains(&b'-'), rest[..flags].contains(&b'0'));
    *rest = &rest[flags..];
    let mut digits = || {
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let value = crate::opt::number::<u16>(&rest[..length]).map(usize::from);
        *rest = &rest[length..];
        value
    };
    let width = digits().unwrap_or(0);
    let precision = if rest.starts_with(b".") {
        *rest = &rest[1..];
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let value = crate::opt::number::<u16>(&rest[..length]).map_or(0, usize::from);
        *rest = &rest[length..];
        Some(value)
    } else {
        None
    };
    let Some((&kind, after)) = rest.split_first() else {
        out.push(b'%');
        return true;
    };
    *rest = after;
    if kind == b'%' {
        out.push(b'%');
        return true;
    }
    let argument: &[u8] = arguments.next().copied().unwrap_or_default();
    let text = core::str::from_utf8(argument).unwrap_or_default();
    let number = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None if text.is_empty() => Some(0),
        None => {
            text.parse::<i64>().ok().or_else(|| text.parse::<u64>().ok().map(|value| value as i64))
        }
    };
    let value = number.unwrap_or(0);
    let (mut shown, good) = match kind {
        b's' => (argument.to_vec(), true),
        b'b' => (unescape(argument).0, true),
        b'c' => (argument.get(..1).unwrap_or_default().to_vec(), true),
        b'd' | b'i' => (format!("{value}").into_bytes(), number.is_some()),
        b'u' => (format!("{}", value as u64).into_bytes(), number.is_some()),
        b'x' => (format!("{value:x}").into_bytes(), number.is_some()),
        b'X' => (format!("{value:X}").into_bytes(), number.is_some()),
        b'o' => (format!("{value:o}").into_bytes(), number.is_some()),
        _ => (vec![b'%', kind], false),
    };
    if let (Some(precision), b's' | b'b') = (precision, kind) {
        shown.truncate(precision);
    }
    let padding = width.saturating_sub(shown.len());
    if left {
        out.extend(shown);
        out.extend(core::iter::repeat_n(b' ', padding));
    } else {
        let fill = if zero && kind != b's' { b'0' } else { b' ' };
        out.extend(core::iter::repeat_n(fill, padding));
        out.extend(shown);
    }
    good
}

/// Signals: number, the name that `kill` accepts, and the text that shells print.
pub const SIGNALS: [(i32, &str, &str); 31] = [
    (1, "HUP", "Hangup"),
    (2, "INT", "Interrupt"),
    (3, "QUIT", "Quit"),
    (4, "ILL", "Illegal instruction"),
    (5, "TRAP", "Trace/breakpoint trap"),
    (6, "ABRT", "Aborted"),
    (7, "BUS", "Bus error"),
    (8, "FPE", "Floating point exception"),
    (9, "KILL", "Killed"),
    (10, "USR1", "User defined signal 1"),
    (11, "SEGV", "Segmentation fault"),
    (12, "USR2", "User defined signal 2"),
    (13, "PIPE", "Broken pipe"),
    (14, "ALRM", "Alarm clock"),
    (15, "TERM", "Terminated"),
    (16, "STKFLT", "Stack fault"),
    (17, "CHLD", "Child exited"),
    (18, "CONT", "Continued"),
    (19, "STOP", "Stopped (signal)"),
    (20, "TSTP", "Stopped"),
    (21, "TTIN", "Stopped (tty input)"),
    (22, "TTOU", "Stopped (tty output)"),
    (23, "URG", "Urgent I/O condition"),
    (24, "XCPU", "CPU time limit exceeded"),
    (25, "XFSZ", "File size limit exceeded"),
    (26, "VTALRM", "Virtual timer expired"),
    (27, "PROF", "Profiling timer expired"),
    (28, "WINCH", "Window changed"),
    (29, "IO", "I/O possible"),
    (30, "PWR", "Power failure"),
    (31, "SYS", "Bad system call"),
];

/// The text that shells print for a signal.
pub fn signal_text(signal: i32) -> &'static str {
    SIGNALS
        .iter()
        .find(|(number, ..)| *number == signal)
        .map_or("Unknown signal", |(_, _, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_and_printf() {
        assert_eq!(echo(&[b"a", b"b"]), b"a b\n");
        assert_eq!(echo(&[b"-n", b"a\\n"]), b"a\\n");
        assert_eq!(echo(&[b"-e", b"a\\tb\\0101\\101\\x41"]), b"a\tbAAA\n");
        assert_eq!(printf(b"%s-%03d|%-4s|%%\\n", &[b"a", b"7", b"xy"]).0, b"a-007|xy  |%\n");
        assert_eq!(printf(b"%s\\n", &[b"a", b"b"]).0, b"a\nb\n");
        assert_eq!(printf(b"x", &[b"a", b"b"]).0, b"x");
        assert_eq!(printf(b"%", &[]).0, b"%");
        assert_eq!(printf(b"%.2s%5d", &[b"abc", b"-3"]).0, b"ab   -3");
        assert!(!printf(b"%d", &[b"x"]).1);
    }
}
