//! The kernel's writer, which writes mapped files that nobody maps any more, what is in the way of
//! others, and after a while what a server has refused. It is an actor, since it waits for servers.

use std::cell::Cell;

use kernel::arch::clock;
use kernel::file::mapped;

use crate::{sched, shortage, wire};

const SECOND_NS: u64 = 1_000_000_000;
/// More than the longest time between two attempts.
const LATER_S: u64 = 60;

thread_local! {
    static NOW_S: Cell<u64> = const { Cell::new(0) };
    static ACTOR: Cell<usize> = const { Cell::new(0) };
    /// No program runs any more.
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// Begins a run: time stands still.
pub fn begin() {
    ENDS.set(false);
    later(1);
}

/// Some seconds go by.
pub fn later(seconds: u64) {
    NOW_S.set(NOW_S.get() + seconds);
    clock::set_now_ns(NOW_S.get() * SECOND_NS);
    sched::wake(ACTOR.get());
}

/// No program runs any more.
pub fn stop() {
    ENDS.set(true);
    sched::wake(ACTOR.get());
}

/// The writer's actor. In the end the server is well, and all that was stored is written.
pub fn run(actor: usize) {
    ACTOR.set(actor);
    while !ENDS.get() {
        let next_ns = mapped::write_what_is_due();
        mapped::await_work(next_ns, || ENDS.get());
    }
    shortage::end();
    wire::heal();
    mapped::write_others(|_| false);
    later(LATER_S);
    mapped::write_what_is_due();
    assert!(!mapped::any(), "mapped files that leaked");
    wire::check_written();
}

/// Drops mapped files after a run that failed, whose connections are cut.
pub fn abandon() {
    later(LATER_S);
    mapped::write_what_is_due();
}
