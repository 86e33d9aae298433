//! Rules on the memory of the servers (Q4), each as a scenario that panics if the rule is broken.

use super::rules::{P, PAGE, with_file};
use super::wrapped::Tower;
use super::*;
use foundation::{ByteCount, Errno, SnapshotOffset};

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

/// However many pages were changed under a snapshot, in order or all over the file, another one is
/// given, which costs no message. Both have the bytes of their moment.
pub fn q4_a_file_with_many_changes_takes_snapshots() {
    const PAGES: usize = 16_384;
    const CHANGES: u64 = 8000;
    for factor in [1, 1777] {
        let (mut tower, handle, mut bytes) = with_file(70_000, PAGES);
        let first = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
        let original = bytes.clone();
        for change in 0..CHANGES {
            let page = (change * factor % CHANGES * 2) as usize;
            bytes[page * P] = !bytes[page * P];
            let (messages, moved) = (tower.wire.total(), tower.wire.bytes());
            tower.files.write(handle, page as u64 * PAGE, &bytes[page * P..][..1]).unwrap();
            // Two windows of 1024 pages, which are read and written a page at a time at worst.
            assert!(tower.wire.total() - messages < 2 * 2 * 1024);
            assert!(tower.wire.bytes() - moved < 2 * 2 * 1025 * PAGE);
            assert!(tower.figures().entries < ENTRIES, "{} entries", tower.figures().entries);
            assert!(tower.figures().reserved_pages <= tower.base_free());
        }
        tower.files.attr(handle).unwrap();
        let messages = tower.wire.total();
        let second = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
        assert_eq!(tower.wire.total(), messages, "messages for a snapshot");
        tower.files.write(handle, 5, &[0xFF; 9]).unwrap();
        assert!(tower.files.read_all(first).unwrap() == original, "the old snapshot's bytes");
        assert!(tower.files.read_all(second).unwrap() == bytes, "the new snapshot's bytes");
        tower.files.close(first).unwrap();
        tower.files.close(second).unwrap();
        let figures = tower.figures();
        assert_eq!((figures.entries, figures.stored_pages, figures.rescue_files), (0, 0, 0));
    }
}

/// Segments that changes left behind are joined by changes elsewhere, each of which rescues the
/// window around it.
pub fn q4_what_changes_left_behind_is_joined() {
    const WINDOW: u64 = 1024;
    const CROWDED: usize = 48;
    let mut tower = Tower::with_entries(Features::empty(), 40_000, 64);
    let handle = tower.files.create("file", &[]);
    let bytes = pattern(1, 15 * WINDOW as usize * P);
    for (index, part) in bytes.chunks(64 * P).enumerate() {
        tower.files.write(handle, index as u64 * 64 * PAGE, part).unwrap();
    }
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let mut change = |page: u64| {
        tower.files.write(handle, page * PAGE, &[0]).unwrap();
        tower.figures().entries
    };
    // Near enough to each other to be joined, in a window that does not change any more.
    let before = (0..=CROWDED as u64 / 2).map(|index| change(9 * index)).max().unwrap();
    assert_eq!(before, CROWDED + 2);
    for window in (2..15).step_by(2) {
        let entries = change(window * WINDOW + 7);
        assert!(entries <= CROWDED, "{entries} entries");
    }
    assert!(tower.files.read_all(taken).unwrap() == bytes, "the snapshot's bytes");
}

/// One write can fill a map. The next snapshot makes it smaller instead of being refused.
pub fn q4_a_snapshot_makes_space_in_a_full_map() {
    const PAGES: u64 = 4096;
    let (mut tower, handle, mut bytes) = with_file(40_000, PAGES as usize);
    let first = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let source = tower.files.create("source", &[7; P]);
    let source = tower.files.snapshot(source, 0, PAGE).unwrap().reply.handle;
    let original = bytes.clone();
    // Every other page is one of another file, the others are written back.
    let piece = |page: u64| {
        let (snapshot, at) = if page.is_multiple_of(2) { (source, 0) } else { (first, page) };
        Piece { snapshot, offset: SnapshotOffset(at * PAGE), length: ByteCount(PAGE) }
    };
    for begin in (0..PAGES).step_by(MAX_PIECES) {
        let pieces: Vec<_> = (begin..PAGES).take(MAX_PIECES).map(piece).collect();
        let written =
            tower.files.write_pieces(handle, begin * PAGE, WriteFlags::empty(), &[], &pieces);
        assert_eq!(written.unwrap().length, ByteCount(pieces.len() as u64 * PAGE));
    }
    bytes.chunks_mut(2 * P).for_each(|pages| pages[..P].fill(7));
    assert_eq!(tower.figures().entries, ENTRIES);
    let moved = tower.wire.bytes();
    let second = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    assert!(tower.figures().entries < ENTRIES - 1000);
    assert!(tower.wire.bytes() - moved <= 2 * 1024 * PAGE, "a window, read and written");
    assert!(tower.files.read_all(first).unwrap() == original, "the old snapshot's bytes");
    assert!(tower.files.read_all(second).unwrap() == bytes, "the new snapshot's bytes");
}

/// In a hole, the map is one segment as soon as 256 ranges of holes were added by changes.
pub fn q4_holes_that_changes_split_are_rescued_together() {
    let (mut tower, handle, _) = with_file(20_000, 0);
    tower.files.truncate(handle, 9000 * PAGE).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let (mut most, mut least) = (0, usize::MAX);
    for page in (0..6000).step_by(2) {
        tower.files.write(handle, page * PAGE, &[1]).unwrap();
        most = most.max(tower.figures().entries);
        least = if page > 4000 { least.min(tower.figures().entries) } else { least };
        assert_eq!(tower.figures().reserved_pages, 0);
    }
    assert!((1000..3000).contains(&most) && least == 2, "{least} to {most} entries");
    for page in [0, 1, 3998, 5998, 8999] {
        assert_eq!(tower.files.read(taken, page * PAGE, P).unwrap(), [0; P]);
    }
}

/// 256 versions of a page are kept. Then it is read by copying, until one is released.
pub fn q4_versions_of_a_page_are_bounded() {
    const VERSIONS: u32 = 256;
    let (mut tower, handle, _) = with_file(1000, 2);
    let mut taken = Vec::new();
    for version in 0..VERSIONS {
        tower.files.write(handle, 10, &version.to_le_bytes()).unwrap();
        taken.push(tower.files.snapshot(handle, 0, PAGE).unwrap().reply.handle);
    }
    // One more is live, and the limit counts what was rescued.
    tower.files.write(handle, 10, &VERSIONS.to_le_bytes()).unwrap();
    assert_eq!(tower.files.snapshot(handle, 0, PAGE).map(drop), Err(Errno::EDQUOT));
    // Other pages, and changes, are not concerned.
    let other = tower.files.snapshot(handle, PAGE, PAGE).unwrap().reply.handle;
    tower.files.write(handle, 10, &[0xFF; 4]).unwrap();
    for (version, &taken) in (0..VERSIONS).zip(&taken) {
        assert_eq!(tower.files.read(taken, 10, 4).unwrap(), version.to_le_bytes());
    }
    tower.files.close(taken.swap_remove(100)).unwrap();
    taken.extend([other, tower.files.snapshot(handle, 0, PAGE).unwrap().reply.handle]);
    taken.into_iter().for_each(|taken| tower.files.close(taken).unwrap());
    assert_eq!((tower.figures().entries, tower.figures().stored_pages), (0, 0));
}

/// 1024 ranges of holes of a file are remembered. The others count as data: they take space, and
/// read as zeros.
pub fn q4_holes_that_are_not_remembered_count_as_data() {
    const HOLES: u64 = 1024;
    const MORE: u64 = 50;
    let mut tower = Tower::new(100_000);
    let handle = tower.files.create("file", &[]);
    for page in 0..HOLES + MORE {
        tower.files.write(handle, (2 * page + 1) * PAGE, &[1; P]).unwrap();
    }
    let reserved = |tower: &mut Tower| {
        let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
        (taken, tower.figures().reserved_pages)
    };
    let (taken, pages) = reserved(&mut tower);
    assert_eq!(pages, HOLES + 2 * MORE);
    let last = 2 * (HOLES + MORE - 1) * PAGE;
    tower.files.write(handle, last, &[2; 2 * P]).unwrap();
    assert_eq!(tower.files.read(taken, last, 2 * P).unwrap(), [[0; P], [1; P]].concat());
    tower.files.close(taken).unwrap();
    // Once some are written over, there is space for all.
    for page in 0..MORE {
        tower.files.write(handle, 2 * page * PAGE, &[3; P]).unwrap();
    }
    tower.files.0.request(&Close { handle }, &[]).unwrap();
    let handle = tower.files.open("file", RW).unwrap().0;
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    assert_eq!(tower.figures().reserved_pages, HOLES + 2 * MORE + 1);
    tower.files.close(taken).unwrap();
    assert_eq!(tower.figures().reserved_pages, 0);
}

/// A write that refers to many small ranges takes 4096 steps at most. Its short count says how far
/// it came, and the next write goes on from there.
pub fn q4_the_steps_of_a_write_are_bounded() {
    const STEPS: u64 = 4096;
    let mut tower = Tower::new(100_000);
    let source = tower.files.create("source", &[]);
    for page in (0..1800).step_by(2) {
        tower.files.write(source, page * PAGE, &[page as u8 | 1; P]).unwrap();
    }
    let length = ByteCount(1799 * PAGE);
    let taken = tower.files.snapshot(source, 0, length.0).unwrap().reply.handle;
    let whole = Piece { snapshot: taken, offset: SnapshotOffset(0), length };
    let target = tower.files.create("target", &[]);
    let write = |tower: &mut Tower, at: u64, pieces: &[Piece]| {
        tower.files.write_pieces(target, at, WriteFlags::empty(), &[], pieces).unwrap().length.0
    };
    // Each page is a step.
    let first = write(&mut tower, 0, &[whole; 4]);
    assert_eq!(first, STEPS * PAGE);
    let rest = SnapshotOffset(first - 2 * length.0);
    let rest = Piece { snapshot: taken, offset: rest, length: ByteCount(length.0 - rest.0) };
    assert_eq!(write(&mut tower, first, &[rest, whole]), 4 * length.0 - first);
    let expected = tower.files.read_all(taken).unwrap();
    let found = tower.files.read_all(target).unwrap();
    assert!(found == expected.repeat(4), "other bytes");
}

/// 8192 files are remembered as sharing storage. Then each may, and on a base that does not count
/// what a change needs, a change of any needs space that is not reserved; nothing else changes.
pub fn q4_files_beyond_those_that_share_need_space_to_change() {
    const SHARING: usize = 8192;
    let mut tower = Tower::without(Features::COUNT_SPACE, SHARING as u64 + 600);
    let bytes = pattern(7, P);
    let handle = tower.files.create("file", &bytes);
    let alone = tower.files.create("alone", &[1; 60 * P]);
    let filler = tower.files.create("filler", &[]);
    let clone = |tower: &mut Tower, index: usize| {
        let copy = tower.files.create(&format!("{index}"), &[]);
        tower.files.clone_range((handle, 0), (copy, 0), PAGE).unwrap();
        assert_eq!(tower.files.read(copy, 0, P).unwrap(), bytes);
        tower.files.close(copy).unwrap();
    };
    let overwritten = |tower: &mut Tower| {
        let taken = tower.files.snapshot(filler, 0, u64::MAX).unwrap().reply.handle;
        let written = tower.files.write(alone, 0, &[2; 60 * P]).map(drop);
        tower.files.close(taken).unwrap();
        written
    };
    (1..SHARING).for_each(|index| clone(&mut tower, index));
    // Half of what is left is reserved, and the rest is too little for the change.
    let mut pages = 0;
    while tower.base_free() > pages + 40 {
        tower.files.write(filler, pages * PAGE, &[3; P]).unwrap();
        pages += 1;
    }
    assert_eq!(overwritten(&mut tower), Ok(()), "it shares with nobody");
    tower.files.remove("1").unwrap();
    clone(&mut tower, SHARING);
    assert_eq!(overwritten(&mut tower), Err(Errno::ENOSPC), "it may share");
    assert_eq!(tower.files.read(alone, 0, P).unwrap(), [2; P]);
    tower.files.truncate(filler, 10 * PAGE).unwrap();
    assert_eq!(overwritten(&mut tower), Ok(()), "there is space");
}

/// The access times of more files than the wrapper keeps: those of closed files go to the base.
pub fn x6_access_times_of_many_files_are_kept() {
    const FILES: u64 = 1024 + 300;
    let mut tower = Tower::new(10_000);
    let mut expected = Vec::new();
    for index in 0..FILES {
        let name = format!("{index}");
        let handle = tower.files.create(&name, &[1; P]);
        let before = tower.files.attr(handle).unwrap();
        tower.files.read(handle, 0, P).unwrap();
        let attr = tower.files.attr(handle).unwrap();
        assert!(attr.atime > before.atime, "{index}");
        expected.push((name, attr));
        tower.files.close(handle).unwrap();
    }
    assert_eq!(tower.wire.calls(Op::SetAttr), FILES - 1024);
    for (name, attr) in &expected {
        assert_eq!(tower.files.stat(name).unwrap(), *attr, "{name}");
    }
    // All of them stay open now: none is dropped.
    let open = |tower: &mut Tower, name: &String| {
        let (handle, _) = tower.files.open(name, RW).unwrap();
        tower.files.write(handle, 0, &[2]).unwrap();
        tower.files.read(handle, 0, P).unwrap();
        (handle, tower.files.attr(handle).unwrap().atime)
    };
    let opened: Vec<_> = expected.iter().map(|(name, _)| open(&mut tower, name)).collect();
    for (handle, atime) in opened {
        assert_eq!(tower.files.attr(handle).unwrap().atime, atime);
        tower.files.close(handle).unwrap();
    }
}

/// A change finds a rescue file, and others can open files, however many files have snapshots: the
/// base has as many open files as all of that may need.
pub fn q1_rescue_files_can_be_opened() {
    let (mut tower, clients) = Tower::within(8 << 20, 3000);
    let mut taken = Vec::new();
    let refused = loop {
        let (name, bytes) = (format!("{}", taken.len()), [taken.len() as u8; P]);
        let handle = tower.files.create(&name, &bytes);
        match tower.files.snapshot(handle, 0, PAGE) {
            Ok(snapshot) => taken.push((name, bytes, snapshot.reply.handle)),
            Err(error) => break error,
        }
        tower.files.close(handle).unwrap();
    };
    assert_eq!(refused, Errno::EDQUOT);
    assert!((500..1000).contains(&taken.len()), "{} files", taken.len());
    // Clients have all the files open that they can, and change each of them.
    let mut opened = Vec::new();
    let refused = loop {
        match tower.files.open(&taken[opened.len() % taken.len()].0, RW) {
            Ok((handle, _)) => opened.push(handle),
            Err(error) => break error,
        }
        assert!(opened.len() < clients.files);
        tower.files.write(opened[opened.len() - 1], 0, &[0xFF; P]).unwrap();
    };
    assert_eq!((refused, opened.len()), (Errno::ENFILE, clients.files - 1));
    for (_, bytes, snapshot) in &taken {
        assert_eq!(tower.files.read(*snapshot, 0, P).unwrap(), bytes);
    }
    assert_eq!(tower.figures().rescue_files, taken.len());
    tower.files.close(opened.pop().unwrap()).unwrap();
    tower.files.open("new", CREATE).unwrap();
}

/// What statfs and rename ask the base does not depend on how many files are open or have
/// snapshots; and the figures leave out the files that only snapshots keep.
pub fn q7_statfs_and_rename_concern_no_other_files() {
    const FILES: usize = 300;
    let mut tower = Tower::new(10_000);
    let name = |index: usize| format!("{index}");
    let mut taken = Vec::new();
    for index in 0..FILES {
        let handle = tower.files.create(&name(index), &[1; 2 * P]);
        taken.push(tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle);
        if index.is_multiple_of(2) {
            tower.files.close(handle).unwrap();
        }
    }
    let (open, _) = tower.files.open("1", RW).unwrap();
    /// What a request returns, and the number of messages that it costs.
    fn asked<T>(tower: &mut Tower, request: impl FnOnce(&mut Tower) -> T) -> (T, u64) {
        let before = tower.wire.total();
        let result = request(tower);
        (result, tower.wire.total() - before)
    }
    let kept = |tower: &mut Tower| {
        let figures = tower.files.store();
        (figures.pages_kept.0, figures.files - figures.files_free, figures.blocks_free)
    };
    let (pages, files, free) = kept(&mut tower);
    assert_eq!((pages, files), (0, FILES as u64 + 1));
    // A file that is replaced, one that is removed, and one that is closed after it was removed.
    // The attributes of the first one are asked for.
    assert_eq!(asked(&mut tower, |tower| tower.files.rename("3", "0").unwrap()).1, 2);
    assert_eq!(kept(&mut tower), (2, files - 1, free + 2));
    assert_eq!(asked(&mut tower, |tower| tower.files.remove("2").unwrap()).1, 1);
    assert_eq!(kept(&mut tower), (4, files - 2, free + 4));
    tower.files.write(open, 0, &[2]).unwrap();
    tower.files.remove("1").unwrap();
    let removed = kept(&mut tower);
    assert_eq!(removed.1, files - 2, "it is open");
    tower.files.close(open).unwrap();
    assert_eq!(asked(&mut tower, kept).1, 1);
    // The attributes of a file that was exchanged with another are new, those of others are known.
    let (four, _) = tower.files.open("4", RW).unwrap();
    let (five, before) = tower.files.open("5", RW).unwrap();
    tower.files.rename_with("4", "5", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(asked(&mut tower, |tower| tower.files.attr(four).unwrap()).1, 0);
    let (after, messages) = asked(&mut tower, |tower| tower.files.attr(five).unwrap());
    assert!(after.ctime > before.ctime && messages == 1);
    for taken in taken {
        tower.files.close(taken).unwrap();
    }
    assert_eq!(tower.files.store().pages_kept.0, 0);
}
