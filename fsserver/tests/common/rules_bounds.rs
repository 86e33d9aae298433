//! Rules on the memory of the servers (Q4), each as a scenario that panics if the rule is broken.

use super::rules::{P, PAGE, with_file};
use super::wrapped::Tower;
use super::*;

/// Entries of one file's rescue map, with the default limits.
const ENTRIES: usize = 4096;

/// Writes to every other page under a snapshot of the whole file, and checks all bytes.
fn change_every_other_page(tower: &mut Tower, handle: Handle, pages: u64) {
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply;
    let before = tower.files.read(handle, 0, 64 * P).unwrap();
    let mut most = 0;
    for page in (0..pages).step_by(2) {
        tower.files.write(handle, page * PAGE, &[page as u8 | 1]).unwrap();
        most = most.max(tower.figures().entries);
        if page % 1024 == 0 {
            // Neither errors nor other bytes for the reader.
            assert_eq!(tower.files.read(taken.handle, 0, 64 * P).unwrap(), before);
            assert!(tower.figures().reserved_pages <= tower.base_free());
        }
    }
    assert!(most > ENTRIES / 2 && most < ENTRIES + 1024, "{most} entries");
    for page in (0..pages).step_by(61) {
        let old = tower.files.read(taken.handle, page * PAGE, P).unwrap();
        assert!(old.iter().all(|&byte| byte != page as u8 | 1 || byte == before[0]));
    }
    tower.files.close(taken.handle).unwrap();
    let figures = tower.figures();
    assert_eq!((figures.entries, figures.stored_pages, figures.rescue_files), (0, 0, 0));
}

pub fn q4_the_map_of_a_snapshot_is_bounded_in_a_hole() {
    let mut tower = Tower::new(100_000);
    let handle = tower.files.create("file", &[]);
    tower.files.truncate(handle, 1 << 32).unwrap();
    change_every_other_page(&mut tower, handle, 110_000);
}

pub fn q4_the_map_of_a_snapshot_is_bounded_in_data() {
    for lacking in [Features::empty(), Features::CLONE] {
        let mut tower = Tower::without(lacking, 30_000);
        let handle = tower.files.create("file", &[]);
        for page in (0..14_000).step_by(50) {
            tower.files.write(handle, page * PAGE, &[2; 50 * P]).unwrap();
        }
        change_every_other_page(&mut tower, handle, 14_000);
    }
}

/// A map that was too large is small again once the pages between those that changed are rescued,
/// and then takes snapshots again.
pub fn q4_a_large_map_becomes_small_and_takes_snapshots_again() {
    let (mut tower, handle, bytes) = with_file(20_000, 0);
    assert!(bytes.is_empty());
    tower.files.truncate(handle, 9000 * PAGE).unwrap();
    let first = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let mut page = 0;
    while tower.figures().entries < ENTRIES {
        tower.files.write(handle, page * PAGE, &[1]).unwrap();
        page += 2;
    }
    assert_eq!(tower.files.snapshot(handle, 0, u64::MAX).map(|_| ()), Err(Errno::EDQUOT));
    tower.files.write(handle, page * PAGE, &[1]).unwrap();
    tower.files.write(handle, (page + 2) * PAGE, &[1]).unwrap();
    assert_eq!(tower.figures().entries, 2, "one segment, with one version");
    let second = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    assert_eq!(tower.files.read(first, page * PAGE, P).unwrap(), [0; P]);
    assert_eq!(tower.files.read(second, page * PAGE, 1).unwrap(), [1]);
}
