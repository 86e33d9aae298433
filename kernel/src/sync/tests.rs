//! The checks find what they are for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Interrupt, Mutex, SCHEDULER, SleepLock, ThreadId, WaitQueue, assert_may_wait, rank, relax,
};

/// The message of the panic that `act` ends with.
fn panic_of(act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err("it must panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map(ToString::to_string).unwrap_or_default(),
    }
}

#[test]
fn locks_in_order_pass() {
    let outer = Mutex::<_, rank::Pipe>::new(1);
    let inner = Mutex::<_, rank::Space>::new(2);
    let child = Mutex::<_, rank::Space>::new(3);
    let first = outer.lock();
    let second = inner.lock();
    let third = child.lock_nested();
    assert_eq!(*first + *second + *third, 6);
    // In any order.
    drop(second);
    drop(first);
    drop(third);
    assert_may_wait();
    drop(outer.lock());
}

#[test]
fn an_inversion_panics() {
    let outer = Mutex::<_, rank::Space>::new(());
    let inner = Mutex::<_, rank::FrameCache>::new(());
    let text = panic_of(|| {
        let _inner = inner.lock();
        let _outer = outer.lock();
    });
    assert_eq!(text, "lock order: Space is acquired while FrameCache is held");
    // The panic released what it held.
    assert_may_wait();
    drop(outer.lock());
}

#[test]
fn two_locks_of_one_rank_panic() {
    let (one, other) = (Mutex::<_, rank::Space>::new(()), Mutex::<_, rank::Space>::new(()));
    let text = panic_of(|| {
        let _one = one.lock();
        let _other = other.lock();
    });
    assert_eq!(text, "lock order: Space is acquired while Space is held");
}

#[test]
fn a_lock_that_was_tried_counts_for_the_next() {
    let outer = Mutex::<_, rank::Space>::new(());
    let inner = Mutex::<_, rank::FrameCache>::new(());
    let between = Mutex::<_, rank::Holes>::new(());
    let text = panic_of(|| {
        let _inner = inner.lock();
        let _outer = outer.try_lock().expect("it is free");
        let _between = between.lock();
    });
    assert_eq!(text, "lock order: Holes is acquired while FrameCache is held");
}

#[test]
fn a_wait_with_a_spin_lock_panics() {
    let lock = Mutex::<_, rank::Pipe>::new(());
    let expected = "a thread waits while it holds the spin lock Pipe";
    let waits: [&dyn Fn(); 3] = [
        &|| _ = WaitQueue::new().wait(Interrupt::Signal, || Some(())),
        &|| _ = relax(Interrupt::Signal),
        &|| drop(SleepLock::<_, rank::Position>::new(()).lock()),
    ];
    for wait in waits {
        let text = panic_of(|| {
            let _held = lock.lock();
            wait();
        });
        assert_eq!(text, expected);
    }
}

#[test]
fn a_message_with_a_sleeping_lock_panics_unless_declared() {
    let position = SleepLock::<_, rank::Position>::new(());
    let disk = SleepLock::<_, rank::Disk>::new(());
    let message = || _ = WaitQueue::new().wait_for_server(Interrupt::Killable, || Some(()));
    let _position = position.lock();
    message();
    let text = panic_of(|| {
        let _disk = disk.lock();
        message();
    });
    assert_eq!(text, "a file server is waited for while Disk is held");
    message();
}

#[test]
fn sleeping_locks_have_an_order_too() {
    let mapping = SleepLock::<_, rank::SharedMapping>::new(());
    let position = SleepLock::<_, rank::Position>::new(());
    let text = panic_of(|| {
        let _mapping = mapping.lock();
        let _position = position.lock();
    });
    assert_eq!(text, "lock order: Position is acquired while SharedMapping is held");
    // Another thread's locks are its own.
    let _mapping = mapping.lock();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(position.lock()));
    });
}

/// Each waiter of a queue is linked to the next one: whoever leaves, the others stay, in order.
#[test]
fn a_queue_keeps_order_whoever_leaves() {
    crate::mem::host::init();
    let scheduler = *SCHEDULER.get().expect("the host's");
    let links = |queue: &WaitQueue| {
        let mut threads = Vec::new();
        let ends = queue.ends();
        let mut next = ends.map(|(first, _)| first);
        while let Some(thread) = next {
            threads.push(thread.0);
            next = if Some(thread) == ends.map(|(_, last)| last) {
                None
            } else {
                scheduler.linked(thread)
            };
        }
        threads
    };
    for leaves in 0..5 {
        for then in 0..5 {
            let queue = WaitQueue::new();
            let mut places: Vec<_> =
                (0..5).map(|n| Some(queue.enter(scheduler, ThreadId(1000 + n)))).collect();
            let mut expected: Vec<u64> = (1000..1005).collect();
            for gone in [leaves, then] {
                places[gone] = None;
                expected.retain(|&thread| thread != 1000 + gone as u64);
                assert_eq!(links(&queue), expected, "{leaves} and then {then} left");
            }
            queue.wake_all();
            assert_eq!(links(&queue), []);
            let _late = queue.enter(scheduler, ThreadId(1009));
            // Those that were woken are in the queue no more.
            drop(places);
            assert_eq!(links(&queue), [1009]);
        }
    }
}
