//! The allocator of the kernel's tests: rejects a large request of the kernel that is not marked as
//! one that may fail (Q8).

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;

use kernel::mem::host::failure;

/// The system's allocator, behind the check.
pub struct Checked;

#[global_allocator]
static ALLOCATOR: Checked = Checked;

/// Ends the process, which is all that an allocator may do about an error.
#[cold]
fn reject(bytes: usize) -> ! {
    let backtrace = failure::during_report(Backtrace::force_capture);
    eprintln!("{bytes} bytes are allocated without an attempt:\n{backtrace}");
    std::process::abort()
}

// SAFETY: all memory is the system allocator's.
unsafe impl GlobalAlloc for Checked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if failure::is_rejected(layout.size()) {
            reject(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if failure::is_rejected(bytes) {
            reject(bytes);
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
