//! `rmdir DIRECTORY…`: removes empty directories.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "", "rmdir DIRECTORY...");
    let mut status = i32::from(options.operands.is_empty());
    for path in &options.operands {
        if let Err(error) = sys::rmdir(path) {
            status = complain("rmdir", path, error);
        }
    }
    status
}
