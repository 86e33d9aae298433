//! A program of the simulation: its memory, what the oracle says is in it, and the things it does.

use std::sync::Arc;

use fsproto::{AttrMask, OpenFlags, RenameFlags};
use kernel::file::{FileObject, FileSystem, Io, OpenHow, SetAttr, UserBuffers, Walk, WriteAt};
use kernel::mem::{Backing, Placement, Prot, Space, UserSlice, VirtAddr, mmu};
use kernel::mount::MountedTree;

use crate::baton::yield_now;
use crate::model::Served;
use crate::wire::Wire;

const PAGE: usize = 4096;
/// Pages of an actor's buffer.
const BUFFER_PAGES: usize = 24;
const BUFFER: usize = BUFFER_PAGES * PAGE;
/// Bytes of a file, about.
const FILE: u64 = 20 * PAGE as u64;
/// Names of files: few, so that actors meet.
const NAMES: [&[u8]; 3] = [b"a", b"b", b"c"];

type File = Arc<dyn FileObject>;

/// A child of a fork, and what it must hold.
struct Child {
    space: Arc<Space>,
    oracle: Vec<u8>,
}

/// One program.
pub struct Actor {
    name: String,
    rng: fastrand::Rng,
    space: Arc<Space>,
    base: u64,
    oracle: Vec<u8>,
    files: Vec<File>,
    children: Vec<Child>,
    tree: MountedTree,
    wire: Arc<Wire>,
}

impl Actor {
    /// A program with a buffer of zeros, in its own space or, as a thread, in a shared one.
    pub fn new(index: usize, seed: u64, space: Option<Arc<Space>>, tree: MountedTree, wire: Arc<Wire>) -> Self {
        let space = space.unwrap_or_else(|| Space::new().expect("memory for a space"));
        // A page that nobody maps lies between the buffers of threads.
        let base = 0x10_0000 + (index * (BUFFER_PAGES + 1) * PAGE) as u64;
        let mut actor = Self {
            name: format!("actor {index}"),
            rng: fastrand::Rng::with_seed(seed),
            space,
            base,
            oracle: vec![0; BUFFER],
            files: Vec::new(),
            children: Vec::new(),
            tree,
            wire,
        };
        actor.map(0, BUFFER_PAGES);
        actor.open(OpenFlags::CREATE);
        actor
    }

    /// Does one thing and checks what it says about it.
    pub fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..30 => self.read(),
            30..45 => self.load(),
            45..57 => self.store(),
            57..72 => self.write(),
            72..76 => self.truncate(),
            76..82 => self.open(OpenFlags::CREATE),
            82..84 => self.open(OpenFlags::CREATE | OpenFlags::TRUNCATE),
            84..86 => self.remove(),
            86..88 => self.rename(),
            88..90 => self.punch(),
            90..94 => self.fork(),
            94..96 => self.remap(),
            96..98 => self.look_at_child(),
            _ => self.close(),
        }
    }

    /// Checks everything once more and lets go of it.
    pub fn finish(mut self) {
        self.check(0, BUFFER);
        while !self.children.is_empty() {
            self.look_at_child();
        }
        self.space.unmap(VirtAddr(self.base), BUFFER as u64).expect("the buffer is mapped");
    }

    fn io(&self) -> Io<'_> {
        Io { space: &self.space, caller: None, nonblocking: false }
    }

    fn slice(&self, start: usize, length: usize) -> UserSlice {
        UserSlice::new(self.base + start as u64, length as u64).expect("a user address")
    }

    /// A range of the buffer: often page-aligned, often not.
    fn range(&mut self) -> (usize, usize) {
        let start = self.rng.usize(0..BUFFER);
        let start = if self.rng.bool() { start / PAGE * PAGE } else { start };
        (start, self.rng.usize(1..=BUFFER - start))
    }

    fn offset(&mut self) -> u64 {
        let offset = self.rng.u64(0..FILE);
        if self.rng.bool() { offset / PAGE as u64 * PAGE as u64 } else { offset }
    }

    fn file(&mut self) -> Option<File> {
        let index = self.rng.usize(0..self.files.len().max(1));
        self.files.get(index).cloned()
    }

    fn name(&mut self) -> &'static [u8] {
        NAMES[self.rng.usize(0..NAMES.len())]
    }

    fn map(&mut self, first: usize, pages: usize) {
        let at = Placement::Fixed(VirtAddr(self.base + (first * PAGE) as u64));
        self.space.map(at, (pages * PAGE) as u64, Prot::READ | Prot::WRITE, Backing::Anonymous, "").expect("room for a buffer");
        self.oracle[first * PAGE..(first + pages) * PAGE].fill(0);
    }

    fn read(&mut self) {
        let Some(file) = self.file() else { return };
        let ((start, length), offset) = (self.range(), self.offset());
        // R5: a part that cannot be written to cuts the read short.
        let guard = self.rng.u8(0..8) == 0;
        let last_page = (start + length - 1) / PAGE;
        if guard {
            self.protect(last_page, Prot::READ);
        }
        let writable = if guard { (last_page * PAGE).saturating_sub(start) } else { length };
        self.wire.served();
        let read = file.read(&self.io(), &mut UserBuffers::one(self.slice(start, length)), offset);
        let saw: Vec<u8> = self.wire.served().into_iter().flat_map(Served::saw).collect();
        match read {
            Ok(count) => {
                let expected = saw.len().min(writable);
                assert_eq!(
                    count as usize, expected,
                    "{}: R2/R5: the count of a read of {length} bytes to {start}, {writable} writable",
                    self.name
                );
                self.oracle[start..start + expected].copy_from_slice(&saw[..expected]);
            }
            Err(error) => {
                assert_eq!(error, fsproto::Errno::EFAULT, "{}: a read failed", self.name);
                assert!(writable == 0 && !saw.is_empty(), "{}: R5: EFAULT only for a buffer that takes nothing", self.name);
            }
        }
        if guard {
            self.protect(last_page, Prot::READ | Prot::WRITE);
        }
    }

    fn protect(&self, page: usize, prot: Prot) {
        self.space.protect(VirtAddr(self.base + (page * PAGE) as u64), PAGE as u64, prot).expect("the buffer is mapped");
    }

    fn load(&mut self) {
        let (start, length) = self.range();
        let length = length.min(self.rng.usize(1..3 * PAGE));
        self.check(start, length);
    }

    /// Loads some bytes of every page of a range and compares them with the oracle.
    fn check(&mut self, start: usize, length: usize) {
        let mut at = start;
        while at < start + length {
            let value = mmu::load(&self.space, VirtAddr(self.base + at as u64)).expect("the buffer is mapped");
            assert_eq!(value, self.oracle[at], "{}: byte {at} (page {}) of the buffer", self.name, at / PAGE);
            if self.rng.u8(0..4) == 0 {
                yield_now();
            }
            at += self.rng.usize(1..PAGE);
        }
    }

    fn store(&mut self) {
        let (start, length) = self.range();
        for at in (start..start + length).step_by(self.rng.usize(1..2 * PAGE)) {
            let value = self.rng.u8(..);
            mmu::store(&self.space, VirtAddr(self.base + at as u64), value).expect("the buffer is mapped");
            self.oracle[at] = value;
            if self.rng.u8(0..4) == 0 {
                yield_now();
            }
        }
    }

    fn write(&mut self) {
        let Some(file) = self.file() else { return };
        let ((start, length), offset) = (self.range(), self.offset());
        let at = if self.rng.u8(0..5) == 0 { WriteAt::End } else { WriteAt::Offset(offset) };
        self.wire.served();
        let written = file.write(&self.io(), &mut UserBuffers::one(self.slice(start, length)), at);
        let wrote: Vec<u8> = self.wire.served().into_iter().flat_map(Served::wrote).collect();
        match written {
            Ok(written) => {
                assert_eq!(written.bytes as usize, wrote.len(), "{}: the count of a write", self.name);
                assert!(wrote == self.oracle[start..start + wrote.len()], "{}: bytes written from {start}", self.name);
            }
            Err(error) => assert_eq!(error, fsproto::Errno::ENOSPC, "{}: a write failed", self.name),
        }
    }

    fn truncate(&mut self) {
        let Some(file) = self.file() else { return };
        let change = SetAttr { mask: AttrMask::SIZE, size: self.offset(), ..SetAttr::default() };
        self.may_be_full(file.set_attr(&change));
    }

    fn punch(&mut self) {
        let Some(file) = self.file() else { return };
        let (offset, length) = (self.offset(), self.offset() + 1);
        self.may_be_full(file.allocate(offset, length, 2));
    }

    fn may_be_full<T>(&self, result: Result<T, fsproto::Errno>) {
        if let Err(error) = result {
            assert_eq!(error, fsproto::Errno::ENOSPC, "{}: a change failed", self.name);
        }
    }

    fn open(&mut self, flags: OpenFlags) {
        let how = OpenHow { flags: flags | OpenFlags::READ | OpenFlags::WRITE, mode: 0o644 };
        let name = self.name();
        match self.tree.open(name, how) {
            Ok(Walk::Done(file)) => self.files.push(file),
            Ok(Walk::Link { .. }) => panic!("{}: there are no links", self.name),
            Err(error) => assert_eq!(error, fsproto::Errno::ENOSPC, "{}: an open failed", self.name),
        }
        if self.files.len() > 4 {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.files.is_empty() {
            let index = self.rng.usize(0..self.files.len());
            self.files.swap_remove(index);
        }
    }

    fn remove(&mut self) {
        let name = self.name();
        let removed = self.tree.remove(name, OpenFlags::empty());
        assert!(matches!(removed, Ok(_) | Err(fsproto::Errno::ENOENT)), "{}: C3: {removed:?}", self.name);
    }

    fn rename(&mut self) {
        let (old, new) = (self.name(), self.name());
        let renamed = self.tree.rename(old, new, RenameFlags::empty());
        assert!(matches!(renamed, Ok(_) | Err(fsproto::Errno::ENOENT)), "{}: C4: {renamed:?}", self.name);
    }

    fn fork(&mut self) {
        if self.children.len() < 3 {
            let space = self.space.fork().expect("memory for a child");
            self.children.push(Child { space, oracle: self.oracle.clone() });
        }
    }

    /// Looks at and stores into some pages of a child, and perhaps ends it.
    fn look_at_child(&mut self) {
        let Some(mut child) = self.children.pop() else { return };
        for at in (0..BUFFER).step_by(self.rng.usize(1..3 * PAGE)) {
            let address = VirtAddr(self.base + at as u64);
            let value = mmu::load(&child.space, address).expect("the child's buffer is mapped");
            assert_eq!(value, child.oracle[at], "{}: A1: byte {at} of a child's buffer", self.name);
            if self.rng.u8(0..8) == 0 {
                let value = self.rng.u8(..);
                mmu::store(&child.space, address, value).expect("the child's buffer is mapped");
                child.oracle[at] = value;
            }
        }
        if self.rng.bool() && self.children.len() < 2 {
            self.children.insert(0, child);
        }
    }

    /// Unmaps some pages, which may split regions, and maps zeros in their place.
    fn remap(&mut self) {
        let first = self.rng.usize(0..BUFFER_PAGES);
        let pages = self.rng.usize(1..=BUFFER_PAGES - first);
        self.space.unmap(VirtAddr(self.base + (first * PAGE) as u64), (pages * PAGE) as u64).expect("the buffer is mapped");
        self.map(first, pages);
    }
}
