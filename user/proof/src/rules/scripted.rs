//! A small file server that a test controls by a script.
//!
//! It serves the files `f0` to `f9`, all of one size and filled with a pattern, with snapshots.
//! They can be written if the setting says so. Every reply passes through the script, which may
//! change it, hold it until the test releases it, send it twice or never, or end the server. A
//! write is carried out unless the script makes its reply an error. Messages are counted in memory
//! that the test shares. It is one process that serves one request at a time, marked as a server
//! (F8) by default.

mod serving;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use fsproto::{HEADER_BYTES, Op, Operation, Request, Tag, error_reply};
use proof::kit::{Buffer, Child, Content, Gate, Named, Outcome, PAGE, pattern};
use proof::os;
use serving::Serving;
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
const PHASE: usize = 69;
const WRITES: usize = 70;

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

    /// Writes that were carried out.
    pub fn writes(&self) -> u64 {
        self.get(WRITES)
    }

    /// The phase that the test has chosen for the script, first 0.
    pub fn phase(&self) -> u64 {
        self.get(PHASE)
    }

    /// Chooses the phase.
    pub fn choose(&self, phase: u64) {
        self.number(PHASE).store(phase, Ordering::SeqCst);
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
    /// Whether its files can be written, by the kernel alone ([`fsproto::Features::SOLE`]).
    pub writable: bool,
}

/// The default set-up.
pub const USUAL: Setting =
    Setting { size: 256 * PAGE as u64, snapshots: true, marked: true, writable: false };

/// The set-up of a server whose files can be mapped shared.
pub const WRITABLE: Setting = Setting { writable: true, ..USUAL };

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
            Serving::new(setting, &wire, &held, theirs, script).run(&release)
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
