//! What another thread of a program does to its memory while a step waits for the servers: it
//! stores to pages that are being written, and maps other pages over those that are being fetched.
//! It never waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use foundation::ByteCount;
use fsproto::Op;
use kernel::mem::{Backing, Placement, Prot, Space, UserAddr, mmu};

use crate::script::PAGE;
use crate::shortage;

/// An action that is carried out when a request of a step arrives.
pub enum Act {
    /// When a write arrives: stores a byte, unless its page would have to be fetched.
    Store(u8),
    /// When a page-in arrives: maps zeros over a page.
    Replace,
}

struct Armed {
    space: Arc<Space>,
    address: UserAddr,
    act: Act,
}

thread_local! {
    static ARMED: RefCell<HashMap<u64, Armed>> = RefCell::default();
    /// Steps whose action was carried out.
    static DONE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Prepares an action on the byte or page at `address` for the time that a step waits.
pub fn arm(step: u64, space: Arc<Space>, address: UserAddr, act: Act) {
    ARMED.with_borrow_mut(|armed| armed.insert(step, Armed { space, address, act }));
}

/// Called when a request of a step arrives.
pub fn strike(step: u64, op: Option<Op>) {
    let is_due = |armed: &Armed| match armed.act {
        Act::Store(_) => op == Some(Op::Write),
        Act::Replace => matches!(op, Some(Op::Read | Op::ReadAt | Op::ListHoles)),
    };
    let due = ARMED.with_borrow_mut(|armed| {
        if armed.get(&step).is_some_and(is_due) { armed.remove(&step) } else { None }
    });
    let Some(Armed { space, address, act }) = due else { return };
    let page = UserAddr(address.0 - address.0 % PAGE as u64);
    match act {
        Act::Store(value) => {
            if space.residency(page, ByteCount::of_len(PAGE)) != Ok(vec![1]) {
                return;
            }
            // During a shortage of frames it would have to wait.
            shortage::without(|| mmu::store(&space, address, value))
                .expect("the page is there and can be stored to");
        }
        Act::Replace => {
            let (at, bytes) = (Placement::Fixed(page), ByteCount::of_len(PAGE));
            let permissions = Prot::READ | Prot::WRITE;
            shortage::without(|| space.map(at, bytes, permissions, Backing::Anonymous, ""))
                .expect("space for a page");
        }
    }
    DONE.with_borrow_mut(|done| done.push(step));
}

/// Disarms the action of a step. Returns whether it was carried out.
pub fn is_done(step: u64) -> bool {
    // Not dropped under the borrow: dropping may send messages.
    let armed = ARMED.with_borrow_mut(|armed| armed.remove(&step));
    drop(armed);
    DONE.with_borrow_mut(|done| {
        let before = done.len();
        done.retain(|&other| other != step);
        done.len() < before
    })
}

/// Cleans up after a run that failed.
pub fn abandon() {
    drop(ARMED.take());
    DONE.take();
}
