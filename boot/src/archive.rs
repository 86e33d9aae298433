//! The initrd: an archive whose first member is the kernel.
//!
//! Only the first header is read here.

use foundation::PAGE_BYTES;
use foundation::archive::{HEADER_BYTES, members};

/// Why the initrd is refused.
type Error = &'static str;

/// The two parts of the initrd.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive<'a> {
    /// The kernel's ELF.
    pub kernel: &'a [u8],
    /// Offset of the ramdisk from the archive's start, in bytes; a multiple of the page size.
    pub ramdisk_offset: usize,
}

/// Splits `initrd` into the kernel and the ramdisk.
pub fn split(initrd: &[u8]) -> Result<Archive<'_>, Error> {
    const NO_ARCHIVE: Error = "the initrd is not a ustar archive";
    let first = members(initrd).next().ok_or(NO_ARCHIVE)?;
    let first = first.map_err(|bad| match bad.member {
        b"kernel" => "the initrd is damaged, or ends in the middle of the kernel",
        _ => NO_ARCHIVE,
    })?;
    if !first.name.is(b"kernel") {
        return Err("the initrd's first member is not `kernel`");
    }
    // Contents begin right after the header.
    let ramdisk_offset = HEADER_BYTES
        .checked_add(first.data.len())
        .and_then(|end| end.checked_next_multiple_of(PAGE_BYTES))
        .filter(|&offset| offset < initrd.len())
        .ok_or("the initrd has no ramdisk after the kernel")?;
    Ok(Archive { kernel: first.data, ramdisk_offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initrd(name: &[u8], size: &[u8], total_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; total_bytes];
        bytes[..name.len()].copy_from_slice(name);
        bytes[124..124 + size.len()].copy_from_slice(size);
        bytes[257..262].copy_from_slice(b"ustar");
        // All other numbers are 0.
        for start in [100, 108, 116, 136] {
            bytes[start] = b'0';
        }
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
        bytes[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
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
