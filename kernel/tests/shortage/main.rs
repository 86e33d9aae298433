//! Shortage of memory at every single place: each system call is carried out again and again, and
//! each time another claim for memory fails, until one run meets no failure any more.
//!
//! A claim is a frame, the growth of a collection that may fail, or headroom. After each failure,
//! every byte of the files and of the program's memory is what it was before the call or what the
//! call would have made of it; a file with other bytes has another version; no lock is held; the
//! same call succeeds now, or finds that all was done; and once the program has ended, every frame,
//! handle and snapshot is released (Q8).
//!
//! The allocator ends the test where the kernel makes a large request that cannot fail.

mod allocator;
mod calls;
mod cases;
mod check;
mod marks;
mod messages;
mod names;
mod world;

use foundation::Errno;
use kernel::file::{OpenHow, namespace};
use kernel::mem::host::{self, failure};
use world::World;

/// More than the claims of any case.
const MOST_CLAIMS: usize = 2000;

/// Closing more handles than fit in a page needs no memory, while none can be sent.
#[test]
fn q8_handles_are_closed_without_memory() {
    // Each answer comes in the middle of the request before it: that is deep.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(close_many);
    thread.expect("a thread").join().expect("the checks hold");
}

fn close_many() {
    const HANDLES: usize = 700;
    let _alone = host::exclusive();
    let world = World::new();
    let how = OpenHow { flags: fsproto::OpenFlags::READ, mode: 0 };
    let open = || namespace::root().open(b"/", b"/", how).map(|(object, _)| object);
    let objects = (0..HANDLES).map(|_| open()).collect::<Result<Vec<_>, Errno>>();
    let objects = objects.expect("the root opens");
    World::silently(|| failure::during(None, || drop(objects)).0);
    assert_eq!(world.in_flight(), HANDLES);
    drop(open().expect("the root opens"));
    assert_eq!(world.in_flight(), 0, "one message brings on the next");
    world.end("handles");
}

#[test]
fn q8_each_claim_of_each_call_may_fail() {
    let _alone = host::exclusive();
    let mut runs = 0;
    for case in cases::all() {
        let claims = check::case(&case);
        assert!(claims < MOST_CLAIMS, "{}: {claims} claims", case.name);
        println!("{}: {claims} claims", case.name);
        runs += claims;
    }
    println!("{runs} failures");
    assert!(runs > 300, "{runs} failures are too few");
}
