//! Steps of an actor on files.

use std::cell::Cell;
use std::rc::Rc;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AllocateMode, AttrMask, OpenFlags, RenameFlags};
use kernel::file::host::HostProcess;
use kernel::file::{FileSystem, OpenFile, OpenHow, SetAttr, Stat, Status, UserBuffers, Walk};
use kernel::mem::{Account, Prot};
use kernel::mount::MountedTree;

use crate::actor::Actor;
use crate::interference::{self, Act};
use crate::memory::Memory;
use crate::model::{Line, Served};
use crate::sched;
use crate::script::{At, NAMES, Op, PAGE, Piece};
use crate::world::{self, Opened};
use crate::{shortage, wire};

/// Open files of a process, at most.
const MAX_FILES: usize = 4;

fn buffers(memory: &Memory, pieces: &[Piece]) -> UserBuffers {
    let mut buffers = UserBuffers::none();
    for &piece in pieces {
        buffers.push(memory.slice(piece)).expect("few bytes");
    }
    buffers
}

/// The offset of the first part, and the bytes of all parts.
fn joined<'a>(parts: impl Iterator<Item = (u64, &'a [u8])>) -> (Option<u64>, Vec<u8>) {
    let mut first = None;
    let mut bytes = Vec::new();
    for (offset, part) in parts {
        first.get_or_insert(offset);
        bytes.extend_from_slice(part);
    }
    (first, bytes)
}

impl Actor {
    /// Carries out a step on a file or a name.
    pub fn carry_out_on_files(&mut self, op: Op) {
        match op {
            Op::Open { name, truncate, append } => self.open(NAMES[name], truncate, append),
            Op::Close { file } => self.close(file),
            Op::Seek { file, to } => self.seek(file, to),
            Op::Stat { file } => self.on_file(file, |file| file.object().stat().map(drop)),
            Op::Chmod { file, mode } => {
                let change = SetAttr { mask: AttrMask::MODE, mode, ..SetAttr::default() };
                self.on_file(file, |file| file.object().set_attr(&change));
            }
            Op::Truncate { file, size } => {
                let change =
                    SetAttr { mask: AttrMask::SIZE, size: ByteCount(size), ..SetAttr::default() };
                self.on_file(file, |file| file.object().set_attr(&change));
            }
            Op::Punch { file, offset, length } => {
                let (offset, length) = (FileOffset(offset), ByteCount(length));
                self.on_file(file, |file| {
                    file.object().allocate(offset, length, AllocateMode::PunchHole)
                })
            }
            Op::Allocate { file, offset, length, extends } => {
                let (offset, length) = (FileOffset(offset), ByteCount(length));
                let mode = if extends { AllocateMode::Extend } else { AllocateMode::KeepSize };
                self.on_file(file, |file| file.object().allocate(offset, length, mode))
            }
            Op::Sync { file } => self.synchronise_file(file),
            Op::Remove { name } => self
                .on_tree(|tree| tree.remove(NAMES[name].as_bytes(), OpenFlags::empty()).map(drop)),
            Op::Rename { old, new } => {
                self.on_tree(|tree| {
                    tree.rename(NAMES[old].as_bytes(), NAMES[new].as_bytes(), RenameFlags::empty())
                        .map(drop)
                });
            }
            Op::List => self.on_tree(list),
            _ => {}
        }
    }

    /// Reads, and checks that the program got the bytes of the file at one instant.
    pub fn read(&mut self, memory: usize, file: usize, at: At, pieces: &[Piece]) {
        let Some(file) = self.file(file) else { return };
        let buffer = self.memory(memory);
        let writable = buffer.reach(pieces, Prot::WRITE);
        let (program, mut to) = (HostProcess::new(buffer.space.clone()), buffers(buffer, pieces));
        let read = match at {
            At::Offset(offset) => file.file.read_at(&program, &mut to, FileOffset(offset)),
            At::Position => file.file.read(&program, &mut to),
        };
        if self.is_killed() {
            return;
        }
        let served = wire::served(self.step);
        let (first, saw) = joined(served.iter().filter_map(Served::saw));
        let expected = if let At::Offset(offset) = at { offset } else { file.position.get() };
        assert!(
            first.is_none_or(|first| first == expected),
            "R2: actor {}: read from {first:?}, not {expected}",
            self.index
        );
        let excuse = self.has_excuse(Some(file.line)) || self.memory(memory).may_be_lost(pieces);
        let me = self.index;
        match read {
            Ok(count) => {
                let full = saw.len().min(writable);
                let count = count.to_usize();
                assert!(
                    count == full || (count < full && excuse),
                    "R2/R5: actor {me}: a read returned {count} bytes of {}, {writable} writable",
                    saw.len()
                );
                self.memory(memory).scatter(pieces, &saw[..count], file.line);
                if at == At::Position {
                    file.position.set(expected + count as u64);
                }
            }
            Err(Errno::EFAULT) => assert!(
                writable == 0 && !saw.is_empty(),
                "R5: actor {me}: EFAULT for a buffer of {writable} writable bytes"
            ),
            Err(error) => assert!(excuse, "actor {me}: a read failed: {}", error.text()),
        }
    }

    /// Stores bytes that are from no file: none is zero, and few neighbours are equal.
    pub fn fill(&mut self, memory: usize, at: Piece, value: u8) {
        let buffer = self.memory(memory);
        let writable = buffer.reach(&[at], Prot::WRITE);
        let bytes: Vec<u8> = (0..at.1)
            .map(|index| value.wrapping_add((index * 7 + index / 251) as u8) | 1)
            .collect();
        let (space, mut to) = (buffer.space.clone(), buffers(buffer, &[at]));
        let put = to.put(&space, &bytes);
        if self.is_killed() {
            return;
        }
        let excuse = self.has_excuse(None) || self.memory(memory).may_be_lost(&[at]);
        let me = self.index;
        match put {
            Ok(count) => {
                assert!(
                    count == writable || (count < writable && excuse),
                    "actor {me}: {count} bytes arrived, {writable} writable"
                );
                self.memory(memory).filled(at.0, &bytes[..count]);
            }
            Err(Errno::EFAULT) => {
                assert_eq!(writable, 0, "actor {me}: EFAULT for a writable buffer")
            }
            Err(error) => assert!(excuse, "actor {me}: bytes did not arrive: {}", error.text()),
        }
    }

    /// Writes, and checks that the server got the bytes of the program's memory.
    pub fn write(&mut self, memory: usize, file: usize, at: At, pieces: &[Piece]) {
        let Some(file) = self.file(file) else { return };
        let buffer = self.memory(memory);
        let readable = buffer.reach(pieces, Prot::READ);
        let (program, mut from) = (HostProcess::new(buffer.space.clone()), buffers(buffer, pieces));
        let store = self.arm_store(memory, pieces);
        let written = match at {
            At::Offset(offset) => file.file.write_at(&program, &mut from, FileOffset(offset)),
            At::Position => file.file.write(&program, &mut from),
        };
        let store = store.filter(|_| interference::is_done(self.step));
        if self.is_killed() {
            return;
        }
        let served = wire::served(self.step);
        let (first, wrote) = joined(served.iter().filter_map(Served::wrote));
        let me = self.index;
        let expected = if let At::Offset(offset) = at { offset } else { file.position.get() };
        assert!(
            file.appends || first.is_none_or(|first| first == expected),
            "actor {me}: written to {first:?}, not {expected}"
        );
        let excuse = self.has_excuse(Some(file.line)) || self.memory(memory).may_be_lost(pieces);
        assert!(
            wrote.len() <= readable,
            "actor {me}: {} bytes were written, {readable} are readable",
            wrote.len()
        );
        let is_sent = self.check_written(memory, pieces, &wrote, store);
        let buffer = self.memory(memory);
        match written {
            Ok(count) => {
                let count = count.to_usize();
                assert!(
                    count == wrote.len() || (count < wrote.len() && excuse),
                    "actor {me}: {count} of {} bytes written",
                    wrote.len()
                );
                buffer.written(pieces, count, file.line);
            }
            Err(Errno::EFAULT) => {
                assert_eq!(readable, 0, "actor {me}: EFAULT for a readable buffer")
            }
            Err(Errno::ENOSPC) => assert!(
                wrote.is_empty() || excuse,
                "actor {me}: ENOSPC after {} bytes",
                wrote.len()
            ),
            Err(error) => assert!(excuse, "actor {me}: a write failed: {}", error.text()),
        }
        if let Some((byte, value)) = store {
            let from = self.memory(memory).pages[byte / PAGE].from;
            self.memory(memory).stored(byte, value);
            if is_sent {
                self.memory(memory).pages[byte / PAGE].from = from;
            }
        }
        if at == At::Position {
            self.check_position(&file, written.map_or(0, |count| count.0));
        }
    }

    /// Checks the bytes that a write sent. Returns whether they have the byte that another thread
    /// stored meanwhile.
    fn check_written(
        &mut self,
        memory: usize,
        pieces: &[Piece],
        wrote: &[u8],
        store: Option<(usize, u8)>,
    ) -> bool {
        let mut sent = self.memory(memory).gather(pieces, wrote.len());
        // A later message of the same write may have the new byte already.
        let stored = store.and_then(|(byte, value)| {
            sent.get_mut(byte - pieces[0].0).map(|sent| (sent, wrote[byte - pieces[0].0], value))
        });
        let is_sent = stored.is_some_and(|(sent, wrote, value)| {
            if wrote == value {
                *sent = value;
            }
            wrote == value
        });
        let me = self.index;
        assert!(wrote == sent, "W1: actor {me}: the bytes written differ from its memory");
        is_sent
    }

    /// Sometimes lets another thread store a byte into what is being written. Returns its index in
    /// the window, and its value.
    fn arm_store(&mut self, memory: usize, pieces: &[Piece]) -> Option<(usize, u8)> {
        let (&[Piece(start, length)], 2) = (pieces, sched::choose(3)) else { return None };
        let (step, memory) = (self.step, self.memory(memory));
        let byte = start + sched::choose(length);
        let page = memory.pages[byte / PAGE];
        let value = memory.bytes[byte].wrapping_add(1);
        let can_be = page.is_mapped && page.permissions.contains(Prot::WRITE);
        can_be.then(|| {
            interference::arm(step, memory.space.clone(), memory.address(byte), Act::Store(value))
        });
        can_be.then_some((byte, value))
    }

    /// Checks the position after a write at the position.
    fn check_position(&self, file: &Opened, count: u64) {
        let now = file.file.with_position(|position| Ok(position.0));
        if let Ok(now) = now {
            let expected = file.position.get() + count;
            assert!(
                file.appends && count > 0 || now == expected,
                "actor {}: position {now} after a write, not {expected}",
                self.index
            );
            file.position.set(now);
        }
    }

    /// fsync: afterwards the server has all that was stored before.
    fn synchronise_file(&mut self, file: usize) {
        let Some(file) = self.file(file) else { return };
        let id = file.file.object().identity().expect("a regular file").inode;
        let written = file.file.write_mapped();
        let all = 0..usize::MAX;
        if let Some(number) = wire::model(|model| model.file_by_id(id)) {
            self.check_synchronised(written, number, all, file.line);
        }
        self.check(file.file.object().sync(), Some(file.line));
    }

    fn seek(&mut self, file: usize, to: u64) {
        let Some(file) = self.file(file) else { return };
        let sought = file.file.with_position(|position| {
            *position = FileOffset(to);
            Ok(())
        });
        if sought.is_ok() {
            file.position.set(to);
        }
    }

    /// A step on an open file that moves no bytes of the program.
    fn on_file(&mut self, file: usize, act: impl FnOnce(&OpenFile) -> Result<(), Errno>) {
        let Some(file) = self.file(file) else { return };
        let result = act(&file.file);
        self.check(result, Some(file.line));
    }

    /// A step on names.
    fn on_tree(&mut self, act: impl FnOnce(&MountedTree) -> Result<(), Errno>) {
        let Some((line, mount)) = world::connection(self.process.client) else { return };
        let result = act(&MountedTree(mount));
        if !matches!(result, Err(Errno::ENOENT)) {
            self.check(result, Some(line));
        }
    }

    /// Looks at the attributes of a name (X10): they must be those of an instant since the call.
    pub fn look(&mut self) {
        let Some((line, mount)) = world::connection(self.process.client) else { return };
        let device = mount.id();
        let name = self.step as usize % NAMES.len();
        let flags =
            if self.step.is_multiple_of(2) { OpenFlags::NO_FOLLOW } else { OpenFlags::empty() };
        let (tree, path) = (MountedTree(mount), NAMES[name].as_bytes());
        let begin = wire::instant();
        let result = match tree.known_stat(path, flags) {
            Some(known) => known.map(Walk::Done),
            None => tree.stat(path, flags),
        };
        if self.is_killed() {
            return;
        }
        let seen = match result {
            Ok(Walk::Done(stat)) => Ok(stat),
            Ok(Walk::Link { .. }) => panic!("actor {}: there are no links", self.index),
            Err(Errno::ENOENT) => Err(Errno::ENOENT),
            Err(error) => return self.check::<()>(Err(error), Some(line)),
        };
        let then: Vec<_> = wire::shown_since(begin, name)
            .into_iter()
            .map(|shown| shown.map(|attr| Stat::from_attr(&attr, device)))
            .collect();
        assert!(
            then.contains(&seen),
            "X10: actor {}: attributes of {}: {seen:?}, not one of {then:?}",
            self.index,
            NAMES[name]
        );
    }

    pub fn check<T>(&self, result: Result<T, Errno>, line: Option<Line>) {
        if let Err(error) = result
            && error != Errno::ENOSPC
        {
            assert!(
                self.is_killed() || self.has_excuse(line),
                "actor {}: a change failed: {}",
                self.index,
                error.text()
            );
        }
    }

    fn open(&mut self, name: &str, truncate: bool, append: bool) {
        let Some((line, mount)) = world::connection(self.process.client) else { return };
        let mut flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        flags.set(OpenFlags::TRUNCATE, truncate);
        match MountedTree(mount).open(name.as_bytes(), OpenHow { flags, mode: 0o644 }) {
            Ok(Walk::Done(object)) => {
                let mut status = Status::READ | Status::WRITE;
                status.set(Status::APPEND, append);
                let (path, account) = (name.as_bytes().to_vec(), Account::new());
                let file =
                    shortage::without(|| OpenFile::new(object, status, path, None, &account))
                        .expect("memory for an open file");
                let mut files = self.process.files.borrow_mut();
                files.push(Rc::new(Opened { file, position: Cell::new(0), line, appends: append }));
            }
            Ok(Walk::Link { .. }) => panic!("actor {}: there are no links", self.index),
            Err(error) => self.check::<()>(Err(error), Some(line)),
        }
        if self.process.files.borrow().len() > MAX_FILES {
            self.close(0);
        }
    }

    fn close(&mut self, file: usize) {
        let closed = {
            let mut files = self.process.files.borrow_mut();
            let count = files.len().max(1);
            (!files.is_empty()).then(|| files.remove(file % count))
        };
        drop(closed);
    }
}

fn list(tree: &MountedTree) -> Result<(), Errno> {
    let how = OpenHow { flags: OpenFlags::READ | OpenFlags::DIRECTORY, mode: 0 };
    let Walk::Done(root) = tree.open(b"", how)? else { return Ok(()) };
    root.read_dir(0, &mut |_| true)
}
