//! The ramdisk: a tar archive whose frames the kernel hands over to who maps `/dev/ramdisk` first.

use user::prelude::*;
use user::sys::abi;

/// Maps the ramdisk. From here on its frames belong to this address space and its forks.
pub fn take() -> Result<&'static [u8]> {
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
    // SAFETY: the mapping is private and nobody writes to it; whoever unmaps it (`release`) uses it
    // no more.
    Ok(unsafe { core::slice::from_raw_parts(start, len_bytes) })
}

/// Lets go of the ramdisk: it is somebody else's now.
///
/// # Safety
/// Nothing in this process may refer into it any more.
pub unsafe fn release(ramdisk: &'static [u8]) {
    // SAFETY: the caller's promise.
    let _ = unsafe { sys::unmap(ramdisk.as_ptr().cast_mut(), ramdisk.len()) };
}

/// The contents of a member.
pub fn find(ramdisk: &'static [u8], name: &str) -> Option<&'static [u8]> {
    foundation::archive::find(ramdisk, name.as_bytes())
}
