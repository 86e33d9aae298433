//! `cat [FILE…]`: writes files to standard output, one after the other.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "u", "cat [FILE...]");
    let mut failure = None;
    let status = user::io::for_each_input("cat", &options.operands, |_, fd| {
        user::io::for_each_piece(fd, |piece| {
            failure = failure.or(sys::write_all(Fd::STDOUT, piece).err());
            failure.is_none()
        })
    });
    match failure {
        Some(error) => complain("cat", b"write error", error),
        None => status,
    }
}
