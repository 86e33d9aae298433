//! `cp [-rRapf] SOURCE… TARGET`: copies files and trees.

use user::prelude::*;

use core::cell::Cell;
use sys::abi;
use user::fs;
use user::opt::Options;

pub fn run(args: &Args) -> i32 {
    let options = Options::parse(args, "rRapfdT", "cp [-r] [-p] SOURCE... TARGET");
    let (Some((target, sources)), true) =
        (options.operands.split_last(), options.operands.len() > 1)
    else {
        eprintln!("usage: cp [-r] [-p] SOURCE... TARGET");
        return 1;
    };
    if sources.len() > 1 && !fs::is_directory(target) {
        return complain("cp", target, Errno::ENOTDIR);
    }
    let copier = Copier {
        recursive: b"rRa".iter().any(|letter| options.has(*letter)),
        preserve: b"pa".iter().any(|letter| options.has(*letter)),
        made: Cell::new(None),
    };
    let mut status = 0;
    for source in sources {
        let to = if options.has(b'T') { target.to_vec() } else { fs::destination(source, target) };
        copier.made.set(None);
        status |= copier.copy(source, &to);
    }
    status
}

/// The options.
struct Copier {
    recursive: bool,
    preserve: bool,
    /// Device and inode of the directory at the top of the copy. If the walk meets it, the tree is
    /// being copied into itself.
    made: Cell<Option<(u64, u64)>>,
}

impl Copier {
    /// Copies a file or tree, and reports errors on the way. Returns the exit status.
    fn copy(&self, from: &[u8], to: &[u8]) -> i32 {
        let stat = match if self.recursive { sys::lstat(from) } else { sys::stat(from) } {
            Ok(stat) => stat,
            Err(error) => return complain("cp", from, error),
        };
        if fs::is_kind(stat.st_mode, abi::S_IFDIR) {
            if !self.recursive {
                eprintln!("cp: {}: is a directory (not copied without -r)", Show(from));
                return 1;
            }
            return self.copy_directory(from, to, &stat);
        }
        let result = if fs::is_kind(stat.st_mode, abi::S_IFLNK) {
            sys::readlink(from)
                .and_then(|target| sys::symlink(&target, to))
                .map_err(|error| (to, error))
        } else {
            copy_file(from, to, &stat)
                .and_then(|()| self.keep(to, &stat).map_err(|error| (to, error)))
        };
        result.map_or_else(|(path, error)| complain("cp", path, error), |()| 0)
    }

    fn copy_directory(&self, from: &[u8], to: &[u8], stat: &sys::Stat) -> i32 {
        let made = match sys::mkdir(to, stat.st_mode & 0o7777 | 0o700) {
            Err(Errno::EEXIST) if fs::is_directory(to) => Ok(()),
            result => result,
        };
        if let Err(error) = made {
            return complain("cp", to, error);
        }
        let names = match fs::list(from) {
            Ok(names) => names,
            Err(error) => return complain("cp", from, error),
        };
        if self.made.get().is_none() {
            self.made.set(sys::stat(to).ok().map(|stat| (stat.st_dev, stat.st_ino)));
        }
        let mut status = 0;
        for name in names {
            let source = fs::join(from, &name);
            if sys::lstat(&source).ok().map(|stat| (stat.st_dev, stat.st_ino)) == self.made.get() {
                eprintln!("cp: {}: cannot copy a directory into itself", Show(&source));
                status = 1;
                continue;
            }
            status |= self.copy(&source, &fs::join(to, &name));
        }
        match self.keep(to, stat) {
            Ok(()) => status,
            Err(error) => complain("cp", to, error),
        }
    }

    /// With `-p`, copies mode, owner (where allowed) and times of the original.
    fn keep(&self, path: &[u8], stat: &sys::Stat) -> Result<()> {
        if !self.preserve {
            return Ok(());
        }
        let _ = sys::chown(path, stat.st_uid, stat.st_gid);
        sys::chmod(path, stat.st_mode & 0o7777)?;
        let time = |tv_sec: u64, nanoseconds: u64| abi::__kernel_timespec {
            tv_sec: tv_sec as i64,
            tv_nsec: nanoseconds as i64,
        };
        let times =
            [time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec)];
        sys::utimens(path, Some(times))
    }
}

/// Copies the contents of one file. The error comes with the path that it concerns.
fn copy_file<'a>(
    from: &'a [u8],
    to: &'a [u8],
    stat: &sys::Stat,
) -> core::result::Result<(), (&'a [u8], Errno)> {
    if let Ok(existing) = sys::stat(to)
        && (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino)
    {
        eprintln!("cp: {} and {} are the same file", Show(from), Show(to));
        return Err((to, Errno::EEXIST));
    }
    let input = sys::open(from, abi::O_RDONLY, 0).map_err(|error| (from, error))?;
    let create = abi::O_WRONLY | abi::O_CREAT | abi::O_TRUNC;
    let result = sys::open(to, create, stat.st_mode & 0o777).map_err(|error| (to, error)).and_then(
        |output| {
            let mut failure = None;
            let read = user::io::for_each_piece(input, |piece| {
                failure = sys::write_all(output, piece).err();
                failure.is_none()
            });
            let closed = sys::close(output);
            read.map_err(|error| (from, error))?;
            failure.map_or(closed, Err).map_err(|error| (to, error))
        },
    );
    let _ = sys::close(input);
    result
}
