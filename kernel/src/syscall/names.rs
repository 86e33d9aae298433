//! Names: creating, removing, renaming, listing; and the working directory.

use super::arguments::{base, buffers, found_at, only, open_file, path, store};
use crate::file::{Caller, DirectoryEntry, Fd, FileType, OpenFile, OpenHow, Status, namespace};
use crate::mem::{UserAddr, fallible};
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{OpenFlags, RenameFlags};
use linux_raw_sys::general as linux;

const HERE: Fd = Fd::WORKING_DIRECTORY;

/// Implements mkdir(2).
pub fn mkdir(current: &dyn Caller, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    mkdirat(current, HERE, path, mode)
}

/// Implements mkdirat(2).
pub fn mkdirat(current: &dyn Caller, dir: Fd, address: UserAddr, mode: u32) -> Result<u64, Errno> {
    let path = path(current, address)?;
    let mode = mode as u16 & 0o1777 & !current.context().lock().umask;
    namespace::root().make_dir(&base(current, dir, &path)?, &path, mode)?;
    Ok(0)
}

/// Implements mknod(2).
pub fn mknod(current: &dyn Caller, path: UserAddr, mode: u32, device: u64) -> Result<u64, Errno> {
    mknodat(current, HERE, path, mode, device)
}

/// mknodat(2): regular files, named pipes and names of sockets. EPERM for other types, which file
/// servers do not support.
pub fn mknodat(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    mode: u32,
    _device: u64,
) -> Result<u64, Errno> {
    let kind = match mode & linux::S_IFMT {
        0 | linux::S_IFREG => OpenFlags::empty(),
        linux::S_IFIFO => OpenFlags::PIPE,
        linux::S_IFSOCK => OpenFlags::SOCKET,
        linux::S_IFDIR => return Err(Errno::EPERM),
        linux::S_IFCHR | linux::S_IFBLK => {
            return match found_at(current, dir, address, linux::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EEXIST),
                Err(Errno::ENOENT) => Err(Errno::EPERM),
                Err(error) => Err(error),
            };
        }
        _ => return Err(Errno::EINVAL),
    };
    let path = path(current, address)?;
    let mode = mode as u16 & 0o7777 & !current.context().lock().umask;
    let flags = kind | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    namespace::root().open(&base(current, dir, &path)?, &path, OpenHow { flags, mode })?;
    Ok(0)
}

/// Implements rmdir(2).
pub fn rmdir(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    unlinkat(current, HERE, path, linux::AT_REMOVEDIR)
}

/// Implements unlink(2).
pub fn unlink(current: &dyn Caller, path: UserAddr) -> Result<u64, Errno> {
    unlinkat(current, HERE, path, 0)
}

/// Implements unlinkat(2).
pub fn unlinkat(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, linux::AT_REMOVEDIR)?;
    let path = path(current, address)?;
    let base = base(current, dir, &path)?;
    if flags == 0 {
        namespace::root().unlink(&base, &path)?
    } else {
        namespace::root().remove_dir(&base, &path)?
    }
    Ok(0)
}

/// Implements rename(2).
pub fn rename(current: &dyn Caller, old: UserAddr, new: UserAddr) -> Result<u64, Errno> {
    renameat2(current, HERE, old, HERE, new, 0)
}

/// Implements renameat(2).
pub fn renameat(
    current: &dyn Caller,
    old_dir: Fd,
    old: UserAddr,
    new_dir: Fd,
    new: UserAddr,
) -> Result<u64, Errno> {
    renameat2(current, old_dir, old, new_dir, new, 0)
}

/// Implements renameat2(2).
pub fn renameat2(
    current: &dyn Caller,
    old_dir: Fd,
    old: UserAddr,
    new_dir: Fd,
    new: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, linux::RENAME_NOREPLACE | linux::RENAME_EXCHANGE)?;
    let mut how = RenameFlags::empty();
    how.set(RenameFlags::NO_REPLACE, flags & linux::RENAME_NOREPLACE != 0);
    how.set(RenameFlags::EXCHANGE, flags & linux::RENAME_EXCHANGE != 0);
    if how == RenameFlags::all() {
        return Err(Errno::EINVAL);
    }
    let (old, new) = (path(current, old)?, path(current, new)?);
    let (old_base, new_base) = (base(current, old_dir, &old)?, base(current, new_dir, &new)?);
    namespace::root().rename((&old_base, &old), (&new_base, &new), how)?;
    Ok(0)
}

/// Implements link(2).
pub fn link(current: &dyn Caller, old: UserAddr, new: UserAddr) -> Result<u64, Errno> {
    linkat(current, HERE, old, HERE, new, 0)
}

/// Implements linkat(2).
pub fn linkat(
    current: &dyn Caller,
    old_dir: Fd,
    old: UserAddr,
    new_dir: Fd,
    new: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    only(flags, linux::AT_EMPTY_PATH | linux::AT_SYMLINK_FOLLOW)?;
    // Unlike other calls, this one follows links only on request.
    let follow = if flags & linux::AT_SYMLINK_FOLLOW == 0 { linux::AT_SYMLINK_NOFOLLOW } else { 0 };
    let found = found_at(current, old_dir, old, flags & linux::AT_EMPTY_PATH | follow)?;
    let path = path(current, new)?;
    let filesystem = found.filesystem.ok_or(Errno::EXDEV)?;
    namespace::root().link(&found.object, &filesystem, &base(current, new_dir, &path)?, &path)?;
    Ok(0)
}

/// Implements symlink(2).
pub fn symlink(current: &dyn Caller, target: UserAddr, path: UserAddr) -> Result<u64, Errno> {
    symlinkat(current, target, HERE, path)
}

/// Implements symlinkat(2).
pub fn symlinkat(
    current: &dyn Caller,
    target: UserAddr,
    dir: Fd,
    address: UserAddr,
) -> Result<u64, Errno> {
    let target = path(current, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = path(current, address)?;
    namespace::root().make_symlink(&base(current, dir, &path)?, &path, &target)?;
    Ok(0)
}

/// Implements readlink(2).
pub fn readlink(
    current: &dyn Caller,
    path: UserAddr,
    buffer: UserAddr,
    length: i32,
) -> Result<u64, Errno> {
    readlinkat(current, HERE, path, buffer, length)
}

/// readlinkat(2): as many bytes as fit, without a NUL. An empty path refers to the descriptor
/// itself.
pub fn readlinkat(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    buffer: UserAddr,
    length: i32,
) -> Result<u64, Errno> {
    let length = u64::try_from(length).ok().filter(|&length| length > 0).ok_or(Errno::EINVAL)?;
    let empty = if dir == HERE { 0 } else { linux::AT_EMPTY_PATH };
    let target =
        found_at(current, dir, address, linux::AT_SYMLINK_NOFOLLOW | empty)?.object.read_link()?;
    Ok(buffers(buffer, ByteCount(length))?.put(current.space(), &target)? as u64)
}

/// getcwd(2): stores the path with a NUL, and returns their length. ENOENT where the directory is
/// gone, ENAMETOOLONG where its path is longer than one that a program may pass.
pub fn getcwd(current: &dyn Caller, buffer: UserAddr, length: ByteCount) -> Result<u64, Errno> {
    let mut directory = fallible::to_vec(&current.context().lock().directory)?;
    namespace::root().stat_canonical(&directory, OpenFlags::DIRECTORY)?;
    if directory.len() > namespace::MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    fallible::push(&mut directory, 0)?;
    if length < ByteCount::of_len(directory.len()) {
        return Err(Errno::ERANGE);
    }
    store(current, buffer, &directory)?;
    Ok(directory.len() as u64)
}

/// Implements chdir(2).
pub fn chdir(current: &dyn Caller, address: UserAddr) -> Result<u64, Errno> {
    let path = path(current, address)?;
    let directory = namespace::root().directory(&base(current, HERE, &path)?, &path)?;
    current.context().lock().set_directory(directory, current.account())?;
    Ok(0)
}

/// Implements fchdir(2).
pub fn fchdir(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    if file.path().is_empty() || !file.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    let directory = fallible::to_vec(file.path())?;
    current.context().lock().set_directory(directory, current.account())?;
    Ok(0)
}

/// Upper bound for the entries of one call, in bytes: it limits kernel memory.
const MAX_ENTRIES_BYTES: u64 = 64 * 1024;
/// Positions of `.` and `..`, which come first. The cookies of the file system follow.
const OWN_ENTRIES: u64 = 2;

/// Implements getdents64(2).
pub fn getdents64(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: u32,
) -> Result<u64, Errno> {
    list(current, fd, buffer, length, Form::New)
}

/// Implements getdents(2).
pub fn getdents(current: &dyn Caller, fd: Fd, buffer: UserAddr, length: u32) -> Result<u64, Errno> {
    list(current, fd, buffer, length, Form::Old)
}

fn list(
    current: &dyn Caller,
    fd: Fd,
    buffer: UserAddr,
    length: u32,
    form: Form,
) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require(Status::READ)?;
    let mut to = buffers(buffer, ByteCount(length.into()))?;
    let limit = u64::from(length).min(MAX_ENTRIES_BYTES) as usize;
    if !file.object().seekable() {
        return Err(Errno::ENOTDIR);
    }
    file.with_position(|position| {
        let mut list = Entries { bytes: Vec::new(), limit, next: position.0, full: false, form };
        list_own(&file, &mut list)?;
        if !list.full {
            // Positions come from programs (lseek) and cookies from servers: both may be out of
            // range.
            let cookie = list.next.saturating_sub(OWN_ENTRIES);
            file.object().read_dir(cookie, &mut |entry| {
                list.add(&entry, entry.next.checked_add(OWN_ENTRIES))
            })?;
        }
        if list.bytes.is_empty() && list.full {
            return Err(Errno::EINVAL);
        }
        if (to.put(current.space(), &list.bytes)?) < list.bytes.len() {
            return Err(Errno::EFAULT);
        }
        *position = FileOffset(list.next);
        Ok(list.bytes.len() as u64)
    })
}

/// `.` and `..`, both with the directory's own inode number, because programs only skip these
/// names.
fn list_own(file: &OpenFile, list: &mut Entries) -> Result<(), Errno> {
    let stat = file.object().stat()?;
    if stat.file_type != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    for (at, name) in
        [b".".as_slice(), b".."].into_iter().enumerate().skip(list.next.min(OWN_ENTRIES) as usize)
    {
        let entry =
            DirectoryEntry { inode: stat.inode, next: 0, file_type: FileType::Directory, name };
        if !list.add(&entry, Some(at as u64 + 1)) {
            break;
        }
    }
    Ok(())
}

/// The place of an entry's type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Before the name (getdents64).
    New,
    /// In the entry's last byte (getdents).
    Old,
}

/// Entries in the format of getdents64: inode, position after it, length of the entry, type, name
/// with a NUL, padded to 8 bytes.
struct Entries {
    form: Form,
    bytes: Vec<u8>,
    limit: usize,
    next: u64,
    full: bool,
}

impl Entries {
    fn add(&mut self, entry: &DirectoryEntry<'_>, next: Option<u64>) -> bool {
        const FIXED: usize = 19;
        // A server may give a position that lseek cannot represent: the listing ends there.
        let Some(next) = next.filter(|&next| i64::try_from(next).is_ok()) else { return false };
        let length = (FIXED + entry.name.len() + 1).next_multiple_of(8);
        if self.bytes.len() + length > self.limit
            || fallible::reserve(&mut self.bytes, length).is_err()
        {
            self.full = true;
            return false;
        }
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(&entry.inode.to_le_bytes());
        self.bytes.extend_from_slice(&next.to_le_bytes());
        self.bytes.extend_from_slice(&(length as u16).to_le_bytes());
        if self.form == Form::New {
            self.bytes.push(entry.file_type as u8);
        }
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(end, 0);
        // Name, NUL and type take the same space as in the other form, so there is one byte left
        // after the NUL.
        if let (Form::Old, Some(last)) = (self.form, self.bytes.last_mut()) {
            *last = entry.file_type as u8;
        }
        self.next = next;
        true
    }
}
