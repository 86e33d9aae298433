//! The ramdisk: a tar archive whose frames pass to the process that first maps `/dev/ramdisk`.

use user::prelude::*;
use user::sys::abi;

/// Maps the ramdisk. Its frames then belong to this address space and its forks.
pub fn map() -> Result<&'static [u8]> {
    let fd = sys::open(b"/dev/ramdisk", abi::O_RDONLY, 0)?;
    let len_bytes = sys::fstat(fd)?.st_size as usize;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    let start = unsafe {
        sys::mmap(
            0,
            len_bytes,
            abi::PROT_READ | abi::PROT_WRITE,
            abi::MAP_PRIVATE,
            fd,
            FileOffset::ZERO,
        )
    };
    sys::close(fd)?;
    let start = start?;
    // SAFETY: the mapping is private and never written to; after `release` nobody uses it.
    Ok(unsafe { core::slice::from_raw_parts(start, len_bytes) })
}

/// Unmaps the ramdisk, which another process now owns.
///
/// # Safety
/// No reference into the ramdisk may exist in this process any more.
pub unsafe fn release(ramdisk: &'static [u8]) {
    // SAFETY: the caller's promise.
    let _ = unsafe { sys::unmap(ramdisk.as_ptr().cast_mut(), ramdisk.len()) };
}

/// The contents of a member, by its name.
pub fn find(ramdisk: &'static [u8], name: &str) -> Option<&'static [u8]> {
    foundation::archive::find(ramdisk, name.as_bytes())
}
