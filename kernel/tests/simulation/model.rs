//! The oracle: what each file holds, kept as plain arrays of bytes and changed at the instant at which the server handles a request.

use std::collections::HashMap;

use fsproto::{AttrMask, HEAD_BYTES, Handle, Head, MAX_PIECES, OpenFlags, Operation, Piece, Pieces, Request, WriteFlags};

/// Files as arrays of bytes, with their names and handles.
#[derive(Default)]
pub struct Model {
    files: Vec<Vec<u8>>,
    names: HashMap<Vec<u8>, usize>,
    handles: HashMap<Handle, usize>,
    snapshots: HashMap<Handle, Vec<u8>>,
}

/// What a request saw or did, at its instant.
#[derive(Debug, Clone)]
pub enum Served {
    /// The bytes that a read or a snapshot is about.
    Saw(Vec<u8>),
    /// The bytes that were written.
    Wrote(Vec<u8>),
}

impl Model {
    /// Applies a request that was answered with success. `payload` is the request's, `reply` the answer's.
    pub fn handled(&mut self, request: &Request, payload: &[u8], reply: (&[u8; HEAD_BYTES], &[u8])) -> Option<Served> {
        let (head, mut fields) = Head::decode(reply.0).expect("the server's replies are well-formed");
        if head.result().is_err() {
            return None;
        }
        match request {
            Request::Open(open) => {
                let walked = fsproto::Open::decode_reply(&mut fields).expect("well-formed");
                let next = self.files.len();
                let file = *self.names.entry(payload.to_vec()).or_insert(next);
                if file == next {
                    self.files.push(Vec::new());
                }
                if open.flags.contains(OpenFlags::TRUNCATE) {
                    self.files[file].clear();
                }
                assert_eq!(walked.attr.size, self.files[file].len() as u64, "size of an opened file");
                self.handles.insert(walked.handle, file);
                None
            }
            Request::Close(close) => {
                self.handles.remove(&close.handle);
                self.snapshots.remove(&close.handle);
                None
            }
            Request::Read(read) => {
                let bytes = match self.snapshots.get(&read.handle) {
                    Some(snapshot) => snapshot,
                    None => &self.files[self.handles[&read.handle]],
                };
                let expected = range(bytes, read.offset, read.length.into());
                let differs = expected.iter().zip(reply.1).position(|(model, server)| model != server);
                assert!(
                    expected == reply.1,
                    "{read:?}: {} bytes for {}, other than the model's from {differs:?}",
                    reply.1.len(),
                    expected.len()
                );
                (!self.snapshots.contains_key(&read.handle)).then_some(Served::Saw(expected))
            }
            Request::Snapshot(snapshot) => {
                let told = fsproto::Snapshot::decode_reply(&mut fields).expect("well-formed");
                let bytes = range(&self.files[self.handles[&snapshot.handle]], snapshot.offset, snapshot.length);
                assert_eq!(told.length, bytes.len() as u64, "R2: length of a snapshot");
                if told.handle != Handle(0) {
                    self.snapshots.insert(told.handle, bytes.clone());
                }
                Some(Served::Saw(bytes))
            }
            Request::Write(write) => {
                let told = fsproto::Write::decode_reply(&mut fields).expect("well-formed");
                let written = self.written(write, payload);
                let file = &mut self.files[self.handles[&write.handle]];
                let offset = if write.flags.contains(WriteFlags::APPEND) { file.len() } else { write.offset as usize };
                assert_eq!(told.offset, offset as u64);
                let data = &written[..told.length as usize];
                let end = offset + data.len();
                if file.len() < end && !data.is_empty() {
                    file.resize(end, 0);
                }
                file[offset..end].copy_from_slice(data);
                if told.snapshot != Handle(0) {
                    self.snapshots.insert(told.snapshot, data.to_vec());
                }
                Some(Served::Wrote(data.to_vec()))
            }
            Request::SetAttr(set) if set.mask.contains(AttrMask::SIZE) => {
                self.files[self.handles[&set.handle]].resize(set.size as usize, 0);
                None
            }
            Request::Allocate(punch) if punch.mode == 2 => {
                let file = &mut self.files[self.handles[&punch.handle]];
                let end = (punch.offset + punch.length).min(file.len() as u64) as usize;
                if let Some(hole) = file.get_mut(punch.offset as usize..end) {
                    hole.fill(0);
                }
                None
            }
            Request::Remove(_) => {
                self.names.remove(payload);
                None
            }
            Request::Rename(rename) => {
                let (old, new) = payload.split_at(rename.old_bytes as usize);
                if old != new
                    && let Some(file) = self.names.remove(old)
                {
                    self.names.insert(new.to_vec(), file);
                }
                None
            }
            _ => None,
        }
    }
}

impl Model {
    /// The bytes that a write's data and pieces are.
    fn written(&self, write: &fsproto::Write, payload: &[u8]) -> Vec<u8> {
        let (mut data, pieces) = payload.split_at(write.data_bytes as usize);
        if pieces.is_empty() {
            return data.to_vec();
        }
        let pieces = Pieces::<Piece>::decode(pieces, MAX_PIECES).expect("the mount's requests are well-formed");
        let bytes = pieces.flat_map(|piece| {
            if piece.snapshot != Handle(0) {
                return range(&self.snapshots[&piece.snapshot], piece.offset, piece.length);
            }
            let (own, rest) = data.split_at(piece.length as usize);
            data = rest;
            own.to_vec()
        });
        bytes.collect()
    }
}

fn range(bytes: &[u8], offset: u64, length: u64) -> Vec<u8> {
    let start = offset.min(bytes.len() as u64) as usize;
    let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
    bytes[start..end.max(start)].to_vec()
}

impl Served {
    /// The bytes of a read.
    pub fn saw(self) -> Vec<u8> {
        match self {
            Self::Saw(bytes) => bytes,
            Self::Wrote(_) => Vec::new(),
        }
    }

    /// The bytes of a write.
    pub fn wrote(self) -> Vec<u8> {
        match self {
            Self::Wrote(bytes) => bytes,
            Self::Saw(_) => Vec::new(),
        }
    }
}

impl Model {
    /// Handles that nobody gave back.
    pub fn open_handles(&self) -> usize {
        self.handles.len() + self.snapshots.len()
    }
}
