//! `head [-n LINES | -c BYTES] [FILE…]`: the beginning of files.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(
        &user::opt::with_old_counts(args),
        "n:c:",
        "head [-n LINES | -c BYTES] [FILE...]",
    );
    let bytes = options.value(b'c').map(user::opt::size);
    let lines = options.value(b'n').map_or(Some(10), user::opt::size);
    let (Some(lines), true) = (lines, bytes != Some(None)) else {
        eprintln!("head: not a number");
        return 1;
    };
    let mut out = Out::standard();
    let several = options.operands.len() > 1;
    let mut first = true;
    let status = user::io::for_each_input("head", &options.operands, |path, fd| {
        if several {
            let gap: &[u8] = if first { b"==> " } else { b"\n==> " };
            out.put(&[gap, path, b" <==\n"].concat());
            first = false;
        }
        let mut left = bytes.flatten().unwrap_or(lines);
        if left == 0 {
            return Ok(());
        }
        user::io::for_each_piece(fd, |piece| {
            let end = if bytes.is_some() {
                take_bytes(piece, &mut left)
            } else {
                take_lines(piece, &mut left)
            };
            out.put(&piece[..end]);
            left > 0 && !out.failed()
        })
    });
    out.finish("head", status)
}

/// The length of the block's prefix that contains at most `left` bytes.
fn take_bytes(piece: &[u8], left: &mut u64) -> usize {
    let taken = (piece.len() as u64).min(*left);
    *left -= taken;
    taken as usize
}

/// The length of the block's prefix that contains at most `left` lines.
fn take_lines(piece: &[u8], left: &mut u64) -> usize {
    for (index, byte) in piece.iter().enumerate() {
        if *byte == b'\n' {
            *left -= 1;
            if *left == 0 {
                return index + 1;
            }
        }
    }
    piece.len()
}
