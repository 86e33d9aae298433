//! Storage that was allocated (Q1): a write to it takes no more space, and an allocation changes no
//! byte. Each rule is a scenario that panics if it is broken.

use super::wrapped::Tower;
use super::*;
use foundation::Errno;
use fsproto::*;

const PAGE: u64 = 4096;
const P: usize = 4096;

/// Takes all space that is left.
fn fill_up<C: Connection>(files: &mut Files<C>) {
    let (filler, _) = files.open("filler", CREATE).unwrap();
    let full = (0..10_000).find_map(|page| files.write(filler, page * PAGE, &[1; P]).err());
    assert_eq!(full, Some(Errno::ENOSPC));
}

/// Two files share their pages, and more besides: tree nodes of several levels. Where one of them
/// is allocated, it has pages of its own, and where not, it has none.
pub fn q1_what_a_clone_shares_is_allocated_apart() {
    let server = memfs(1000);
    let mut files = Files::of(&server);
    let bytes = pattern(1, 300 * P);
    let one = files.create("one", &bytes[..MAX_PAYLOAD]);
    for (part, offset) in bytes.chunks(MAX_PAYLOAD).zip((0..).step_by(MAX_PAYLOAD)) {
        files.write(one, offset, part).unwrap();
    }
    let (two, _) = files.open("two", CREATE).unwrap();
    files.clone_range((one, 0), (two, 0), u64::MAX / 2).unwrap();
    let free = files.store().blocks_free;
    files.allocate(two, 70 * PAGE + 5, 130 * PAGE, AllocateMode::KeepSize).unwrap();
    assert_eq!(files.store().blocks_free, free - 131);
    fill_up(&mut files);
    assert_eq!(files.write(two, 69 * PAGE, b"shared"), Err(Errno::ENOSPC));
    for page in 70..201_u64 {
        files.write(two, page * PAGE + 7, b"own").unwrap();
    }
    assert!(files.read_all(one).unwrap() == bytes);
    let mut expected = bytes;
    (70..201).for_each(|page| expected[page * P + 7..][..3].copy_from_slice(b"own"));
    assert!(files.read_all(two).unwrap() == expected);
    // What is its own already takes nothing more.
    files.allocate(two, 70 * PAGE, 131 * PAGE, AllocateMode::Extend).unwrap();
    assert_eq!(
        files.allocate(two, 69 * PAGE, PAGE, AllocateMode::KeepSize),
        Err(Errno::ENOSPC),
        "there is no space for a page"
    );
    assert!(files.read_all(two).unwrap() == expected);
}

/// A snapshot of a hole reserves nothing. When the hole becomes data without a change of a byte, a
/// write to it does not have to rescue what nobody reserved space for.
pub fn q1_a_hole_of_a_snapshot_is_allocated() {
    let mut tower = Tower::new(40);
    let (handle, _) = tower.files.open("file", CREATE).unwrap();
    tower.files.truncate(handle, 8 * PAGE).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let other = tower.files.create("other", &[2; 6 * P]);
    let theirs = tower.files.snapshot(other, 0, u64::MAX).unwrap().reply.handle;
    tower.files.allocate(handle, PAGE, 5 * PAGE, AllocateMode::KeepSize).unwrap();
    assert_eq!((tower.figures().reserved_pages, tower.figures().stored_pages), (6, 0));
    fill_up(&mut tower.files);
    tower.files.write(handle, PAGE, &[1; 5 * P]).unwrap();
    assert_eq!(tower.files.read_all(taken).unwrap(), [0; 8 * P]);
    // All that was reserved for the other file is there.
    tower.files.write(other, 0, &[3; 6 * P]).unwrap();
    assert_eq!(tower.files.read_all(theirs).unwrap(), [2; 6 * P]);
}

/// What snapshots reserve for a page pays for its next change, and an allocation neither uses it
/// nor needs it again.
pub fn q1_allocated_pages_are_counted_once() {
    let mut tower = Tower::new(40);
    let bytes = pattern(7, 8 * P);
    let handle = tower.files.create("file", &bytes);
    let (copy, _) = tower.files.open("copy", CREATE).unwrap();
    tower.files.clone_range((handle, 0), (copy, 0), 8 * PAGE).unwrap();
    let plain = tower.files.create("plain", &bytes);
    let taken =
        [handle, copy].map(|file| tower.files.snapshot(file, 0, 6 * PAGE).unwrap().reply.handle);
    tower.files.allocate(copy, 0, 8 * PAGE, AllocateMode::Extend).unwrap();
    assert_eq!((tower.figures().reserved_pages, tower.base_free()), (12, 40 - 3 * 8));
    fill_up(&mut tower.files);
    assert_eq!(tower.base_free(), 12);
    for file in [copy, plain] {
        tower.files.allocate(file, 0, 8 * PAGE, AllocateMode::KeepSize).unwrap();
        tower.files.write(file, 0, &[1; 8 * P]).unwrap();
        tower.files.write(file, 5, &[2; 7 * P]).unwrap();
    }
    assert_eq!((tower.figures().reserved_pages, tower.base_free()), (6, 6));
    // Nobody allocated the pages that it shared: only the reservation pays for a change of them.
    tower.files.write(handle, 0, &[3; 6 * P]).unwrap();
    assert_eq!(tower.base_free(), 0);
    for snapshot in taken {
        assert!(tower.files.read_all(snapshot).unwrap() == bytes[..6 * P]);
    }
}

/// An allocation without extension leaves the version as it is, so what was read of the file is not
/// read again. It sets the time of the last change, as on Linux.
pub fn f9_an_allocation_changes_no_byte() {
    let server = memfs(100);
    let mut files = Files::of(&server);
    let handle = files.create("file", &[1; 3 * P]);
    files.truncate(handle, 20 * PAGE).unwrap();
    for (mode, grows) in [
        (AllocateMode::KeepSize, false),
        (AllocateMode::Extend, false),
        (AllocateMode::Extend, true),
    ] {
        let before = files.attr(handle).unwrap();
        let length = if grows { 21 * PAGE } else { 20 * PAGE };
        let after = files.allocate(handle, 0, length, mode).unwrap();
        assert_eq!((after.blocks, after.size.0), (length / 512, length));
        assert_eq!(after.version > before.version, grows, "{mode:?}");
        assert!(after.mtime > before.mtime && after.ctime > before.ctime);
    }
    let bytes = [[1; 3 * P].as_slice(), &[0; 18 * P]].concat();
    assert!(files.read_all(handle).unwrap() == bytes);
}
