//! The oracle of the files: what each holds, as plain arrays of bytes, changed at the instant at
//! which the server handles a request.
//!
//! Where the store beneath failed in the middle of a change, the file may hold the change's first
//! part; it is looked at, and must hold that and nothing else.

use foundation::{ByteCount, FileOffset};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use fsproto::dirent::DirEntries;
use fsproto::{
    AllocateMode, AttrMask, HEADER_BYTES, Handle, Header, MAX_PIECES, OpenFlags, Operation, Piece,
    Reader, Records, Request, WriteFlags,
};

/// A connection's number.
pub type Line = usize;

/// Files as arrays of bytes, with their names and handles.
#[derive(Default)]
pub struct Model {
    files: Vec<File>,
    names: BTreeMap<Vec<u8>, usize>,
    handles: HashMap<Handle, (Line, usize)>,
    snapshots: HashMap<Handle, (Line, Vec<u8>)>,
    /// What of snapshots was told, where each byte may be asked for once (X3).
    told: Option<HashMap<Handle, Vec<Range<u64>>>>,
}

struct File {
    id: u64,
    bytes: Vec<u8>,
}

/// A request and what was answered.
pub struct Exchange<'a> {
    pub line: Line,
    pub request: &'a Request,
    pub payload: &'a [u8],
    pub reply: (&'a [u8; HEADER_BYTES], &'a [u8]),
    /// The store beneath failed in the course of it.
    pub troubled: bool,
}

/// What a request saw or did, at its instant.
#[derive(Debug, Clone)]
pub enum Served {
    /// The bytes that a read or a snapshot is about, and where they are in the file.
    Saw(u64, Vec<u8>),
    /// The bytes that were written, and where.
    Wrote(u64, Vec<u8>),
}

/// A change that may have been made in part.
pub struct Unsure {
    file: usize,
    /// What it would be in full.
    after: Vec<u8>,
    /// The part that is written from the front; of any other change, all is done or nothing.
    written: Option<(usize, usize)>,
    /// So much of it is done for certain.
    done: usize,
    /// How the file can be looked at.
    pub place: Place,
}

/// What names a file.
pub enum Place {
    Handle(Handle),
    Name(Vec<u8>),
}

/// What follows from an exchange.
#[derive(Default)]
pub struct Outcome {
    pub served: Option<Served>,
    pub unsure: Option<Unsure>,
    /// Whether names have to be looked at.
    pub unsure_names: bool,
}

impl Model {
    /// With no files yet, of servers that are trusted or not.
    pub fn new(untrusted: bool) -> Self {
        Self { told: untrusted.then(HashMap::new), ..Self::default() }
    }

    /// Bytes of a snapshot are told: none of them for the second time where the server is not
    /// trusted.
    fn told(&mut self, handle: Handle, bytes: Range<u64>) {
        let Some(told) = &mut self.told else { return };
        let told = told.entry(handle).or_default();
        let twice = told.iter().find(|told| told.start < bytes.end && bytes.start < told.end);
        assert!(
            twice.is_none(),
            "X3: bytes {bytes:?} of {handle:?} were asked for, and {twice:?} before"
        );
        told.push(bytes);
    }

    /// Checks an exchange, and makes its change.
    pub fn handled(&mut self, exchange: &Exchange<'_>) -> Outcome {
        let (head, mut fields) =
            Header::decode(exchange.reply.0).expect("the server's replies are well-formed");
        if head.result().is_err() {
            return self.refused(exchange);
        }
        match exchange.request {
            Request::Open(_) | Request::Close(_) | Request::Remove(_) | Request::Rename(_) => {
                self.names(exchange, &mut fields)
            }
            Request::Snapshot(snapshot) => {
                let told = fsproto::Snapshot::decode_reply(&mut fields).expect("well-formed");
                let bytes = range(
                    &self.files[self.file_of(snapshot.handle)].bytes,
                    snapshot.offset.0,
                    snapshot.length.0,
                )
                .to_vec();
                assert_eq!(told.length, ByteCount(bytes.len() as u64), "R2: length of a snapshot");
                self.snapshot(exchange.line, told.handle, &bytes);
                Some(Served::Saw(snapshot.offset.0, bytes))
            }
            Request::Read(read) => {
                let seen = self.look(exchange, &mut fields);
                if self.snapshots.contains_key(&read.handle) {
                    self.told(
                        read.handle,
                        read.offset..read.offset + exchange.reply.1.len() as u64,
                    );
                }
                seen
            }
            Request::GetAttr(_) | Request::ReadDir(_) => self.look(exchange, &mut fields),
            Request::Write(write) => return self.write(exchange, write, &mut fields),
            Request::SetAttr(_) | Request::Allocate(_) => {
                if let Some((file, after)) = self.changed(exchange.request) {
                    self.files[file].bytes = after;
                }
                None
            }
            _ => None,
        }
        .map_or_else(Outcome::default, |served| Outcome {
            served: Some(served),
            ..Outcome::default()
        })
    }

    fn file_of(&self, handle: Handle) -> usize {
        self.handles[&handle].1
    }

    /// A request that failed has done nothing; where the store had trouble, perhaps.
    fn refused(&self, exchange: &Exchange<'_>) -> Outcome {
        if !exchange.troubled {
            return Outcome::default();
        }
        let unsure = match exchange.request {
            Request::Write(write) => {
                let written = self.written(write, exchange.payload);
                let file = self.file_of(write.handle);
                let offset = self.target(write);
                Some(Unsure {
                    file,
                    after: overlaid(&self.files[file].bytes, offset, &written),
                    written: Some((offset, written.len())),
                    done: 0,
                    place: Place::Handle(write.handle),
                })
            }
            Request::SetAttr(fsproto::SetAttr { handle, .. })
            | Request::Allocate(fsproto::Allocate { handle, .. }) => {
                let place = Place::Handle(*handle);
                self.changed(exchange.request).map(|(file, after)| Unsure {
                    file,
                    after,
                    written: None,
                    done: 0,
                    place,
                })
            }
            Request::Open(open) if open.flags.contains(OpenFlags::TRUNCATE) => {
                self.names.get(exchange.payload).map(|&file| {
                    let place = Place::Name(exchange.payload.to_vec());
                    Unsure { file, after: Vec::new(), written: None, done: 0, place }
                })
            }
            _ => None,
        };
        let unsure_names =
            matches!(exchange.request, Request::Open(_) | Request::Remove(_) | Request::Rename(_));
        Outcome { served: None, unsure, unsure_names }
    }

    /// What requests on names do.
    fn names(&mut self, exchange: &Exchange<'_>, fields: &mut Reader<'_>) -> Option<Served> {
        let payload = exchange.payload;
        match exchange.request {
            Request::Open(open) => {
                let walked = fsproto::Open::decode_reply(fields).expect("well-formed");
                if payload.is_empty() {
                    // The root directory is no file of the model's; its handle is.
                    self.snapshots.insert(walked.handle, (exchange.line, Vec::new()));
                    return None;
                }
                let next = self.files.len();
                let file = *self.names.entry(payload.to_vec()).or_insert(next);
                if file == next {
                    self.files.push(File { id: walked.attr.id.0, bytes: Vec::new() });
                }
                assert_eq!(
                    walked.attr.id.0, self.files[file].id,
                    "C3/C4: another file has this name"
                );
                if open.flags.contains(OpenFlags::TRUNCATE) {
                    self.files[file].bytes.clear();
                }
                assert_eq!(
                    walked.attr.size,
                    ByteCount(self.files[file].bytes.len() as u64),
                    "size of an opened file"
                );
                self.handles.insert(walked.handle, (exchange.line, file));
            }
            Request::Close(close) => {
                self.handles.remove(&close.handle);
                self.snapshots.remove(&close.handle);
                if let Some(told) = &mut self.told {
                    told.remove(&close.handle);
                }
            }
            Request::Remove(_) => {
                self.names.remove(payload).expect("C3: a name was removed that was not there");
            }
            Request::Rename(rename) => {
                let (old, new) = payload.split_at(rename.old_bytes as usize);
                let file =
                    self.names.remove(old).expect("C4: a name was changed that was not there");
                self.names.insert(new.to_vec(), file);
            }
            _ => {}
        }
        None
    }

    /// Checks what was told about files.
    fn look(&self, exchange: &Exchange<'_>, fields: &mut Reader<'_>) -> Option<Served> {
        match exchange.request {
            Request::Read(read) => {
                let snapshot = self.snapshots.get(&read.handle).map(|(_, bytes)| bytes);
                let bytes =
                    snapshot.unwrap_or_else(|| &self.files[self.file_of(read.handle)].bytes);
                let expected = range(bytes, read.offset, read.length.into());
                let told = exchange.reply.1;
                let differs = expected.iter().zip(told).position(|(model, server)| model != server);
                assert!(
                    expected == told,
                    "{read:?}: {} bytes for {}, other than the model's from {differs:?}",
                    told.len(),
                    expected.len()
                );
                snapshot.is_none().then_some(Served::Saw(read.offset, expected.to_vec()))
            }
            Request::GetAttr(get) => {
                let told = fsproto::GetAttr::decode_reply(fields).expect("well-formed");
                let file = self.file_of(get.handle);
                assert_eq!(
                    told.size,
                    ByteCount(self.files[file].bytes.len() as u64),
                    "size of a file"
                );
                let names = self.names.values().filter(|&&named| named == file).count();
                assert_eq!(told.links as usize, names, "C3: names of a file");
                None
            }
            Request::ReadDir(list) if list.cookie == 0 => {
                let entries = DirEntries::new(exchange.reply.1)
                    .map(|entry| entry.expect("well-formed").name.to_vec());
                let mut names: Vec<Vec<u8>> =
                    entries.filter(|name| !name.starts_with(b".") || name.len() > 2).collect();
                names.sort();
                assert!(names.iter().eq(self.names.keys()), "C3: names in a listing: {names:?}");
                None
            }
            _ => None,
        }
    }

    /// A snapshot is taken.
    fn snapshot(&mut self, line: Line, handle: Handle, bytes: &[u8]) {
        if handle != Handle::NONE {
            self.snapshots.insert(handle, (line, bytes.to_vec()));
        }
    }

    fn write(
        &mut self,
        exchange: &Exchange<'_>,
        write: &fsproto::Write,
        fields: &mut Reader<'_>,
    ) -> Outcome {
        let told = fsproto::Write::decode_reply(fields).expect("well-formed");
        let written = self.written(write, exchange.payload);
        let (file, offset) = (self.file_of(write.handle), self.target(write));
        assert_eq!(told.offset, FileOffset(offset as u64), "W6: where a write went");
        let done = told.length.to_usize();
        assert!(done <= written.len(), "more was written than there was");
        let unsure = (exchange.troubled && done < written.len()).then(|| Unsure {
            file,
            after: overlaid(&self.files[file].bytes, offset, &written),
            written: Some((offset, written.len())),
            done,
            place: Place::Handle(write.handle),
        });
        overlay(&mut self.files[file].bytes, offset, &written[..done]);
        self.snapshot(exchange.line, told.snapshot, &written[..done]);
        Outcome {
            served: Some(Served::Wrote(told.offset.0, written[..done].to_vec())),
            unsure,
            unsure_names: false,
        }
    }

    fn target(&self, write: &fsproto::Write) -> usize {
        let end = self.files[self.file_of(write.handle)].bytes.len();
        if write.flags.contains(WriteFlags::APPEND) { end } else { write.offset.0 as usize }
    }

    /// The bytes that a write's data and pieces are.
    fn written(&self, write: &fsproto::Write, payload: &[u8]) -> Vec<u8> {
        let (mut data, pieces) = payload.split_at(write.data_bytes as usize);
        if pieces.is_empty() {
            return data.to_vec();
        }
        let pieces = Records::<Piece>::decode(pieces, MAX_PIECES)
            .expect("the mount's requests are well-formed");
        let mut bytes = Vec::new();
        for piece in pieces {
            if piece.snapshot != Handle::NONE {
                bytes.extend_from_slice(range(
                    &self.snapshots[&piece.snapshot].1,
                    piece.offset.0,
                    piece.length.0,
                ));
            } else {
                let (own, rest) = data.split_at(piece.length.to_usize());
                data = rest;
                bytes.extend_from_slice(own);
            }
        }
        bytes
    }

    /// A file as a change other than a write leaves it.
    fn changed(&self, request: &Request) -> Option<(usize, Vec<u8>)> {
        match request {
            Request::SetAttr(set) if set.mask.contains(AttrMask::SIZE) => {
                let file = self.file_of(set.handle);
                let mut bytes = self.files[file].bytes.clone();
                bytes.resize(set.size.to_usize(), 0);
                Some((file, bytes))
            }
            Request::Allocate(punch) if punch.mode == AllocateMode::PunchHole => {
                let file = self.file_of(punch.handle);
                let mut bytes = self.files[file].bytes.clone();
                let end = ((punch.offset + punch.length).0 as usize).min(bytes.len());
                if let Some(hole) = bytes.get_mut(punch.offset.0 as usize..end) {
                    hole.fill(0);
                }
                Some((file, bytes))
            }
            _ => None,
        }
    }

    /// A change may have been made in part; the file holds `now`.
    pub fn settle(&mut self, unsure: &Unsure, now: Vec<u8>) {
        let Unsure { file, after, written, done, .. } = unsure;
        let before = &self.files[*file].bytes;
        let allowed = match *written {
            None => now == *before || now == *after,
            Some((offset, length)) => {
                let matching = |index: &usize| now.get(offset + index) == after.get(offset + index);
                let front = (0..length).take_while(matching).count();
                let rest =
                    overlaid(before, offset, after.get(offset..offset + front).unwrap_or_default());
                // The file may have been extended before it was stored to.
                let extended =
                    now.get(rest.len()..).is_some_and(|more| more.iter().all(|&byte| byte == 0));
                front >= *done && now.starts_with(&rest) && extended && now.len() <= after.len()
            }
        };
        assert!(
            allowed,
            "a change that failed left more than its front: {} bytes, {} before, {} after",
            now.len(),
            before.len(),
            after.len()
        );
        self.files[*file].bytes = now;
    }

    /// Names may have changed or not; `look` tells the id of the file of each.
    pub fn settle_names(&mut self, names: &[&str], mut look: impl FnMut(&[u8]) -> Option<u64>) {
        for name in names {
            let name = name.as_bytes();
            match look(name) {
                None => drop(self.names.remove(name)),
                Some(id) => {
                    let known = self.files.iter().position(|file| file.id == id);
                    let file = known.unwrap_or(self.files.len());
                    if known.is_none() {
                        self.files.push(File { id, bytes: Vec::new() });
                    }
                    self.names.insert(name.to_vec(), file);
                }
            }
        }
    }

    /// A connection is gone, and with it all its handles.
    pub fn line_gone(&mut self, line: Line) {
        self.handles.retain(|_, (of, _)| *of != line);
        self.snapshots.retain(|_, (of, _)| *of != line);
    }

    /// Handles that nobody gave back.
    pub fn open_handles(&self) -> usize {
        self.handles.len() + self.snapshots.len()
    }
}

fn range(bytes: &[u8], offset: u64, length: u64) -> &[u8] {
    let start = offset.min(bytes.len() as u64) as usize;
    let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
    &bytes[start..end.max(start)]
}

/// `bytes` with `data` stored at `offset`.
fn overlaid(bytes: &[u8], offset: usize, data: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    overlay(&mut bytes, offset, data);
    bytes
}

fn overlay(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Served {
    /// The bytes of a read, and where they are in the file.
    pub fn saw(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Saw(offset, bytes) => Some((*offset, bytes)),
            Self::Wrote(..) => None,
        }
    }

    /// The bytes of a write, and where they went.
    pub fn wrote(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Wrote(offset, bytes) => Some((*offset, bytes)),
            Self::Saw(..) => None,
        }
    }
}
