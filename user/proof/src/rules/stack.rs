//! A server stack of the test's own: `memfs` under `snapfs`, as for the root file system, with a
//! relay on each side of the wrapper.
//!
//! The processes are kernel, relay, wrapper, relay, base; all four servers are marked. The relays
//! count messages and do nothing else. Requests of the wrapper to its base can be made to fail, and
//! the wrapper reports what it keeps after each message. All figures are in memory that the test
//! shares, and are current when a reply arrives.

use alloc::rc::Rc;
use core::sync::atomic::{AtomicU64, Ordering};
use fsproto::{Close, HEADER_BYTES, Header, MAX_PAYLOAD, Op, Operation, Time, closes};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::{Figures, Snapfs};
use fsserver::{ClientLimits, Connection, Dispatcher, Transport, TransportConnection};
use proof::kit::{Buffer, Child, Gate, Named, Outcome, PAGE};
use proof::{check, os};
use user::pages::Pages;
use user::prelude::*;
use user::relay::{self, Tally, Way};
use user::sys::abi;
use user::transport::SocketTransport;

/// The shared memory: a page for each relay's counts, then a page of words.
const CLIENT_TALLY: usize = 0;
const BASE_TALLY: usize = PAGE;
const WORDS: usize = 2 * PAGE;
const SHARED_BYTES: usize = 3 * PAGE;
const _: () = assert!(size_of::<Tally>() <= PAGE);

/// Indices of the words.
const FAILING: usize = 0;
const HELD: usize = 1;
const FIGURES: usize = 2;

/// The memory that the test and the servers share.
#[derive(Clone)]
pub struct Look(Rc<Buffer>);

impl Look {
    fn number(&self, index: usize) -> &AtomicU64 {
        // SAFETY: a word of a mapping that lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.0.at(WORDS + index * 8) as *mut u64) }
    }

    fn tally(&self, at: usize) -> &Tally {
        // SAFETY: atomic words within a page of a mapping that lives as long as `self`; every bit
        // pattern is valid for them.
        unsafe { &*(self.0.at(at) as *const Tally) }
    }

    fn get(&self, index: usize) -> u64 {
        self.number(index).load(Ordering::SeqCst)
    }

    /// Traffic between the kernel and the wrapper.
    pub fn client(&self) -> &Tally {
        self.tally(CLIENT_TALLY)
    }

    /// Traffic between the wrapper and the base.
    pub fn base(&self) -> &Tally {
        self.tally(BASE_TALLY)
    }

    /// Requests to the base that change or open something.
    pub fn changes(&self) -> u64 {
        let ops = [
            Op::Open,
            Op::Write,
            Op::CloneRange,
            Op::Allocate,
            Op::SetAttr,
            Op::Rename,
            Op::Link,
            Op::Remove,
            Op::MakeDir,
        ];
        ops.into_iter().map(|op| self.base().messages_of(op, Way::Out)).sum()
    }

    /// Handles that the wrapper has open at the base.
    pub fn open_handles(&self) -> u64 {
        self.base().granted(Op::Open) - self.base().granted(Op::Close)
    }

    /// What the wrapper keeps.
    pub fn kept(&self) -> Figures {
        let [snapshots, reserved_pages, stored_pages, entries, rescue_files, files] =
            core::array::from_fn(|index| self.get(FIGURES + index));
        Figures {
            snapshots: snapshots as usize,
            reserved_pages,
            stored_pages,
            entries: entries as usize,
            rescue_files: rescue_files as usize,
            files: files as usize,
        }
    }

    fn tell(&self, figures: &Figures) {
        let Figures { snapshots, reserved_pages, stored_pages, entries, rescue_files, files } =
            *figures;
        let [snapshots, entries, rescue_files, files] =
            [snapshots, entries, rescue_files, files].map(|count| count as u64);
        for (index, figure) in
            [snapshots, reserved_pages, stored_pages, entries, rescue_files, files]
                .into_iter()
                .enumerate()
        {
            self.number(FIGURES + index).store(figure, Ordering::SeqCst);
        }
    }

    /// Holds the replies to requests of an operation, or of none. The requests are executed.
    pub fn hold(&self, op: Option<Op>) {
        self.number(HELD).store(op.map_or(0, |op| op as u64), Ordering::SeqCst);
    }

    /// Makes requests of an operation, or of none, fail at the base with EIO.
    pub fn fail(&self, op: Option<Op>) {
        self.number(FAILING).store(op.map_or(0, |op| op as u64), Ordering::SeqCst);
    }
}

/// The transport from the wrapper to the base, on which requests can be made to fail.
struct Failing {
    base: TransportConnection<SocketTransport>,
    look: Look,
}

impl Connection for Failing {
    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize)> {
        let (request, _) = Header::decode(header).map_err(|_| Errno::EPROTO)?;
        if u64::from(request.op) == self.look.get(FAILING) {
            // What the request closes besides takes effect, as a close of its own does.
            for handle in closes(header) {
                self.base.call(&Close { handle }.request(request.tag, 0), &[], &mut [])?;
            }
            return Ok((fsproto::error_reply(request.op, request.tag, Errno::EIO), 0));
        }
        self.base.call(header, payload, into)
    }
}

/// Where page-ins of a stack go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// To the wrapper.
    Wrapped,
    /// To the base first (F9), through the same relay as the wrapper's requests.
    Direct,
    /// The same is asked for, but that relay is not marked as a server.
    DirectUnmarked,
    /// The same is asked for, of a stack that is not trusted.
    DirectUntrusted,
}

/// A mounted tree. Unmounted and killed when dropped.
pub struct Stack {
    /// Path of the mount point.
    pub path: String,
    /// The shared figures.
    pub look: Look,
    held: Gate,
    release: Gate,
    _processes: Vec<Child>,
}

impl Stack {
    /// Starts the servers, with space for this many bytes of files, and mounts them on `/mnt/NAME`.
    pub fn mount(name: &str, capacity_bytes: u64) -> Outcome<Self> {
        Self::mount_as(name, capacity_bytes, Paging::Wrapped)
    }

    /// The same; `paging` says where page-ins go.
    pub fn mount_as(name: &str, capacity_bytes: u64, paging: Paging) -> Outcome<Self> {
        let path = format!("/mnt/{name}");
        match sys::mkdir(path.as_bytes(), 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("mkdir {path}: {error:?}")),
        }
        let look = Look(Rc::new(Buffer::shared(SHARED_BYTES)?));
        let pair = || os::socket_pair().named("socketpair");
        let ([base_relay, base], [wrapper_base, base_client]) = (pair()?, pair()?);
        let ([relay, wrapper], [ours, client]) = (pair()?, pair()?);
        let (held, release) = (Gate::new()?, Gate::new()?);
        let processes = vec![
            server("base", || serve_base(base, capacity_bytes))?,
            if paging == Paging::DirectUnmarked {
                Child::start("relay", || pass(base_client, base_relay, look.base()))?
            } else {
                server("relay to the base", || pass(base_client, base_relay, look.base()))?
            },
            server("wrapper", || serve(wrapper, wrapper_base, &look, [&held, &release]))?,
            server("relay to the wrapper", || pass(client, relay, look.client()))?,
        ];
        for fd in [base_relay, base, base_client, relay, wrapper, client] {
            sys::close(fd).named("close")?;
        }
        let options = match paging {
            Paging::Wrapped => format!("fd={ours}"),
            Paging::Direct | Paging::DirectUnmarked => format!("fd={ours},direct={wrapper_base}"),
            Paging::DirectUntrusted => format!("fd={ours},direct={wrapper_base},untrusted"),
        };
        let mounted = os::mount_with(&path, &options).named("mount");
        for fd in [ours, wrapper_base] {
            sys::close(fd).named("close")?;
        }
        mounted?;
        Ok(Self { path, look, held, release, _processes: processes })
    }

    /// Waits until a reply is held.
    pub fn wait_held(&self) -> Outcome {
        self.held.pass()
    }

    /// Releases the reply that is held.
    pub fn release(&self) -> Outcome {
        self.release.open()
    }

    /// Sends a request that changes nothing; afterwards the figures include all earlier requests.
    pub fn settle(&self) -> Outcome {
        sys::statfs(self.path.as_bytes()).named("statfs").map(drop)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _: sys::Result<()> =
            os::unmount(&self.path).and_then(|()| sys::rmdir(self.path.as_bytes()));
    }
}

fn now() -> Time {
    Time(sys::clock(abi::CLOCK_REALTIME).map_or(0, |time| time.as_nanos() as i64))
}

/// Starts a process with the server mark.
fn server(what: &str, body: impl FnOnce() -> Outcome) -> Outcome<Child> {
    Child::start(what, || {
        os::become_server().named("prctl")?;
        choose_mutant()?;
        body()
    })
}

fn pass(client: Fd, server: Fd, tally: &Tally) -> Outcome {
    relay::run(client, server, 0, |passing| tally.count(passing), || {}).named("relay")
}

fn serve_base(fd: Fd, capacity_bytes: u64) -> Outcome {
    let memfs = Memfs::new(capacity_bytes, AccessTimes::Untouched, now);
    fsserver::serve(memfs, || Ok(()), ClientLimits::default(), SocketTransport::new(fd))
        .map_err(|error| format!("memfs: {error:?}"))
}

/// The wrapper; after each message it reports what it keeps.
fn serve(fd: Fd, base: Fd, look: &Look, [held, release]: [&Gate; 2]) -> Outcome {
    let client =
        Failing { base: TransportConnection(SocketTransport::new(base)), look: look.clone() };
    let wrapper = Snapfs::new(client, now).map_err(|error| format!("snapfs: {error:?}"))?;
    let mut dispatcher = Dispatcher::new(wrapper);
    let session = dispatcher.open_sole_session();
    let mut payload = Pages::new(MAX_PAYLOAD).named("mmap")?;
    let mut header = [0; HEADER_BYTES];
    let mut port = SocketTransport::new(fd);
    while let Some(length) = port.receive(&mut header, &mut payload) {
        let reply = dispatcher.handle(session, &header, payload.get(..length).unwrap_or_default());
        let (header, bytes) = (reply.header, reply.payload.to_vec());
        look.tell(&dispatcher.server().figures());
        if Header::decode(&header).is_ok_and(|(header, _)| u64::from(header.op) == look.get(HELD)) {
            held.open()?;
            release.pass()?;
        }
        check!(port.send(&header, &[&bytes]).is_ok(), "the relay is gone");
    }
    Ok(())
}

/// The mutant that was chosen in the kernel is active in these servers too.
#[cfg(feature = "mutants")]
fn choose_mutant() -> Outcome {
    let name = proof::lazy::read_text("/proc/sys/lazy/mutant")?;
    foundation::mutant::choose(foundation::mutant::Mutant::from_name(name.trim()));
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose_mutant() -> Outcome {
    Ok(())
}
