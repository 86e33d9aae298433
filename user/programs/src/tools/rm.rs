//! `rm [-rRf] FILE…`: removes files and trees.

use user::prelude::*;

use user::fs;
use user::opt::Options;

pub fn run(args: &Args) -> i32 {
    let options = Options::parse(args, "rRfv", "rm [-r] [-f] FILE...");
    if options.operands.is_empty() && !options.has(b'f') {
        eprintln!("usage: rm [-r] [-f] FILE...");
        return 1;
    }
    let mut status = 0;
    for path in &options.operands {
        if matches!(fs::base_name(path), b"." | b"..")
            || (fs::base_name(path).is_empty() && !path.is_empty())
        {
            eprintln!("rm: {}: refusing to remove", Show(path));
            status = 1;
            continue;
        }
        status |= remove(path, &options);
    }
    status
}

/// Removes a file, or with `-r` a tree. Returns the exit status.
fn remove(path: &[u8], options: &Options) -> i32 {
    let result = match sys::lstat(path) {
        Ok(stat) if fs::is_kind(stat.st_mode, sys::abi::S_IFDIR) => {
            if options.has(b'r') || options.has(b'R') {
                return remove_directory(path, options);
            }
            Err(Errno::EISDIR)
        }
        Ok(_) => sys::unlink(path),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => 0,
        Err(Errno::ENOENT) if options.has(b'f') => 0,
        Err(error) => complain("rm", path, error),
    }
}

fn remove_directory(path: &[u8], options: &Options) -> i32 {
    let names = match fs::list(path) {
        Ok(names) => names,
        Err(error) => return complain("rm", path, error),
    };
    let mut status = 0;
    for name in names {
        status |= remove(&fs::join(path, &name), options);
    }
    if status == 0
        && let Err(error) = sys::rmdir(path)
    {
        status = complain("rm", path, error);
    }
    status
}
