//! Linux's system calls on x86_64: the raw instruction, and a plain function for each call that a
//! program here makes.
//!
//! Wrappers take slices and give `Result`; they check nothing themselves. Programs that want to
//! pass nonsense (the tests do) use [`syscall`].

pub mod file;
pub mod memory;
pub mod process;
pub mod signal;
pub mod terminal;

pub use file::*;
pub use linux_raw_sys::general as abi;
pub use linux_raw_sys::ioctl;
pub use linux_raw_sys::net;
pub use memory::*;
pub use process::*;
pub use signal::*;
pub use terminal::*;

use crate::errno::Errno;
use alloc::ffi::CString;

/// A result whose error is the system call's.
pub type Result<T> = core::result::Result<T, Errno>;

/// A file descriptor. Not owned: whoever opens closes, or leaves it to exit.
pub type Fd = i32;

/// The largest error number; results from `-4095` to `-1` are errors.
const MAX_ERRNO: isize = 4095;

/// Enters the kernel with call `number` and returns what comes back in `rax`.
///
/// # Safety
/// Whatever the call does to this process's memory must be sound.
pub unsafe fn syscall(number: u32, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the instruction changes rax, rcx and r11, and what the caller vouches for.
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

/// Tells errors from results.
pub fn check(result: isize) -> Result<usize> {
    if (-MAX_ERRNO..0).contains(&result) { Err(Errno(-result as u16)) } else { Ok(result as usize) }
}

/// Makes a call by name with up to six arguments that are cast to `usize`.
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {{
        let given: &[usize] = &[$($argument as usize),*];
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        $crate::sys::check($crate::sys::syscall($crate::sys::abi::$name, arguments))
    }};
}
pub(crate) use call;

/// A path or other string as the kernel takes it. A zero byte inside can name nothing that exists.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}
