//! The servers of the simulation: production `snapfs` over production `memfs`, with fault injection
//! between them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use foundation::Errno;
use fsproto::{
    Attr, Features, HEADER_BYTES, Handle, Header, MAX_PAYLOAD, Op, Open, OpenFlags, Operation,
    Path, Read, Remove, Stat, StatFs, Tag, Time, error_reply,
};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;
use fsserver::{Clock, Dispatcher, FileServer, LocalConnection, SessionId};

use crate::disk::Disk;
use crate::faults::{FaultPlan, FaultyConnection};
use crate::placed;
use crate::script::{NAMES, PAGE, Setup};

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// A clock that goes on by a nanosecond each time that it is looked at.
pub struct Ticks;

impl Clock for Ticks {
    fn now(&self) -> Time {
        NOW.set(NOW.get() + 1);
        Time(NOW.get())
    }
}

type Base = Rc<RefCell<Dispatcher<Memfs<Ticks>>>>;
type Wrapper = Snapfs<FaultyConnection<LocalConnection<Memfs<Ticks>>>, Ticks>;

/// The server at the other end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Wrapper,
    /// The wrapper's base, which answers page-ins (F9).
    Base,
}

/// A wrapper and its base server.
pub struct Servers {
    base: Base,
    wrapper: Dispatcher<Wrapper>,
    pub faults: Rc<RefCell<FaultPlan>>,
    /// The figures of the base server when it was empty.
    empty: StatFs,
    lacks: Features,
    /// The only client knows that it is.
    sole: bool,
}

impl Servers {
    /// New servers; those with a device have one [file](placed).
    pub fn new(setup: &Setup) -> Self {
        NOW.set(0);
        let faults = Rc::new(RefCell::new(FaultPlan::default()));
        let base = Rc::new(RefCell::new(Dispatcher::new(memfs(setup, &faults))));
        let lacks = Features::from_bits_truncate(setup.lacks);
        let client = FaultyConnection {
            inner: LocalConnection::new(base.clone()),
            faults: faults.clone(),
            lacks,
        };
        let wrapper = Dispatcher::new(Snapfs::new(client, Ticks).expect("the base server answers"));
        let mut empty =
            base.borrow_mut().server_mut().stat_fs().expect("memfs returns its figures");
        // The file that was there from the start goes, too.
        empty.files_free += u64::from(setup.budget_pages > 0);
        Self { base, wrapper, faults, empty, lacks, sole: setup.sole }
    }

    /// Whether files change by the clients' requests alone.
    pub fn are_steady(&self) -> bool {
        self.wrapper.server().is_steady()
    }

    /// Opens a session for a new connection.
    pub fn open_session(&mut self) -> SessionId {
        if self.sole { self.wrapper.open_sole_session() } else { self.wrapper.open_session() }
    }

    /// Opens a session with the base server for a new connection, past the wrapper (F9).
    pub fn open_direct_session(&mut self) -> SessionId {
        self.base.borrow_mut().open_direct_session()
    }

    /// Closes the session of a lost connection.
    pub fn close_session(&mut self, at: Peer, session: SessionId) {
        match at {
            Peer::Wrapper => self.wrapper.close_session(session),
            Peer::Base => self.base.borrow_mut().close_session(session),
        }
    }

    /// Carries out a request.
    pub fn handle(
        &mut self,
        at: Peer,
        session: SessionId,
        header: &[u8; HEADER_BYTES],
        payload: &[u8],
    ) -> ([u8; HEADER_BYTES], Vec<u8>) {
        match at {
            Peer::Wrapper => {
                let reply = self.wrapper.handle(session, header, payload);
                (reply.header, reply.payload.to_vec())
            }
            Peer::Base => {
                let mut base = self.base.borrow_mut();
                let fails = Header::decode(header).ok().and_then(|(fields, _)| {
                    let op = Op::from_number(fields.op)?;
                    let error = self.faults.borrow_mut().take_fault(op)?;
                    Some(error_reply(fields.op, fields.tag, error))
                });
                let reply = base.handle(session, header, payload);
                match fails {
                    None => (reply.header, reply.payload.to_vec()),
                    Some(failed) if self.faults.borrow().failed.is_multiple_of(2) => {
                        (failed, Vec::new())
                    }
                    // Nonsense: the right bytes, less one page.
                    Some(_) => {
                        let mut bytes = reply.payload.to_vec();
                        bytes.truncate(bytes.len().saturating_sub(PAGE));
                        let mut header = reply.header;
                        header[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
                        (header, bytes)
                    }
                }
            }
        }
    }

    /// Carries out a request of the simulation itself: no fault is injected.
    fn ask<O: Operation>(
        &mut self,
        session: SessionId,
        request: &O,
    ) -> ([u8; HEADER_BYTES], Vec<u8>) {
        self.faults.borrow_mut().quiet = true;
        let reply = self.handle(Peer::Wrapper, session, &request.request(Tag(0), 0), &[]);
        self.faults.borrow_mut().quiet = false;
        reply
    }

    /// The id of the file of this name on the base server, if it exists.
    pub fn file_in_store(&mut self, name: &[u8]) -> Option<u64> {
        let stat = Stat { dir: Handle::ROOT, flags: OpenFlags::NO_FOLLOW };
        let walk = self.base.borrow_mut().server_mut().stat(&stat, Path::new(name).ok()?).ok()?;
        Some(walk.reply.attr.id.0)
    }

    /// The attributes of the file of this name, as the wrapper shows them to clients.
    pub fn shown(&mut self, name: &[u8]) -> Result<Attr, Errno> {
        let stat = Stat { dir: Handle::ROOT, flags: OpenFlags::NO_FOLLOW };
        self.faults.borrow_mut().quiet = true;
        let walk = self.wrapper.server_mut().stat(&stat, Path::new(name)?);
        self.faults.borrow_mut().quiet = false;
        Ok(walk?.reply.attr)
    }

    /// The bytes of the file of this name on the base server.
    pub fn read_in_store(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let mut base = self.base.borrow_mut();
        let open = Open { dir: Handle::ROOT, flags: OpenFlags::READ, mode: 0 };
        let walk = base.server_mut().open(&open, Path::new(name).ok()?).ok()?;
        let handle = walk.reply.handle;
        self.faults.borrow_mut().quiet = true;
        let bytes = whole(|offset| {
            let read = Read { handle, offset, length: MAX_PAYLOAD as u32 };
            base.server_mut().read(&read).expect("memfs can be read").to_vec()
        });
        base.server_mut().close(handle).expect("it was open");
        self.faults.borrow_mut().quiet = false;
        Some(bytes)
    }

    /// The bytes of an open file, read through a session.
    pub fn read_open(&mut self, session: SessionId, handle: Handle) -> Vec<u8> {
        whole(|offset| {
            let (header, bytes) =
                self.ask(session, &Read { handle, offset, length: MAX_PAYLOAD as u32 });
            let (header, _) = Header::decode(&header).expect("well-formed");
            assert_eq!(header.status, 0, "a file that cannot be read");
            bytes
        })
    }

    /// Asserts that the wrapper has released everything, and that the base server is empty again.
    pub fn assert_empty(self) {
        let figures = self.wrapper.server().figures();
        assert_eq!(
            (figures.snapshots, figures.reserved_pages, figures.stored_pages),
            (0, 0, 0),
            "C10: {figures:?}"
        );
        assert_eq!((figures.rescue_files, figures.files), (0, 0), "C10: {figures:?}");
        let Self { base, wrapper, faults, empty, lacks, .. } = self;
        for name in NAMES {
            let path = Path::new(name.as_bytes()).expect("a name");
            // Not every name exists.
            let _ = base
                .borrow_mut()
                .server_mut()
                .remove(&Remove { dir: Handle::ROOT, flags: OpenFlags::empty() }, path);
        }
        let left = || {
            let now = base.borrow_mut().server_mut().stat_fs().expect("memfs returns its figures");
            (empty.blocks_free - now.blocks_free, empty.files_free - now.files_free)
        };
        if faults.borrow().failed_removals == 0 {
            let (blocks, files) = left();
            // The wrapper's folder may stay if the base server failed while it was created.
            assert!(
                blocks == 0 && files <= 1,
                "C10: {blocks} blocks and {files} files of the base server that leaked"
            );
        }
        // The next wrapper removes what could not be removed.
        drop(wrapper);
        let client = FaultyConnection {
            inner: LocalConnection::new(base.clone()),
            faults: Rc::default(),
            lacks,
        };
        drop(Snapfs::new(client, Ticks).expect("the base server answers"));
        assert_eq!(left(), (0, 0), "blocks and files of the base server that leaked");
    }
}

/// The base server, with its memory and its device.
fn memfs(setup: &Setup, faults: &Rc<RefCell<FaultPlan>>) -> Memfs<Ticks> {
    let Setup { capacity_pages, budget_pages, .. } = *setup;
    if budget_pages == 0 {
        return Memfs::new(capacity_pages * 4096, AccessTimes::Untouched, Ticks);
    }
    let disk = Disk::new(capacity_pages - budget_pages, faults.clone());
    let memfs = Memfs::new(budget_pages * 4096, AccessTimes::Untouched, Ticks);
    let memfs = memfs.spill_to(Box::new(disk), budget_pages * 4096);
    placed::add(memfs.expect("memory for a table"), faults)
}

/// All bytes that `read` returns, message by message.
fn whole(mut read: impl FnMut(u64) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = read(bytes.len() as u64);
        if part.is_empty() {
            return bytes;
        }
        bytes.extend(part);
    }
}
