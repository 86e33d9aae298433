//! `stat [-c FORMAT] FILE…`: prints file attributes. Formats: %n %s %b %B %f %a %F %i %h %u %g %d
//! %X %Y %Z.

use user::prelude::*;

use sys::abi;
use user::fs::is_kind;

/// The format of the output without `-c`.
const DEFAULT: &[u8] =
    b"  File: %n\n  Size: %s\tBlocks: %b\tIO Block: %o\t%F\nDevice: %d\tInode: %i\tLinks: %h\n\
Access: (%a)\tUid: %u\tGid: %g\nAccess: %X\nModify: %Y\nChange: %Z";

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "c:L", "stat [-L] [-c FORMAT] FILE...");
    let format = options.value(b'c').unwrap_or(DEFAULT);
    let mut out = Out::standard();
    let mut status = i32::from(options.operands.is_empty());
    for path in &options.operands {
        match if options.has(b'L') { sys::stat(path) } else { sys::lstat(path) } {
            Ok(stat) => {
                show(&mut out, format, path, &stat);
                out.put(b"\n");
            }
            Err(error) => status = complain("stat", path, error),
        }
    }
    out.finish("stat", status)
}

fn show(out: &mut Out, format: &[u8], path: &[u8], stat: &sys::Stat) {
    let mut bytes = format.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.put(&[*byte]);
            continue;
        }
        let text = match bytes.next() {
            Some(b'n') => {
                out.put(path);
                continue;
            }
            Some(b's') => format!("{}", stat.st_size),
            Some(b'b') => format!("{}", stat.st_blocks),
            Some(b'B') => "512".into(),
            Some(b'o') => format!("{}", stat.st_blksize),
            Some(b'f') => format!("{:x}", stat.st_mode),
            Some(b'a') => format!("{:o}", stat.st_mode & 0o7777),
            Some(b'F') => kind(stat).into(),
            Some(b'i') => format!("{}", stat.st_ino),
            Some(b'h') => format!("{}", stat.st_nlink),
            Some(b'u') => format!("{}", stat.st_uid),
            Some(b'g') => format!("{}", stat.st_gid),
            Some(b'd') => format!("{}", stat.st_dev),
            Some(b'X') => format!("{}", stat.st_atime),
            Some(b'Y') => format!("{}", stat.st_mtime),
            Some(b'Z') => format!("{}", stat.st_ctime),
            Some(b'%') => "%".into(),
            _ => "?".into(),
        };
        out.put(text.as_bytes());
    }
}

fn kind(stat: &sys::Stat) -> &'static str {
    let kinds = [
        (abi::S_IFDIR, "directory"),
        (abi::S_IFLNK, "symbolic link"),
        (abi::S_IFCHR, "character special file"),
        (abi::S_IFBLK, "block special file"),
        (abi::S_IFIFO, "fifo"),
        (abi::S_IFSOCK, "socket"),
    ];
    match kinds.iter().find(|(kind, _)| is_kind(stat.st_mode, *kind)) {
        Some((_, name)) => name,
        None if stat.st_size == 0 => "regular empty file",
        None => "regular file",
    }
}
