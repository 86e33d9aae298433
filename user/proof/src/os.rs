//! System calls for tests, on addresses instead of slices.
//!
//! The memory at these addresses may change concurrently, be unmapped, or belong to others, so Rust
//! references to it would be unsound. Hence everything here takes numbers, invalid ones included:
//! the kernel must check them. Ordinary calls are in `user::sys`.

use user::alloc::format;
use user::sys::{self, Fd, Result, abi};

/// Any system call, with any arguments.
pub fn raw(number: u32, given: &[usize]) -> Result<usize> {
    let mut arguments = [0; 6];
    arguments[..given.len()].copy_from_slice(given);
    // SAFETY: tests name only memory that they own and access only through `kit::Buffer`, or memory
    // that is not mapped.
    sys::check(unsafe { sys::syscall(number, arguments) })
}

/// open(2) for reading and writing.
pub fn open(path: &str) -> Result<Fd> {
    sys::open(path.as_bytes(), abi::O_RDWR, 0)
}

/// open(2) for reading and writing, with creation and truncation.
pub fn create(path: &str) -> Result<Fd> {
    sys::open(path.as_bytes(), abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC, 0o644)
}

/// read(2) to an address.
pub fn read(fd: Fd, addr: usize, length: usize) -> Result<usize> {
    raw(abi::__NR_read, &[fd.argument(), addr, length])
}

/// pread(2) to an address.
pub fn pread(fd: Fd, addr: usize, length: usize, offset: u64) -> Result<usize> {
    raw(abi::__NR_pread64, &[fd.argument(), addr, length, offset as usize])
}

/// write(2) from an address.
pub fn write(fd: Fd, addr: usize, length: usize) -> Result<usize> {
    raw(abi::__NR_write, &[fd.argument(), addr, length])
}

/// pwrite(2) from an address.
pub fn pwrite(fd: Fd, addr: usize, length: usize, offset: u64) -> Result<usize> {
    raw(abi::__NR_pwrite64, &[fd.argument(), addr, length, offset as usize])
}

/// readv(2) into (address, length) entries.
pub fn readv(fd: Fd, parts: &[[usize; 2]]) -> Result<usize> {
    raw(abi::__NR_readv, &[fd.argument(), parts.as_ptr() as usize, parts.len()])
}

/// writev(2) from (address, length) entries.
pub fn writev(fd: Fd, parts: &[[usize; 2]]) -> Result<usize> {
    raw(abi::__NR_writev, &[fd.argument(), parts.as_ptr() as usize, parts.len()])
}

/// fsync(2).
pub fn sync(fd: Fd) -> Result<()> {
    raw(abi::__NR_fsync, &[fd.argument()]).map(drop)
}

/// Sets the file offset.
pub fn seek(fd: Fd, offset: u64) -> Result<u64> {
    sys::lseek(fd, offset as i64, abi::SEEK_SET)
}

/// The file offset.
pub fn position(fd: Fd) -> Result<u64> {
    sys::lseek(fd, 0, abi::SEEK_CUR)
}

/// Punches a hole.
pub fn punch_hole(fd: Fd, offset: u64, length: u64) -> Result<()> {
    const PUNCH_HOLE_KEEP_SIZE: usize = 3;
    raw(
        abi::__NR_fallocate,
        &[fd.argument(), PUNCH_HOLE_KEEP_SIZE, offset as usize, length as usize],
    )
    .map(drop)
}

/// Readable and writable.
pub const READ_WRITE: u32 = abi::PROT_READ | abi::PROT_WRITE;

/// mmap(2) of anonymous memory; `flags` beyond MAP_ANONYMOUS.
pub fn mmap(addr: usize, length: usize, protection: u32, flags: u32) -> Result<usize> {
    let flags = flags | abi::MAP_ANONYMOUS;
    raw(abi::__NR_mmap, &[addr, length, protection as usize, flags as usize, usize::MAX, 0])
}

/// munmap(2).
pub fn munmap(addr: usize, length: usize) -> Result<()> {
    raw(abi::__NR_munmap, &[addr, length]).map(drop)
}

/// mprotect(2).
pub fn mprotect(addr: usize, length: usize, protection: u32) -> Result<()> {
    raw(abi::__NR_mprotect, &[addr, length, protection as usize]).map(drop)
}

/// mremap(2) to an address that the kernel chooses.
pub fn mremap(addr: usize, old: usize, new: usize) -> Result<usize> {
    raw(abi::__NR_mremap, &[addr, old, new, abi::MREMAP_MAYMOVE as usize])
}

/// mremap(2) to a given address.
pub fn mremap_to(addr: usize, old: usize, new: usize, to: usize) -> Result<usize> {
    raw(abi::__NR_mremap, &[addr, old, new, (abi::MREMAP_MAYMOVE | abi::MREMAP_FIXED) as usize, to])
}

/// Two connected sockets that preserve message boundaries.
pub fn socket_pair() -> Result<[Fd; 2]> {
    const SOCK_SEQPACKET: u32 = 5;
    sys::socketpair(SOCK_SEQPACKET)
}

/// Marks this process as a file server, permanently.
pub fn become_server() -> Result<()> {
    const PR_SET_IO_FLUSHER: u32 = 57;
    sys::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0).map(drop)
}

/// mount(2) of the file server at the other end of a descriptor.
pub fn mount(fd: Fd, at: &str) -> Result<()> {
    sys::mount(b"none", at.as_bytes(), b"sloth", 0, format!("fd={fd}").as_bytes())
}

/// The same for an untrusted server (X3).
pub fn mount_untrusted(fd: Fd, at: &str) -> Result<()> {
    mount_with(at, &format!("fd={fd},untrusted"))
}

/// Mounts a server with these options.
pub fn mount_with(at: &str, options: &str) -> Result<()> {
    sys::mount(b"none", at.as_bytes(), b"sloth", 0, options.as_bytes())
}

/// umount2(2).
pub fn unmount(at: &str) -> Result<()> {
    let path = format!("{at}\0");
    raw(abi::__NR_umount2, &[path.as_ptr() as usize, 0]).map(drop)
}

/// Free blocks of the file system that a path is on.
pub fn blocks_free(path: &str) -> Result<u64> {
    let path = format!("{path}\0");
    let mut figures = [0u64; 15];
    raw(abi::__NR_statfs, &[path.as_ptr() as usize, figures.as_mut_ptr() as usize])?;
    Ok(figures[3])
}

/// Waits until one of the descriptors is readable or its other end is closed. Returns which.
pub fn readable(fds: [Fd; 2]) -> Result<[bool; 2]> {
    let mut entries =
        fds.map(|fd| abi::pollfd { fd: fd.0, events: abi::POLLIN as i16, revents: 0 });
    raw(abi::__NR_poll, &[entries.as_mut_ptr() as usize, entries.len(), usize::MAX])?;
    Ok(entries.map(|entry| entry.revents != 0))
}

/// Waits while a word of memory has `value`.
pub fn futex_wait(word: usize, value: u32) {
    // After an error the caller checks again, as after a wake-up.
    let _: Result<usize> = raw(abi::__NR_futex, &[word, 0, value as usize, 0]);
}

/// Ends the calling thread only.
pub fn exit_thread() -> ! {
    loop {
        let _: Result<usize> = raw(abi::__NR_exit, &[0]);
    }
}
