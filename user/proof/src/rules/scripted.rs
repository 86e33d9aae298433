//! A small file server that a test controls by a script.
//!
//! It serves the files `f0` to `f9`, read-only, all of one size and filled with a pattern, with
//! snapshots. Every reply passes through the script, which may change it, hold it until the test
//! releases it, send it twice or never, or end the server. Messages are counted in memory that the
//! test shares. It is one process that serves one request at a time, marked as a server (F8) by
//! default.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::{ByteCount, SnapshotOffset};
use fsproto::{
    Attr, Features, FileId, FileKind, HEADER_BYTES, Handle, Header, HolesListed, MAX_PAYLOAD,
    Nothing, Op, Operation, Request, Snapshotted, StatFs, Tag, VERSION, Version, Walked, Welcome,
    error_reply,
};
use proof::kit::{Buffer, Child, Content, Gate, Named, Outcome, PAGE, fill, pattern};
use proof::{check, os};
use user::pages::Pages;
use user::prelude::*;

/// A reply before it is sent.
pub struct Reply {
    /// The message header, 128 bytes.
    pub header: [u8; HEADER_BYTES],
    /// The bytes after the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// Replaces it by an error reply.
    pub fn fail(&mut self, op: Op, tag: Tag, error: Errno) {
        *self = Self { header: error_reply(op as u16, tag, error), payload: Vec::new() };
    }

    /// Replaces the fields; payload and its length stay.
    pub fn set<O: Operation>(&mut self, tag: Tag, fields: &O::Reply) {
        self.header = O::reply(tag, fields, self.payload.len());
    }
}

/// What the server does with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it to the kernel at once.
    Send,
    /// Hold it until the test releases it.
    Hold,
    /// Send it twice.
    Twice,
    /// End the server instead.
    Die,
}

/// A request as the script sees it.
pub struct Asked {
    /// The requested operation.
    pub op: Op,
    /// Sequence number among the requests of this operation, from 1.
    pub nth: u64,
    /// The request's tag, which the reply repeats.
    pub tag: Tag,
    /// The decoded fields.
    pub fields: Request,
    /// Whether the request's handle is a snapshot.
    pub of_snapshot: bool,
}

/// Decides about each reply; runs in the server's process.
pub type Script = Box<dyn FnMut(&Wire, &Asked, &mut Reply) -> Action>;

/// Sends every reply as it is.
pub fn honest() -> Script {
    Box::new(|_, _, _| Action::Send)
}

/// Counters in shared memory: one for each operation's number, then these.
const BYTES_IN: usize = 64;
const BYTES_OUT: usize = 65;
const GENERATION: usize = 66;
const SNAPSHOTS: usize = 67;
const MESSAGES_IN: usize = 68;

/// The counters and flags that test and server share.
pub struct Wire(Buffer);

impl Wire {
    fn number(&self, index: usize) -> &AtomicU64 {
        // SAFETY: a word of a mapping that lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.0.at(index * 8) as *mut u64) }
    }

    fn get(&self, index: usize) -> u64 {
        self.number(index).load(Ordering::SeqCst)
    }

    fn add(&self, index: usize, amount: u64) -> u64 {
        self.number(index).fetch_add(amount, Ordering::SeqCst) + amount
    }

    /// Requests of an operation that arrived.
    pub fn requests(&self, op: Op) -> u64 {
        self.get(op as usize)
    }

    /// Messages that arrived.
    pub fn messages_in(&self) -> u64 {
        self.get(MESSAGES_IN)
    }

    /// Bytes that arrived, and bytes that were sent.
    pub fn bytes(&self) -> (u64, u64) {
        (self.get(BYTES_IN), self.get(BYTES_OUT))
    }

    /// Snapshots that the kernel has not closed.
    pub fn snapshots(&self) -> u64 {
        self.get(SNAPSHOTS)
    }

    /// Changes the bytes of all files; snapshots keep theirs.
    pub fn change_files(&self) {
        self.add(GENERATION, 1);
    }
}

/// How the server is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Size of each file in bytes.
    pub size: u64,
    /// Whether it declares the snapshot feature.
    pub snapshots: bool,
    /// Whether it marks itself as a server.
    pub marked: bool,
}

/// The default set-up.
pub const USUAL: Setting = Setting { size: 256 * PAGE as u64, snapshots: true, marked: true };

/// A running server and its mount. Unmounted and killed when dropped.
pub struct Server {
    /// Path of the mount point.
    pub path: String,
    /// The shared counters.
    pub wire: Wire,
    held: Gate,
    release: Gate,
    _process: Child,
}

impl Server {
    /// Starts a server and mounts it on `/mnt/NAME`.
    pub fn mount(name: &str, setting: Setting, script: Script) -> Outcome<Self> {
        let server = Self::start(name, setting, script)?;
        let (server, fd) = server;
        let mounted = os::mount(fd, &server.path).named("mount");
        sys::close(fd).named("close")?;
        mounted.map(|()| server)
    }

    /// Starts a server without mounting it; the descriptor is for mount(2).
    pub fn start(name: &str, setting: Setting, script: Script) -> Outcome<(Self, Fd)> {
        let path = format!("/mnt/{name}");
        match sys::mkdir(path.as_bytes(), 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("mkdir {path}: {error:?}")),
        }
        let [ours, theirs] = os::socket_pair().named("socketpair")?;
        let (wire, held, release) = (Wire(Buffer::shared(PAGE)?), Gate::new()?, Gate::new()?);
        let process = Child::start("scripted server", || {
            sys::close(ours).named("close")?;
            if setting.marked {
                os::become_server().named("prctl")?;
            }
            Serving {
                setting,
                wire: &wire,
                held: &held,
                fd: theirs,
                script,
                handles: BTreeMap::new(),
                next: 1,
                waiting: Vec::new(),
            }
            .run(&release)
        })?;
        sys::close(theirs).named("close")?;
        Ok((Self { path, wire, held, release, _process: process }, ours))
    }

    /// The path of file `number`.
    pub fn file(&self, number: u64) -> String {
        format!("{}/f{number}", self.path)
    }

    /// Opens file `number` for reading.
    pub fn open(&self, number: u64) -> Outcome<Fd> {
        sys::open(self.file(number).as_bytes(), sys::abi::O_RDONLY, 0).named(self.file(number))
    }

    /// Waits until the server holds a reply.
    pub fn wait_held(&self) -> Outcome {
        self.held.pass()
    }

    /// Lets the server send all replies that it holds.
    pub fn release(&self) -> Outcome {
        self.release.open()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _: sys::Result<()> =
            os::unmount(&self.path).and_then(|()| sys::rmdir(self.path.as_bytes()));
    }
}

/// The bytes of file `number` from offset `from` on, after `generation` changes.
pub fn content(number: u64, generation: u64, from: u64) -> Content {
    pattern(seed(number, generation), from)
}

fn seed(number: u64, generation: u64) -> u64 {
    1000 * (number + 1) + generation
}

#[derive(Clone, Copy)]
enum Object {
    Root,
    File { number: u64 },
    Snapshot { number: u64, generation: u64, offset: u64, length: u64 },
}

/// The state of the server's process.
struct Serving<'a> {
    setting: Setting,
    wire: &'a Wire,
    held: &'a Gate,
    fd: Fd,
    script: Script,
    handles: BTreeMap<u64, Object>,
    next: u64,
    waiting: Vec<Reply>,
}

type Answer = Result<Reply>;

impl Serving<'_> {
    fn run(mut self, release: &Gate) -> Outcome {
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
        match (self.script)(self.wire, &asked, &mut reply) {
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

    fn attributes(&self, object: Object) -> Attr {
        let version = Version(1 + self.wire.get(GENERATION));
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
        let (seed, base, end) = match object {
            Object::Root => return Err(Errno::EISDIR),
            Object::File { number } => {
                (seed(number, self.wire.get(GENERATION)), 0, self.setting.size)
            }
            Object::Snapshot { number, generation, offset, length } => {
                (seed(number, generation), offset, length)
            }
        };
        let mut bytes = vec![0; length.min(end.saturating_sub(offset)) as usize];
        fill(&mut bytes, seed, base + offset);
        Ok(bytes)
    }

    fn answer(&mut self, tag: Tag, request: &Request, payload: &[u8]) -> Answer {
        let no_payload = |header| Reply { header, payload: Vec::new() };
        Ok(match request {
            Request::Hello(hello) => {
                let offered =
                    if self.setting.snapshots { Features::SNAPSHOT } else { Features::empty() };
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
            version: Version(1 + generation),
            holes_end: SnapshotOffset(length),
            ..Snapshotted::default()
        };
        let payload = if length <= u64::from(request.inline_max) || length < leading + page {
            reply.leading_bytes = length as u32;
            self.bytes(file, offset, length)?
        } else {
            reply.handle =
                self.open_handle(Object::Snapshot { number, generation, offset, length });
            self.wire.add(SNAPSHOTS, 1);
            (reply.leading_bytes, reply.trailing_bytes) = (leading as u32, trailing as u32);
            let mut fragments = self.bytes(file, offset, leading)?;
            fragments.extend(self.bytes(file, offset + length - trailing, trailing)?);
            fragments
        };
        Ok(Reply { header: fsproto::Snapshot::reply(tag, &reply, payload.len()), payload })
    }
}
