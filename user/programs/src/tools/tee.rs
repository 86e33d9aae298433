//! `tee [-a] FILE…`: copies standard input to standard output and to files.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "a", "tee [-a] [FILE...]");
    let how = if options.has(b'a') { sys::abi::O_APPEND } else { sys::abi::O_TRUNC };
    let (mut outputs, mut status) = (vec![(Fd::STDOUT, &b"standard output"[..])], 0);
    for path in &options.operands {
        match sys::open(path, sys::abi::O_WRONLY | sys::abi::O_CREAT | how, 0o666) {
            Ok(fd) => outputs.push((fd, path)),
            Err(error) => status = complain("tee", path, error),
        }
    }
    let result = user::io::for_each_piece(Fd::STDIN, |piece| {
        outputs.retain(|(fd, path)| match sys::write_all(*fd, piece) {
            Ok(()) => true,
            Err(error) => {
                status = complain("tee", path, error);
                false
            }
        });
        !outputs.is_empty()
    });
    match result {
        Ok(()) => status,
        Err(error) => complain("tee", b"standard input", error),
    }
}
