//! Files, directories, descriptors, pipes, mounts.

use super::{Fd, Result, abi, c_string, call};
use foundation::Errno;
use foundation::{ByteCount, FileOffset};

/// The attributes of a file.
pub type Stat = abi::stat;

/// Reads into the start of `buffer`. Returns the count, which is 0 at the end of the file.
pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes within the slice.
    unsafe { call!(__NR_read, fd, buffer.as_mut_ptr(), buffer.len()) }
}

/// Reads at `offset`, without changing the file offset.
pub fn pread(fd: Fd, buffer: &mut [u8], offset: FileOffset) -> Result<usize> {
    // SAFETY: the kernel writes within the slice.
    unsafe { call!(__NR_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset) }
}

/// Writes `bytes`. Returns the count, which may be short.
pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel only reads the slice.
    unsafe { call!(__NR_write, fd, bytes.as_ptr(), bytes.len()) }
}

/// Writes at `offset`, without changing the file offset.
pub fn pwrite(fd: Fd, bytes: &[u8], offset: FileOffset) -> Result<usize> {
    // SAFETY: the kernel only reads the slice.
    unsafe { call!(__NR_pwrite64, fd, bytes.as_ptr(), bytes.len(), offset) }
}

/// Writes all of `bytes`, in as many calls as necessary.
pub fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends. Returns the count.
pub fn read_full(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(fd, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Opens a path relative to the working directory. `O_CLOEXEC` is not implied.
pub fn open(path: &[u8], flags: u32, mode: u32) -> Result<Fd> {
    let path = c_string(path)?;
    // SAFETY: the kernel only reads the string.
    unsafe {
        call!(__NR_openat, Fd::WORKING_DIRECTORY, path.as_ptr(), flags, mode)
            .map(|fd| Fd(fd as i32))
    }
}

/// Closes a descriptor.
pub fn close(fd: Fd) -> Result<()> {
    // SAFETY: descriptors are plain numbers here.
    unsafe { call!(__NR_close, fd).map(drop) }
}

/// Moves the file offset and returns it; `whence` is `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
pub fn lseek(fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_lseek, fd, offset, whence).map(|at| at as u64) }
}

fn empty_stat() -> Stat {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// The attributes of a file, following symbolic links.
pub fn stat(path: &[u8]) -> Result<Stat> {
    stat_at(path, 0)
}

/// The attributes of a file or of a symbolic link.
pub fn lstat(path: &[u8]) -> Result<Stat> {
    stat_at(path, abi::AT_SYMLINK_NOFOLLOW)
}

fn stat_at(path: &[u8], flags: u32) -> Result<Stat> {
    let path = c_string(path)?;
    let mut stat = empty_stat();
    // SAFETY: the kernel fills in the structure.
    unsafe { call!(__NR_newfstatat, Fd::WORKING_DIRECTORY, path.as_ptr(), &raw mut stat, flags)? };
    Ok(stat)
}

/// The attributes of an open file.
pub fn fstat(fd: Fd) -> Result<Stat> {
    let mut stat = empty_stat();
    // SAFETY: the kernel fills in the structure.
    unsafe { call!(__NR_fstat, fd, &raw mut stat)? };
    Ok(stat)
}

/// Reads directory entries, packed as by the kernel. Returns the bytes used.
pub fn getdents64(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes within the slice.
    unsafe { call!(__NR_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) }
}

macro_rules! path_calls {
    ($($(#[$doc:meta])* $name:ident = $number:ident ( $($argument:ident : $type:ty),* ) ;)*) => {
        $($(#[$doc])*
        pub fn $name(path: &[u8] $(, $argument: $type)*) -> Result<()> {
            let path = c_string(path)?;
            // SAFETY: the kernel only reads the string.
            unsafe { call!($number, path.as_ptr() $(, $argument)*).map(drop) }
        })*
    };
}

path_calls! {
    /// Makes a directory.
    mkdir = __NR_mkdir(mode: u32);
    /// Removes an empty directory.
    rmdir = __NR_rmdir();
    /// Removes a name.
    unlink = __NR_unlink();
    /// Sets a file's length.
    truncate = __NR_truncate(length: ByteCount);
    /// Sets permission bits.
    chmod = __NR_chmod(mode: u32);
    /// Sets owner and group.
    chown = __NR_chown(user: u32, group: u32);
    /// Changes the working directory.
    chdir = __NR_chdir();
    /// Checks permissions; mode 0 checks existence only.
    access = __NR_access(mode: u32);
}

macro_rules! two_path_calls {
    ($($(#[$doc:meta])* $name:ident = $number:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(from: &[u8], to: &[u8]) -> Result<()> {
            let (from, to) = (c_string(from)?, c_string(to)?);
            // SAFETY: the kernel only reads the strings.
            unsafe { call!($number, from.as_ptr(), to.as_ptr()).map(drop) }
        })*
    };
}

two_path_calls! {
    /// Renames a file, replacing the target if it exists.
    rename = __NR_rename;
    /// Makes a hard link.
    link = __NR_link;
    /// Makes `to` a symbolic link to `from`.
    symlink = __NR_symlink;
}

macro_rules! descriptor_calls {
    ($($(#[$doc:meta])* $name:ident = $number:ident ( $($argument:ident : $type:ty),* ) ;)*) => {
        $($(#[$doc])*
        pub fn $name(fd: Fd $(, $argument: $type)*) -> Result<usize> {
            // SAFETY: touches no memory.
            unsafe { call!($number, fd $(, $argument)*) }
        })*
    };
}

descriptor_calls! {
    /// Sets a file's length.
    ftruncate = __NR_ftruncate(length: ByteCount);
    /// Waits until the file is on stable storage.
    fsync = __NR_fsync();
    /// Sets permission bits.
    fchmod = __NR_fchmod(mode: u32);
    /// Descriptor flags and other commands.
    fcntl = __NR_fcntl(command: u32, argument: usize);
}

/// Makes the lowest free descriptor a copy of `fd`, and returns it.
pub fn dup(fd: Fd) -> Result<Fd> {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_dup, fd).map(|copy| Fd(copy as i32)) }
}

/// Makes `target` a copy of `fd`, and returns it. What `target` was is closed.
pub fn dup2(fd: Fd, target: Fd) -> Result<Fd> {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_dup2, fd, target).map(|copy| Fd(copy as i32)) }
}

/// A pipe: the read end and the write end.
pub fn pipe(flags: u32) -> Result<[Fd; 2]> {
    let mut ends = [Fd::NONE; 2];
    // SAFETY: the kernel fills in two descriptors.
    unsafe { call!(__NR_pipe2, &raw mut ends, flags)? };
    Ok(ends)
}

/// Two connected local sockets of type `kind`.
pub fn socketpair(kind: u32) -> Result<[Fd; 2]> {
    let mut ends = [Fd::NONE; 2];
    // SAFETY: the kernel fills in two descriptors.
    unsafe { call!(__NR_socketpair, linux_raw_sys::net::AF_UNIX, kind, 0, &raw mut ends)? };
    Ok(ends)
}

/// The working directory's path.
pub fn getcwd() -> Result<alloc::vec::Vec<u8>> {
    let mut path = alloc::vec![0; abi::PATH_MAX as usize];
    // SAFETY: the kernel writes within the vector.
    let len_bytes = unsafe { call!(__NR_getcwd, path.as_mut_ptr(), path.len())? };
    path.truncate(len_bytes.saturating_sub(1));
    Ok(path)
}

/// The target of a symbolic link.
pub fn readlink(path: &[u8]) -> Result<alloc::vec::Vec<u8>> {
    let path = c_string(path)?;
    let mut target = alloc::vec![0; abi::PATH_MAX as usize];
    // SAFETY: the kernel writes within the vector.
    let len_bytes =
        unsafe { call!(__NR_readlink, path.as_ptr(), target.as_mut_ptr(), target.len())? };
    target.truncate(len_bytes);
    Ok(target)
}

/// Sets access and modification times, or both to now.
pub fn utimens(path: &[u8], times: Option<[abi::__kernel_timespec; 2]>) -> Result<()> {
    let path = c_string(path)?;
    let times = times.as_ref().map_or(core::ptr::null(), |times| times.as_ptr());
    // SAFETY: the kernel only reads.
    unsafe { call!(__NR_utimensat, Fd::WORKING_DIRECTORY, path.as_ptr(), times, 0).map(drop) }
}

/// mount(2): mounts a file system of type `kind` on the directory `target`.
pub fn mount(source: &[u8], target: &[u8], kind: &[u8], flags: u32, options: &[u8]) -> Result<()> {
    let strings = [c_string(source)?, c_string(target)?, c_string(kind)?, c_string(options)?];
    let [source, target, kind, options] = strings.each_ref().map(|string| string.as_ptr());
    // SAFETY: the kernel only reads the strings.
    unsafe { call!(__NR_mount, source, target, kind, flags, options).map(drop) }
}

/// The figures of the file system that a path is on.
pub fn statfs(path: &[u8]) -> Result<abi::statfs> {
    let path = c_string(path)?;
    // SAFETY: plain numbers, for which zero is a value; the kernel fills them in.
    unsafe {
        let mut store: abi::statfs = core::mem::zeroed();
        call!(__NR_statfs, path.as_ptr(), &raw mut store)?;
        Ok(store)
    }
}

/// Flushes all file systems.
pub fn sync() {
    // SAFETY: touches no memory.
    let _ = unsafe { call!(__NR_sync) };
}
