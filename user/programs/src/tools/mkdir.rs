//! `mkdir [-p] [-m MODE] DIRECTORY…`: makes directories.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "pm:", "mkdir [-p] [-m MODE] DIRECTORY...");
    let mode = options
        .value(b'm')
        .map_or(Some(0o777), |mode| u32::from_str_radix(core::str::from_utf8(mode).ok()?, 8).ok());
    let (Some(mode), false) = (mode, options.operands.is_empty()) else {
        eprintln!("usage: mkdir [-p] [-m MODE] DIRECTORY...");
        return 1;
    };
    let mut status = 0;
    for path in &options.operands {
        let result = if options.has(b'p') { make_all(path, mode) } else { sys::mkdir(path, mode) };
        if let Err(error) = result {
            status = complain("mkdir", path, error);
        }
    }
    status
}

/// Makes the directory and its parents. Existing ones are no error.
fn make_all(path: &[u8], mode: u32) -> Result<()> {
    let ends = (1..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
    for end in ends {
        match sys::mkdir(&path[..end], mode) {
            Err(Errno::EEXIST) if user::fs::is_directory(&path[..end]) => {}
            result => result?,
        }
    }
    Ok(())
}
