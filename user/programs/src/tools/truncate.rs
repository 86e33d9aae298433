//! `truncate -s [+|-]SIZE [-c] FILE…`: sets the length of files.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "cs:", "truncate -s [+|-]SIZE [-c] FILE...");
    let text = options.value(b's').unwrap_or_default();
    let (sign, digits) = match text.split_first() {
        Some((sign @ (b'+' | b'-'), digits)) => (*sign, digits),
        _ => (b'=', text),
    };
    let (Some(size), false) = (user::opt::size(digits), options.operands.is_empty()) else {
        eprintln!("usage: truncate -s [+|-]SIZE [-c] FILE...");
        return 1;
    };
    let missing = if options.has(b'c') { Missing::Skip } else { Missing::Create };
    let mut status = 0;
    for path in &options.operands {
        if let Err(error) = set_length(path, sign, size, missing) {
            status = complain("truncate", path, error);
        }
    }
    status
}

/// What to do about a file that does not exist.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Create,
    Skip,
}

/// Sets a file's length to `size` bytes, or with a sign changes it by them.
fn set_length(path: &[u8], sign: u8, size: u64, missing: Missing) -> Result<()> {
    let create = if missing == Missing::Create { sys::abi::O_CREAT } else { 0 };
    let fd = match sys::open(path, sys::abi::O_WRONLY | create, 0o666) {
        Err(Errno::ENOENT) if missing == Missing::Skip => return Ok(()),
        fd => fd?,
    };
    let now = sys::fstat(fd)?.st_size as u64;
    let length = match sign {
        b'+' => now.checked_add(size).ok_or(Errno::EFBIG)?,
        b'-' => now.saturating_sub(size),
        _ => size,
    };
    let result = sys::ftruncate(fd, ByteCount(length)).map(drop);
    let _ = sys::close(fd);
    result
}
