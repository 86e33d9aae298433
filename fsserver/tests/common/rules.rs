//! The wrapper's rules, each as a scenario that panics where the rule is broken.

use super::wrapped::{Failure, Tower};
use super::*;
use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::*;
use fsserver::LocalConnection;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;

const PAGE: u64 = 4096;
const P: usize = 4096;

/// A tower with a file of `pages` pages, open, and its bytes.
fn with_file(capacity_pages: u64, pages: usize) -> (Tower, Handle, Vec<u8>) {
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
    assert_eq!(taken.head, bytes[100..100 + 3096]);
    assert_eq!(taken.tail, bytes[100 + 5 * P - 1000..100 + 5 * P]);
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
        (taken.reply.handle, taken.reply.trailing_bytes, &taken.head[..]),
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
    assert_eq!((taken.reply.handle, &taken.head[..]), (Handle::NONE, &bytes[..3 * P]));
    assert_eq!(tower.figures().snapshots, 0);
    let one_more = Snapshot { length: ByteCount(3 * PAGE + 1), ..preferred };
    let taken = tower.files.snapshot_with(&one_more).unwrap();
    assert_ne!(taken.reply.handle, Handle::NONE);
    assert_eq!((taken.head.len(), &taken.tail[..]), (0, &bytes[3 * P..3 * P + 1]));
}

pub fn r2_count_is_the_servers() {
    let (mut tower, handle, bytes) = with_file(100, 2);
    tower.files.append(handle, b"tail").unwrap();
    let version = tower.files.attr(handle).unwrap().version;
    let taken = tower.files.snapshot(handle, PAGE, u64::MAX).unwrap();
    assert_eq!((taken.reply.length, taken.reply.version), (ByteCount(PAGE + 4), version));
    assert_eq!(taken.tail, b"tail");
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
    // From the middle of pages.
    let taken = tower.files.snapshot(handle, 100, 5 * PAGE).unwrap();
    let expected = [
        Hole { offset: 0, length: ByteCount(3 * PAGE - 100) },
        Hole { offset: 4 * PAGE - 100, length: ByteCount(PAGE + 100) },
    ];
    assert_eq!(taken.holes, expected);
}

pub fn r10_holes_that_do_not_fit_are_asked_for_later() {
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
    // To everyone else it is gone.
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

pub fn c3_c4_a_base_that_lets_removed_files_go() {
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
    // Its stores have names too.
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
    // A rename that fails leaves everything where it was.
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

pub fn c10_what_a_crash_left_is_removed() {
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
    // One of a later version has its own bytes, and none of theirs.
    let later = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    tower.files.write(handle, PAGE, &[2; P]).unwrap();
    assert_eq!(tower.figures().stored_pages, 9);
    assert_eq!(tower.files.read_all(later).unwrap(), vec![1; 8 * P]);
    for &snapshot in &snapshots {
        assert_eq!(tower.files.read_all(snapshot).unwrap(), bytes);
    }
}

pub fn c9_nothing_for_nothing() {
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
    // Once: how much room there is.
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
    let (reads, moved) = (tower.wire.calls(Op::Read), tower.wire.bytes());
    assert_eq!(tower.files.read(taken.reply.handle, 0, 8 * P).unwrap(), bytes);
    // No byte is fetched twice.
    assert_eq!((tower.wire.calls(Op::Read) - reads, tower.wire.bytes() - moved), (3, 8 * PAGE));
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

pub fn q1_reservation_a_snapshot_without_room_is_refused_and_changes_nothing() {
    let (mut tower, handle, bytes) = with_file(15, 8);
    assert_eq!(tower.files.snapshot(handle, 0, u64::MAX).map(|_| ()), Err(Errno::ENOSPC));
    assert_eq!((tower.figures().snapshots, tower.figures().reserved_pages), (0, 0));
    // Seven pages of room are enough for seven pages, and for the same ones again.
    let one = tower.files.snapshot(handle, 0, 7 * PAGE).unwrap().reply.handle;
    let two = tower.files.snapshot(handle, PAGE, 6 * PAGE).unwrap().reply.handle;
    assert_eq!(tower.figures().reserved_pages, 7);
    assert_eq!(tower.files.snapshot(handle, PAGE, 7 * PAGE).map(|_| ()), Err(Errno::ENOSPC));
    // Whoever changes them finds the room.
    tower.files.write(handle, 0, &[1; 7 * P]).unwrap();
    assert_eq!(tower.files.read_all(one).unwrap(), bytes[..7 * P]);
    assert_eq!(tower.files.read_all(two).unwrap(), bytes[P..7 * P]);
    assert_eq!(tower.base_free(), 0);
}

pub fn q1_reserved_room_is_not_given_to_writers() {
    let (mut tower, handle, bytes) = with_file(20, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let other = tower.files.create("other", &[2; 3 * P]);
    assert_eq!(tower.files.write(other, 3 * PAGE, &[2; 2 * P]), Err(Errno::ENOSPC));
    assert_eq!(tower.files.allocate(other, 0, 6 * PAGE, AllocateMode::Extend), Err(Errno::ENOSPC));
    assert_eq!(tower.files.attr(other).unwrap().size, ByteCount(3 * PAGE));
    tower.files.write(other, 3 * PAGE, &[2; P]).unwrap();
    // What is there already can be written over, and no more than that.
    tower.files.write(other, 0, &[3; 4 * P]).unwrap();
    assert_eq!(tower.files.write(other, PAGE, &[3; 4 * P]), Err(Errno::ENOSPC));
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!(tower.files.read_all(taken).unwrap(), bytes);
    // A file that is truncated and removed makes room again.
    tower.files.close(taken).unwrap();
    tower.files.write(other, 4 * PAGE, &[2; 8 * P]).unwrap();
}

pub fn q1_pages_that_files_share_need_room_when_they_change() {
    let (mut tower, handle, bytes) = with_file(20, 8);
    let copy = tower.files.create("copy", &[]);
    tower.files.clone_range((handle, 0), (copy, 0), 8 * PAGE).unwrap();
    let third = tower.files.create("third", &[3; 6 * P]);
    let taken = tower.files.snapshot(third, 0, u64::MAX).unwrap().reply.handle;
    assert_eq!(tower.files.write(copy, 0, &[4; 4 * P]), Err(Errno::ENOSPC));
    tower.files.write(third, 0, &[5; 6 * P]).unwrap();
    assert_eq!(tower.files.read_all(taken).unwrap(), [3; 6 * P]);
    assert_eq!(tower.files.read_all(copy).unwrap(), bytes);
}

/// A snapshot that comes with a write takes half of the room at most, and none where there is not
/// twice as much.
pub fn q1_what_was_written_leaves_room_for_others() {
    for (capacity, is_made) in [(20, true), (15, false)] {
        let mut tower = Tower::new(capacity);
        let handle = tower.files.create("file", &[]);
        let request = Write {
            handle,
            offset: FileOffset(0),
            flags: WriteFlags::SNAPSHOT,
            data_bytes: 6 * P as u32,
        };
        let written = tower.files.0.request(&request, &[&[1; 6 * P]]).unwrap();
        assert_eq!(written.snapshot != Handle::NONE, is_made, "of {capacity} pages");
        assert_eq!(tower.figures().reserved_pages, if is_made { 6 } else { 0 });
    }
}

pub fn q4_limits() {
    let (mut tower, handle, _) = with_file(100, 2);
    for _ in 0..fsserver::MAX_SNAPSHOTS {
        tower.files.snapshot(handle, 0, 2 * PAGE).unwrap();
    }
    assert_eq!(tower.files.snapshot(handle, 0, 2 * PAGE).map(|_| ()), Err(Errno::EDQUOT));
    let mut other = Files::of(&tower.wrapper);
    let (theirs, _) = other.open("file", RW).unwrap();
    other.snapshot(theirs, 0, 2 * PAGE).unwrap();
    assert_eq!(tower.figures().reserved_pages, 2);
}

pub fn x1_rights_are_those_of_the_handle() {
    let (mut tower, handle, bytes) = with_file(100, 2);
    let (writer, _) = tower.files.open("file", OpenFlags::WRITE).unwrap();
    assert_eq!(tower.files.snapshot(writer, 0, PAGE).map(|_| ()), Err(Errno::EBADF));
    assert_eq!(tower.files.read(writer, 0, 1), Err(Errno::EBADF));
    let (reader, _) = tower.files.open("file", OpenFlags::READ).unwrap();
    assert_eq!(tower.files.write(reader, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(tower.files.truncate(reader, 0), Err(Errno::EINVAL));
    // What was read stays readable, whatever becomes of the bits.
    let taken = tower.files.snapshot(reader, 0, u64::MAX).unwrap();
    tower
        .files
        .0
        .request(&SetAttr { handle, mask: AttrMask::MODE, mode: 0, ..SetAttr::default() }, &[])
        .unwrap();
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    assert_eq!(tower.files.write(taken.reply.handle, 0, b"x"), Err(Errno::EINVAL));
    assert_eq!(tower.files.snapshot(taken.reply.handle, 0, 1).map(|_| ()), Err(Errno::EINVAL));
}

pub fn x6_access_time_is_that_of_the_read() {
    let (mut tower, handle, _) = with_file(100, 8);
    let before = tower.files.attr(handle).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let read = tower.files.attr(handle).unwrap();
    assert!(read.atime > before.atime && read.mtime == before.mtime && read.ctime == before.ctime);
    assert_eq!(tower.files.stat("file").unwrap(), read);
    tower.files.write(handle, 0, &[1]).unwrap();
    tower.files.read_all(taken.reply.handle).unwrap();
    assert_eq!(tower.files.attr(handle).unwrap().atime, read.atime);
    tower.files.read(handle, 0, 1).unwrap();
    assert!(tower.files.attr(handle).unwrap().atime > read.atime);
    let request = SetAttr { handle, mask: AttrMask::ATIME, atime: Time(5), ..SetAttr::default() };
    assert_eq!(tower.files.0.request(&request, &[]).unwrap().atime, Time(5));
    assert_eq!(tower.files.stat("file").unwrap().atime, Time(5));
}

pub fn same_version_same_bytes() {
    let (mut tower, handle, _) = with_file(100, 2);
    let one = tower.files.snapshot(handle, 0, PAGE).unwrap().reply.version;
    assert_eq!(tower.files.snapshot(handle, 0, PAGE).unwrap().reply.version, one);
    tower.files.write(handle, 0, &[1]).unwrap();
    let two = tower.files.snapshot(handle, 0, PAGE).unwrap().reply.version;
    assert!(two > one);
    tower.files.punch(handle, 0, PAGE).unwrap();
    assert!(tower.files.snapshot(handle, 0, PAGE).unwrap().reply.version > two);
}

fn data(length: u64) -> Piece {
    Piece { snapshot: Handle::NONE, offset: SnapshotOffset(0), length: ByteCount(length) }
}

fn of(taken: &Taken, offset: u64, length: u64) -> Piece {
    Piece {
        snapshot: taken.reply.handle,
        offset: SnapshotOffset(offset),
        length: ByteCount(length),
    }
}

pub fn w1_references_and_bytes_make_one_write() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 100, 6 * PAGE).unwrap();
    let other = tower.files.create("other", &[1; 2 * P]);
    let pieces = [data(10), of(&taken, 7, 3 * PAGE), data(5), of(&taken, 5 * PAGE, PAGE)];
    let written = tower
        .files
        .write_pieces(other, 50, WriteFlags::empty(), b"0123456789abcde", &pieces)
        .unwrap();
    let length = 15 + 4 * PAGE;
    assert_eq!(
        (written.length, written.offset, written.size),
        (ByteCount(length), FileOffset(50), ByteCount(50 + length))
    );
    let expected = [
        &[1; 50],
        &b"0123456789"[..],
        &bytes[107..107 + 3 * P],
        b"abcde",
        &bytes[100 + 5 * P..100 + 6 * P],
    ]
    .concat();
    assert_eq!(tower.files.read_all(other).unwrap(), expected);
    // What reaches past the end of a snapshot, or names none, is refused as a whole.
    let past = [data(1), of(&taken, 6 * PAGE - 1, 2)];
    assert_eq!(
        tower.files.write_pieces(other, 0, WriteFlags::empty(), b"x", &past),
        Err(Errno::EINVAL)
    );
    let no_snapshot =
        [data(1), Piece { snapshot: handle, offset: SnapshotOffset(0), length: ByteCount(1) }];
    assert_eq!(
        tower.files.write_pieces(other, 0, WriteFlags::empty(), b"x", &no_snapshot),
        Err(Errno::EBADF)
    );
    assert_eq!(
        tower.files.write_pieces(other, 0, WriteFlags::empty(), b"x", &[data(2)]),
        Err(Errno::EPROTO)
    );
    assert_eq!(tower.files.read_all(other).unwrap(), expected);
}

pub fn w2_same_place_costs_no_data() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let (moved, free) = (tower.wire.bytes(), tower.base_free());
    tower
        .files
        .write_pieces(handle, 0, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!(
        (tower.wire.bytes(), tower.base_free(), tower.figures().stored_pages),
        (moved, free, 0)
    );
    // Where something has changed since, the old bytes come back, and only there is anything
    // rescued.
    let later = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    tower.files.write(handle, 2 * PAGE + 5, &[9; 10]).unwrap();
    tower.files.truncate(handle, 7 * PAGE).unwrap();
    let moved = tower.wire.bytes();
    let written = tower
        .files
        .write_pieces(handle, 0, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!((written.length, written.size), (ByteCount(8 * PAGE), ByteCount(8 * PAGE)));
    assert_eq!((tower.wire.bytes(), tower.figures().stored_pages), (moved, 2));
    for handle in [handle, taken.reply.handle, later.reply.handle] {
        assert_eq!(tower.files.read_all(handle).unwrap(), bytes);
    }
}

pub fn e3_traffic_is_told() {
    let (mut tower, handle, _) = with_file(100, 8);
    let told = |tower: &mut Tower| {
        let store = tower.files.store();
        (store.bytes_rescued.0, store.bytes_elided.0, store.bytes_cloned.0)
    };
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    assert_eq!(told(&mut tower), (0, 0, 0), "C9: a snapshot moves nothing");
    tower
        .files
        .write_pieces(handle, 0, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!(told(&mut tower), (0, 8 * PAGE, 0), "W2");
    tower.files.write(handle, PAGE, &[1; 2 * P]).unwrap();
    assert_eq!(told(&mut tower), (2 * PAGE, 8 * PAGE, 0), "C1");
    tower
        .files
        .write_pieces(handle, 8 * PAGE, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!(told(&mut tower), (2 * PAGE, 8 * PAGE, 8 * PAGE), "W4");
}

pub fn w3_shifted_overlap() {
    for (from, to) in [(0, P), (P, 0), (0, 100), (100, 0), (3, 5000)] {
        let (mut tower, handle, bytes) = with_file(100, 8);
        let taken = tower.files.snapshot(handle, from as u64, 6 * PAGE).unwrap();
        let length = 6 * P;
        tower
            .files
            .write_pieces(handle, to as u64, WriteFlags::empty(), &[], &[of(&taken, 0, 6 * PAGE)])
            .unwrap();
        let mut expected = bytes.clone();
        expected.resize(expected.len().max(to + length), 0);
        expected[to..to + length].copy_from_slice(&bytes[from..from + length]);
        assert_eq!(tower.files.read_all(handle).unwrap(), expected, "{from} to {to}");
        assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes[from..from + length]);
    }
}

pub fn w4_other_file_moves_no_bytes() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    tower.files.truncate(handle, 1 << 34).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let other = tower.files.create("other", &[]);
    let moved = tower.wire.bytes();
    tower
        .files
        .write_pieces(other, 0, WriteFlags::empty(), &[], &[of(&taken, 0, 1 << 34)])
        .unwrap();
    assert_eq!(tower.wire.bytes(), moved);
    assert_eq!(tower.files.attr(other).unwrap().size, ByteCount(1 << 34));
    assert_eq!(tower.files.read(other, 0, 9 * P).unwrap(), [&bytes[..], &[0; P]].concat());
    // Holes stay holes, and pages are shared.
    assert_eq!((tower.files.attr(other).unwrap().blocks, tower.base_free()), (8 * 8, 92));
}

pub fn w6_append_is_told_its_offset() {
    let (mut tower, handle, bytes) = with_file(100, 2);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let written = tower
        .files
        .write_pieces(handle, 0, WriteFlags::APPEND, &[], &[of(&taken, 0, 2 * PAGE)])
        .unwrap();
    assert_eq!((written.offset, written.size), (FileOffset(2 * PAGE), ByteCount(4 * PAGE)));
    assert_eq!(tower.files.read_all(handle).unwrap(), [&bytes[..], &bytes[..]].concat());
}

pub fn w7_an_elided_write_has_the_effects_of_a_write() {
    let (mut tower, handle, _) = with_file(100, 8);
    for (offset, length) in [(0, 8 * PAGE), (10, 100)] {
        let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
        let before = tower.files.attr(handle).unwrap();
        let written = tower
            .files
            .write_pieces(handle, offset, WriteFlags::empty(), &[], &[of(&taken, offset, length)])
            .unwrap();
        let after = tower.files.attr(handle).unwrap();
        assert!(after.mtime > before.mtime && after.version > before.version);
        assert_eq!((written.version, written.length), (after.version, ByteCount(length)));
    }
    let (reader, _) = tower.files.open("file", OpenFlags::READ).unwrap();
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    assert_eq!(
        tower.files.write_pieces(reader, 0, WriteFlags::empty(), &[], &[of(&taken, 0, PAGE)]),
        Err(Errno::EBADF)
    );
}

pub fn w8_a_write_returns_a_snapshot_of_its_result() {
    let (mut tower, handle, bytes) = with_file(100, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    let pieces = [data(3), of(&taken, 3, 4 * PAGE)];
    let written =
        tower.files.write_pieces(handle, 0, WriteFlags::SNAPSHOT, b"new", &pieces).unwrap();
    assert_ne!(written.snapshot, Handle::NONE);
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!(
        tower.files.read_all(written.snapshot).unwrap(),
        [b"new", &bytes[3..3 + 4 * P]].concat()
    );
    assert_eq!(tower.files.read_all(taken.reply.handle).unwrap(), bytes);
    // Plain data too; and where it is refused, the write is done all the same.
    let (mut tower, handle, _) = with_file(13, 8);
    let written = tower.files.write_pieces(handle, 0, WriteFlags::SNAPSHOT, &[7; P], &[]).unwrap();
    assert_ne!(written.snapshot, Handle::NONE);
    let written =
        tower.files.write_pieces(handle, 0, WriteFlags::SNAPSHOT, &[8; 5 * P], &[]).unwrap();
    assert_eq!((written.snapshot, written.length), (Handle::NONE, ByteCount(5 * PAGE)));
}
