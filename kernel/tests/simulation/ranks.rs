//! The servers' own memory: each of them claims frames for the work that it does, at its rank.
//!
//! The swap server works when the order completes a transfer, outside of any actor: it can wait for
//! nothing. The file server is an actor: it takes a request, claims frames, which may wait for
//! pages to be swapped out, and replies. Neither ever runs out: its reserve lasts for one transfer
//! or message, whatever programs hold.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use foundation::{ByteCount, PageCount};
use kernel::mem::{
    Backing, Claim, Frame, LentPages, Placement, Prot, Space, UserAddr, UserSlice, floors, frame,
    mmu,
};
use kernel::sync::{Interrupt, WaitQueue};

use crate::model::Line;
use crate::script::PAGE;
use crate::{sched, wire};

/// Pages of a server's buffer: those of a message.
const BUFFER_PAGES: usize = 64;
const BUFFER: UserAddr = UserAddr(0x10_0000);

thread_local! {
    static SERVERS: RefCell<Option<Servers>> = const { RefCell::new(None) };
    /// The connection whose next request the file server has to handle.
    static ASSIGNED: Cell<Option<Line>> = const { Cell::new(None) };
    /// The file server's actor takes requests.
    static IS_SERVING: Cell<bool> = const { Cell::new(false) };
}

/// Woken when the file server has work, or shall stop.
static WORK: WaitQueue = WaitQueue::new();

#[derive(Clone)]
struct Servers {
    swap: Arc<Space>,
    files: Arc<Space>,
    /// The memory from which replies are handed over. The order delivers them, so it waits for
    /// nothing.
    replies: Arc<Space>,
}

/// Gives both servers their memory.
pub fn begin() {
    let server = |claim| {
        let space = Space::new().expect("memory for a space");
        space.policy.mark_server(claim);
        let (at, bytes) = (Placement::Fixed(BUFFER), ByteCount::of_len(BUFFER_PAGES * PAGE));
        let permissions = Prot::READ | Prot::WRITE;
        space.map(at, bytes, permissions, Backing::Anonymous, "").expect("space for a buffer");
        // The tables stay when the pages are discarded.
        fill(&space, 1);
        space
    };
    let servers = Servers {
        swap: server(Claim::SwapServer),
        files: server(Claim::FileServer),
        replies: server(Claim::Kernel),
    };
    // More than there is, so that it changes nothing for the run.
    let memory = frame::stats().total;
    let declared = servers.files.policy.declare_floor(PageCount::of_len(memory), PageCount::ZERO);
    assert!(declared.is_err() && floors() <= memory / 2, "F8: floors of {} frames", floors());
    SERVERS.set(Some(servers));
    ASSIGNED.set(None);
    IS_SERVING.set(true);
}

/// Drops the servers' memory.
pub fn end() {
    IS_SERVING.set(false);
    drop(SERVERS.take());
}

/// Stores to `pages` pages of a server's buffer, and discards them.
fn fill(space: &Arc<Space>, pages: usize) {
    for page in 0..pages.min(BUFFER_PAGES) {
        let address = UserAddr(BUFFER.0 + (page * PAGE) as u64);
        let done = mmu::store(space, address, 1);
        assert_eq!(done, Ok(()), "F8: a claim of {:?}", space.policy.claim());
    }
    space.discard(BUFFER, ByteCount::of_len(BUFFER_PAGES * PAGE)).expect("it is mapped");
}

fn servers() -> Option<Servers> {
    SERVERS.with_borrow(Option::clone)
}

/// Hands pages over from a server's memory, to which it then stores. Returns the frames where they
/// are not taken.
pub fn hand_over(
    frames: Vec<Frame>,
    take: impl FnOnce(LentPages<'_>) -> bool,
) -> Result<(), Vec<Frame>> {
    let Some(Servers { replies, .. }) = servers() else { return Err(frames) };
    let range = UserSlice::new(BUFFER, ByteCount::of_len(frames.len() * PAGE)).expect("a buffer");
    let accepted = replies.accept(BUFFER.page(), frames);
    assert_eq!(accepted.map(PageCount::bytes), Ok(range.bytes()), "the buffer is private memory");
    let is_taken = take(LentPages::new(&replies, &[range]).expect("whole pages"));
    let left = if is_taken {
        assert_eq!(mmu::store(&replies, BUFFER, 0xee), Ok(()), "A8: a store to a lent page");
        Ok(())
    } else {
        Err(replies.lend(range.touched_pages()).expect("the pages are mapped"))
    };
    replies.discard(BUFFER, range.bytes()).expect("it is mapped");
    left
}

/// What the swap server needs for a transfer of `pages` pages.
pub fn swap_server_works(pages: usize) {
    if let Some(servers) = servers() {
        fill(&servers.swap, pages);
    }
}

/// Whether the file server could take a request now.
pub fn is_idle() -> bool {
    !IS_SERVING.get() || ASSIGNED.get().is_none()
}

/// Whether requests are handled by the file server's actor.
pub fn is_serving() -> bool {
    IS_SERVING.get()
}

/// The file server shall handle the next request of a connection.
pub fn assign(line: Line) {
    ASSIGNED.set(Some(line));
    WORK.wake_all();
}

/// No more requests will come.
pub fn stop() {
    IS_SERVING.set(false);
    WORK.wake_all();
}

/// The file server's actor.
pub fn serve() {
    let next = || match ASSIGNED.get() {
        Some(line) => Some(Some(line)),
        None => (!IS_SERVING.get()).then_some(None),
    };
    while let Ok(Some(line)) = WORK.wait(Interrupt::Killable, next) {
        if let Some(servers) = servers() {
            fill(&servers.files, if sched::choose(8) == 7 { 32 } else { 1 });
        }
        wire::serve_next(line);
        ASSIGNED.set(None);
    }
}
