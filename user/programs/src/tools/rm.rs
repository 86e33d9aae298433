//! `rm [-rRf] FILE…`: removes files and trees.

use user::prelude::*;

use user::fs;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "rRfv", "rm [-r] [-f] FILE...");
    let recursive = options.has(b'r') || options.has(b'R');
    let force = options.has(b'f');
    if options.operands.is_empty() && !force {
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
        status |= remove(path, recursive, force);
    }
    status
}

fn remove(path: &[u8], recursive: bool, force: bool) -> i32 {
    let result = match sys::lstat(path) {
        Ok(stat) if fs::is_kind(stat.st_mode, sys::abi::S_IFDIR) => {
            if !recursive {
                Err(Errno::EISDIR)
            } else {
                return remove_directory(path, force);
            }
        }
        Ok(_) => sys::unlink(path),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => 0,
        Err(Errno::ENOENT) if force => 0,
        Err(error) => complain("rm", path, error),
    }
}

fn remove_directory(path: &[u8], force: bool) -> i32 {
    let names = match fs::list(path) {
        Ok(names) => names,
        Err(error) => return complain("rm", path, error),
    };
    let mut status = 0;
    for name in names {
        status |= remove(&fs::join(path, &name), true, force);
    }
    if status == 0
        && let Err(error) = sys::rmdir(path)
    {
        status = complain("rm", path, error);
    }
    status
}
