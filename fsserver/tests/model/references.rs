//! Steps of the model that use snapshots: taking and closing them, clones, and writes that refer to
//! them.

use std::cell::Cell;

use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::{Handle, Piece, Snapshot, WriteFlags, Written};

use super::common::pattern;
use super::{Faults, Held, MAX_BYTES, World, put};

impl World {
    pub fn clone_some(&mut self) {
        let Some((target, file)) = self.some_open() else { return };
        let from_snapshot = self.random.below(2) == 0 && !self.snapshots.is_empty();
        let (source, bytes, source_file) = if from_snapshot {
            let held = &self.snapshots[self.random.below(self.snapshots.len() as u64) as usize];
            (held.handle, held.bytes.clone(), held.file)
        } else {
            let Some((source, file)) = self.some_open() else { return };
            (source, self.contents[file].clone(), file)
        };
        self.shared(file);
        self.shared(source_file);
        let (from, length) = self.random.range(bytes.len() as u64);
        let mut to = self.random.position(MAX_BYTES - length);
        if self.random.below(2) == 0 {
            // Aligned, as most copies are.
            to = (to & !4095) + (from & 4095);
            to = if to + length > MAX_BYTES { from } else { to };
        }
        let request = move |world: &mut Self| {
            let written = world.tower.files.clone_range((source, from), (target, to), length)?;
            world.whole_or_prefix(written, length)
        };
        self.change(file, target, request, |contents, done| {
            put(contents, to as usize, &bytes[from as usize..from as usize + done])
        });
    }

    /// Writes data and references, some of them to where they came from.
    pub fn write_pieces(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let offset = self.random.position(MAX_BYTES / 2);
        let (mut pieces, mut data, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        self.shared(file);
        for _ in 0..self.random.below(4) + 1 {
            if self.random.below(3) == 0 || self.snapshots.is_empty() {
                let bytes =
                    pattern(self.random.below(1 << 30), self.random.position(6000) as usize);
                pieces.push(Piece {
                    snapshot: Handle::NONE,
                    offset: SnapshotOffset(0),
                    length: ByteCount(bytes.len() as u64),
                });
                data.extend(&bytes);
                whole.extend(bytes);
                continue;
            }
            let held = self.random.below(self.snapshots.len() as u64) as usize;
            self.shared(self.snapshots[held].file);
            let held = &self.snapshots[held];
            let at = offset + whole.len() as u64;
            let same_place = held.file == file
                && held.offset <= at
                && at < held.offset + held.bytes.len() as u64;
            let from = if same_place {
                at - held.offset
            } else {
                self.random.position(held.bytes.len() as u64)
            };
            let length = self.random.position(held.bytes.len() as u64 - from);
            pieces.push(Piece {
                snapshot: held.handle,
                offset: SnapshotOffset(from),
                length: ByteCount(length),
            });
            whole.extend(&held.bytes[from as usize..(from + length) as usize]);
        }
        if offset as usize + whole.len() > 2 * MAX_BYTES as usize {
            return;
        }
        let length = whole.len() as u64;
        let flags =
            if self.random.below(2) == 0 { WriteFlags::SNAPSHOT } else { WriteFlags::empty() };
        let result = Cell::new(Written::default());
        let request = |world: &mut Self| {
            let written = world.tower.files.write_pieces(handle, offset, flags, &data, &pieces)?;
            result.set(written);
            world.whole_or_prefix(written, length)
        };
        self.change(file, handle, request, |contents, done| {
            put(contents, offset as usize, &whole[..done])
        });
        let Written { snapshot, length, .. } = result.get();
        assert!(
            snapshot == Handle::NONE
                || (flags.contains(WriteFlags::SNAPSHOT) && length > ByteCount(0))
        );
        if snapshot != Handle::NONE {
            // The file still holds the bytes of the moment of the write.
            let bytes = self.contents[file][offset as usize..(offset + length.0) as usize].to_vec();
            self.snapshots.push(Held { handle: snapshot, file, offset, bytes });
        }
    }

    pub fn take_snapshot(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let (offset, length) = self.random.range(MAX_BYTES + 4096);
        let misalignment =
            if self.random.below(2) == 0 { 0 } else { self.random.below(4096) as u32 };
        let inline_max = if self.random.below(4) == 0 { 10_000 } else { 0 };
        let request = Snapshot {
            handle,
            offset: FileOffset(offset),
            length: ByteCount(length),
            misalignment,
            inline_max,
        };
        let taken = match self.risky(|world| world.tower.files.snapshot_with(&request)) {
            Ok(taken) => taken,
            // Without space, or with a map that is too large.
            Err(Errno::ENOSPC | Errno::EDQUOT) => return,
            Err(error) => return assert!(self.faults != Faults::None, "{error:?}"),
        };
        let contents = &self.contents[file];
        let end = contents.len().min((offset + length) as usize).max(offset as usize);
        let bytes = contents.get(offset as usize..end).unwrap_or_default().to_vec();
        let reply = taken.reply;
        assert_eq!(reply.length, ByteCount(bytes.len() as u64));
        assert_eq!(taken.leading, bytes[..reply.leading_bytes as usize]);
        assert_eq!(taken.trailing, bytes[bytes.len() - reply.trailing_bytes as usize..]);
        for hole in &taken.holes {
            let range = hole.offset as usize..(hole.offset + hole.length.0) as usize;
            assert!(bytes[range].iter().all(|&byte| byte == 0), "a hole that is none");
        }
        if reply.handle != Handle::NONE {
            self.snapshots.push(Held { handle: reply.handle, file, offset, bytes });
        }
    }

    pub fn close_snapshot(&mut self) {
        if !self.snapshots.is_empty() {
            let held =
                self.snapshots.swap_remove(self.random.below(self.snapshots.len() as u64) as usize);
            self.tower.files.close(held.handle).unwrap();
        }
    }
}
