//! What the loader reads.

#[path = "../../boot/src/archive.rs"]
mod archive;

/// An initrd: the kernel, and where the ramdisk begins.
pub fn initrd(data: &[u8]) {
    if let Ok(parts) = archive::split(data) {
        assert!(parts.ramdisk_offset < data.len() && parts.ramdisk_offset.is_multiple_of(4096));
        assert!(parts.kernel.len() < data.len());
    }
}
