//! `touch [-c] FILE…`: creates files, or sets their times to now.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "cam", "touch [-c] FILE...");
    let mut status = i32::from(options.operands.is_empty());
    for path in &options.operands {
        let result = match sys::utimens(path, None) {
            Err(Errno::ENOENT) if options.has(b'c') => Ok(()),
            Err(Errno::ENOENT) => {
                sys::open(path, sys::abi::O_WRONLY | sys::abi::O_CREAT, 0o666).and_then(sys::close)
            }
            result => result,
        };
        if let Err(error) = result {
            status = complain("touch", path, error);
        }
    }
    status
}
