//! A file that is on a device before the servers start.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use foundation::archive;
use fsserver::BlockDevice;
use fsserver::memfs::Memfs;

use crate::disk::Disk;
use crate::faults::FaultPlan;
use crate::script::{NAMES, PAGE};
use crate::servers::Ticks;

/// The file's name.
pub const NAME: &str = NAMES[0];
/// The file's length: it ends within a page.
const BYTES: usize = 27 * PAGE + 123;
/// Runs of its pages, each with the block of the first one. The rest is holes.
const RUNS: [(Range<usize>, u64); 2] = [(0..12, 40), (15..28, 5)];
/// Number of blocks of the device.
const BLOCKS: u64 = 60;

/// The file's bytes.
pub fn bytes() -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    for (pages, _) in RUNS {
        let (start, end) = (pages.start * PAGE, (pages.end * PAGE).min(BYTES));
        for (at, byte) in (start..).zip(&mut bytes[start..end]) {
            *byte = (at / PAGE * 31 + at * 7) as u8 | 1;
        }
    }
    bytes
}

/// The archive that lists the file.
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let runs =
        RUNS.iter().flat_map(|(pages, block)| [pages.start as u64, pages.len() as u64, *block]);
    let list: Vec<u8> = [BYTES as u64].into_iter().chain(runs).flat_map(u64::to_le_bytes).collect();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(archive::PLACED));
    header.set_mode(0o644);
    header.set_size(list.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, NAME, list.as_slice()).expect("an archive in memory");
    builder.into_inner().expect("an archive in memory")
});

/// The same server with the file.
pub fn add(memfs: Memfs<Ticks>, faults: &Rc<RefCell<FaultPlan>>) -> Memfs<Ticks> {
    let mut disk = Disk::new(BLOCKS, faults.clone());
    let mut whole = bytes();
    whole.resize(BYTES.next_multiple_of(PAGE), 0);
    for (pages, block) in RUNS {
        let bytes = &whole[pages.start * PAGE..pages.end * PAGE];
        disk.write(block, bytes).expect("no fault yet");
    }
    let mut memfs = memfs.placed_on(Box::new(disk)).expect("memory for its pages");
    memfs.add_archive(&ARCHIVE).expect("its list is right");
    memfs
}
