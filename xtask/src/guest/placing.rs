//! Files of the host that are too large for the guest's memory: their data is copied to the disk
//! for temporary data, before the rest of it, and the ramdisk lists where.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use rustix::fs::{fstatvfs, seek};
use rustix::io::Errno;

/// Size of the guest's page, and of a block of its disk, in bytes.
const PAGE_BYTES: u64 = 4096;

/// The beginning of a disk, with files that are added to the guest.
pub struct PlacedFiles {
    /// The disk's image, unlinked.
    pub image: File,
    /// Number of blocks with data.
    pub blocks: u64,
}

impl PlacedFiles {
    /// No files, on an empty disk.
    pub fn new(image: File) -> Self {
        Self { image, blocks: 0 }
    }

    /// Copies the data of a file, without its holes, and returns the list for the ramdisk: numbers
    /// of 64 bits, as `foundation::archive` describes them.
    pub fn add(&mut self, file: &File) -> Result<Vec<u8>> {
        let size = file.metadata()?.len();
        let space = fstatvfs(&self.image)?;
        let needed = rustix::fs::fstat(file)?.st_blocks as u64 * 512;
        ensure!(
            needed < space.f_bavail * space.f_frsize,
            "its copy takes {} MiB, and on the host only {} MiB are free",
            needed >> 20,
            (space.f_bavail * space.f_frsize) >> 20
        );
        let mut numbers = vec![size];
        for pages in data_pages(file, size)? {
            let bytes = pages.start * PAGE_BYTES..(pages.end * PAGE_BYTES).min(size);
            let mut from = file;
            from.seek(SeekFrom::Start(bytes.start))?;
            let mut to = &self.image;
            to.seek(SeekFrom::Start(self.blocks * PAGE_BYTES))?;
            let wanted = bytes.end - bytes.start;
            let copied = std::io::copy(&mut from.take(wanted), &mut to)
                .context("cannot write the guest's disk")?;
            ensure!(copied == wanted, "the file shrank while it was read");
            numbers.extend([pages.start, pages.end - pages.start, self.blocks]);
            self.blocks += pages.end - pages.start;
        }
        self.image.set_len(self.blocks * PAGE_BYTES).context("cannot size the guest's disk")?;
        Ok(numbers.into_iter().flat_map(u64::to_le_bytes).collect())
    }
}

/// The runs of pages of a file that hold data, in order.
fn data_pages(file: &File, size: u64) -> Result<Vec<Range<u64>>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // The rest is a hole.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(file, rustix::fs::SeekFrom::Hole(data))?.min(size);
        let pages = data / PAGE_BYTES..at.div_ceil(PAGE_BYTES);
        match runs.last_mut() {
            Some(last) if last.end >= pages.start => last.end = pages.end,
            _ => runs.push(pages),
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn data_is_copied_without_holes() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(50 << 20).unwrap();
        file.write_all_at(&[1; 5000], 3 * PAGE_BYTES).unwrap();
        file.write_all_at(&[2; 100], (50 << 20) - 100).unwrap();
        let mut placed =
            PlacedFiles::new(tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap());
        placed.blocks = 7;
        let list = placed.add(&file).unwrap();
        let numbers: Vec<u64> =
            list.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        // A file system may store more than was written, but not all of it.
        let pages: u64 = numbers[1..].chunks(3).map(|run| run[1]).sum();
        assert!((3..100).contains(&pages) && placed.blocks == 7 + pages, "{numbers:?}");
        assert_eq!(numbers[0], 50 << 20);
        let mut again = vec![0; 50 << 20];
        for run in numbers[1..].chunks(3) {
            let &[first, pages, block] = run else { unreachable!("runs of three numbers") };
            let end = ((first + pages) * PAGE_BYTES).min(50 << 20);
            let to = &mut again[(first * PAGE_BYTES) as usize..end as usize];
            placed.image.read_exact_at(to, block * PAGE_BYTES).unwrap();
        }
        let mut expected = vec![0; 50 << 20];
        file.read_exact_at(&mut expected, 0).unwrap();
        assert!(again == expected);
    }

    #[test]
    fn a_file_of_one_hole_has_no_data() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(16 << 30).unwrap();
        let mut placed =
            PlacedFiles::new(tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap());
        assert_eq!(placed.add(&file).unwrap(), (16_u64 << 30).to_le_bytes());
        assert_eq!(placed.blocks, 0);
    }
}
