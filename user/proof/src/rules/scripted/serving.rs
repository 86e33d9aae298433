//! The server's process: handles, and the answer to each request.

use super::{
    Action, Asked, BYTES_IN, BYTES_OUT, GENERATION, MESSAGES_IN, Reply, SNAPSHOTS, Script, Setting,
    WRITES, Wire, seed,
};
use alloc::collections::BTreeMap;
use foundation::{ByteCount, SnapshotOffset};
use fsproto::{
    Attr, Features, FileId, FileKind, HEADER_BYTES, Handle, Header, HolesListed, MAX_PAYLOAD,
    Nothing, Op, Operation, Request, Snapshotted, StatFs, Tag, VERSION, Version, Walked, Welcome,
    Written, error_reply,
};
use proof::kit::{Gate, Named, Outcome, PAGE, fill};
use proof::{check, os};
use user::pages::Pages;
use user::prelude::*;

#[derive(Clone, Copy)]
enum Object {
    Root,
    File { number: u64 },
    Snapshot { number: u64, generation: u64, writes: usize, offset: u64, length: u64 },
}

/// A write that was carried out: to which file, from where on, what.
struct Done {
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// The state of the server's process.
pub struct Serving<'a> {
    setting: Setting,
    wire: &'a Wire,
    held: &'a Gate,
    fd: Fd,
    script: Script,
    handles: BTreeMap<u64, Object>,
    /// All writes in order. A snapshot has the first of them.
    writes: Vec<Done>,
    next: u64,
    waiting: Vec<Reply>,
}

type Answer = Result<Reply>;

impl<'a> Serving<'a> {
    /// A server at its end of a connection.
    pub fn new(setting: Setting, wire: &'a Wire, held: &'a Gate, fd: Fd, script: Script) -> Self {
        Self {
            setting,
            wire,
            held,
            fd,
            script,
            handles: BTreeMap::new(),
            writes: Vec::new(),
            next: 1,
            waiting: Vec::new(),
        }
    }

    /// Serves until the connection ends.
    pub fn run(mut self, release: &Gate) -> Outcome {
        let payload = Pages::new(MAX_PAYLOAD).named("mmap")?;
        loop {
            let [message, released] =
                os::readable([self.fd, release.descriptor()]).named("poll")?;
            if released {
                release.pass()?;
                for reply in core::mem::take(&mut self.waiting) {
                    self.send(&reply);
                }
            }
            if message && !self.serve(&payload)? {
                return Ok(());
            }
        }
    }

    /// Serves one message. Returns false at the end of the connection.
    fn serve(&mut self, payload: &Pages) -> Outcome<bool> {
        let mut header = [0; HEADER_BYTES];
        let parts = [
            [header.as_mut_ptr() as usize, HEADER_BYTES],
            [payload.as_ptr() as usize, payload.len()],
        ];
        let count = match os::readv(self.fd, &parts) {
            Ok(0) | Err(_) => return Ok(false),
            Ok(count) => count,
        };
        self.wire.add(BYTES_IN, count as u64);
        self.wire.add(MESSAGES_IN, 1);
        check!(count >= HEADER_BYTES, "the kernel sent {count} bytes");
        let (fields, mut reader) =
            Header::decode(&header).map_err(|_| "the kernel sent a malformed header")?;
        let request = Request::decode(fields.op, &mut reader)
            .map_err(|_| "the kernel sent a malformed request")?;
        let op = Op::from_number(fields.op).ok_or("the kernel sent an unknown operation")?;
        let nth = self.wire.add(op as usize, 1);
        let asked = Asked {
            op,
            nth,
            tag: fields.tag,
            fields: request,
            of_snapshot: self.is_snapshot(&request),
        };
        let bytes = payload.get(..count - HEADER_BYTES).unwrap_or_default();
        let mut reply = match self.answer(fields.tag, &request, bytes) {
            Ok(reply) => reply,
            Err(error) => {
                Reply { header: error_reply(fields.op, fields.tag, error), payload: Vec::new() }
            }
        };
        let action = (self.script)(self.wire, &asked, &mut reply);
        // What the script refuses is not done.
        if let Request::Write(write) = &asked.fields
            && Header::decode(&reply.header).is_ok_and(|(header, _)| header.status == 0)
        {
            self.write(write, bytes);
        }
        match action {
            Action::Send => self.send(&reply),
            Action::Twice => {
                self.send(&reply);
                self.send(&reply);
            }
            Action::Hold => {
                self.waiting.push(reply);
                self.held.open()?;
            }
            Action::Die => return Ok(false),
        }
        Ok(true)
    }

    fn is_snapshot(&self, request: &Request) -> bool {
        let handle = match request {
            Request::Read(read) => read.handle,
            Request::Close(close) => close.handle,
            Request::ListHoles(extents) => extents.handle,
            _ => Handle::NONE,
        };
        matches!(self.handles.get(&handle.0), Some(Object::Snapshot { .. }))
    }

    fn send(&self, reply: &Reply) {
        let parts = [
            [reply.header.as_ptr() as usize, HEADER_BYTES],
            [reply.payload.as_ptr() as usize, reply.payload.len()],
        ];
        if let Ok(count) = os::writev(self.fd, &parts) {
            self.wire.add(BYTES_OUT, count as u64);
        }
    }

    fn open_handle(&mut self, object: Object) -> Handle {
        let handle = self.next;
        self.next += 1;
        self.handles.insert(handle, object);
        Handle(handle)
    }

    fn object(&self, handle: Handle) -> Result<Object> {
        if handle == fsproto::Handle::ROOT {
            return Ok(Object::Root);
        }
        self.handles.get(&handle.0).copied().ok_or(Errno::EBADF)
    }

    fn walk(&self, path: &[u8]) -> Result<Object> {
        match path {
            b"" => Ok(Object::Root),
            [b'f', digit @ b'0'..=b'9'] => Ok(Object::File { number: (digit - b'0').into() }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn version(&self) -> Version {
        Version(1 + self.wire.get(GENERATION) + self.writes.len() as u64)
    }

    fn attributes(&self, object: Object) -> Attr {
        let version = self.version();
        match object {
            Object::Root => Attr {
                id: FileId(1),
                version: Version(1),
                links: 2,
                mode: 0o755,
                kind: FileKind::Directory,
                ..Attr::default()
            },
            Object::File { number } | Object::Snapshot { number, .. } => {
                let size = self.setting.size;
                Attr {
                    id: FileId(10 + number),
                    version,
                    size: ByteCount(size),
                    blocks: size / 512,
                    links: 1,
                    mode: 0o644,
                    ..Attr::default()
                }
            }
        }
    }

    fn bytes(&self, object: Object, offset: u64, length: u64) -> Result<Vec<u8>> {
        let (number, generation, writes, base, end) = match object {
            Object::Root => return Err(Errno::EISDIR),
            Object::File { number } => {
                (number, self.wire.get(GENERATION), self.writes.len(), 0, self.setting.size)
            }
            Object::Snapshot { number, generation, writes, offset, length } => {
                (number, generation, writes, offset, length)
            }
        };
        let start = base + offset;
        let mut bytes = vec![0; length.min(end.saturating_sub(offset)) as usize];
        fill(&mut bytes, seed(number, generation), start);
        for done in self.writes.iter().take(writes).filter(|done| done.number == number) {
            for (at, byte) in (done.offset..).zip(&done.bytes) {
                let place = at.checked_sub(start).and_then(|at| bytes.get_mut(at as usize));
                if let Some(place) = place {
                    *place = *byte;
                }
            }
        }
        Ok(bytes)
    }

    /// The reply to a write; [`Self::write`] carries it out.
    fn written(&self, write: &fsproto::Write) -> Result<Written> {
        let end = write.offset.0.saturating_add(write.data_bytes.into());
        if !self.setting.writable || end > self.setting.size {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Written {
            length: ByteCount(write.data_bytes.into()),
            offset: write.offset,
            size: ByteCount(self.setting.size),
            version: Version(self.version().0 + 1),
            ..Written::default()
        })
    }

    fn write(&mut self, write: &fsproto::Write, payload: &[u8]) {
        if let Ok(Object::File { number }) = self.object(write.handle) {
            let bytes = payload.get(..write.data_bytes as usize).unwrap_or_default().to_vec();
            self.writes.push(Done { number, offset: write.offset.0, bytes });
            self.wire.add(WRITES, 1);
        }
    }

    fn answer(&mut self, tag: Tag, request: &Request, payload: &[u8]) -> Answer {
        let no_payload = |header| Reply { header, payload: Vec::new() };
        Ok(match request {
            Request::Hello(hello) => {
                let mut offered = Features::empty();
                offered.set(Features::SNAPSHOT, self.setting.snapshots);
                offered.set(Features::SOLE, self.setting.writable);
                let welcome = Welcome {
                    version: VERSION,
                    features: offered & hello.features,
                    root: FileId(1),
                    files: 0,
                };
                no_payload(fsproto::Hello::reply(tag, &welcome, 0))
            }
            Request::Open(_) => {
                let object = self.walk(payload)?;
                let walked = Walked {
                    handle: self.open_handle(object),
                    attr: self.attributes(object),
                    ..Walked::default()
                };
                no_payload(fsproto::Open::reply(tag, &walked, 0))
            }
            Request::Stat(_) => {
                let walked =
                    Walked { attr: self.attributes(self.walk(payload)?), ..Walked::default() };
                no_payload(fsproto::Stat::reply(tag, &walked, 0))
            }
            Request::GetAttr(get) => no_payload(fsproto::GetAttr::reply(
                tag,
                &self.attributes(self.object(get.handle)?),
                0,
            )),
            Request::Close(close) => {
                if let Some(Object::Snapshot { .. }) = self.handles.remove(&close.handle.0) {
                    self.wire.add(SNAPSHOTS, u64::MAX);
                }
                no_payload(fsproto::Close::reply(tag, &Nothing {}, 0))
            }
            Request::Read(read) => {
                let payload =
                    self.bytes(self.object(read.handle)?, read.offset, read.length.into())?;
                Reply { header: fsproto::Read::reply(tag, &Nothing {}, payload.len()), payload }
            }
            Request::Snapshot(snapshot) => self.snapshot(tag, snapshot)?,
            Request::GetStatFs(_) => {
                no_payload(fsproto::GetStatFs::reply(tag, &StatFs::default(), 0))
            }
            Request::ListHoles(extents) => no_payload(fsproto::ListHoles::reply(
                tag,
                &HolesListed { holes_end: extents.offset.saturating_add(extents.length.0) },
                0,
            )),
            Request::Write(write) => {
                no_payload(fsproto::Write::reply(tag, &self.written(write)?, 0))
            }
            Request::Allocate(allocate) if self.setting.writable => {
                let attr = self.attributes(self.object(allocate.handle)?);
                no_payload(fsproto::Allocate::reply(tag, &attr, 0))
            }
            Request::Sync(_) if self.setting.writable => {
                no_payload(fsproto::Sync::reply(tag, &Nothing {}, 0))
            }
            _ => return Err(Errno::EOPNOTSUPP),
        })
    }

    fn snapshot(&mut self, tag: Tag, request: &fsproto::Snapshot) -> Answer {
        let Object::File { number } = self.object(request.handle)? else {
            return Err(Errno::EINVAL);
        };
        let file = Object::File { number };
        let generation = self.wire.get(GENERATION);
        let offset = request.offset.0;
        let length = request.length.0.min(self.setting.size.saturating_sub(offset));
        let (page, misalignment) = (PAGE as u64, u64::from(request.misalignment));
        let leading = (page - misalignment) % page;
        let trailing = (misalignment + length) % page;
        let mut reply = Snapshotted {
            length: ByteCount(length),
            file: FileId(10 + number),
            version: self.version(),
            holes_end: SnapshotOffset(length),
            ..Snapshotted::default()
        };
        let payload = if length <= u64::from(request.inline_max) || length < leading + page {
            reply.leading_bytes = length as u32;
            self.bytes(file, offset, length)?
        } else {
            let writes = self.writes.len();
            reply.handle =
                self.open_handle(Object::Snapshot { number, generation, writes, offset, length });
            self.wire.add(SNAPSHOTS, 1);
            (reply.leading_bytes, reply.trailing_bytes) = (leading as u32, trailing as u32);
            let mut fragments = self.bytes(file, offset, leading)?;
            fragments.extend(self.bytes(file, offset + length - trailing, trailing)?);
            fragments
        };
        Ok(Reply { header: fsproto::Snapshot::reply(tag, &reply, payload.len()), payload })
    }
}
