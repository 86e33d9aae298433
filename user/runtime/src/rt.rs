//! How a program starts and ends: arguments, environment, panics.
//!
//! In the guest, `_start` finds argc, argv and envp on the stack, laid out as in the System V ABI.
//! On a host, `std` has done that already; only SIGPIPE is reset to its default, since `std`
//! ignores it and a filter must not.

use crate::prelude::*;
use spin::Once;

/// The program's arguments; the first is its name. They live as long as the process.
pub type Args = [&'static [u8]];

/// A program's main function: takes the arguments, returns the exit status.
pub type Main = fn(&Args) -> i32;

static ENVIRONMENT: Once<Vec<&'static [u8]>> = Once::new();

/// The environment at the program's start, as `NAME=value`.
pub fn environment() -> &'static [&'static [u8]] {
    ENVIRONMENT.get().map_or(&[], Vec::as_slice)
}

/// The value of one variable of [`environment`].
pub fn variable(name: &[u8]) -> Option<&'static [u8]> {
    environment().iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

/// Declares the program's main function.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn _start() -> ! {
            extern "C" fn enter(stack: *const usize) -> ! {
                // SAFETY: `_start` passes the stack pointer as the kernel set it up.
                unsafe { $crate::rt::guest_start(stack, $main) }
            }
            // Clears the frame pointer, which ends backtraces. The call needs a stack aligned to 16
            // bytes.
            core::arch::naked_asm!(
                "xor ebp, ebp",
                "mov rdi, rsp",
                "and rsp, -16",
                "call {enter}",
                "ud2",
                enter = sym enter,
            )
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            $crate::rt::host_start($main)
        }
    };
}

/// Runs `main` as the kernel started it.
///
/// # Safety
/// `stack` must be the stack pointer at process entry.
#[cfg(target_os = "none")]
pub unsafe fn guest_start(stack: *const usize, main: Main) -> ! {
    // SAFETY: at entry the stack holds argc, then argv, a null, envp, a null; the strings stay for
    // the process's life.
    let (args, environment) = unsafe {
        let count = *stack;
        (strings(stack.add(1)), strings(stack.add(2 + count)))
    };
    ENVIRONMENT.call_once(|| environment);
    sys::exit(main(&args))
}

/// The strings of a null-terminated vector.
///
/// # Safety
/// `vector` must be null-terminated and its strings must live for ever.
#[cfg(target_os = "none")]
unsafe fn strings(mut vector: *const usize) -> Vec<&'static [u8]> {
    let mut found = Vec::new();
    // SAFETY: the walk ends at the null that the caller promised.
    unsafe {
        while *vector != 0 {
            found.push(core::ffi::CStr::from_ptr(*vector as *const core::ffi::c_char).to_bytes());
            vector = vector.add(1);
        }
    }
    found
}

/// Runs `main` under the host's `std`.
#[cfg(not(target_os = "none"))]
pub fn host_start(main: Main) -> ! {
    use std::os::unix::ffi::OsStringExt;
    let leak = |bytes: Vec<u8>| -> &'static [u8] { Vec::leak(bytes) };
    let args: Vec<&'static [u8]> = std::env::args_os().map(|arg| leak(arg.into_vec())).collect();
    ENVIRONMENT.call_once(|| {
        std::env::vars_os()
            .map(|(name, value)| leak([name.into_vec(), value.into_vec()].join(&b'=')))
            .collect()
    });
    let _ = sys::signal_default(sys::abi::SIGPIPE as i32);
    sys::exit(main(&args))
}

/// The exit status of a program that panicked, as with Rust's `std`.
#[cfg(target_os = "none")]
const PANIC_STATUS: i32 = 101;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    /// Writes directly to standard error, without the heap, which may be corrupt.
    struct Raw;
    impl core::fmt::Write for Raw {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            sys::write(sys::Fd::STDERR, text.as_bytes()).map(drop).map_err(|_| core::fmt::Error)
        }
    }
    let _ = core::fmt::Write::write_fmt(&mut Raw, format_args!("{info}\n"));
    sys::exit(PANIC_STATUS)
}
