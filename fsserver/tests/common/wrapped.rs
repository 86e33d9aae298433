//! The wrapper on memfs, with a connection between them that counts requests and can be made to
//! fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use foundation::Errno;
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::{Limits, Snapfs};
use fsserver::{ClientLimits, Connection, Dispatcher, LocalConnection};

use super::device::Device;
use super::{Files, SharedServer, TestClock, shared};

/// The traffic between wrapper and base.
#[derive(Clone, Default)]
pub struct Wire(Rc<WireState>);

#[derive(Default)]
pub struct WireState {
    calls: RefCell<BTreeMap<u16, u64>>,
    bytes: Cell<u64>,
    fail: RefCell<Option<Fail>>,
}

type Fail = Box<dyn FnMut(Op) -> Option<Failure>>;

/// A failure of the base.
#[derive(Clone, Copy)]
pub enum Failure {
    /// The request was not carried out.
    Before(Errno),
    /// The request was carried out.
    After(Errno),
}

impl Wire {
    /// Number of requests of an operation so far.
    pub fn calls(&self, op: Op) -> u64 {
        self.0.calls.borrow().get(&(op as u16)).copied().unwrap_or(0)
    }

    /// Number of all requests so far.
    pub fn total(&self) -> u64 {
        self.0.calls.borrow().values().sum()
    }

    /// Bytes of payload so far, in both directions.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Sets the function that decides whether a request fails.
    pub fn fail_by(&self, fail: impl FnMut(Op) -> Option<Failure> + 'static) {
        *self.0.fail.borrow_mut() = Some(Box::new(fail));
    }

    /// Stops failures.
    pub fn heal(&self) {
        *self.0.fail.borrow_mut() = None;
    }
}

pub struct WiredClient {
    inner: LocalConnection<Memfs<TestClock>>,
    wire: Wire,
}

impl Connection for WiredClient {
    fn call(
        &mut self,
        head: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno> {
        let (decoded, _) = Header::decode(head).unwrap();
        let op = Op::from_number(decoded.op).unwrap();
        *self.wire.0.calls.borrow_mut().entry(decoded.op).or_default() += 1;
        let failure = self.wire.0.fail.borrow_mut().as_mut().and_then(|fail| fail(op));
        if let Some(Failure::Before(error)) = failure {
            return Ok((error_reply(decoded.op, decoded.tag, error), 0));
        }
        let (reply, length) = self.inner.call(head, payload, into)?;
        let sent: usize = payload.iter().map(|part| part.len()).sum();
        self.wire.0.bytes.set(self.wire.0.bytes.get() + (sent + length) as u64);
        match failure {
            Some(Failure::After(error)) => Ok((error_reply(decoded.op, decoded.tag, error), 0)),
            _ => Ok((reply, length)),
        }
    }
}

pub type Wrapper = Snapfs<WiredClient, TestClock>;

/// The wrapper, its base, and a client.
pub struct Tower {
    pub base: SharedServer<Memfs<TestClock>>,
    pub wrapper: SharedServer<Wrapper>,
    pub wire: Wire,
    pub clock: TestClock,
    pub files: Files<LocalConnection<Wrapper>>,
}

impl Tower {
    pub fn new(capacity_pages: u64) -> Self {
        Self::without(Features::empty(), capacity_pages)
    }

    /// On a base without some features.
    pub fn without(lacking: Features, capacity_pages: u64) -> Self {
        let clock = TestClock::default();
        Self::over(
            Memfs::new(capacity_pages * 4096, AccessTimes::Untouched, clock.clone())
                .without(lacking),
            Limits::default(),
            clock,
        )
    }

    /// With rescue maps of few entries.
    pub fn with_entries(lacking: Features, capacity_pages: u64, entries: usize) -> Self {
        let clock = TestClock::default();
        let memfs = Memfs::new(capacity_pages * 4096, AccessTimes::Untouched, clock.clone());
        let limits =
            Limits { entries_per_file: entries, entries: 2 * entries, ..Limits::default() };
        Self::over(memfs.without(lacking), limits, clock)
    }

    /// On a base with little memory and a device.
    pub fn spilled(lacking: Features, budget_pages: u64, device: &Device) -> Self {
        let clock = TestClock::default();
        let memfs =
            Memfs::new(budget_pages * 4096, AccessTimes::Untouched, clock.clone()).without(lacking);
        let memfs = memfs.spill_to(Box::new(device.clone()), budget_pages * 4096).unwrap();
        Self::over(memfs, Limits::default(), clock)
    }

    /// With the limits of a wrapper with so much memory, on a base of which so many files can be
    /// open.
    pub fn within(memory_bytes: u64, base_files: usize) -> (Self, ClientLimits) {
        let clock = TestClock::default();
        let memfs = Memfs::new(100_000 * 4096, AccessTimes::Untouched, clock.clone());
        let client = ClientLimits { files: base_files, snapshots: 0 };
        let base = Rc::new(RefCell::new(Dispatcher::new(memfs).limited_to(client)));
        let (limits, clients) = Limits::within(memory_bytes, Some(base_files));
        (Self::on(base, limits, clients, clock), clients)
    }

    fn over(memfs: Memfs<TestClock>, limits: Limits, clock: TestClock) -> Self {
        Self::on(shared(memfs), limits, ClientLimits::default(), clock)
    }

    fn on(
        base: SharedServer<Memfs<TestClock>>,
        limits: Limits,
        clients: ClientLimits,
        clock: TestClock,
    ) -> Self {
        let wire = Wire::default();
        let client = WiredClient { inner: LocalConnection::new(base.clone()), wire: wire.clone() };
        let wrapper = Snapfs::new(client, clock.clone()).unwrap().limited_to(limits);
        let wrapper = Rc::new(RefCell::new(Dispatcher::new(wrapper).limited_to(clients)));
        let files = Files::of(&wrapper);
        Self { base, wrapper, wire, clock, files }
    }

    pub fn figures(&self) -> fsserver::snapfs::Figures {
        self.wrapper.borrow().server().figures()
    }

    /// Free blocks of the base, where rescue files count as used.
    pub fn base_free(&self) -> u64 {
        use fsserver::FileServer;
        self.base.borrow_mut().server_mut().stat_fs().unwrap().blocks_free
    }

    /// Number of files on the base.
    pub fn base_files(&self) -> u64 {
        use fsserver::FileServer;
        let info = self.base.borrow_mut().server_mut().stat_fs().unwrap();
        info.files - info.files_free
    }
}
