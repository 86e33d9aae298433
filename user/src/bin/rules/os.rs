//! System calls as these tests need them: on addresses instead of slices.
//!
//! What lies at the addresses changes under the tests' feet, is not there at all, or is not theirs; a Rust reference to it would be a lie. So
//! everything here takes numbers, and hostile ones are welcome: the kernel has to check them.

use user::errno::Errno;

/// A result of the kernel.
pub type Result<T> = core::result::Result<T, Errno>;

/// Numbers of system calls, as in Linux's `unistd_64.h`.
#[allow(missing_docs)]
pub mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const OPEN: u64 = 2;
    pub const CLOSE: u64 = 3;
    pub const FSTAT: u64 = 5;
    pub const STAT: u64 = 4;
    pub const POLL: u64 = 7;
    pub const LSEEK: u64 = 8;
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const SIGACTION: u64 = 13;
    pub const PREAD: u64 = 17;
    pub const PWRITE: u64 = 18;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const PIPE: u64 = 22;
    pub const SCHED_YIELD: u64 = 24;
    pub const MREMAP: u64 = 25;
    pub const GETPID: u64 = 39;
    pub const SOCKETPAIR: u64 = 53;
    pub const CLONE: u64 = 56;
    pub const FORK: u64 = 57;
    pub const EXECVE: u64 = 59;
    pub const EXIT: u64 = 60;
    pub const WAIT4: u64 = 61;
    pub const KILL: u64 = 62;
    pub const FTRUNCATE: u64 = 77;
    pub const TRUNCATE: u64 = 76;
    pub const RENAME: u64 = 82;
    pub const MKDIR: u64 = 83;
    pub const RMDIR: u64 = 84;
    pub const UNLINK: u64 = 87;
    pub const FCHMOD: u64 = 91;
    pub const CHMOD: u64 = 90;
    pub const FSTATFS: u64 = 138;
    pub const STATFS: u64 = 137;
    pub const PRCTL: u64 = 157;
    pub const MOUNT: u64 = 165;
    pub const UMOUNT2: u64 = 166;
    pub const FUTEX: u64 = 202;
    pub const GETDENTS64: u64 = 217;
    pub const EXIT_GROUP: u64 = 231;
    pub const FALLOCATE: u64 = 285;
}

/// Any system call, with any arguments.
pub fn call(number: u64, arguments: [u64; 6]) -> Result<u64> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: i64;
    // SAFETY: the tests own all the memory that they name to the kernel, or name memory that nobody owns; the compiler is told
    // that memory changes.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth, in("r9") sixth,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as u16)) } else { Ok(result as u64) }
}

fn call3(number: u64, first: u64, second: u64, third: u64) -> Result<u64> {
    call(number, [first, second, third, 0, 0, 0])
}

/// A path with its final NUL.
pub struct Path([u8; 128]);

impl Path {
    /// From text of less than 128 bytes.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; 128];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        assert!(text.len() < bytes.len());
        Self(bytes)
    }

    /// Where it stands.
    pub fn addr(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

/// Flags of open(2).
pub mod flags {
    #![allow(missing_docs)]
    pub const RDONLY: u64 = 0;
    pub const WRONLY: u64 = 1;
    pub const RDWR: u64 = 2;
    pub const CREATE: u64 = 0o100;
    pub const TRUNCATE: u64 = 0o1000;
    pub const APPEND: u64 = 0o2000;
    pub const DIRECTORY: u64 = 0o200000;
}

/// open(2), with mode 0644.
pub fn open(path: &str, flags: u64) -> Result<u64> {
    call3(nr::OPEN, Path::new(path).addr(), flags, 0o644)
}

/// close(2).
pub fn close(fd: u64) -> Result<u64> {
    call3(nr::CLOSE, fd, 0, 0)
}

/// read(2) to an address.
pub fn read(fd: u64, addr: usize, length: usize) -> Result<usize> {
    call3(nr::READ, fd, addr as u64, length as u64).map(|count| count as usize)
}

/// pread(2) to an address.
pub fn pread(fd: u64, addr: usize, length: usize, offset: u64) -> Result<usize> {
    call(nr::PREAD, [fd, addr as u64, length as u64, offset, 0, 0]).map(|count| count as usize)
}

/// write(2) from an address.
pub fn write(fd: u64, addr: usize, length: usize) -> Result<usize> {
    call3(nr::WRITE, fd, addr as u64, length as u64).map(|count| count as usize)
}

/// pwrite(2) from an address.
pub fn pwrite(fd: u64, addr: usize, length: usize, offset: u64) -> Result<usize> {
    call(nr::PWRITE, [fd, addr as u64, length as u64, offset, 0, 0]).map(|count| count as usize)
}

/// readv(2) or writev(2) on a vector of (address, length).
pub fn vectored(number: u64, fd: u64, vector: &[(usize, usize)]) -> Result<usize> {
    call3(number, fd, vector.as_ptr() as u64, vector.len() as u64).map(|count| count as usize)
}

/// lseek(2) from the file's beginning.
pub fn seek(fd: u64, offset: u64) -> Result<u64> {
    call3(nr::LSEEK, fd, offset, 0)
}

/// The file offset.
pub fn position(fd: u64) -> Result<u64> {
    call3(nr::LSEEK, fd, 0, 1)
}

/// ftruncate(2).
pub fn ftruncate(fd: u64, length: u64) -> Result<u64> {
    call3(nr::FTRUNCATE, fd, length, 0)
}

/// fallocate(2) with PUNCH_HOLE and KEEP_SIZE.
pub fn punch_hole(fd: u64, offset: u64, length: u64) -> Result<u64> {
    call(nr::FALLOCATE, [fd, 3, offset, length, 0, 0])
}

/// unlink(2).
pub fn unlink(path: &str) -> Result<u64> {
    call3(nr::UNLINK, Path::new(path).addr(), 0, 0)
}

/// rename(2).
pub fn rename(old: &str, new: &str) -> Result<u64> {
    call3(nr::RENAME, Path::new(old).addr(), Path::new(new).addr(), 0)
}

/// mkdir(2).
pub fn mkdir(path: &str) -> Result<u64> {
    call3(nr::MKDIR, Path::new(path).addr(), 0o755, 0)
}

/// rmdir(2).
pub fn rmdir(path: &str) -> Result<u64> {
    call3(nr::RMDIR, Path::new(path).addr(), 0, 0)
}

/// chmod(2).
pub fn chmod(path: &str, mode: u64) -> Result<u64> {
    call3(nr::CHMOD, Path::new(path).addr(), mode, 0)
}

/// Protections of memory.
pub mod prot {
    #![allow(missing_docs)]
    pub const NONE: u64 = 0;
    pub const READ: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const READ_WRITE: u64 = READ | WRITE;
}

/// Kinds of mappings.
pub mod map {
    #![allow(missing_docs)]
    pub const SHARED: u64 = 1;
    pub const PRIVATE: u64 = 2;
    pub const FIXED: u64 = 0x10;
    pub const ANONYMOUS: u64 = 0x20;
    pub const NORESERVE: u64 = 0x4000;
}

/// mmap(2) of anonymous memory.
pub fn mmap(addr: usize, length: usize, protection: u64, kind: u64) -> Result<usize> {
    let addr = call(nr::MMAP, [addr as u64, length as u64, protection, kind | map::ANONYMOUS, u64::MAX, 0])?;
    Ok(addr as usize)
}

/// munmap(2).
pub fn munmap(addr: usize, length: usize) -> Result<u64> {
    call3(nr::MUNMAP, addr as u64, length as u64, 0)
}

/// mprotect(2).
pub fn mprotect(addr: usize, length: usize, protection: u64) -> Result<u64> {
    call3(nr::MPROTECT, addr as u64, length as u64, protection)
}

/// mremap(2) with MAYMOVE.
pub fn mremap(addr: usize, old: usize, new: usize) -> Result<usize> {
    call(nr::MREMAP, [addr as u64, old as u64, new as u64, 1, 0, 0]).map(|addr| addr as usize)
}

/// mremap(2) to a place that is told.
pub fn mremap_to(addr: usize, old: usize, new: usize, to: usize) -> Result<usize> {
    call(nr::MREMAP, [addr as u64, old as u64, new as u64, 3, to as u64, 0]).map(|addr| addr as usize)
}

/// fork(2): 0 in the child.
pub fn fork() -> Result<u64> {
    call3(nr::FORK, 0, 0, 0)
}

/// exit_group(2).
pub fn exit(status: u64) -> ! {
    loop {
        let _ = call3(nr::EXIT_GROUP, status, 0, 0);
    }
}

/// wait4(2) for one child: its status word.
pub fn wait(pid: u64) -> Result<u32> {
    let mut status = 0u32;
    call(nr::WAIT4, [pid, &raw mut status as u64, 0, 0, 0, 0])?;
    Ok(status)
}

/// kill(2).
pub fn kill(pid: u64, signal: u64) -> Result<u64> {
    call3(nr::KILL, pid, signal, 0)
}

/// pipe(2): the end to read from, the end to write to.
pub fn pipe() -> Result<(u64, u64)> {
    let mut ends = [0u32; 2];
    call3(nr::PIPE, &raw mut ends as u64, 0, 0)?;
    Ok((ends[0].into(), ends[1].into()))
}

/// socketpair(2) of AF_UNIX and SOCK_SEQPACKET.
pub fn socket_pair() -> Result<(u64, u64)> {
    let mut ends = [0u32; 2];
    call(nr::SOCKETPAIR, [1, 5, 0, &raw mut ends as u64, 0, 0])?;
    Ok((ends[0].into(), ends[1].into()))
}

/// sched_yield(2).
pub fn give_way() {
    let _ = call3(nr::SCHED_YIELD, 0, 0, 0);
}

/// Declares this process a file server for good: prctl(PR_SET_IO_FLUSHER, 1).
pub fn become_server() -> Result<u64> {
    call(nr::PRCTL, [57, 1, 0, 0, 0, 0])
}

/// mount(2) of the file server at the other end of a descriptor.
pub fn mount(fd: u64, at: &str) -> Result<u64> {
    let data = alloc::format!("fd={fd}");
    let (source, kind, data) = (Path::new("none"), Path::new("sloth"), Path::new(&data));
    call(nr::MOUNT, [source.addr(), Path::new(at).addr(), kind.addr(), 0, data.addr(), 0])
}

/// umount2(2).
pub fn umount(at: &str) -> Result<u64> {
    call3(nr::UMOUNT2, Path::new(at).addr(), 0, 0)
}

/// `f_blocks` and `f_bfree` of statfs(2).
pub fn store_blocks(path: &str) -> Result<(u64, u64)> {
    let mut figures = [0u64; 15];
    call3(nr::STATFS, Path::new(path).addr(), &raw mut figures as u64, 0)?;
    Ok((figures[2], figures[3]))
}

/// `st_size` and `st_blocks` of stat(2), and `st_nlink`.
pub fn stat(path: &str) -> Result<(u64, u64, u64)> {
    let mut fields = [0u64; 18];
    call3(nr::STAT, Path::new(path).addr(), &raw mut fields as u64, 0)?;
    Ok((fields[6], fields[8], fields[2]))
}

/// Waits until one of the descriptors can be read from (or is closed at the other end); tells which.
pub fn readable(fds: &[u64; 2]) -> Result<[bool; 2]> {
    const POLL_IN: u64 = 1;
    let mut entries = fds.map(|fd| fd | POLL_IN << 32);
    call3(nr::POLL, entries.as_mut_ptr() as u64, entries.len() as u64, u64::MAX)?;
    Ok(entries.map(|entry| entry >> 48 != 0))
}

/// futex(2): waits while the word has this value.
pub fn futex_wait(word: usize, value: u32) {
    let _ = call(nr::FUTEX, [word as u64, 0, value.into(), 0, 0, 0]);
}

/// Sets a handler of the form that Linux takes: (handler, flags, restorer, mask).
pub fn sigaction(signal: u64, action: &[u64; 4]) -> Result<u64> {
    call(nr::SIGACTION, [signal, action.as_ptr() as u64, 0, 8, 0, 0])
}
