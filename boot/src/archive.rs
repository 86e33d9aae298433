//! The initrd: an archive whose first member is the kernel.
//!
//! Only the first header is read here. It is input from outside: whatever it holds, the answer is
//! a slice of the archive or an error.

use crate::{Error, FRAME_BYTES};

/// Bytes in a tar block.
const BLOCK_BYTES: usize = 512;

/// The two parts of the initrd.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive<'a> {
    /// The kernel's ELF.
    pub kernel: &'a [u8],
    /// Where the ramdisk begins, in bytes from the archive's start; a multiple of the page size.
    pub ramdisk_offset: usize,
}

/// Splits `initrd` into the kernel and the ramdisk.
pub fn split(initrd: &[u8]) -> Result<Archive<'_>, Error> {
    let header = initrd.get(..BLOCK_BYTES).ok_or("the initrd is too short for an archive")?;
    if header.get(257..262) != Some(b"ustar") {
        return Err("the initrd is not a ustar archive");
    }
    if !header.starts_with(b"kernel\0") {
        return Err("the initrd's first member is not `kernel`");
    }
    let size_field = header.get(124..136).ok_or("the initrd's first header is cut off")?;
    let size = octal(size_field).ok_or("the kernel's size in the initrd is not a number")?;
    let end = BLOCK_BYTES.checked_add(size).ok_or("the kernel's size in the initrd is absurd")?;
    let kernel =
        initrd.get(BLOCK_BYTES..end).ok_or("the initrd ends in the middle of the kernel")?;
    let ramdisk_offset = end
        .checked_next_multiple_of(FRAME_BYTES as usize)
        .filter(|&offset| offset < initrd.len())
        .ok_or("the initrd holds a kernel but no ramdisk behind it")?;
    Ok(Archive { kernel, ramdisk_offset })
}

/// A tar number: octal digits, ended by a blank or a zero byte.
fn octal(field: &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for &byte in field {
        match byte {
            b'0'..=b'7' => {
                value = value.checked_mul(8)?.checked_add(usize::from(byte - b'0'))?;
            }
            0 | b' ' => return Some(value),
            _ => return None,
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initrd(name: &[u8], size: &[u8], total_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; total_bytes];
        bytes[..name.len()].copy_from_slice(name);
        bytes[124..124 + size.len()].copy_from_slice(size);
        bytes[257..262].copy_from_slice(b"ustar");
        bytes
    }

    #[test]
    fn the_ramdisk_begins_at_the_page_after_the_kernel() {
        let bytes = initrd(b"kernel", b"00000007001", 12288);
        let archive = split(&bytes).unwrap();
        assert_eq!(archive.kernel.len(), 0o7001);
        assert_eq!(archive.ramdisk_offset, 8192);
        let exact = initrd(b"kernel", b"00000007000", 12288);
        assert_eq!(split(&exact).unwrap().ramdisk_offset, 4096);
    }

    #[test]
    fn a_bad_initrd_is_an_error() {
        assert!(split(&[]).is_err());
        assert!(split(&[0; 8192]).is_err());
        assert!(split(&initrd(b"init", b"00000000001", 8192)).is_err());
        assert!(split(&initrd(b"kernel", b"0000000x", 8192)).is_err());
        assert!(split(&initrd(b"kernel", b"77777777777", 8192)).is_err());
        assert!(split(&initrd(b"kernel", b"777777777777", 8192)).is_err());
        assert!(split(&initrd(b"kernel", b"00000007000", 4096)).is_err());
    }
}
