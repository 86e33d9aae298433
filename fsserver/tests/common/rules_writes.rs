//! Rules on space, limits, permissions and writing (Q, X, W, E), each as a scenario that panics if
//! the rule is broken.

use super::rules::{P, PAGE, with_file};
use super::wrapped::Tower;
use super::*;
use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::*;

pub fn q1_reservation_a_snapshot_without_space_is_refused_and_changes_nothing() {
    let (mut tower, handle, bytes) = with_file(15, 8);
    assert_eq!(tower.files.snapshot(handle, 0, u64::MAX).map(|_| ()), Err(Errno::ENOSPC));
    assert_eq!((tower.figures().snapshots, tower.figures().reserved_pages), (0, 0));
    // Space for seven pages suffices for seven pages, and for the same ones again.
    let one = tower.files.snapshot(handle, 0, 7 * PAGE).unwrap().reply.handle;
    let two = tower.files.snapshot(handle, PAGE, 6 * PAGE).unwrap().reply.handle;
    assert_eq!(tower.figures().reserved_pages, 7);
    assert_eq!(tower.files.snapshot(handle, PAGE, 7 * PAGE).map(|_| ()), Err(Errno::ENOSPC));
    // The reserved space is available for changes.
    tower.files.write(handle, 0, &[1; 7 * P]).unwrap();
    assert_eq!(tower.files.read_all(one).unwrap(), bytes[..7 * P]);
    assert_eq!(tower.files.read_all(two).unwrap(), bytes[P..7 * P]);
    assert_eq!(tower.base_free(), 0);
}

pub fn q1_writers_cannot_use_reserved_space() {
    let (mut tower, handle, bytes) = with_file(20, 8);
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap().reply.handle;
    let other = tower.files.create("other", &[2; 3 * P]);
    assert_eq!(tower.files.write(other, 3 * PAGE, &[2; 2 * P]), Err(Errno::ENOSPC));
    assert_eq!(tower.files.allocate(other, 0, 6 * PAGE, AllocateMode::Extend), Err(Errno::ENOSPC));
    assert_eq!(tower.files.attr(other).unwrap().size, ByteCount(3 * PAGE));
    tower.files.write(other, 3 * PAGE, &[2; P]).unwrap();
    // Existing pages can be overwritten, but nothing can be added.
    tower.files.write(other, 0, &[3; 4 * P]).unwrap();
    assert_eq!(tower.files.write(other, PAGE, &[3; 4 * P]), Err(Errno::ENOSPC));
    tower.files.write(handle, 0, &[1; 8 * P]).unwrap();
    assert_eq!(tower.files.read_all(taken).unwrap(), bytes);
    // Truncating and removing a file frees space.
    tower.files.close(taken).unwrap();
    tower.files.write(other, 4 * PAGE, &[2; 8 * P]).unwrap();
}

pub fn q1_changing_shared_pages_needs_space() {
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

/// A snapshot of what was written is refused unless twice the required space is free.
pub fn q1_snapshots_of_writes_leave_space_for_others() {
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

pub fn x1_permissions_are_those_of_the_handle() {
    let (mut tower, handle, bytes) = with_file(100, 2);
    let (writer, _) = tower.files.open("file", OpenFlags::WRITE).unwrap();
    assert_eq!(tower.files.snapshot(writer, 0, PAGE).map(|_| ()), Err(Errno::EBADF));
    assert_eq!(tower.files.read(writer, 0, 1), Err(Errno::EBADF));
    let (reader, _) = tower.files.open("file", OpenFlags::READ).unwrap();
    assert_eq!(tower.files.write(reader, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(tower.files.truncate(reader, 0), Err(Errno::EINVAL));
    // A snapshot stays readable when the permission bits change.
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
    // A write is refused as a whole if a piece reaches beyond the end of its snapshot, or names
    // none.
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
    // Changed ranges get their old bytes back, and only these are rescued.
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

pub fn e3_traffic_is_reported() {
    let (mut tower, handle, _) = with_file(100, 8);
    let moved = |tower: &mut Tower| {
        let store = tower.files.store();
        (store.bytes_rescued.0, store.bytes_elided.0, store.bytes_cloned.0)
    };
    let taken = tower.files.snapshot(handle, 0, u64::MAX).unwrap();
    assert_eq!(moved(&mut tower), (0, 0, 0), "C9: a snapshot moves nothing");
    tower
        .files
        .write_pieces(handle, 0, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!(moved(&mut tower), (0, 8 * PAGE, 0), "W2");
    tower.files.write(handle, PAGE, &[1; 2 * P]).unwrap();
    assert_eq!(moved(&mut tower), (2 * PAGE, 8 * PAGE, 0), "C1");
    tower
        .files
        .write_pieces(handle, 8 * PAGE, WriteFlags::empty(), &[], &[of(&taken, 0, 8 * PAGE)])
        .unwrap();
    assert_eq!(moved(&mut tower), (2 * PAGE, 8 * PAGE, 8 * PAGE), "W4");
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

pub fn w6_append_returns_its_offset() {
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
    // Also for plain data. If the snapshot is refused, the write is done all the same.
    let (mut tower, handle, _) = with_file(13, 8);
    let written = tower.files.write_pieces(handle, 0, WriteFlags::SNAPSHOT, &[7; P], &[]).unwrap();
    assert_ne!(written.snapshot, Handle::NONE);
    let written =
        tower.files.write_pieces(handle, 0, WriteFlags::SNAPSHOT, &[8; 5 * P], &[]).unwrap();
    assert_eq!((written.snapshot, written.length), (Handle::NONE, ByteCount(5 * PAGE)));
}
