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
    let mut status = 0;
    for path in &options.operands {
        if let Err(error) = set_length(path, sign, size, options.has(b'c')) {
            status = complain("truncate", path, error);
        }
    }
    status
}

fn set_length(path: &[u8], sign: u8, size: u64, existing_only: bool) -> Result<()> {
    let create = if existing_only { 0 } else { sys::abi::O_CREAT };
    let fd = match sys::open(path, sys::abi::O_WRONLY | create, 0o666) {
        Err(Errno::ENOENT) if existing_only => return Ok(()),
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
