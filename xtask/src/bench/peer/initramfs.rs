//! The root file system of Linux: a cpio archive of the format `newc`, as in the kernel's
//! documentation (`driver-api/early-userspace/buffer-format`).

use std::io::{Result, Write};

/// The kinds of files, with permissions.
const FOLDER: u32 = 0o40_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o20_600;

/// The name of the last entry.
const END: &str = "TRAILER!!!";

/// An archive in the making.
pub struct Initramfs<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Initramfs<W> {
    /// An empty archive that is written to `to`.
    pub fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER, [0; 2], &[])
    }

    /// Adds a file, which can be executed.
    pub fn file(&mut self, path: &str, data: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, [0; 2], data)
    }

    /// Adds a node of a character device, with its two numbers.
    pub fn device(&mut self, path: &str, numbers: [u32; 2]) -> Result<()> {
        self.entry(path, DEVICE, numbers, &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.entry(END, 0, [0; 2], &[])?;
        self.to.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, device: [u32; 2], data: &[u8]) -> Result<()> {
        self.entries += 1;
        let [name_bytes, data_bytes] = [path.len() + 1, data.len()].map(|length| length as u32);
        // Number, mode, owner, group, links, time, length, the device it is on, the device it is,
        // length of the name, checksum.
        let [major, minor] = device;
        let fields =
            [self.entries, mode, 0, 0, 1, 0, data_bytes, 0, 0, major, minor, name_bytes, 0];
        write!(self.to, "070701")?;
        fields.iter().try_for_each(|field| write!(self.to, "{field:08x}"))?;
        let header_bytes = 6 + 8 * fields.len();
        write!(self.to, "{path}\0")?;
        self.pad(header_bytes + path.len() + 1)?;
        self.to.write_all(data)?;
        self.pad(data.len())
    }

    /// Names and data end at multiples of four bytes.
    fn pad(&mut self, bytes: usize) -> Result<()> {
        self.to.write_all(&[0; 3][..bytes.next_multiple_of(4) - bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_kernel_reads_them() {
        let mut archive = Vec::new();
        let mut root = Initramfs::new(&mut archive);
        root.folder("dev").unwrap();
        root.device("dev/fuse", [10, 229]).unwrap();
        root.file("init", b"12345").unwrap();
        root.finish().unwrap();
        let (mut rest, mut found) = (archive.as_slice(), Vec::new());
        while !rest.is_empty() {
            let field = |index: usize| {
                let text = std::str::from_utf8(&rest[6 + 8 * index..][..8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&rest[..6], b"070701");
            let (mode, data, name) = (field(1), field(6), field(11));
            let data_at = (110 + name).next_multiple_of(4);
            let text = String::from_utf8_lossy(&rest[110..110 + name - 1]).into_owned();
            found.push((text, mode, [field(9), field(10)], rest[data_at..][..data].to_vec()));
            rest = &rest[(data_at + data).next_multiple_of(4)..];
        }
        let names: Vec<_> = found.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["dev", "dev/fuse", "init", END]);
        assert_eq!((found[1].1, found[1].2), (0o20_600, [10, 229]));
        assert_eq!(found[2].3, b"12345");
    }
}
