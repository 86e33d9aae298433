//! `sha256sum [-c] [FILE…]`: SHA-256 of files, or a check of a list of them.

use user::prelude::*;

use sha2::{Digest, Sha256};

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "bc", "sha256sum [-c] [FILE...]");
    let mut out = Out::standard();
    if options.has(b'c') {
        let status = user::io::for_each_input("sha256sum", &options.operands, |_, fd| {
            let list = user::io::read_to_end(fd)?;
            if check(&list, &mut out) { Ok(()) } else { Err(Errno::EBADMSG) }
        });
        return out.finish("sha256sum", status);
    }
    let status = user::io::for_each_input("sha256sum", &options.operands, |path, fd| {
        let sum = hash(fd)?;
        out.put(&[sum.as_bytes(), b"  ", path, b"\n"].concat());
        Ok(())
    });
    out.finish("sha256sum", status)
}

/// The hash in hexadecimal.
fn hash(fd: Fd) -> Result<String> {
    let mut hasher = Sha256::new();
    user::io::for_each_piece(fd, |piece| {
        hasher.update(piece);
        true
    })?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Checks each line of a list. Returns whether all hashes match.
fn check(list: &[u8], out: &mut Out) -> bool {
    let mut good = true;
    for line in list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (Some(sum), Some(path)) = (line.get(..64), line.get(66..)) else {
            good = false;
            continue;
        };
        let found = user::io::open_input(path).and_then(|fd| {
            let found = hash(fd);
            let _ = sys::close(fd);
            found
        });
        let right = found.as_ref().is_ok_and(|found| found.as_bytes() == sum);
        good &= right;
        let verdict = if right { &b": OK\n"[..] } else { b": FAILED\n" };
        out.put(&[path, verdict].concat());
    }
    good
}
