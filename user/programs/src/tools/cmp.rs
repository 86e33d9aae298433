//! `cmp [-s] [-l] [-n LIMIT] FILE1 FILE2`: compares two files byte by byte.

use user::prelude::*;

use user::pages::{COPY_BYTES, Pages};

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "sln:", "cmp [-s] [-l] [-n LIMIT] FILE1 FILE2");
    let [first, second] = match options.operands.as_slice() {
        [first, second] => [*first, *second],
        [first] => [*first, &b"-"[..]],
        _ => {
            eprintln!("usage: cmp [-s] [-l] [-n LIMIT] FILE1 FILE2");
            return 2;
        }
    };
    let limit = options.value(b'n').and_then(user::opt::size).unwrap_or(u64::MAX);
    let open =
        |path: &[u8]| user::io::open_input(path).map_err(|error| complain("cmp", path, error));
    let (Ok(first_fd), Ok(second_fd)) = (open(first), open(second)) else { return 2 };
    let report = match () {
        () if options.has(b's') => Report::Nothing,
        () if options.has(b'l') => Report::All,
        () => Report::First,
    };
    match compare([first, second], [first_fd, second_fd], limit, report) {
        Ok(equal) => i32::from(!equal),
        Err(error) => complain("cmp", first, error) + 1,
    }
}

/// Which differences to print.
#[derive(Clone, Copy, PartialEq)]
enum Report {
    Nothing,
    First,
    All,
}

/// Compares at most `limit` bytes. Returns whether the files agree.
fn compare(paths: [&[u8]; 2], fds: [Fd; 2], limit: u64, report: Report) -> Result<bool> {
    let (mut left, mut right) = (Pages::new(COPY_BYTES)?, Pages::new(COPY_BYTES)?);
    let (mut offset, mut line, mut equal) = (0u64, 1u64, true);
    loop {
        let most = (limit - offset).min(COPY_BYTES as u64) as usize;
        let left_len = sys::read_full(fds[0], &mut left[..most])?;
        let right_len = sys::read_full(fds[1], &mut right[..most])?;
        let both = left_len.min(right_len);
        if left[..both] != right[..both] {
            for (index, (a, b)) in left[..both].iter().zip(&right[..both]).enumerate() {
                if a != b {
                    equal = false;
                    let at = offset + index as u64 + 1;
                    if report == Report::All {
                        println!("{at} {a:3o} {b:3o}");
                    } else {
                        if report == Report::First {
                            let [left, right] = paths.map(Show);
                            println!("{left} {right} differ: char {at}, line {line}");
                        }
                        return Ok(false);
                    }
                }
                line += u64::from(*a == b'\n');
            }
        } else {
            line += left[..both].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        offset += both as u64;
        if left_len != right_len {
            let shorter = paths[usize::from(right_len < left_len)];
            if report != Report::Nothing {
                eprintln!("cmp: EOF on {} after byte {offset}", Show(shorter));
            }
            return Ok(false);
        }
        if both == 0 || offset == limit {
            return Ok(equal);
        }
    }
}
