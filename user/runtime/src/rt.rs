//! How a program starts and ends, its arguments and environment, its heap, and what a panic does.
//!
//! On the guest `_start` finds argc, argv and envp on the stack as the System V ABI lays them out.
//! On a host `std` did that already, and only SIGPIPE is put back to its default, since `std`
//! ignores it and a filter must not.

use crate::prelude::*;
use spin::Once;

/// The program's arguments, the first of which is its name. They live as long as the process.
pub type Args = [&'static [u8]];

/// What a program's main function looks like: arguments in, exit status out.
pub type Main = fn(&Args) -> i32;

static ENVIRONMENT: Once<Vec<&'static [u8]>> = Once::new();

/// The environment the program was started with, as `NAME=value`.
pub fn environment() -> &'static [&'static [u8]] {
    ENVIRONMENT.get().map_or(&[], Vec::as_slice)
}

/// The value of one variable of [`environment`].
pub fn variable(name: &[u8]) -> Option<&'static [u8]> {
    environment().iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

/// Declares the function with which a program begins.
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
            // The frame pointer is cleared to end backtraces; the call wants a stack aligned to 16
            // bytes.
            core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {enter}", "ud2", enter = sym enter)
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
/// `vector` must be one, of strings that live forever.
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

/// The heap: dlmalloc over anonymous mappings, behind a spinlock (threads race only in tests).
#[cfg(target_os = "none")]
mod heap {
    use crate::sys;
    use core::alloc::{GlobalAlloc, Layout};
    use dlmalloc::{Allocator, Dlmalloc};

    /// How much is asked of the kernel at least: growing page by page would be a system call for
    /// each.
    const CHUNK_BYTES: usize = 256 << 10;

    struct Mappings;

    // SAFETY: what `alloc` returns is a fresh private mapping of at least the size asked for, and
    // `free` unmaps it.
    unsafe impl Allocator for Mappings {
        fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
            let Some(size) = size.checked_next_multiple_of(CHUNK_BYTES) else {
                return (core::ptr::null_mut(), 0, 0);
            };
            match sys::map_anonymous(size) {
                Ok(address) => (address, size, 0),
                Err(_) => (core::ptr::null_mut(), 0, 0),
            }
        }
        fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
            core::ptr::null_mut()
        }
        fn free_part(&self, start: *mut u8, old_size: usize, new_size: usize) -> bool {
            // SAFETY: dlmalloc gives back only the tail of what it got.
            unsafe { sys::unmap(start.add(new_size), old_size - new_size).is_ok() }
        }
        fn free(&self, start: *mut u8, size: usize) -> bool {
            // SAFETY: dlmalloc no longer uses the range.
            unsafe { sys::unmap(start, size).is_ok() }
        }
        fn can_release_part(&self, _: u32) -> bool {
            true
        }
        fn allocates_zeros(&self) -> bool {
            true
        }
        fn page_size(&self) -> usize {
            crate::pages::PAGE_BYTES
        }
    }

    struct Heap(spin::Mutex<Dlmalloc<Mappings>>);

    // SAFETY: dlmalloc keeps GlobalAlloc's contract, and the lock keeps threads apart.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise is dlmalloc's.
            unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
        }
        unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { self.0.lock().free(start, layout.size(), layout.align()) }
        }
        unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: as above.
            unsafe { self.0.lock().realloc(start, layout.size(), layout.align(), new_size) }
        }
    }

    #[global_allocator]
    static HEAP: Heap = Heap(spin::Mutex::new(Dlmalloc::new_with_allocator(Mappings)));
}

/// The status of a program that panicked, as Rust's own runtime has it.
#[cfg(target_os = "none")]
const PANIC_STATUS: i32 = 101;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    /// Writes straight to standard error, for the heap may be what broke.
    struct Raw;
    impl core::fmt::Write for Raw {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            sys::write(2, text.as_bytes()).map(drop).map_err(|_| core::fmt::Error)
        }
    }
    let _ = core::fmt::Write::write_fmt(&mut Raw, format_args!("{info}\n"));
    sys::exit(PANIC_STATUS)
}
