//! A tree of its own: `memfs` under `snapfs`, as the root file system has them, with a look at what passes between the two.
//!
//! Both live in one marked process. Every request of the wrapper to its base is counted, and can be made to fail; what the wrapper keeps is
//! told after each message. The figures stand in memory that the test shares, and are up to date when a reply arrives.

use crate::kit::{Buffer, Child, Gate, Named, Outcome, PAGE};
use crate::{check, os};
use alloc::rc::Rc;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use fsproto::{Errno as Status, HEAD_BYTES, Head, MAX_PAYLOAD, Op, Time};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::{Figures, Snapfs};
use fsserver::{Client, Dispatcher, LocalClient};
use user::pages::Pages;
use user::prelude::*;
use user::sys::abi;

/// Words of the shared page: requests to the base by operation, then these.
const OPEN_HANDLES: usize = 64;
const FAILING: usize = 65;
const FIGURES: usize = 66;
const HELD: usize = 80;

/// What the test and the servers share.
pub struct Look(Rc<Buffer>);

impl Look {
    fn number(&self, index: usize) -> &AtomicU64 {
        // SAFETY: a word of a mapping that lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.0.at(index * 8) as *mut u64) }
    }

    fn get(&self, index: usize) -> u64 {
        self.number(index).load(Ordering::SeqCst)
    }

    /// Requests of an operation to the base.
    pub fn requests(&self, op: Op) -> u64 {
        self.get(op as usize)
    }

    /// Requests to the base that change or open something there.
    pub fn changes(&self) -> u64 {
        let ops = [Op::Open, Op::Write, Op::CloneRange, Op::Allocate, Op::SetAttr, Op::Rename, Op::Link, Op::Remove, Op::MakeDir];
        ops.into_iter().map(|op| self.requests(op)).sum()
    }

    /// Handles that the wrapper has open at the base.
    pub fn open_handles(&self) -> u64 {
        self.get(OPEN_HANDLES)
    }

    /// What the wrapper keeps.
    pub fn kept(&self) -> Figures {
        let [snapshots, reserved_pages, stored_pages, stores, files] = core::array::from_fn(|index| self.get(FIGURES + index));
        Figures { snapshots: snapshots as usize, reserved_pages, stored_pages, stores: stores as usize, files: files as usize }
    }

    fn tell(&self, figures: &Figures) {
        let Figures { snapshots, reserved_pages, stored_pages, stores, files } = *figures;
        for (index, figure) in [snapshots as u64, reserved_pages, stored_pages, stores as u64, files as u64].into_iter().enumerate() {
            self.number(FIGURES + index).store(figure, Ordering::SeqCst);
        }
    }

    /// Holds back the replies to requests of an operation, which are carried out, or none.
    pub fn hold(&self, op: Option<Op>) {
        self.number(HELD).store(op.map_or(0, |op| op as u64), Ordering::SeqCst);
    }

    /// Lets requests of an operation fail at the base with EIO, or none.
    pub fn fail(&self, op: Option<Op>) {
        self.number(FAILING).store(op.map_or(0, |op| op as u64), Ordering::SeqCst);
    }
}

/// The way from the wrapper to the base.
struct Counting<C> {
    base: C,
    look: Look,
}

impl<C: Client> Client for Counting<C> {
    fn call(
        &mut self,
        head: &[u8; HEAD_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> core::result::Result<([u8; HEAD_BYTES], usize), Status> {
        let (request, _) = Head::decode(head).map_err(|_| Status::EPROTO)?;
        self.look.number(usize::from(request.op)).fetch_add(1, Ordering::SeqCst);
        if u64::from(request.op) == self.look.get(FAILING) {
            return Ok((fsproto::error_reply(request.op, request.tag, Status::EIO), 0));
        }
        let (reply, count) = self.base.call(head, payload, into)?;
        if reply_succeeded(&reply) {
            match Op::from_number(request.op) {
                Some(Op::Open) => drop(self.look.number(OPEN_HANDLES).fetch_add(1, Ordering::SeqCst)),
                Some(Op::Close) => drop(self.look.number(OPEN_HANDLES).fetch_sub(1, Ordering::SeqCst)),
                _ => {}
            }
        }
        Ok((reply, count))
    }
}

fn reply_succeeded(head: &[u8; HEAD_BYTES]) -> bool {
    Head::decode(head).is_ok_and(|(head, _)| head.result().is_ok())
}

/// A mounted tree. Unmounted and killed when dropped.
pub struct Stack {
    /// Where it is mounted.
    pub path: String,
    /// What it counts.
    pub look: Look,
    held: Gate,
    release: Gate,
    _process: Child,
}

impl Stack {
    /// Starts the servers, with room for so many bytes of files, and mounts them on `/mnt/NAME`.
    pub fn mount(name: &str, capacity_bytes: u64) -> Outcome<Self> {
        let path = format!("/mnt/{name}");
        match sys::mkdir(path.as_bytes(), 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("mkdir {path}: {error:?}")),
        }
        let [ours, theirs] = os::socket_pair().named("socketpair")?;
        let memory = Rc::new(Buffer::shared(PAGE)?);
        let (held, release) = (Gate::new()?, Gate::new()?);
        let process = Child::start("servers", || {
            sys::close(ours).named("close")?;
            os::become_server().named("prctl")?;
            serve(theirs, capacity_bytes, &memory, [&held, &release])
        })?;
        sys::close(theirs).named("close")?;
        let mounted = os::mount(ours, &path).named("mount");
        sys::close(ours).named("close")?;
        mounted?;
        Ok(Self { path, look: Look(memory), held, release, _process: process })
    }

    /// Waits until a reply is held back.
    pub fn wait_held(&self) -> Outcome {
        self.held.pass()
    }

    /// Lets the reply go that is held back.
    pub fn release(&self) -> Outcome {
        self.release.open()
    }

    /// Asks for something that changes nothing, after which the figures are those of all that came before.
    pub fn settle(&self) -> Outcome {
        sys::stat(self.path.as_bytes()).named("stat").map(drop)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _: sys::Result<()> = os::unmount(&self.path);
    }
}

fn now() -> Time {
    Time(sys::clock(abi::CLOCK_REALTIME).map_or(0, |time| time.as_nanos() as i64))
}

fn serve(fd: Fd, capacity_bytes: u64, memory: &Rc<Buffer>, [held, release]: [&Gate; 2]) -> Outcome {
    choose_mutant()?;
    let base = Dispatcher::new(Memfs::new(capacity_bytes, AccessTimes::Untouched, now));
    let base = LocalClient::new(Rc::new(RefCell::new(base)));
    let client = Counting { base, look: Look(memory.clone()) };
    let wrapper = Snapfs::new(client, now).map_err(|error| format!("snapfs: {error:?}"))?;
    let mut dispatcher = Dispatcher::new(wrapper);
    let session = dispatcher.open_session();
    let payload = Pages::new(MAX_PAYLOAD).named("mmap")?;
    loop {
        let mut head = [0; HEAD_BYTES];
        let parts = [[head.as_mut_ptr() as usize, HEAD_BYTES], [payload.as_ptr() as usize, payload.len()]];
        let count = match os::readv(fd, &parts) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        check!(count >= HEAD_BYTES, "a message of {count} bytes");
        let reply = dispatcher.handle(session, &head, payload.get(..count - HEAD_BYTES).unwrap_or_default());
        let (head, bytes) = (reply.head, reply.payload.to_vec());
        let look = Look(memory.clone());
        look.tell(&dispatcher.server().figures());
        if Head::decode(&head).is_ok_and(|(head, _)| u64::from(head.op) == look.get(HELD)) {
            held.open()?;
            release.pass()?;
        }
        let parts = [[head.as_ptr() as usize, HEAD_BYTES], [bytes.as_ptr() as usize, bytes.len()]];
        if os::writev(fd, &parts).is_err() {
            return Ok(());
        }
    }
}

/// The deliberate break that the kernel was told of holds in these servers too.
#[cfg(feature = "mutants")]
fn choose_mutant() -> Outcome {
    let name = crate::lazy::read_text("/proc/sys/lazy/mutant")?;
    fsproto::mutant::choose(fsproto::mutant::Mutant::from_name(name.trim()));
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose_mutant() -> Outcome {
    Ok(())
}
