//! The oracle of the files: what each file holds, as plain arrays of bytes, changed at the instant
//! at which the server handles a request.
//!
//! If the base server failed in the middle of a change, the file may hold the first part of the
//! change. The file is then read, and must hold exactly that.

mod settling;

use foundation::{ByteCount, FileOffset};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use fsproto::dirent::DirEntries;
use fsproto::{
    AllocateMode, AttrMask, HEADER_BYTES, Handle, Header, MAX_PIECES, OpenFlags, Operation, Piece,
    Reader, Records, Request, WriteFlags,
};

use crate::bytes::{overlaid, overlay, range};
use crate::stores::Stores;
use crate::versions::Versions;

/// A connection's number.
pub type Line = usize;

/// Files as arrays of bytes, with their names and handles.
#[derive(Default)]
pub struct Model {
    files: Vec<File>,
    names: BTreeMap<Vec<u8>, usize>,
    handles: HashMap<Handle, (Line, usize)>,
    snapshots: HashMap<Handle, (Line, Vec<u8>)>,
    versions: Versions,
    /// What programs have stored to mapped files.
    pub stores: Stores,
    /// Handles of open files that were opened to be mapped: those by which pages are fetched and
    /// written back.
    mapping: HashSet<Handle>,
    /// The ranges of each snapshot that were fetched, if each byte may be fetched once only (X3).
    fetched: Option<HashMap<Handle, Vec<Range<u64>>>>,
}

struct File {
    id: u64,
    bytes: Vec<u8>,
}

/// A request and its reply.
pub struct Exchange<'a> {
    pub line: Line,
    pub request: &'a Request,
    pub payload: &'a [u8],
    pub reply: (&'a [u8; HEADER_BYTES], &'a [u8]),
    /// The base server failed while it was handled.
    pub faulted: bool,
    /// The number of the step that sent it.
    pub step: u64,
    /// The step opens files to map them.
    pub maps: bool,
    /// The connection is up.
    pub is_up: bool,
}

/// What a request read or wrote, at its instant.
#[derive(Debug, Clone)]
pub enum Served {
    /// The offset and the bytes of a read or a snapshot.
    Saw(u64, Vec<u8>),
    /// The offset and the bytes of a write.
    Wrote(u64, Vec<u8>),
}

/// A change that may have been made in part.
pub struct Uncertain {
    file: usize,
    /// The file after the whole change.
    after: Vec<u8>,
    /// Offset and length of a write, which is done from its start; other changes are done or not.
    written: Option<(usize, usize)>,
    /// Bytes of the write that are done for certain.
    done: usize,
    /// How the file can be read.
    pub place: Place,
}

/// How a file is found.
pub enum Place {
    Handle(Handle),
    Name(Vec<u8>),
}

/// The consequences of an exchange.
#[derive(Default)]
pub struct Outcome {
    pub served: Option<Served>,
    pub uncertain: Option<Uncertain>,
    /// Whether names have to be looked up.
    pub uncertain_names: bool,
}

impl Model {
    /// A model without files.
    pub fn new(untrusted: bool) -> Self {
        Self { fetched: untrusted.then(HashMap::new), ..Self::default() }
    }

    /// A file that was there before.
    pub fn add_file(&mut self, name: &str, id: u64, bytes: Vec<u8>) {
        self.names.insert(name.as_bytes().to_vec(), self.files.len());
        self.files.push(File { id, bytes });
    }

    /// Notes that bytes of a snapshot were fetched. Asserts that none is fetched twice from a
    /// server that is not trusted.
    fn note_fetched(&mut self, handle: Handle, bytes: Range<u64>) {
        let Some(fetched) = &mut self.fetched else { return };
        let fetched = fetched.entry(handle).or_default();
        let overlaps =
            |earlier: &&Range<u64>| earlier.start < bytes.end && bytes.start < earlier.end;
        let twice = fetched.iter().find(overlaps);
        assert!(
            twice.is_none(),
            "X3: bytes {bytes:?} of {handle:?} were fetched, and {twice:?} before"
        );
        fetched.push(bytes);
    }

    /// A handle was closed, by a request of its own or besides another.
    pub fn closed(&mut self, handle: Handle) {
        let fetched = self.fetched.as_mut().and_then(|fetched| fetched.remove(&handle));
        drop((self.handles.remove(&handle), self.snapshots.remove(&handle), fetched));
        self.mapping.remove(&handle);
    }

    /// Checks an exchange, and applies its change to the model.
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
                let reply = fsproto::Snapshot::decode_reply(&mut fields).expect("well-formed");
                let bytes = range(
                    &self.files[self.file_of(snapshot.handle)].bytes,
                    snapshot.offset.0,
                    snapshot.length.0,
                )
                .to_vec();
                assert_eq!(reply.length, ByteCount(bytes.len() as u64), "R2: length of a snapshot");
                let file = &self.files[self.file_of(snapshot.handle)];
                self.versions.note(file.id, reply.version, &file.bytes);
                self.snapshot(exchange.line, reply.handle, &bytes);
                self.check_seen(exchange, snapshot.handle, snapshot.offset.0, bytes.len());
                Some(Served::Saw(snapshot.offset.0, bytes))
            }
            Request::Read(read) => {
                let seen = self.look(exchange, &mut fields);
                if self.snapshots.contains_key(&read.handle) {
                    self.note_fetched(
                        read.handle,
                        read.offset..read.offset + exchange.reply.1.len() as u64,
                    );
                }
                seen
            }
            // A base that fails may answer nonsense, which the kernel must notice.
            Request::ReadAt(_) if exchange.faulted => None,
            Request::ReadAt(read) => {
                self.versions.check(read, exchange.reply.1);
                None
            }
            Request::GetAttr(_) | Request::Stat(_) | Request::ReadDir(_) => {
                self.look(exchange, &mut fields)
            }
            Request::Write(write) => return self.write(exchange, write, &mut fields),
            Request::SetAttr(_) | Request::Allocate(_) => {
                if let Some((file, after)) = self.changed(exchange.request) {
                    self.stores.replaced(file, self.replaced_by(exchange.request, after.len()));
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

    pub(super) fn file_of(&self, handle: Handle) -> usize {
        self.handles[&handle].1
    }

    /// What the server has of a file.
    pub(super) fn bytes_of(&self, file: usize) -> &[u8] {
        &self.files[file].bytes
    }

    /// The ids of all files.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.files.iter().map(|file| file.id)
    }

    /// Whether pages are fetched and written back by this handle.
    pub(super) fn is_mapping(&self, handle: Handle) -> bool {
        self.mapping.contains(&handle)
    }

    /// A request that failed has changed nothing, unless the base server failed.
    fn refused(&self, exchange: &Exchange<'_>) -> Outcome {
        if !exchange.faulted {
            self.check_write_back(exchange);
            return Outcome::default();
        }
        let uncertain = match exchange.request {
            Request::Write(write) => {
                let written = self.written(write, exchange.payload);
                let file = self.file_of(write.handle);
                let offset = self.target(write);
                Some(Uncertain {
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
                self.changed(exchange.request).map(|(file, after)| Uncertain {
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
                    Uncertain { file, after: Vec::new(), written: None, done: 0, place }
                })
            }
            _ => None,
        };
        let uncertain_names =
            matches!(exchange.request, Request::Open(_) | Request::Remove(_) | Request::Rename(_));
        Outcome { served: None, uncertain, uncertain_names }
    }

    /// Applies a request on names.
    fn names(&mut self, exchange: &Exchange<'_>, fields: &mut Reader<'_>) -> Option<Served> {
        let payload = exchange.payload;
        match exchange.request {
            Request::Open(open) => {
                let walked = fsproto::Open::decode_reply(fields).expect("well-formed");
                if payload.is_empty() {
                    // The root directory is not a file of the model, but its handle is counted.
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
                    self.stores.replaced(file, 0..usize::MAX);
                }
                assert_eq!(
                    walked.attr.size,
                    ByteCount(self.files[file].bytes.len() as u64),
                    "size of an opened file"
                );
                self.handles.insert(walked.handle, (exchange.line, file));
                if exchange.maps {
                    self.mapping.insert(walked.handle);
                }
            }
            Request::Close(close) => self.closed(close.handle),
            Request::Remove(_) => {
                self.names.remove(payload).expect("C3: a name was removed that did not exist");
            }
            Request::Rename(rename) => {
                let (old, new) = payload.split_at(rename.old_bytes as usize);
                let file =
                    self.names.remove(old).expect("C4: a name was changed that did not exist");
                self.names.insert(new.to_vec(), file);
            }
            _ => {}
        }
        None
    }

    /// Checks the reply of a request that changes nothing.
    fn look(&self, exchange: &Exchange<'_>, fields: &mut Reader<'_>) -> Option<Served> {
        match exchange.request {
            Request::Read(read) => {
                let snapshot = self.snapshots.get(&read.handle).map(|(_, bytes)| bytes);
                let bytes =
                    snapshot.unwrap_or_else(|| &self.files[self.file_of(read.handle)].bytes);
                let expected = range(bytes, read.offset, read.length.into());
                let received = exchange.reply.1;
                let differs =
                    expected.iter().zip(received).position(|(model, server)| model != server);
                assert!(
                    expected == received,
                    "{read:?}: {} bytes for {}, first difference at {differs:?}",
                    received.len(),
                    expected.len()
                );
                let is_program = snapshot.is_none() && !self.mapping.contains(&read.handle);
                if is_program {
                    self.check_seen(exchange, read.handle, read.offset, expected.len());
                }
                is_program.then_some(Served::Saw(read.offset, expected.to_vec()))
            }
            Request::GetAttr(get) => {
                let reply = fsproto::GetAttr::decode_reply(fields).expect("well-formed");
                let file = self.file_of(get.handle);
                assert_eq!(
                    reply.size,
                    ByteCount(self.files[file].bytes.len() as u64),
                    "size of a file"
                );
                let names = self.names.values().filter(|&&named| named == file).count();
                assert_eq!(reply.links as usize, names, "C3: names of a file");
                None
            }
            Request::Stat(_) => {
                let reply = fsproto::Stat::decode_reply(fields).expect("well-formed").attr;
                let file = self.names.get(exchange.payload).map(|&file| &self.files[file]);
                let file = file.expect("C3: a name that does not exist has attributes");
                assert_eq!(reply.id.0, file.id, "C3/C4: another file has this name");
                assert_eq!(reply.size, ByteCount(file.bytes.len() as u64), "size of a file");
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

    /// A snapshot was taken.
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
        let reply = fsproto::Write::decode_reply(fields).expect("well-formed");
        let written = self.written(write, exchange.payload);
        let (file, offset) = (self.file_of(write.handle), self.target(write));
        assert_eq!(reply.offset, FileOffset(offset as u64), "W6: where a write went");
        let done = reply.length.to_usize();
        assert!(done <= written.len(), "more was written than was sent");
        if self.mapping.contains(&write.handle) {
            self.wrote_back(exchange, file, offset, &written[..done]);
        } else {
            self.stores.replaced(file, offset..offset + done);
        }
        let uncertain = (exchange.faulted && done < written.len()).then(|| Uncertain {
            file,
            after: overlaid(&self.files[file].bytes, offset, &written),
            written: Some((offset, written.len())),
            done,
            place: Place::Handle(write.handle),
        });
        overlay(&mut self.files[file].bytes, offset, &written[..done]);
        self.snapshot(exchange.line, reply.snapshot, &written[..done]);
        if reply.snapshot != Handle::NONE {
            let File { id, bytes } = &self.files[file];
            self.versions.note(*id, reply.version, bytes);
        }
        let is_program = !self.mapping.contains(&write.handle);
        let wrote = || Served::Wrote(reply.offset.0, written[..done].to_vec());
        Outcome { served: is_program.then(wrote), uncertain, uncertain_names: false }
    }

    fn target(&self, write: &fsproto::Write) -> usize {
        let end = self.files[self.file_of(write.handle)].bytes.len();
        if write.flags.contains(WriteFlags::APPEND) { end } else { write.offset.0 as usize }
    }

    /// The bytes that a write's data and pieces denote.
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

    /// The file after a change other than a write.
    fn changed(&self, request: &Request) -> Option<(usize, Vec<u8>)> {
        match request {
            Request::SetAttr(set) if set.mask.contains(AttrMask::SIZE) => {
                let file = self.file_of(set.handle);
                let mut bytes = self.files[file].bytes.clone();
                bytes.resize(set.size.to_usize(), 0);
                Some((file, bytes))
            }
            Request::Allocate(more) if more.mode == AllocateMode::Extend => {
                let file = self.file_of(more.handle);
                let mut bytes = self.files[file].bytes.clone();
                let end = (more.offset + more.length).0 as usize;
                bytes.resize(bytes.len().max(end), 0);
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

    /// A connection was lost, and all its handles with it.
    pub fn line_gone(&mut self, line: Line) {
        self.handles.retain(|_, (of, _)| *of != line);
        self.snapshots.retain(|_, (of, _)| *of != line);
        let handles = &self.handles;
        self.mapping.retain(|handle| handles.contains_key(handle));
    }

    /// Handles that are not closed.
    pub fn open_handles(&self) -> usize {
        self.handles.len() + self.snapshots.len()
    }
}

impl Served {
    /// Offset and bytes of a read.
    pub fn saw(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Saw(offset, bytes) => Some((*offset, bytes)),
            Self::Wrote(..) => None,
        }
    }

    /// Offset and bytes of a write.
    pub fn wrote(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Wrote(offset, bytes) => Some((*offset, bytes)),
            Self::Saw(..) => None,
        }
    }
}
