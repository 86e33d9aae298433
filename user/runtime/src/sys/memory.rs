//! The address space.

use super::{Fd, Result, abi, call};
use foundation::FileOffset;

/// Maps zeros: private, readable and writable, without reservation.
pub fn map_anonymous(len_bytes: usize) -> Result<*mut u8> {
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    unsafe {
        mmap(0, len_bytes, abi::PROT_READ | abi::PROT_WRITE, flags, Fd::NONE, FileOffset::ZERO)
    }
}

/// mmap(2), unchanged.
///
/// # Safety
/// With `MAP_FIXED` the caller must own the range that is replaced.
pub unsafe fn mmap(
    address: usize,
    len_bytes: usize,
    protection: u32,
    flags: u32,
    fd: Fd,
    offset: FileOffset,
) -> Result<*mut u8> {
    // SAFETY: the caller's promise.
    unsafe {
        call!(__NR_mmap, address, len_bytes, protection, flags, fd, offset)
            .map(|start| start as *mut u8)
    }
}

/// munmap(2).
///
/// # Safety
/// No reference into the range may exist any more.
pub unsafe fn unmap(start: *mut u8, len_bytes: usize) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { call!(__NR_munmap, start, len_bytes).map(drop) }
}

/// mprotect(2).
///
/// # Safety
/// References into the range must agree with the new protection.
pub unsafe fn mprotect(start: *mut u8, len_bytes: usize, protection: u32) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { call!(__NR_mprotect, start, len_bytes, protection).map(drop) }
}

/// Moves the end of the heap and returns the new end; 0 returns the current one.
///
/// # Safety
/// No reference into the released range may exist.
pub unsafe fn brk(end: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { super::syscall(abi::__NR_brk, [end, 0, 0, 0, 0, 0]) as usize }
}

/// Fills `buffer` with random bytes.
pub fn getrandom(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes within the slice.
    unsafe { call!(__NR_getrandom, buffer.as_mut_ptr(), buffer.len(), 0) }
}
