//! Linux's system calls on x86_64: the raw instruction, and a function for each call that a program
//! here makes.
//!
//! The wrappers take slices and return `Result`; they check nothing themselves. Tests that pass
//! invalid arguments use [`syscall`].

pub mod file;
pub mod memory;
pub mod process;
pub mod screen;
pub mod signal;
pub mod terminal;

pub use file::{
    Stat, access, chdir, chmod, chown, close, dup, dup2, fchmod, fcntl, fstat, fsync, ftruncate,
    getcwd, getdents64, link, lseek, lstat, mkdir, mount, open, pipe, pread, pwrite, read,
    read_full, readlink, rename, rmdir, socketpair, stat, statfs, symlink, sync, truncate, unlink,
    utimens, write, write_all,
};
pub use linux_raw_sys::general as abi;
pub use linux_raw_sys::ioctl;
pub use linux_raw_sys::net;
pub use memory::{brk, getrandom, map_anonymous, mmap, mprotect, unmap};
pub use process::{
    Names, SystemInfo, WaitStatus, clock, execve, exit, fork, getpid, getppid, kernel_log, kill,
    limit, power_off, prctl, reboot, sched_yield, set_limit, setpgid, setsid, sleep, sysinfo,
    umask, uname, wait, wait_for,
};
pub use screen::{ScreenLayout, screen_layout};
pub use signal::{
    Handler, poll, poll_for, signal_default, signal_handle, signal_ignore, signal_mask,
};
pub use terminal::{
    Termios, Window, foreground, ioctl, ioctl_number, open_pty, pty_path, set_controlling_terminal,
    set_foreground, set_terminal_settings, set_window, terminal_settings, window,
};

use alloc::ffi::CString;
use core::fmt;
use foundation::Errno;
use foundation::{ByteCount, FileOffset};

/// A result whose error is the system call's.
pub type Result<T> = core::result::Result<T, Errno>;

/// A file descriptor. It does not own the open file: the program closes it, or exit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Fd(pub i32);

impl Fd {
    /// Standard input.
    pub const STDIN: Self = Self(0);
    /// Standard output.
    pub const STDOUT: Self = Self(1);
    /// Standard error.
    pub const STDERR: Self = Self(2);
    /// No descriptor: -1.
    pub const NONE: Self = Self(-1);
    /// The working directory, where a directory's descriptor is expected.
    pub const WORKING_DIRECTORY: Self = Self(abi::AT_FDCWD);

    /// The descriptor as a system call's argument.
    #[inline]
    pub const fn argument(self) -> usize {
        self.0 as usize
    }
}

impl core::str::FromStr for Fd {
    type Err = core::num::ParseIntError;
    fn from_str(text: &str) -> core::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The beginning or the end of what a profile counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What follows is counted.
    Begin,
    /// What follows is not counted.
    End,
}

/// Executes a no-op that `cargo xtask profile` looks for.
pub fn mark(mark: Mark) {
    // SAFETY: a no-op of seven bytes, whose operand is its name; see profiler/src/plugin.rs.
    unsafe {
        match mark {
            Mark::Begin => core::arch::asm!("nop dword ptr [rax + 0x51074001]", options(nostack)),
            Mark::End => core::arch::asm!("nop dword ptr [rax + 0x51074002]", options(nostack)),
        }
    }
}

/// The largest error number: results from `-4095` to `-1` are errors.
const MAX_ERRNO: isize = 4095;

/// Makes system call `number` and returns the result in `rax`.
///
/// # Safety
/// The effect of the call on this process's memory must be sound.
pub unsafe fn syscall(number: u32, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the instruction changes rax, rcx and r11; the caller vouches for the rest.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Splits results from errors.
pub fn check(result: isize) -> Result<usize> {
    if (-MAX_ERRNO..0).contains(&result) { Err(Errno(-result as u16)) } else { Ok(result as usize) }
}

/// A type that can be an argument of a system call.
pub trait Argument {
    /// The value in a register. Signed types are sign-extended.
    fn to_register(self) -> usize;
}

macro_rules! arguments {
    ($($type:ty),*) => {
        $(impl Argument for $type {
            #[inline]
            fn to_register(self) -> usize {
                self as usize
            }
        })*
    };
}
arguments!(i32, u32, i64, u64, isize, usize);

impl<T> Argument for *const T {
    #[inline]
    fn to_register(self) -> usize {
        self as usize
    }
}

impl<T> Argument for *mut T {
    #[inline]
    fn to_register(self) -> usize {
        self as usize
    }
}

impl Argument for Fd {
    #[inline]
    fn to_register(self) -> usize {
        self.argument()
    }
}

impl Argument for FileOffset {
    #[inline]
    fn to_register(self) -> usize {
        self.0 as usize
    }
}

impl Argument for ByteCount {
    #[inline]
    fn to_register(self) -> usize {
        self.0 as usize
    }
}

/// Makes a call by name with up to six arguments.
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {{
        let given: &[usize] = &[$($crate::sys::Argument::to_register($argument)),*];
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        $crate::sys::check($crate::sys::syscall($crate::sys::abi::$name, arguments))
    }};
}
pub(crate) use call;

/// A path or other string as the kernel expects it. A zero byte inside is EINVAL.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}
