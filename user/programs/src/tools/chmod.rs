//! `chmod MODE FILE…`: sets permissions, in octal or as `[ugoa][+-=][rwx]`.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let (Some(change), Some(paths)) =
        (args.get(1), args.get(2..).filter(|paths| !paths.is_empty()))
    else {
        eprintln!("usage: chmod MODE FILE...");
        return 1;
    };
    let mut status = 0;
    for path in paths {
        let mode = sys::stat(path).map(|stat| apply(change, stat.st_mode & 0o7777));
        status |= match mode {
            Ok(None) => {
                eprintln!("chmod: {}: not a mode", Show(change));
                return 1;
            }
            Ok(Some(mode)) => {
                sys::chmod(path, mode).map_or_else(|error| complain("chmod", path, error), |()| 0)
            }
            Err(error) => complain("chmod", path, error),
        };
    }
    status
}

/// The mode after the change, or `None` if the change is malformed.
fn apply(change: &[u8], mut mode: u32) -> Option<u32> {
    let text = core::str::from_utf8(change).ok()?;
    if let Ok(octal) = u32::from_str_radix(text, 8) {
        return (octal <= 0o7777).then_some(octal);
    }
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, rest) = clause.split_at(at);
        let mut classes = 0;
        for letter in who.chars() {
            classes |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        if classes == 0 {
            classes = 0o777;
        }
        let mut bits = 0;
        for letter in rest[1..].chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                _ => return None,
            };
        }
        match rest.as_bytes()[0] {
            b'+' => mode |= bits & classes,
            b'-' => mode &= !(bits & classes),
            _ => mode = mode & !classes | bits & classes,
        }
    }
    Some(mode)
}
