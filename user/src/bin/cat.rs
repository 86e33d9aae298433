//! `cat [FILE…]`: writes files to standard output, one after the other.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "u", "cat [FILE...]");
    let mut failure = None;
    let status = user::io::for_each_input("cat", &options.operands, |_, fd| {
        user::io::for_each_piece(fd, |piece| {
            failure = failure.or(sys::write_all(1, piece).err());
            failure.is_none()
        })
    });
    match failure {
        Some(error) => complain("cat", b"write error", error),
        None => status,
    }
}
