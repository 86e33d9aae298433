//! The servers' own memory: what a request takes, what a shortage does, and what names cost (Q8).
//!
//! The allocator counts what the thread of a test allocates, and can fail one *large* allocation:
//! these are fallible everywhere. Small ones are served from a reserve that a request finds
//! complete ([`fsserver::Replenish`]); so they never fail, but one request must not take more than
//! that.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::device::Device;
use common::wrapped::Tower;
use common::*;
use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;
use fsserver::{ClientLimits, Dispatcher, FileServer, LocalConnection, Transport};

/// Allocations from this size on do not take from a server's reserve, and must be fallible. A
/// server's allocator has twice as much.
const LARGE_BYTES: usize = 16 << 10;

const PAGE: u64 = 4096;
const P: usize = 4096;

thread_local! {
    /// Bytes in use, those in small allocations, and the most of these since `measured` began.
    static USED: Cell<isize> = const { Cell::new(0) };
    static SMALL: Cell<isize> = const { Cell::new(0) };
    static MOST_SMALL: Cell<isize> = const { Cell::new(0) };
    /// Large allocations until one fails.
    static UNTIL_FAILURE: Cell<Option<u32>> = const { Cell::new(None) };
}

struct Counting;

/// Counts bytes that are allocated, or freed.
fn count(bytes: isize) {
    USED.set(USED.get() + bytes);
    if bytes.unsigned_abs() < LARGE_BYTES {
        SMALL.set(SMALL.get() + bytes);
        MOST_SMALL.set(MOST_SMALL.get().max(SMALL.get()));
    }
}

/// Whether this allocation fails.
fn fails(bytes: usize) -> bool {
    bytes >= LARGE_BYTES
        && match UNTIL_FAILURE.get() {
            Some(0) => {
                UNTIL_FAILURE.set(None);
                true
            }
            Some(more) => {
                UNTIL_FAILURE.set(Some(more - 1));
                false
            }
            None => false,
        }
}

// SAFETY: `System` keeps the contract; a null pointer reports a failure.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return core::ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `request`, of which the allocation after `more` large ones fails. Returns its result, and
/// whether an allocation failed.
fn with_failure<T>(more: u32, request: impl FnOnce() -> T) -> (T, bool) {
    UNTIL_FAILURE.set(Some(more));
    let result = request();
    (result, UNTIL_FAILURE.replace(None).is_none())
}

/// Runs `request`, and returns its result and the most that it had in small allocations.
fn measured<T>(request: impl FnOnce() -> T) -> (T, usize) {
    let before = SMALL.get();
    MOST_SMALL.set(before);
    let result = request();
    (result, (MOST_SMALL.get() - before) as usize)
}

/// What a client sees of a file and of its snapshot.
fn seen(tower: &mut Tower, handles: &[Handle]) -> Vec<(Vec<u8>, Version)> {
    let mut look = |&handle: &Handle| {
        let bytes = tower.files.read_all(handle).unwrap();
        (bytes, tower.files.attr(handle).unwrap().version)
    };
    handles.iter().map(&mut look).collect()
}

type Request = (&'static str, fn(&mut Tower, Handle, Handle) -> Result<(), Errno>);

thread_local! {
    /// Where the client receives payloads.
    static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_PAYLOAD]);
}

/// Sends a request whose reply has a payload.
fn received<O: Operation>(tower: &mut Tower, request: &O) -> Result<(), Errno> {
    SPACE.with_borrow_mut(|space| tower.files.0.fetch(request, &[], space)).map(drop)
}

/// One request of each kind, on a file and a snapshot of it.
const REQUESTS: &[Request] = &[
    ("open", |tower, _, _| tower.files.open("new", CREATE).map(drop)),
    ("write", |tower, file, _| tower.files.write(file, 3, &[9; 40 * P]).map(drop)),
    ("append", |tower, file, _| tower.files.append(file, &[8; 40 * P]).map(drop)),
    ("truncate", |tower, file, _| tower.files.truncate(file, 7).map(drop)),
    ("punch", |tower, file, _| tower.files.punch(file, 100, 20 * PAGE).map(drop)),
    ("fill", |tower, file, _| {
        tower.files.allocate(file, 0, 90 * PAGE, AllocateMode::Extend).map(drop)
    }),
    ("clone", |tower, file, _| {
        tower.files.clone_range((file, 0), (file, 33 * PAGE), 20 * PAGE).map(drop)
    }),
    ("copy", |tower, file, _| {
        tower.files.clone_range((file, 5), (file, 33 * PAGE), 20 * PAGE).map(drop)
    }),
    ("snapshot", |tower, handle, _| {
        let (offset, length) = (FileOffset(100), ByteCount(u64::MAX));
        let request = Snapshot { handle, offset, length, misalignment: 0, inline_max: 0 };
        received(tower, &request)
    }),
    ("pieces", |tower, file, taken| {
        let piece = |page: u64| Piece {
            snapshot: taken,
            offset: SnapshotOffset(page * PAGE),
            length: ByteCount(PAGE),
        };
        let pieces: Vec<Piece> = (0..30).rev().map(piece).collect();
        tower.files.write_pieces(file, 0, WriteFlags::SNAPSHOT, &[], &pieces).map(drop)
    }),
    ("read", |tower, _, handle| {
        received(tower, &Read { handle, offset: 0, length: 64 * P as u32 })
    }),
    ("list", |tower, _, _| {
        let (handle, _) = tower.files.open("", OpenFlags::READ | OpenFlags::DIRECTORY)?;
        let listed = received(tower, &ReadDir { handle, cookie: 0, length: 100_000 });
        tower.files.close(handle).and(listed)
    }),
    ("rename", |tower, _, _| tower.files.rename("file", "other").map(drop)),
    ("symlink", |tower, _, _| tower.files.symlink("link", &"t".repeat(4000)).map(drop)),
    ("remove", |tower, _, _| tower.files.remove("file").map(drop)),
    ("close", |tower, _, taken| tower.files.close(taken)),
];

/// A tower with a file and a snapshot, some pages of which are rescued.
fn prepared(lacking: Features, device: Option<&Device>) -> (Tower, Handle, Handle) {
    SPACE.with_borrow_mut(|space| space.fill(0));
    let mut tower = match device {
        Some(device) => Tower::spilled(lacking, 50, device),
        None => Tower::without(lacking, 4000),
    };
    let file = tower.files.create("file", &pattern(1, 50 * P));
    let taken = tower.files.snapshot(file, 0, u64::MAX).unwrap().reply.handle;
    tower.files.write(file, 4 * PAGE, &[2; 5 * P]).unwrap();
    (tower, file, taken)
}

#[test]
fn q8_each_large_allocation_of_each_request_fails_in_turn() {
    let mut failures = 0;
    for lacking in [Features::empty(), Features::CLONE, Features::all()] {
        for spills in [false, true] {
            for &(name, request) in REQUESTS {
                for more in 0.. {
                    let device = spills.then(|| Device::new(4000));
                    let (mut tower, file, taken) = prepared(lacking, device.as_ref());
                    let before = seen(&mut tower, &[file, taken]);
                    let (result, failed) = with_failure(more, || request(&mut tower, file, taken));
                    if !failed {
                        break;
                    }
                    failures += 1;
                    let is_closed = name == "close" && result.is_ok();
                    let kept = if is_closed { 1 } else { 2 };
                    let after = seen(&mut tower, &[file, taken][..kept]);
                    if let Err(error) = result {
                        let shortage = [Errno::ENOMEM, Errno::ENOSPC, Errno::EDQUOT, Errno::EIO];
                        assert!(shortage.contains(&error), "{name}: {error:?}");
                        // A change that failed is not made, or it is another version.
                        assert!(
                            before[0].0 == after[0].0 || before[0].1 != after[0].1,
                            "{name}: other bytes of the same version"
                        );
                    }
                    if kept == 2 {
                        assert!(before[1].0 == after[1].0, "{name}: a snapshot has changed");
                    }
                    // Afterwards everything goes on.
                    tower.files.write(file, 0, &[7; 30 * P]).unwrap();
                }
            }
        }
    }
    assert!(failures > 25, "only {failures} allocations failed");
}

#[test]
fn q8_a_request_takes_less_than_the_reserve() {
    let reserve = fsserver::memfs::RESERVE_BYTES.min(fsserver::snapfs::RESERVE_BYTES);
    for &(name, request) in REQUESTS {
        let (mut tower, file, taken) = prepared(Features::empty(), None);
        let (result, most) = measured(|| request(&mut tower, file, taken));
        assert!(result.is_ok() && most < reserve / 2, "{name}: {most} bytes");
    }
}

/// The requests that change the most of the wrapper's tables.
#[test]
fn q8_the_largest_requests_take_less_than_the_reserve() {
    let reserve = fsserver::snapfs::RESERVE_BYTES;
    let mut tower = Tower::new(100_000);
    let file = tower.files.create("file", &[]);
    for page in (0..2048).step_by(2) {
        tower.files.write(file, page * PAGE, &[1]).unwrap();
    }
    let at_most = |name: &str, request: &mut dyn FnMut() -> Result<Handle, Errno>| {
        let (result, most) = measured(request);
        assert!(most < reserve, "{name}: {most} bytes");
        result.unwrap()
    };
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(at_most("a snapshot with 1024 holes", &mut || {
            tower.files.snapshot(file, 0, u64::MAX).map(|taken| taken.reply.handle)
        }));
    }
    let whole =
        Piece { snapshot: taken[0], offset: SnapshotOffset(0), length: ByteCount(2046 * PAGE) };
    let other = tower.files.create("other", &[]);
    at_most("references to all pages, many times", &mut || {
        let written = tower.files.write_pieces(other, 0, WriteFlags::empty(), &[], &[whole; 9])?;
        assert!(
            written.length > ByteCount(2046 * PAGE) && written.length < ByteCount(9 * 2046 * PAGE)
        );
        Ok(other)
    });
    at_most("a truncation under snapshots", &mut || tower.files.truncate(file, 0).map(|_| file));
    for handle in taken {
        at_most("a close", &mut || tower.files.close(handle).map(|()| handle));
    }
    assert_eq!(tower.figures().entries, 0);
}

thread_local! {
    static HAS_RESERVE: Cell<bool> = const { Cell::new(true) };
}

#[test]
fn q8_without_a_reserve_nothing_is_begun_that_takes_memory() {
    let memfs = Memfs::new(4000 * PAGE, AccessTimes::Relative, TestClock::default());
    let dispatcher = Dispatcher::new(memfs)
        .replenished_by(|| if HAS_RESERVE.get() { Ok(()) } else { Err(Errno::ENOMEM) });
    let mut files = Files::of(&Rc::new(RefCell::new(dispatcher)));
    let handle = files.create("file", &[1; 3 * P]);
    let before = files.attr(handle).unwrap();
    HAS_RESERVE.set(false);
    assert_eq!(files.write(handle, 0, &[2; P]).map(drop), Err(Errno::ENOMEM));
    assert_eq!(files.truncate(handle, 0).map(drop), Err(Errno::ENOMEM));
    assert_eq!(files.open("new", CREATE).map(drop), Err(Errno::ENOMEM));
    assert_eq!(files.make_dir("dir").map(drop), Err(Errno::ENOMEM));
    assert_eq!(files.rename("file", "other").map(drop), Err(Errno::ENOMEM));
    // Reading goes on, and so does what frees memory.
    assert_eq!(files.attr(handle).unwrap(), before);
    assert_eq!(files.read_all(handle).unwrap(), [1; 3 * P]);
    files.remove("file").unwrap();
    files.close(handle).unwrap();
    HAS_RESERVE.set(true);
    assert_eq!(files.store().blocks_free, 4000);
}

/// The memory of a server in the tests below, and what it may exceed: slabs are allocated as a
/// whole.
const MEMORY: u64 = 6 << 20;
const SLACK: isize = 300 << 10;

fn limited(device: Option<&Device>) -> SharedServer<Memfs<TestClock>> {
    let mut memfs = Memfs::new(MEMORY, AccessTimes::Untouched, TestClock::default());
    if let Some(device) = device {
        memfs = memfs.spill_to(Box::new(device.clone()), MEMORY).unwrap();
    }
    shared(memfs.limited_to(MEMORY))
}

type Make = fn(&mut Files<LocalConnection<Memfs<TestClock>>>, usize) -> Result<(), Errno>;

/// What takes memory without a page: files, directories, links, targets, second names, nodes; and
/// how many of them there can be at least.
const NAMES: &[(&str, usize, Make)] = &[
    ("long names", 4000, |files, index| {
        let (handle, _) = files.open(&format!("{index:0240}"), CREATE)?;
        files.close(handle)
    }),
    ("short names", 4000, |files, index| {
        let (handle, _) = files.open(&format!("{index}"), CREATE)?;
        files.close(handle)
    }),
    ("targets", 1000, |files, index| {
        files.symlink(&format!("{index}"), &"t".repeat(4000)).map(drop)
    }),
    ("directories", 4000, |files, index| files.make_dir(&format!("{index}")).map(drop)),
    ("second names", 25000, |files, index| {
        let (handle, _) = files.open("0", CREATE)?;
        let linked =
            if index == 0 { Ok(()) } else { files.link(handle, &format!("{index}")).map(drop) };
        files.close(handle).and(linked)
    }),
    ("sparse files", 600, |files, index| {
        // Few pages, each below nodes of its own.
        let (handle, _) = files.open(&format!("{}", index / 10), CREATE)?;
        let written = files.write(handle, (1 << (40 + index % 10)) + 1, &[1]).map(drop);
        files.close(handle).and(written)
    }),
];

#[test]
fn q3_names_are_within_the_memory_and_give_it_back() {
    for &(kind, least, make) in NAMES {
        for device in [None, Some(Device::new(500))] {
            let content = pattern(3, 200 * P);
            let before = USED.get();
            let server = limited(device.as_ref());
            let mut files = Files::of(&server);
            let (handle, _) = files.open("content", CREATE).unwrap();
            for (part, offset) in content.chunks(50 * P).zip((0..).step_by(50 * P)) {
                files.write(handle, offset, part).unwrap();
            }
            let mut counts = [0; 2];
            for count in &mut counts {
                let error = loop {
                    match make(&mut files, *count) {
                        Ok(()) => *count += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error, Errno::ENOSPC, "{kind}");
                let used = USED.get() - before;
                assert!(used < MEMORY as isize + SLACK, "{kind}: {used} bytes");
                assert!(used > MEMORY as isize / 3, "{kind}: only {used} bytes");
                let mut part = Vec::new();
                for offset in (0..content.len()).step_by(50 * P) {
                    part.extend(files.read(handle, offset as u64, 50 * P).unwrap());
                }
                assert!(part == content, "{kind}");
                for name in files.list("") {
                    let is_dir = files.stat(&name).unwrap().kind == FileKind::Directory;
                    match name.as_str() {
                        "content" => {}
                        name if is_dir => drop(files.remove_dir(name).unwrap()),
                        name => drop(files.remove(name).unwrap()),
                    }
                }
            }
            assert_eq!(counts[0], counts[1], "{kind}: what was removed is available again");
            assert!(counts[0] >= least, "{kind}: {}", counts[0]);
            files.write(handle, 0, &[5; 60 * P]).unwrap();
        }
    }
}

/// A clone whose pages lie otherwise in their nodes needs nodes of its own.
#[test]
fn q3_clones_are_within_the_memory() {
    let before = USED.get();
    let server = limited(None);
    let mut files = Files::of(&server);
    let handle = files.create("file", &[1; 60 * P]);
    let mut pages = 60;
    let error = loop {
        // An odd page, so that no node can be shared.
        let to = pages + 1 + pages % 2;
        match files.clone_range((handle, 0), (handle, to * PAGE), pages * PAGE) {
            Ok(_) => pages += to,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::ENOSPC);
    assert!(pages > 60 << 6, "{pages} pages");
    assert!(USED.get() - before < MEMORY as isize + SLACK);
    let bytes = files.read(handle, 0, 61 * P).unwrap();
    assert!(bytes[..60 * P].iter().all(|&byte| byte == 1) && bytes[60 * P..] == [0; P]);
    files.remove("file").unwrap();
    files.close(handle).unwrap();
    assert!(server.borrow_mut().server_mut().stat_fs().unwrap().files_free > 1000);
}

/// A client that has sent all of its requests, and that receives no payload: there is no memory for
/// that.
#[derive(Default)]
struct Narrow {
    requests: std::collections::VecDeque<([u8; HEADER_BYTES], Vec<u8>)>,
    replies: Rc<RefCell<Vec<[u8; HEADER_BYTES]>>>,
}

impl Narrow {
    fn request<O: Operation>(&mut self, request: &O, payload: &[u8]) {
        let tag = Tag(self.requests.len() as u32);
        self.requests.push_back((request.request(tag, payload.len()), payload.to_vec()));
    }
}

impl Transport for Narrow {
    fn receive(&mut self, header: &mut [u8; HEADER_BYTES], payload: &mut [u8]) -> Option<usize> {
        let (next, bytes) = self.requests.pop_front()?;
        *header = next;
        payload[..bytes.len()].copy_from_slice(&bytes);
        Some(bytes.len())
    }
    fn send(&mut self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> Result<(), Errno> {
        if payload.iter().any(|part| !part.is_empty()) {
            return Err(Errno::ENOMEM);
        }
        self.replies.borrow_mut().push(*header);
        Ok(())
    }
}

/// A shortage is not the end of the client: it gets an error, and what the request had opened is
/// closed.
#[test]
fn q8_a_reply_that_cannot_be_sent_becomes_an_error() {
    let base = memfs(100);
    let snapfs = Snapfs::new(LocalConnection::new(base), TestClock::default()).unwrap();
    let mut client = Narrow::default();
    let handle = Handle(1);
    client.request(&hello(Features::all()), &[]);
    client.request(&Open { dir: Handle::ROOT, flags: CREATE, mode: 0o600 }, b"file");
    let write = Write { handle, data_bytes: 5 * P as u32, ..Write::default() };
    client.request(&write, &[7; 5 * P]);
    let length = ByteCount(5 * PAGE);
    client.request(&Snapshot { handle, length, misalignment: 100, ..Snapshot::default() }, &[]);
    client.request(&Read { handle, offset: 0, length: 100 }, &[]);
    client.request(&GetStatFs {}, &[]);
    let replies = client.replies.clone();
    fsserver::serve(snapfs, || Ok(()), ClientLimits::default(), client).unwrap();
    let replies = replies.borrow();
    let status: Vec<_> =
        replies.iter().map(|reply| Header::decode(reply).unwrap().0.result()).collect();
    let (ok, short) = (Ok(()), Err(Errno::ENOMEM));
    assert_eq!(status, [ok, ok, ok, short, short, ok]);
    let (_, mut fields) = Header::decode(&replies[5]).unwrap();
    assert_eq!(GetStatFs::decode_reply(&mut fields).unwrap().snapshots, 0);
}
