//! The direct session with a base (F9), each rule as a scenario that panics if it is broken.

use super::*;

const PAGE: u64 = 4096;
const P: usize = 4096;
/// The pages of each file at its beginning.
const PAGES: u64 = 10;
const RECORD: u64 = 64;

type Memory = SharedServer<Memfs<TestClock>>;

/// A direct session.
struct Direct(Base<LocalConnection<Memfs<TestClock>>>);

impl Direct {
    fn of(server: &Memory) -> Self {
        Self(Base::connect(LocalConnection::direct(server.clone()), Features::DIRECT).unwrap())
    }

    fn read(&mut self, at: &Attr, bytes: core::ops::Range<u64>) -> Result<Vec<u8>, Errno> {
        let length = bytes.end - bytes.start;
        let request = ReadAt {
            file: at.id,
            version: at.version,
            offset: FileOffset(bytes.start),
            length: length as u32,
        };
        let mut space = vec![0xEE; length as usize];
        let (_, received) = self.0.fetch(&request, &[], &mut space)?;
        assert_eq!(received, space.len(), "all bytes or none");
        Ok(space)
    }

    /// The pages of a file that the base does not return for a version. The others must be those
    /// of `bytes`.
    fn stale(&mut self, at: &Attr, bytes: &[u8]) -> Vec<u64> {
        let is_stale = |&page: &u64| {
            let range = page * PAGE..((page + 1) * PAGE).min(bytes.len() as u64);
            match self.read(at, range.clone()) {
                Ok(read) => {
                    let expected = &bytes[range.start as usize..range.end as usize];
                    assert!(read == expected, "F9: page {page} at {:?}", at.version);
                    false
                }
                Err(error) => {
                    assert_eq!(error, Errno::ESTALE);
                    true
                }
            }
        };
        (0..(bytes.len() as u64).div_ceil(PAGE)).filter(is_stale).collect()
    }
}

/// A server with a file, whose bytes, handle and attributes are returned.
struct One {
    server: Memory,
    files: Files<LocalConnection<Memfs<TestClock>>>,
    direct: Direct,
    handle: Handle,
    bytes: Vec<u8>,
    before: Attr,
}

fn one() -> One {
    let server = memfs(2000);
    let (mut files, direct) = (Files::of(&server), Direct::of(&server));
    let bytes = pattern(1, PAGES as usize * P);
    let handle = files.create("a", &bytes);
    let before = files.attr(handle).unwrap();
    One { server, files, direct, handle, bytes, before }
}

pub fn f9_a_version_that_is_current_is_read() {
    let mut one = one();
    assert_eq!(one.direct.stale(&one.before, &one.bytes), []);
    let part = one.direct.read(&one.before, 100..3 * PAGE + 7).unwrap();
    assert!(part == one.bytes[100..3 * P + 7]);
    // Nothing beyond the end, of no other version, of nothing that is no file.
    let end = PAGES * PAGE;
    let later = Attr { version: Version(one.before.version.0 + 1), ..one.before };
    let root = one.files.stat("").unwrap();
    let missing = Attr { id: FileId(one.before.id.0 + 1), ..one.before };
    for (attr, range) in [
        (one.before, end - 1..end + 1),
        (one.before, u64::MAX - 5..u64::MAX),
        (later, 0..1),
        (root, 0..1),
        (missing, 0..1),
    ] {
        assert_eq!(one.direct.read(&attr, range.clone()), Err(Errno::ESTALE), "{range:?}");
    }
}

pub fn f9_each_change_is_noticed_where_it_is() {
    type Act = fn(&mut One);
    let cases: [(&str, &[u64], Act); 7] = [
        ("write", &[2, 3], |one| {
            one.files.write(one.handle, 3 * PAGE - 1, b"xy").unwrap();
        }),
        ("punch", &[4, 5], |one| {
            one.files.punch(one.handle, 4 * PAGE, 2 * PAGE).unwrap();
        }),
        ("truncation", &[7, 8, 9], |one| {
            one.files.truncate(one.handle, 7 * PAGE + 5).unwrap();
        }),
        ("truncation and extension", &[9], |one| {
            one.files.truncate(one.handle, 9 * PAGE + 100).unwrap();
            one.files.truncate(one.handle, 20 * PAGE).unwrap();
        }),
        ("truncation and append", &[8, 9], |one| {
            one.files.truncate(one.handle, 8 * PAGE).unwrap();
            one.files.append(one.handle, &pattern(9, 4 * P)).unwrap();
        }),
        ("open with truncation", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], |one| {
            one.files.open("a", RW | OpenFlags::TRUNCATE).unwrap();
        }),
        ("copy within the file", &[0, 1], |one| {
            one.files.clone_range((one.handle, 6 * PAGE), (one.handle, 0), 2 * PAGE).unwrap();
        }),
    ];
    for (name, pages, act) in cases {
        let mut one = one();
        act(&mut one);
        assert_eq!(one.direct.stale(&one.before, &one.bytes), pages, "{name}");
        // What the file holds now can be read as what it holds now.
        let now = one.files.attr(one.handle).unwrap();
        let bytes = one.files.read_all(one.handle).unwrap();
        assert_eq!(one.direct.stale(&now, &bytes), [], "{name}");
    }
}

pub fn f9_what_changes_no_byte_leaves_all_readable() {
    let mut one = one();
    let handle = one.handle;
    one.files.append(handle, &pattern(2, 100)).unwrap();
    one.files.write(handle, 30 * PAGE, b"far behind").unwrap();
    one.files.truncate(handle, 50 * PAGE).unwrap();
    one.files.allocate(handle, 5 * PAGE, 60 * PAGE, AllocateMode::Extend).unwrap();
    // As the wrapper touches a file whose write it elided.
    one.files.clone_range((handle, PAGE), (handle, PAGE), PAGE).unwrap();
    let mode = SetAttr { handle, mask: AttrMask::MODE, mode: 0o600, ..SetAttr::default() };
    one.files.0.request(&mode, &[]).unwrap();
    assert!(one.files.attr(handle).unwrap().version > one.before.version);
    assert_eq!(one.direct.stale(&one.before, &one.bytes), []);
}

/// Clones share pages; what was recorded of one file says nothing about another.
pub fn f9_a_clone_has_a_record_of_its_own() {
    let mut one = one();
    let source = one.files.create("source", &pattern(3, PAGES as usize * P));
    one.files.write(source, 9 * PAGE, b"changed before").unwrap();
    let bytes = one.files.read_all(source).unwrap();
    let source_before = one.files.attr(source).unwrap();
    for _ in 0..3 {
        one.files.write(one.handle, 9 * PAGE, b"a later version").unwrap();
    }
    let before = one.files.attr(one.handle).unwrap();
    let mut held = one.files.read_all(one.handle).unwrap();
    one.files.clone_range((source, 0), (one.handle, 0), 5 * PAGE).unwrap();
    assert_eq!(one.direct.stale(&before, &held), [0, 1, 2, 3, 4]);
    assert_eq!(one.direct.stale(&source_before, &bytes), [], "the source");
    // And the other way: the target changes, the source does not.
    held[..5 * P].copy_from_slice(&bytes[..5 * P]);
    let before = one.files.attr(one.handle).unwrap();
    one.files.write(one.handle, 0, b"only here").unwrap();
    assert_eq!(one.direct.stale(&before, &held), [0]);
    assert_eq!(one.direct.stale(&source_before, &bytes), [], "the source");
}

pub fn f9_what_the_record_does_not_cover_counts_as_changed() {
    let server = memfs(2000);
    let (mut files, mut direct) = (Files::of(&server), Direct::of(&server));
    let bytes = pattern(1, 6 * RECORD as usize * P);
    let (handle, _) = files.open("a", CREATE).unwrap();
    for (part, offset) in bytes.chunks(MAX_PAYLOAD).zip((0..).step_by(MAX_PAYLOAD)) {
        files.write(handle, offset, part).unwrap();
    }
    let before = files.attr(handle).unwrap();
    let changed: Vec<u64> = (0..2 * RECORD).map(|index| index * 5 % (2 * RECORD) * 3).collect();
    for &page in &changed {
        files.write(handle, page * PAGE + 5, b"!").unwrap();
    }
    let stale = direct.stale(&before, &bytes);
    assert!(changed.iter().all(|page| stale.contains(page)), "a change was forgotten");
    // The end of the file is behind every change.
    assert!(!stale.contains(&(6 * RECORD - 1)));
}

pub fn f9_a_change_that_fails_has_a_new_version() {
    let server = memfs(4);
    let (mut files, mut direct) = (Files::of(&server), Direct::of(&server));
    let bytes = pattern(1, 3 * P);
    let handle = files.create("a", &bytes);
    let before = files.attr(handle).unwrap();
    assert_eq!(files.write(handle, 0, &pattern(2, 9 * P)).err(), Some(Errno::ENOSPC));
    let after = files.attr(handle).unwrap();
    assert!(after.version > before.version, "F9: the version stays risen");
    assert_eq!(direct.stale(&before, &bytes), [0, 1, 2], "it may have changed any of them");
    assert_eq!(direct.stale(&after, &bytes), []);
}

pub fn f9_a_file_without_names_keeps_its_number() {
    let mut one = one();
    one.files.remove("a").unwrap();
    one.files.create("a", &pattern(7, P));
    assert_eq!(one.direct.stale(&one.before, &one.bytes), []);
    one.files.close(one.handle).unwrap();
    assert_eq!(one.direct.read(&one.before, 0..1), Err(Errno::ESTALE));
}

/// The session has no handles and no names, and can change nothing.
pub fn x2_a_direct_session_has_one_request() {
    let mut one = one();
    let direct = &mut one.direct.0;
    let refused = Err(Errno::EPROTO);
    assert_eq!(direct.request(&GetAttr { handle: Handle::ROOT }, &[]).map(drop), refused);
    assert_eq!(direct.request(&GetAttr { handle: one.handle }, &[]).map(drop), refused);
    assert_eq!(direct.request(&GetStatFs {}, &[]).map(drop), refused);
    let open = Open { dir: Handle::ROOT, flags: OpenFlags::READ, mode: 0 };
    assert_eq!(direct.walk(&open, &[b"a"]).map(drop), refused);
    let read = Read { handle: one.handle, offset: 0, length: 1 };
    assert_eq!(direct.fetch(&read, &[], &mut [0]).map(drop), refused);
    // An ordinary session does not have it, and the length is limited.
    let mut read = ReadAt { file: one.before.id, length: 1, ..ReadAt::default() };
    assert_eq!(one.files.0.fetch(&read, &[], &mut [0]).map(drop), refused);
    read.length = MAX_PAYLOAD as u32 + 1;
    assert_eq!(one.direct.0.fetch(&read, &[], &mut [0]).map(drop), Err(Errno::EINVAL));
    // Only a message of a direct session bears the mark.
    let mut header = read.request(Tag(1), 0);
    mark_direct(&mut header);
    let mut dispatcher = one.server.borrow_mut();
    let session = dispatcher.open_session();
    let reply = dispatcher.handle(session, &header, &[]);
    assert!(is_direct(&reply.header), "the reply goes where the request came from");
    assert_eq!(Header::decode(&reply.header).unwrap().0.result(), refused);
}

pub fn x6_a_direct_read_does_not_change_the_access_time() {
    let mut one = one();
    let time = Time(1 << 60);
    one.direct.read(&one.before, 0..PAGE).unwrap();
    assert!(one.files.attr(one.handle).unwrap().atime < time);
    assert_eq!(one.files.attr(one.handle).unwrap().atime, one.before.atime);
}

/// The record is memory that clients choose the size of: it is counted, and freed with the file.
pub fn q6_the_record_is_counted_and_freed() {
    let free = |memory: u64| {
        let memfs = Memfs::new(1 << 30, AccessTimes::Untouched, TestClock::default());
        let server = shared(memfs.limited_to(memory));
        let mut files = Files::of(&server);
        let start = files.store().blocks_free;
        let handle = files.create("a", &[1; 8 * P]);
        let mut written = 0;
        for _ in 0..20 {
            for page in 0..4 {
                written += u64::from(files.write(handle, page * 2 * PAGE, b"x").is_ok());
            }
        }
        files.close(handle).unwrap();
        files.remove("a").unwrap();
        assert_eq!(files.store().blocks_free, start, "freed with the file");
        written
    };
    assert_eq!(free(64 << 20), 80);
}
