//! Shared by the tests: a client with typed requests, whose methods return errors.
#![allow(dead_code)]

pub mod allocated;
pub mod device;
pub mod direct;
pub mod rules;
pub mod rules_bounds;
pub mod rules_writes;
pub mod spilled;
pub mod wrapped;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::{Base, Connection, Dispatcher, FileServer, LocalConnection};

/// A clock that advances by a microsecond with each query.
#[derive(Clone, Default)]
pub struct TestClock(Rc<Cell<i64>>);

impl TestClock {
    pub fn set(&self, time: Time) {
        self.0.set(time.0);
    }
}

impl fsserver::Clock for TestClock {
    fn now(&self) -> Time {
        self.0.set(self.0.get() + 1000);
        Time(self.0.get())
    }
}

pub type SharedServer<S> = Rc<RefCell<Dispatcher<S>>>;

pub fn shared<S: FileServer>(server: S) -> SharedServer<S> {
    Rc::new(RefCell::new(Dispatcher::new(server)))
}

pub fn memfs(capacity_pages: u64) -> SharedServer<Memfs<TestClock>> {
    shared(Memfs::new(capacity_pages * 4096, AccessTimes::Relative, TestClock::default()))
}

/// A session with methods for common requests.
pub struct Files<C: Connection>(pub Base<C>);

impl<S: FileServer> Files<LocalConnection<S>> {
    pub fn of(server: &SharedServer<S>) -> Self {
        Self(Base::connect(LocalConnection::new(server.clone()), Features::all()).unwrap())
    }
}

pub const RW: OpenFlags = OpenFlags::READ.union(OpenFlags::WRITE);
pub const CREATE: OpenFlags = RW.union(OpenFlags::CREATE);

/// A snapshot's reply, decoded.
pub struct Taken {
    pub reply: Snapshotted,
    pub leading: Vec<u8>,
    pub trailing: Vec<u8>,
    pub holes: Vec<Hole>,
}

impl<C: Connection> Files<C> {
    pub fn open(&mut self, path: &str, flags: OpenFlags) -> Result<(Handle, Attr), Errno> {
        let walk =
            self.0.walk(&Open { dir: Handle::ROOT, flags, mode: 0o644 }, &[path.as_bytes()])?;
        assert!(!walk.is_link(), "a link was met");
        Ok((walk.reply.handle, walk.reply.attr))
    }

    pub fn create(&mut self, path: &str, bytes: &[u8]) -> Handle {
        let (handle, _) = self.open(path, CREATE).unwrap();
        self.write(handle, 0, bytes).unwrap();
        handle
    }

    pub fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        self.0.request(&Close { handle }, &[]).map(drop)
    }

    pub fn attr(&mut self, handle: Handle) -> Result<Attr, Errno> {
        self.0.request(&GetAttr { handle }, &[])
    }

    pub fn stat(&mut self, path: &str) -> Result<Attr, Errno> {
        let walk = self
            .0
            .walk(&Stat { dir: Handle::ROOT, flags: OpenFlags::NO_FOLLOW }, &[path.as_bytes()])?;
        assert!(!walk.is_link(), "a link was met");
        Ok(walk.reply.attr)
    }

    pub fn read(&mut self, handle: Handle, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0xEE; length];
        let (_, received) =
            self.0.fetch(&Read { handle, offset, length: length as u32 }, &[], &mut bytes)?;
        bytes.truncate(received);
        Ok(bytes)
    }

    /// Reads everything, in messages of maximum length.
    pub fn read_all(&mut self, handle: Handle) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        loop {
            let part = self.read(handle, bytes.len() as u64, MAX_PAYLOAD)?;
            if part.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(part);
        }
    }

    pub fn write(&mut self, handle: Handle, offset: u64, bytes: &[u8]) -> Result<Written, Errno> {
        let request = Write {
            handle,
            offset: FileOffset(offset),
            flags: WriteFlags::empty(),
            data_bytes: bytes.len() as u32,
        };
        self.0.request(&request, &[bytes])
    }

    pub fn append(&mut self, handle: Handle, bytes: &[u8]) -> Result<Written, Errno> {
        self.0.request(
            &Write {
                handle,
                offset: FileOffset(0),
                flags: WriteFlags::APPEND,
                data_bytes: bytes.len() as u32,
            },
            &[bytes],
        )
    }

    pub fn truncate(&mut self, handle: Handle, size: u64) -> Result<Attr, Errno> {
        self.0.request(
            &SetAttr { handle, mask: AttrMask::SIZE, size: ByteCount(size), ..SetAttr::default() },
            &[],
        )
    }

    pub fn allocate(
        &mut self,
        handle: Handle,
        offset: u64,
        length: u64,
        mode: AllocateMode,
    ) -> Result<Attr, Errno> {
        self.0.request(
            &Allocate { handle, offset: FileOffset(offset), length: ByteCount(length), mode },
            &[],
        )
    }

    pub fn punch(&mut self, handle: Handle, offset: u64, length: u64) -> Result<Attr, Errno> {
        self.allocate(handle, offset, length, AllocateMode::PunchHole)
    }

    pub fn clone_range(
        &mut self,
        from: (Handle, u64),
        to: (Handle, u64),
        length: u64,
    ) -> Result<Written, Errno> {
        let request = CloneRange {
            source: from.0,
            source_offset: from.1,
            target: to.0,
            target_offset: FileOffset(to.1),
            length: ByteCount(length),
        };
        self.0.request(&request, &[])
    }

    pub fn remove(&mut self, path: &str) -> Result<Attr, Errno> {
        let walk = self
            .0
            .walk(&Remove { dir: Handle::ROOT, flags: OpenFlags::empty() }, &[path.as_bytes()])?;
        Ok(walk.reply.attr)
    }

    pub fn remove_dir(&mut self, path: &str) -> Result<Attr, Errno> {
        let walk = self
            .0
            .walk(&Remove { dir: Handle::ROOT, flags: OpenFlags::DIRECTORY }, &[path.as_bytes()])?;
        Ok(walk.reply.attr)
    }

    pub fn make_dir(&mut self, path: &str) -> Result<Attr, Errno> {
        Ok(self.0.walk(&MakeDir { dir: Handle::ROOT, mode: 0o755 }, &[path.as_bytes()])?.reply.attr)
    }

    pub fn rename_with(&mut self, old: &str, new: &str, flags: RenameFlags) -> Result<Attr, Errno> {
        let request = Rename {
            old_dir: Handle::ROOT,
            new_dir: Handle::ROOT,
            old_bytes: old.len() as u32,
            flags,
        };
        Ok(self.0.walk(&request, &[old.as_bytes(), new.as_bytes()])?.reply.attr)
    }

    pub fn rename(&mut self, old: &str, new: &str) -> Result<Attr, Errno> {
        self.rename_with(old, new, RenameFlags::empty())
    }

    pub fn link(&mut self, handle: Handle, path: &str) -> Result<Attr, Errno> {
        Ok(self.0.walk(&Link { handle, dir: Handle::ROOT }, &[path.as_bytes()])?.reply.attr)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> Result<Attr, Errno> {
        let request = MakeSymlink { dir: Handle::ROOT, path_bytes: path.len() as u32 };
        Ok(self.0.walk(&request, &[path.as_bytes(), target.as_bytes()])?.reply.attr)
    }

    pub fn store(&mut self) -> StatFs {
        self.0.request(&GetStatFs {}, &[]).unwrap()
    }

    /// Lists names and cookies of a directory from a cookie on, in messages of `bytes_each`.
    pub fn list_from(
        &mut self,
        path: &str,
        bytes_each: u32,
        mut cookie: u64,
    ) -> Vec<(String, u64)> {
        let (handle, _) = self.open(path, OpenFlags::READ | OpenFlags::DIRECTORY).unwrap();
        let mut names = Vec::new();
        loop {
            let mut space = vec![0; bytes_each as usize];
            let (_, length) = self
                .0
                .fetch(&ReadDir { handle, cookie, length: bytes_each }, &[], &mut space)
                .unwrap();
            if length == 0 {
                self.close(handle).unwrap();
                return names;
            }
            for entry in dirent::DirEntries::new(&space[..length]) {
                let entry = entry.unwrap();
                cookie = entry.next;
                names.push((String::from_utf8(entry.name.to_vec()).unwrap(), cookie));
            }
        }
    }

    pub fn list(&mut self, path: &str) -> Vec<String> {
        self.list_from(path, 4096, 0).into_iter().map(|(name, _)| name).collect()
    }

    pub fn snapshot_with(&mut self, request: &Snapshot) -> Result<Taken, Errno> {
        let mut space = vec![0; MAX_PAYLOAD];
        let (reply, length) = self.0.fetch(request, &[], &mut space)?;
        let (leading, rest) = space[..length].split_at(reply.leading_bytes as usize);
        let (trailing, list) = rest.split_at(reply.trailing_bytes as usize);
        let holes: Vec<Hole> = Records::decode(list, MAX_HOLES).unwrap().collect();
        assert_eq!(holes.len(), reply.holes as usize);
        Ok(Taken { reply, leading: leading.to_vec(), trailing: trailing.to_vec(), holes })
    }

    /// A write of data and references.
    pub fn write_pieces(
        &mut self,
        handle: Handle,
        offset: u64,
        flags: WriteFlags,
        data: &[u8],
        pieces: &[Piece],
    ) -> Result<Written, Errno> {
        let list: Vec<u8> = pieces.iter().flat_map(Piece::to_bytes).collect();
        self.0.request(
            &Write { handle, offset: FileOffset(offset), flags, data_bytes: data.len() as u32 },
            &[data, &list],
        )
    }

    /// A snapshot for a reader with a page-aligned buffer.
    pub fn snapshot(&mut self, handle: Handle, offset: u64, length: u64) -> Result<Taken, Errno> {
        self.snapshot_with(&Snapshot {
            handle,
            offset: FileOffset(offset),
            length: ByteCount(length),
            misalignment: 0,
            inline_max: 0,
        })
    }
}

/// Bytes that identify their seed and position.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8 | 1
    };
    (0..length).map(|_| next()).collect()
}
