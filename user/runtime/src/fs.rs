//! Directories and paths.

use crate::prelude::*;
use sys::abi;

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its directory.
    pub name: Vec<u8>,
    /// `DT_REG` and so on; `DT_UNKNOWN` where the file system does not say.
    pub kind: u8,
    /// The inode number.
    pub inode: u64,
}

/// Parses the output of `getdents64`. Stops at a malformed record.
pub fn parse_entries(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(head) = bytes.first_chunk::<19>() {
        let inode = u64::from_ne_bytes([
            head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7],
        ]);
        let record_bytes = usize::from(u16::from_ne_bytes([head[16], head[17]]));
        let Some(name) = bytes.get(19..record_bytes) else { break };
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        entries.push(Entry { name: name.to_vec(), kind: head[18], inode });
        bytes = &bytes[record_bytes..];
    }
    entries
}

/// All entries of a directory, `.` and `..` included, in the file system's order.
pub fn read_directory(path: &[u8]) -> Result<Vec<Entry>> {
    let fd = sys::open(path, abi::O_RDONLY | abi::O_DIRECTORY | abi::O_CLOEXEC, 0)?;
    let mut entries = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let result = loop {
        match sys::getdents64(fd, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => entries.extend(parse_entries(&buffer[..count])),
            Err(error) => break Err(error),
        }
    };
    let _ = sys::close(fd);
    result.map(|()| entries)
}

/// The names in a directory, sorted, without `.` and `..`.
pub fn list(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names: Vec<_> = read_directory(path)?.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    Ok(names)
}

/// Joins a directory and a name with a slash, unless the directory ends with one.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.ends_with(b"/") && !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The last component of a path, without trailing slashes.
pub fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether a mode is of type `kind` (`S_IFDIR`, …).
pub fn is_kind(mode: u32, kind: u32) -> bool {
    mode & abi::S_IFMT == kind
}

/// Whether the path leads to a directory.
pub fn is_directory(path: &[u8]) -> bool {
    sys::stat(path).is_ok_and(|stat| is_kind(stat.st_mode, abi::S_IFDIR))
}

/// The target of a copy or move: a name inside `target` if that is a directory.
pub fn destination(source: &[u8], target: &[u8]) -> Vec<u8> {
    if is_directory(target) { join(target, base_name(source)) } else { target.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names() {
        for (path, name) in [("a/b", "b"), ("a/b//", "b"), ("b", "b"), ("/", ""), ("/x", "x")] {
            assert_eq!(base_name(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }

    #[test]
    fn garbage_entries_do_not_panic() {
        let mut bytes = [0u8; 64];
        for length in 0..=255 {
            bytes[16] = length;
            parse_entries(&bytes);
        }
        assert_eq!(parse_entries(&[0; 18]), []);
    }
}
