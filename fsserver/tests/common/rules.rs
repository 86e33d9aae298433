//! Rules on reading, rescuing and closing (R, C), each as a scenario that panics if the rule is
//! broken. The rules on space and writing are in [`rules_writes`](super::rules_writes).

use super::wrapped::{Failure, Tower};
use super::*;
use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::*;
use fsserver::LocalConnection;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;

pub(super) const PAGE: u64 = 4096;
pub(super) const P: usize = 4096;

/// A tower with an open file of `pages` pages, the file's handle, and its bytes.
pub(super) fn with_file(capacity_pages: u64, pages: usize) -> (Tower, Handle, Vec<u8>) {
    let mut tower = Tower::new(capacity_pages);
    let bytes = pattern(7, pages * P);
    let handle = tower.files.create("file", &[]);
    for (index, part) in bytes.chunks(MAX_PAYLOAD).enumerate() {
        tower.files.write(handle, (index * MAX_PAYLOAD) as u64, part).unwrap();
    }
    (tower, handle, bytes)
}

pub fn r1_one_instant_fragments_and_pages_are_of_the_same_moment() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let request = Snapshot {
        handle,
        offset: FileOffset(100),
        length: ByteCount(5 * PAGE),
        misalignment: 1000,
        inline_max: 0,
    };
    let taken = tower.files.snapshot_with(&request).unwrap();
    tower.files.write(handle, 0, &[0; 8 * P]).unwrap();
    assert_eq!(taken.reply.length, ByteCount(5 * PAGE));
    assert_eq!((taken.reply.leading_bytes, taken.reply.trailing_bytes), (3096, 1000));
    assert_eq!(taken.leading, bytes[100..100 + 3096]);
    assert_eq!(taken.trailing, bytes[100 + 5 * P - 1000..100 + 5 * P]);
    let snapshot = taken.reply.handle;
    assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes[100..100 + 5 * P]);
    assert_eq!(tower.files.read(snapshot, 3096, 4 * P).unwrap(), bytes[3196..3196 + 4 * P]);
}

pub fn r1_small_reads_come_whole_and_leave_no_snapshot() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let no_whole_page = Snapshot {
        handle,
        offset: FileOffset(5),
        length: ByteCount(8000),
        misalignment: 100,
        inline_max: 0,
    };
    let taken = tower.files.snapshot_with(&no_whole_page).unwrap();
    assert_eq!(
        (taken.reply.handle, taken.reply.trailing_bytes, &taken.leading[..]),
        (Handle::NONE, 0, &bytes[5..8005])
    );
    let preferred = Snapshot {
        handle,
        offset: FileOffset(0),
        length: ByteCount(3 * PAGE),
        misalignment: 0,
        inline_max: 3 * P as u32,
    };
    let taken = tower.files.snapshot_with(&preferred).unwrap();
    assert_eq!((taken.reply.handle, &taken.leading[..]), (Handle::NONE, &bytes[..3 * P]));
    assert_eq!(tower.figures().snapshots, 0);
    let one_more = Snapshot { length: ByteCount(3 * PAGE + 1), ..preferred };
    let taken = tower.files.snapshot_with(&one_more).unwrap();
    assert_ne!(taken.reply.handle, Handle::NONE);
    assert_eq!((taken.leading.len(), &taken.trailing[..]), (0, &bytes[3 * P..3 * P + 1]));
}

pub fn r2_the_server_decides_the_length() {
    let (mut tower, handle, bytes) = with_file(100, 2);
    tower.files.append(handle, b"tail").unwrap();
    let version = tower.files.attr(handle).unwrap().version;
    let taken = tower.files.snapshot(handle, PAGE, u64::MAX).unwrap();
    assert_eq!((taken.reply.length, taken.reply.version), (ByteCount(PAGE + 4), version));
    assert_eq!(taken.trailing, b"tail");
    for offset in [2 * PAGE + 4, 1 << 40, u64::MAX] {
        let taken = tower.files.snapshot(handle, offset, 10 * PAGE).unwrap();
        assert_eq!((taken.reply.handle, taken.reply.length), (Handle::NONE, ByteCount::ZERO));
    }
    let whole = [&bytes[P..], b"tail"].concat();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), whole);
    assert_eq!(tower.figures().snapshots, 1);
}

pub fn r10_holes_are_listed_and_cost_nothing() {
    let mut tower = Tower::new(20);
    let handle = tower.files.create("sparse", &[]);
    tower.files.truncate(handle, 1 << 34).unwrap();
    tower.files.write(handle, 3 * PAGE, &[5; P]).unwrap();
    tower.files.write(handle, 10 * PAGE + 7, &[6]).unwrap();
    let taken = tower.files.snapshot(handle, 0, 1 << 34).unwrap();
    let hole =
        |from: u64, to: u64| Hole { offset: from * PAGE, length: ByteCount((to - from) * PAGE) };
    assert_eq!(taken.holes, [hole(0, 3), hole(4, 10), hole(11, 1 << 22)]);
    assert_eq!(taken.reply.holes_end, SnapshotOffset(1 << 34));
    assert_eq!(tower.figures().reserved_pages, 2);
    // Starting in the middle of a page.
    let taken = tower.files.snapshot(handle, 100, 5 * PAGE).unwrap();
    let expected = [
        Hole { offset: 0, length: ByteCount(3 * PAGE - 100) },
        Hole { offset: 4 * PAGE - 100, length: ByteCount(PAGE + 100) },
    ];
    assert_eq!(taken.holes, expected);
}

pub fn r10_further_holes_are_listed_on_request() {
    let mut tower = Tower::new(500);
    let handle = tower.files.create("sparse", &[]);
    for index in 0..200 {
        tower.files.write(handle, (2 * index + 1) * PAGE, &[1; P]).unwrap();
    }
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    assert_eq!((taken.holes.len(), taken.reply.holes_end), (MAX_HOLES, SnapshotOffset(128 * PAGE)));
    tower.files.write(handle, 200 * PAGE, &[1; P]).unwrap();
    let snapshot = taken.reply.handle;
    let (mut offset, mut holes) = (taken.reply.holes_end.0, taken.holes);
    while offset < taken.reply.length.0 {
        let (listed, more) = tower
            .files
            .0
            .list_holes(&ListHoles {
                handle: snapshot,
                offset,
                length: taken.reply.length - ByteCount(offset),
            })
            .unwrap();
        holes.extend(more);
        assert!(listed.holes_end > offset);
        offset = listed.holes_end;
    }
    assert_eq!(
        holes,
        (0..200)
            .map(|index| Hole { offset: 2 * index * PAGE, length: ByteCount(PAGE) })
            .collect::<Vec<_>>()
    );
}

pub fn r10_a_hole_that_is_written_over_is_rescued_as_a_hole() {
    let mut tower = Tower::new(20);
    let handle = tower.files.create("sparse", &[]);
    tower.files.truncate(handle, 10 * PAGE).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.write(handle, 0, &[9; 10 * P]).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), vec![0; 10 * P]);
    assert_eq!((tower.figures().stored_pages, tower.figures().rescue_files), (0, 0));
}

pub fn c1_overwrite() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let mut now = bytes.clone();
    for (offset, length) in [(5000, 10), (0, 1), (8 * P - 1, 1), (4090, 20_000), (0, 8 * P)] {
        let data = pattern(offset as u64 + 99, length);
        now[offset..offset + length].copy_from_slice(&data);
        tower.files.write(handle, offset as u64, &data).unwrap();
        assert_eq!(
            tower.files.read_all(taken.reply.handle).unwrap(),
            bytes,
            "after {length} at {offset}"
        );
        assert_eq!(tower.files.read_all(handle).unwrap(), now);
    }
}

pub fn c2_truncate() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    for size in [7 * PAGE + 1, 3 * PAGE, 0, 20 * PAGE] {
        tower.files.truncate(handle, size).unwrap();
        assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes, "cut to {size}");
    }
    assert_eq!(tower.files.read_all(handle).unwrap(), vec![0; 20 * P]);
}

pub fn c3_remove_copies_nothing() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let info = tower.files.store();
    tower.files.remove("file").unwrap();
    tower.files.close(handle).unwrap();
    let (calls, moved) = (tower.wire.calls(Op::CloneRange), tower.wire.bytes());
    assert_eq!((calls, tower.figures().rescue_files), (0, 0));
    assert!(moved < 9 * PAGE);
    // For all other clients the file is deleted.
    let after = tower.files.store();
    assert_eq!((after.blocks_free, after.files_free), (info.blocks_free + 8, info.files_free + 1));
    assert_eq!(tower.files.list(""), Vec::<String>::new());
    assert_eq!(tower.files.stat("file"), Err(Errno::ENOENT));
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    tower.files.close(taken.reply.handle).unwrap();
    assert_eq!((tower.base_free(), tower.figures().files), (100, 0));
}

pub fn c4_rename_over() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.close(handle).unwrap();
    tower.files.create("other", b"new");
    tower.files.rename("other", "file").unwrap();
    assert_eq!(tower.files.list(""), ["file"]);
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    assert_eq!(tower.wire.calls(Op::CloneRange), 0);
}

pub fn c3_c4_a_base_that_deletes_open_files() {
    let mut tower = Tower::without(Features::OPEN_UNLINKED, 100);
    let bytes = pattern(7, 8 * P);
    let before = (tower.base_free(), tower.base_files());
    let (mut kept, mut open) = (Vec::new(), Vec::new());
    for name in ["removed", "replaced"] {
        let handle = tower.files.create(name, &bytes);
        kept.push(tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle);
        open.push(handle);
    }
    let root = tower.files.stat("").unwrap().links;
    assert_eq!(tower.files.remove("removed").unwrap().links, 0);
    let other = tower.files.create("other", b"new");
    tower.files.rename("other", "replaced").unwrap();
    // Rescue files have hidden names too.
    tower.files.write(open[0], 0, &[1; P]).unwrap();
    assert_eq!(tower.files.list(""), ["replaced"]);
    assert_eq!(tower.files.list_from("", 30, 0).len(), 1);
    assert_eq!(
        (tower.files.stat("").unwrap().links, tower.files.attr(open[0]).unwrap().links),
        (root, 0)
    );
    for name in [".sloth-kept", ".sloth-kept/1"] {
        assert_eq!(tower.files.stat(name), Err(Errno::ENOENT));
        assert_eq!(tower.files.remove(name).map(drop), Err(Errno::ENOENT));
        assert_eq!(tower.files.rename("replaced", name).map(drop), Err(Errno::ENOENT));
    }
    assert_eq!(tower.files.link(open[0], "again").map(drop), Err(Errno::ENOENT));
    for &snapshot in &kept {
        assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes);
    }
    assert_eq!(tower.files.read(open[0], 0, 1).unwrap(), [1]);
    // A failed rename changes nothing.
    tower.files.make_dir("folder").unwrap();
    assert_eq!(tower.files.rename("folder", "replaced"), Err(Errno::ENOTDIR));
    assert_eq!(tower.files.read_all(other).unwrap(), b"new");
    for handle in kept.into_iter().chain(open).chain([other]) {
        tower.files.close(handle).unwrap();
    }
    tower.files.remove("replaced").unwrap();
    tower.files.remove_dir("folder").unwrap();
    assert_eq!((tower.base_free(), tower.base_files()), before);
}

pub fn c10_files_left_by_a_crash_are_removed() {
    let base = shared(
        Memfs::new(100 * PAGE, AccessTimes::Untouched, TestClock::default())
            .without(Features::OPEN_UNLINKED),
    );
    let mut below = Files::of(&base);
    below.make_dir(".sloth-kept").unwrap();
    for index in 0..300 {
        below.create(&format!(".sloth-kept/{index}"), &[]);
    }
    below.create("file", b"bytes");
    let wrapper =
        shared(Snapfs::new(LocalConnection::new(base.clone()), TestClock::default()).unwrap());
    let mut files = Files::of(&wrapper);
    assert_eq!(files.list(""), ["file"]);
    assert_eq!(below.stat(".sloth-kept"), Err(Errno::ENOENT));
}

pub fn c5_open_with_truncation() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let (again, attr) = tower.files.open("file", RW | OpenFlags::TRUNCATE).unwrap();
    assert_eq!(attr.size, ByteCount(0));
    tower.files.write(again, 0, &[1; 100]).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    assert_eq!(tower.files.read_all(handle).unwrap(), [1; 100]);
}

pub fn c6_punch_and_clone() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.punch(handle, 100, 2 * PAGE).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    tower.files.clone_range((handle, 0), (handle, 5 * PAGE), 3 * PAGE).unwrap();
    tower.files.clone_range((handle, 1), (handle, 3 * PAGE), PAGE).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    let other = tower.files.create("other", &[3; 3 * P]);
    tower.files.clone_range((other, 0), (handle, 0), 3 * PAGE).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
}

pub fn c6_a_snapshot_is_cloned_over_its_own_file() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 100, 6 * PAGE).unwrap();
    tower.files.write(handle, 4 * PAGE, &[1; P]).unwrap();
    let mut expected = bytes.clone();
    expected[4 * P..5 * P].fill(1);
    for (from, to, length) in [(0, 3 * P + 50, 4 * P), (P, 10, 5 * P), (17, 9 * P, 3 * P)] {
        let written = tower
            .files
            .clone_range((taken.reply.handle, from as u64), (handle, to as u64), length as u64)
            .unwrap();
        assert_eq!(written.length, ByteCount(length as u64));
        expected.resize(expected.len().max(to + length), 0);
        expected[to..to + length].copy_from_slice(&bytes[100 + from..100 + from + length]);
        assert_eq!(tower.files.read_all(handle).unwrap(), expected);
        assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes[100..100 + 6 * P]);
    }
}

pub fn c7_append_extension_rename_and_close_need_no_rescue() {
    let mut tower = Tower::new(100);
    let bytes = pattern(4, 3 * P + 100);
    let handle = tower.files.create("file", &bytes);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.append(handle, &[1; 3 * P]).unwrap();
    tower.files.write(handle, 20 * PAGE, &[2]).unwrap();
    tower.files.truncate(handle, 40 * PAGE).unwrap();
    tower.files.rename("file", "other").unwrap();
    tower.files.close(handle).unwrap();
    assert_eq!((tower.figures().rescue_files, tower.wire.calls(Op::CloneRange)), (0, 0));
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
}

pub fn c8_one_rescue_serves_all() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let snapshots: Vec<Handle> =
        (0..10).map(|_| tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle).collect();
    assert_eq!(tower.figures().reserved_pages, 8);
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!((tower.figures().stored_pages, tower.wire.calls(Op::CloneRange)), (8, 1));
    for &snapshot in &snapshots {
        assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes);
    }
    // A snapshot of a later version has bytes of its own.
    let later = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    tower.files.write(handle, PAGE, &[2; P]).unwrap();
    assert_eq!(tower.figures().stored_pages, 9);
    assert_eq!(tower.files.read_all(later).unwrap(), vec![1; 8 * P]);
    // The end of some leaves it to the others.
    let (closed, kept) = snapshots.split_at(5);
    closed.iter().for_each(|&snapshot| tower.files.close(snapshot).unwrap());
    assert_eq!(tower.figures().stored_pages, 9);
    for &snapshot in kept {
        assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes);
    }
}

pub fn c9_an_unused_snapshot_costs_nothing() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let before = (tower.base_free(), tower.base_files());
    tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let calls = tower.wire.total();
    let snapshots: Vec<Handle> = (0..20)
        .map(|index| tower.files.snapshot(handle, index, 5 * PAGE).unwrap().reply.handle)
        .collect();
    assert_eq!(tower.wire.total(), calls);
    for (index, &snapshot) in snapshots.iter().enumerate() {
        assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes[index..index + 5 * P]);
    }
    for op in [Op::CloneRange, Op::Allocate, Op::SetAttr] {
        assert_eq!(tower.wire.calls(op), 0, "{op:?}");
    }
    assert_eq!((tower.wire.calls(Op::Write), tower.wire.calls(Op::Open)), (1, 1));
    assert_eq!((tower.base_free(), tower.base_files()), before);
}

pub fn c9_a_snapshot_of_an_open_file_costs_no_call() {
    let (mut tower, handle, _) = with_file(100, 8);
    tower.files.attr(handle).unwrap();
    let calls = tower.wire.total();
    for _ in 0..10 {
        let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
        tower.files.attr(handle).unwrap();
        tower.files.close(taken.reply.handle).unwrap();
    }
    // Once, for the free space.
    assert!(tower.wire.total() - calls <= 1, "{} calls", tower.wire.total() - calls);
}

pub fn c10_gone_on_close() {
    let (mut tower, handle, _) = with_file(100, 8);
    let before = (tower.base_free(), tower.base_files());
    let one = tower.files.snapshot(handle, 0, 4 * PAGE).unwrap().reply.handle;
    let two = tower.files.snapshot(handle, 2 * PAGE, 6 * PAGE).unwrap().reply.handle;
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!((tower.base_free(), tower.base_files()), (before.0 - 8, before.1 + 1));
    tower.files.close(one).unwrap();
    assert_eq!(tower.base_free(), before.0 - 6);
    tower.files.close(two).unwrap();
    assert_eq!((tower.base_free(), tower.base_files()), before);
    assert_eq!(tower.figures().reserved_pages, 0);
}

pub fn c10_gone_with_the_session() {
    let (mut tower, handle, _) = with_file(100, 8);
    let mut other = Files::of(&tower.wrapper);
    let (theirs, _) = other.open("file", OpenFlags::READ).unwrap();
    other.snapshot(theirs, 0, u64::MAX).unwrap();
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!(tower.figures().stored_pages, 8);
    drop(other);
    assert_eq!(tower.figures(), fsserver::snapfs::Figures { files: 1, ..Default::default() });
    assert_eq!(tower.base_free(), 92);
}

pub fn c11_ordered_a_page_in_takes_what_was_rescued() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.write(handle, 3 * PAGE, &[1; P]).unwrap();
    let (messages, moved) = (tower.wire.total(), tower.wire.bytes());
    assert_eq!(tower.files.read(taken.reply.handle, 0, 8 * P).unwrap(), bytes);
    // No byte is read twice. The list of ranges to read has two records.
    let list = 2 * ByteRange::BYTES as u64;
    let cost = (tower.wire.total() - messages, tower.wire.bytes() - moved);
    assert_eq!(cost, (2, 8 * PAGE + list));
}

/// However many runs a page-in consists of, the file and the rescue file are asked once each; a
/// base that cannot read several ranges at once, once for each run.
pub fn c9_a_page_in_of_many_runs_takes_two_messages() {
    for lacking in [Features::empty(), Features::READ_RANGES] {
        let mut tower = Tower::without(lacking, 500);
        let mut bytes = pattern(7, 64 * P - 5);
        let handle = tower.files.create("file", &bytes);
        // Every fourth page is a hole, every second one is rescued, the last one in part.
        for page in (0..64).step_by(4) {
            tower.files.punch(handle, page * PAGE, PAGE).unwrap();
            bytes[page as usize * P..][..P].fill(0);
        }
        let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
        for page in (1..64).step_by(2) {
            tower.files.write(handle, page * PAGE, &[0; 9]).unwrap();
        }
        tower.files.write(handle, 2 * PAGE, &[0; 9]).unwrap();
        for (offset, length) in [(0, 64 * P), (77, 60 * P), (5 * PAGE + 1, 3), (17 * PAGE, 9 * P)] {
            let messages = tower.wire.total();
            let read = tower.files.read(taken, offset, length).unwrap();
            let end = bytes.len().min(offset as usize + length);
            assert!(read == bytes[offset as usize..end], "{length} bytes from {offset}");
            let messages = tower.wire.total() - messages;
            let pages = length.div_ceil(P) as u64;
            let most = if lacking == Features::READ_RANGES { pages } else { 2 };
            assert!(messages <= most, "{messages} messages for {length} bytes from {offset}");
        }
    }
}

/// The base is asked neither for the holes of a file that was empty when it was opened, nor for the
/// attributes of one that was written.
pub fn r10_a_snapshot_of_a_new_file_costs_no_message() {
    let mut tower = Tower::new(500);
    let handle = tower.files.create("file", &[]);
    tower.files.truncate(handle, 1000 * PAGE).unwrap();
    let mut expected = Vec::new();
    for island in 0..20 {
        expected.push(Hole { offset: island * 50 * PAGE, length: ByteCount(49 * PAGE) });
        tower.files.write(handle, (50 * island + 49) * PAGE, &[1; P]).unwrap();
    }
    // Behind the end: the gap is a hole, too.
    tower.files.write(handle, 1010 * PAGE + 5, &[1]).unwrap();
    expected.push(Hole { offset: 1000 * PAGE, length: ByteCount(10 * PAGE) });
    // How much space the base has is known.
    tower.files.store();
    let messages = tower.wire.total();
    let taken = tower.files.snapshot(handle, 0, 1010 * PAGE).unwrap();
    assert_eq!(tower.wire.total(), messages);
    assert_eq!(taken.holes, expected);
    assert_eq!(tower.figures().reserved_pages, 20);
    let version = tower.files.attr(handle).unwrap().version;
    assert_eq!(taken.reply.version, version);
}

pub fn c11_a_change_that_cannot_be_rescued_is_not_made() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.wire.fail_by(|op| (op == Op::CloneRange).then_some(Failure::Before(Errno::EIO)));
    assert_eq!(tower.files.write(handle, 0, &[1; P]), Err(Errno::EIO));
    assert_eq!(tower.files.truncate(handle, 0), Err(Errno::EIO));
    assert_eq!(tower.files.open("file", RW | OpenFlags::TRUNCATE).map(drop), Err(Errno::EIO));
    tower.wire.heal();
    assert_eq!(tower.files.read_all(handle).unwrap(), bytes);
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    tower.files.close(taken.reply.handle).unwrap();
    assert_eq!((tower.base_free(), tower.figures().rescue_files), (92, 0));
}

pub fn c11_where_the_base_does_not_copy_the_wrapper_does() {
    let (mut tower, handle, bytes) = with_file(500, 100);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.wire.fail_by(|op| (op == Op::CloneRange).then_some(Failure::Before(Errno::EOPNOTSUPP)));
    tower.files.truncate(handle, 10).unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
}
