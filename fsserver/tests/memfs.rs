//! memfs, through its messages.

mod common;

use common::*;
use foundation::{ByteCount, Errno};
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};

#[test]
fn what_is_written_is_read() {
    let server = memfs(100);
    let mut files = Files::of(&server);
    let bytes = pattern(1, 10_000);
    let handle = files.create("a", &bytes);
    assert_eq!(files.read_all(handle).unwrap(), bytes);
    assert_eq!(files.read(handle, 9_990, 100).unwrap(), bytes[9_990..]);
    assert_eq!(files.read(handle, 10_000, 1).unwrap(), []);
    files.write(handle, 4095, b"XYZ").unwrap();
    assert_eq!(files.read(handle, 4094, 5).unwrap(), [bytes[4094], b'X', b'Y', b'Z', bytes[4098]]);
    assert_eq!(files.attr(handle).unwrap().size, ByteCount(10_000));
}

#[test]
fn a_file_is_sparse_to_any_size() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let (handle, _) = files.open("big", CREATE).unwrap();
    files.write(handle, i64::MAX as u64 - 4, b"end!").unwrap();
    let attr = files.attr(handle).unwrap();
    assert_eq!((attr.size, attr.blocks), (ByteCount(i64::MAX as u64), 8));
    assert_eq!(files.write(handle, i64::MAX as u64 - 3, b"end!"), Err(Errno::EFBIG));
    assert_eq!(files.read(handle, 1 << 40, 3).unwrap(), [0, 0, 0]);
    let (listed, holes) =
        files.0.list_holes(&ListHoles { handle, offset: 0, length: ByteCount(u64::MAX) }).unwrap();
    assert_eq!(holes, [Hole { offset: 0, length: ByteCount((i64::MAX as u64) & !4095) }]);
    assert_eq!(listed.holes_end, u64::MAX);
    files.truncate(handle, 5).unwrap();
    files.truncate(handle, 1 << 50).unwrap();
    assert_eq!(files.attr(handle).unwrap().blocks, 0);
}

#[test]
fn what_was_cut_off_comes_back_as_zeros() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let handle = files.create("a", &[7; 5000]);
    files.truncate(handle, 4100).unwrap();
    files.truncate(handle, 6000).unwrap();
    let bytes = files.read_all(handle).unwrap();
    assert_eq!(bytes[..4100], [7; 4100]);
    assert_eq!(bytes[4100..], [0; 1900]);
}

/// Nothing but the version: as far as caches know, a change that failed may have left anything.
#[test]
fn no_space_changes_nothing() {
    let server = memfs(2);
    let mut files = Files::of(&server);
    let handle = files.create("a", &[1; 4096]);
    let before = files.attr(handle).unwrap();
    assert_eq!(files.write(handle, 0, &[2; 3 * 4096]), Err(Errno::ENOSPC));
    assert_eq!(files.allocate(handle, 0, 3 * 4096, AllocateMode::Extend), Err(Errno::ENOSPC));
    let after = files.attr(handle).unwrap();
    assert!(after.version > before.version);
    assert_eq!(Attr { version: before.version, ..after }, before);
    assert_eq!(files.read_all(handle).unwrap(), [1; 4096]);
    assert_eq!(files.store().blocks_free, 1);
    files.write(handle, 4096, &[3]).unwrap();
    assert_eq!(files.store().blocks_free, 0);
    files.remove("a").unwrap();
    assert_eq!(files.store().blocks_free, 0);
    files.close(handle).unwrap();
    assert_eq!(files.store().blocks_free, 2);
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let handle = files.create("a", b"still");
    assert_eq!(files.remove("a").unwrap().links, 0);
    assert_eq!(files.stat("a"), Err(Errno::ENOENT));
    assert_eq!(files.read_all(handle).unwrap(), b"still");
    let id = files.attr(handle).unwrap().id;
    files.close(handle).unwrap();
    let again = files.create("a", b"new");
    assert_ne!(files.attr(again).unwrap().id, id);
}

#[test]
fn an_unnamed_file_never_shows_and_goes_with_its_handle() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let before = files.store();
    let (handle, attr) = files.open("", CREATE | OpenFlags::UNNAMED).unwrap();
    files.write(handle, 0, b"hidden").unwrap();
    assert_eq!(attr.links, 0);
    assert!(files.list("").is_empty());
    files.close(handle).unwrap();
    assert_eq!(files.store(), before);
}

#[test]
fn names_and_their_errors() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    files.make_dir("d").unwrap();
    files.make_dir("d/e").unwrap();
    files.create("d/f", b"1");
    assert_eq!(files.make_dir("d"), Err(Errno::EEXIST));
    assert_eq!(files.make_dir("x/y"), Err(Errno::ENOENT));
    assert_eq!(files.make_dir("d/f/g"), Err(Errno::ENOTDIR));
    assert_eq!(files.remove("d"), Err(Errno::EISDIR));
    assert_eq!(files.remove_dir("d"), Err(Errno::ENOTEMPTY));
    assert_eq!(files.remove_dir("d/f"), Err(Errno::ENOTDIR));
    assert_eq!(files.remove_dir(""), Err(Errno::EBUSY));
    assert_eq!(files.open("d", RW).map(drop), Err(Errno::EISDIR));
    assert_eq!(
        files.open("d/f", OpenFlags::READ | OpenFlags::DIRECTORY).map(drop),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(files.open("d/f", CREATE | OpenFlags::EXCLUSIVE).map(drop), Err(Errno::EEXIST));
    assert_eq!(files.open("nothing", RW).map(drop), Err(Errno::ENOENT));
    assert_eq!(files.rename("d", "d/e/x"), Err(Errno::EINVAL));
    assert_eq!(files.rename("d/e", "d/f"), Err(Errno::ENOTDIR));
    assert_eq!(files.rename("d/f", "d/e"), Err(Errno::EISDIR));
    files.make_dir("full").unwrap();
    files.create("full/x", b"");
    assert_eq!(files.rename("d/e", "full"), Err(Errno::ENOTEMPTY));
    assert_eq!(files.rename_with("d/f", "full/x", RenameFlags::NO_REPLACE), Err(Errno::EEXIST));
    files.rename("d/e", "full/e").unwrap();
    assert_eq!((files.stat("d").unwrap().links, files.stat("full").unwrap().links), (2, 3));
    files.rename_with("d/f", "full", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(files.stat("d/f").unwrap().kind, FileKind::Directory);
    assert_eq!(files.stat("full").unwrap().kind, FileKind::Regular);
    assert_eq!((files.stat("d").unwrap().links, files.stat("").unwrap().links), (3, 3));
    assert_eq!(files.rename_with("d", "d/f/e", RenameFlags::EXCHANGE), Err(Errno::EINVAL));
    assert_eq!(files.rename_with("d/f/e", "d", RenameFlags::EXCHANGE), Err(Errno::EINVAL));
}

#[test]
fn two_names_of_a_file() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let handle = files.create("a", b"one");
    assert_eq!(files.link(handle, "b").unwrap().links, 2);
    assert_eq!(files.link(handle, "b"), Err(Errno::EEXIST));
    files.rename("a", "b").unwrap();
    assert_eq!(
        (files.stat("a").unwrap().id, files.stat("b").unwrap().links),
        (files.attr(handle).unwrap().id, 2)
    );
    files.remove("a").unwrap();
    assert_eq!(files.attr(handle).unwrap().links, 1);
    let (root, _) = files.open("", OpenFlags::READ).unwrap();
    assert_eq!(files.link(root, "c"), Err(Errno::EPERM));
}

#[test]
fn a_named_pipe_is_a_name_and_nothing_else() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let make = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::PIPE;
    assert_eq!(files.open("p", make).map(drop), Err(Errno::EINVAL));
    let (pipe, attr) = files.open("p", make | OpenFlags::EXCLUSIVE).unwrap();
    assert_eq!((attr.kind, attr.size, attr.links), (FileKind::Pipe, ByteCount::ZERO, 1));
    assert_eq!(files.open("p", make | OpenFlags::EXCLUSIVE).map(drop), Err(Errno::EEXIST));
    assert_eq!(
        files.open("p", OpenFlags::READ | OpenFlags::DIRECTORY).map(drop),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(
        files.open("p", RW | OpenFlags::TRUNCATE).map(|(_, attr)| attr.kind),
        Ok(FileKind::Pipe)
    );
    assert_eq!(files.remove_dir("p"), Err(Errno::ENOTDIR));
    files.link(pipe, "q").unwrap();
    files.rename("p", "r").unwrap();
    assert_eq!(
        files.stat("r").map(|attr| (attr.id, attr.kind)),
        files.stat("q").map(|attr| (attr.id, FileKind::Pipe))
    );
}

#[test]
fn a_walk_stops_at_a_link() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    files.make_dir("real").unwrap();
    files.create("real/file", b"x");
    files.symlink("way", "real").unwrap();
    let walk = files
        .0
        .walk(&Stat { dir: Handle::ROOT, flags: OpenFlags::empty() }, &[b"way/file"])
        .unwrap();
    assert_eq!((walk.reply.walked_bytes, walk.target.as_slice()), (3, &b"real"[..]));
    assert_eq!(files.stat("way").unwrap().kind, FileKind::Symlink);
    let request = Rename {
        old_dir: Handle::ROOT,
        new_dir: Handle::ROOT,
        old_bytes: 9,
        flags: RenameFlags::empty(),
    };
    let walk = files.0.walk(&request, &[b"real/file", b"way/file"]).unwrap();
    assert_eq!((walk.reply.which, walk.is_link()), (1, true));
    let (link, _) = files.open("way", OpenFlags::READ | OpenFlags::NO_FOLLOW).unwrap();
    let mut space = [0; 100];
    let (_, length) = files.0.fetch(&ReadLink { handle: link }, &[], &mut space).unwrap();
    assert_eq!(&space[..length], b"real");
    assert_eq!(files.open("way", CREATE | OpenFlags::EXCLUSIVE).map(drop), Err(Errno::EEXIST));
    assert_eq!(files.symlink("way", "x"), Err(Errno::EEXIST));
    assert_eq!(files.symlink("empty", ""), Err(Errno::ENOENT));
}

#[test]
fn cookies_stay_while_entries_come_and_go() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    for index in 0..200 {
        files.create(&format!("file{index}"), b"");
    }
    let all = files.list_from("", 100, 0);
    assert_eq!(all.len(), 200);
    let middle = all[99].1;
    files.remove("file99").unwrap();
    files.remove("file150").unwrap();
    files.create("late", b"");
    files.rename("file0", "file160").unwrap();
    let names: Vec<String> =
        files.list_from("", 100, middle).into_iter().map(|(name, _)| name).collect();
    let expected = (100..200)
        .filter(|&index| index != 150)
        .map(|index| format!("file{index}"))
        .chain(["late".into()]);
    assert_eq!(names, expected.collect::<Vec<_>>());
}

#[test]
fn a_version_grows_with_each_change_of_bytes() {
    let server = memfs(10);
    let mut files = Files::of(&server);
    let (handle, attr) = files.open("a", CREATE).unwrap();
    let mut last = attr.version;
    let mut grows = |files: &mut Files<_>, what: &str| {
        let version = files.attr(handle).unwrap().version;
        assert!(version > last, "{what}");
        last = version;
    };
    files.write(handle, 0, b"x").unwrap();
    grows(&mut files, "write");
    files.truncate(handle, 100).unwrap();
    grows(&mut files, "extension");
    files.punch(handle, 0, 10).unwrap();
    grows(&mut files, "punch");
    files.append(handle, b"y").unwrap();
    grows(&mut files, "append");
    files.clone_range((handle, 0), (handle, 50), 10).unwrap();
    grows(&mut files, "clone");
    files.open("a", RW | OpenFlags::TRUNCATE).unwrap();
    grows(&mut files, "open with truncation");
    files.write(handle, 0, b"").unwrap();
    files
        .0
        .request(&SetAttr { handle, mask: AttrMask::MODE, mode: 0o600, ..SetAttr::default() }, &[])
        .unwrap();
    files.read(handle, 0, 10).unwrap();
    assert_eq!(files.attr(handle).unwrap().version, last);
}

#[test]
fn a_clone_shares_pages_until_one_is_written() {
    let server = memfs(5);
    let mut files = Files::of(&server);
    let bytes = pattern(3, 2 * 4096 + 100);
    let a = files.create("a", &bytes);
    let (b, _) = files.open("b", CREATE).unwrap();
    files.clone_range((a, 0), (b, 0), u64::MAX / 2).unwrap();
    assert_eq!(files.store().blocks_free, 2);
    assert_eq!(files.read_all(b).unwrap(), bytes);
    files.write(b, 4096, &[9]).unwrap();
    assert_eq!(files.store().blocks_free, 1);
    assert_eq!(files.read_all(a).unwrap(), bytes);
    files.truncate(a, 0).unwrap();
    assert_eq!(files.store().blocks_free, 2);
    files.truncate(b, 0).unwrap();
    assert_eq!(files.store().blocks_free, 5);
}

#[test]
fn handles_give_the_rights_they_were_opened_with() {
    let server = memfs(5);
    let mut files = Files::of(&server);
    files.create("a", b"x");
    let (reader, _) = files.open("a", OpenFlags::READ).unwrap();
    let (writer, _) = files.open("a", OpenFlags::WRITE).unwrap();
    assert_eq!(files.write(reader, 0, b"y"), Err(Errno::EBADF));
    assert_eq!(files.read(writer, 0, 1), Err(Errno::EBADF));
    assert_eq!(files.truncate(reader, 0), Err(Errno::EINVAL));
    assert_eq!(
        files.open("a", OpenFlags::READ | OpenFlags::TRUNCATE).map(drop),
        Err(Errno::EINVAL)
    );
}

#[test]
fn sessions_do_not_share_handles_and_end_with_all_they_held() {
    let server = memfs(5);
    let mut one = Files::of(&server);
    let mut two = Files::of(&server);
    let handle = one.create("a", &[1; 4096]);
    assert_eq!(two.read(handle, 0, 1), Err(Errno::EBADF));
    assert_eq!(two.close(handle), Err(Errno::EBADF));
    two.remove("a").unwrap();
    assert_eq!(two.store().blocks_free, 4);
    drop(one);
    assert_eq!(two.store().blocks_free, 5);
}

#[test]
fn x6_access_times_are_relative() {
    let clock = TestClock::default();
    let server = shared(Memfs::new(1 << 20, AccessTimes::Relative, clock.clone()));
    let mut files = Files::of(&server);
    let handle = files.create("a", b"x");
    let before = files.attr(handle).unwrap();
    files.read(handle, 0, 1).unwrap();
    let first = files.attr(handle).unwrap().atime;
    assert!(first > before.atime);
    files.read(handle, 0, 1).unwrap();
    assert_eq!(files.attr(handle).unwrap().atime, first);
    clock.set(Time(first.0 + 25 * 3_600_000_000_000));
    files.read(handle, 0, 1).unwrap();
    assert!(files.attr(handle).unwrap().atime > first);
}
