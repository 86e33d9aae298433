//! The loader's parser.

#[path = "../../boot/src/archive.rs"]
mod archive;

/// An initrd, which contains the kernel and the ramdisk.
pub fn initrd(data: &[u8]) {
    if let Ok(parts) = archive::split(data) {
        assert!(parts.ramdisk_offset < data.len() && parts.ramdisk_offset.is_multiple_of(4096));
        assert!(parts.kernel.len() < data.len());
    }
}
