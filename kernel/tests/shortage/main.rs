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
mod events;
mod marks;
mod messages;
mod names;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use foundation::mutant::{Mutant, choose};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AttrMask, OpenFlags};
use kernel::file::{Io, OpenHow, SetAttr, UserBuffers, WritePosition, namespace};
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
    // The last one waits for a request, or for a CPU with nothing to do.
    assert_eq!(world.in_flight(), 1, "one message brings on the next");
    kernel::mount::close_waiting();
    assert_eq!(world.in_flight(), 0, "handles that wait to be closed");
    world.end("handles");
}

/// What is kept of a program's file is what the file holds, however and by whom it is changed.
#[test]
fn a6_what_is_kept_of_a_program_is_forgotten_before_its_file_changes() {
    let _alone = host::exclusive();
    let world = World::sole();
    a_kept_file_is_current(&world);
    choose(Some(Mutant::RunOldProgram));
    let old = catch_unwind(AssertUnwindSafe(|| a_kept_file_is_current(&world)));
    choose(None);
    assert!(old.is_err(), "an old program was not found");
    world.end("a kept file");
}

fn a_kept_file_is_current(world: &World) {
    let (space, root) = (&world.process.space, namespace::root());
    let open =
        |flags| root.open(b"/", b"/program", OpenHow { flags, mode: 0o755 }).expect("it opens").0;
    let io = Io { space, caller: None, nonblocking: false };
    let write = |flags, bytes: &[u8]| {
        let mut from = UserBuffers::kernel_bytes(bytes.to_vec());
        let written = open(flags).write(&io, &mut from, WritePosition::At(FileOffset::ZERO));
        assert_eq!(written.map(|written| written.bytes.to_usize()), Ok(bytes.len()));
    };
    // The frame of the second page.
    let kept = |byte| {
        let kept = open(OpenFlags::READ).kept(space).expect("it can be read")?;
        let frame = kept.frames(1, 1).expect("it has two pages")[0].clone();
        assert_eq!((frame.bytes()[0], frame.bytes()[99], frame.bytes()[100]), (byte, byte, 0));
        assert!(kept.frames(1, 2).is_none());
        Some(frame)
    };
    let (writing, new) = (OpenFlags::WRITE, OpenFlags::WRITE | OpenFlags::CREATE);
    write(new | OpenFlags::TRUNCATE, &[1; 4196]);
    let first = kept(1).expect("it is small");
    assert_eq!(kept(1), Some(first.clone()), "it was read again");
    // Names are none of its contents.
    root.make_dir(b"/", b"/names", 0o755).expect("a directory");
    root.remove_dir(b"/", b"/names").expect("an empty directory");
    assert_eq!(kept(1), Some(first), "it was read again");
    write(writing, &[2; 4196]);
    assert!(kept(2).is_some());
    let size = SetAttr { mask: AttrMask::SIZE, size: ByteCount(5000), ..SetAttr::default() };
    open(writing).set_attr(&size).expect("it can be longer");
    assert!(kept(2).is_some());
    write(new | OpenFlags::TRUNCATE, &[3; 4196]);
    assert!(kept(3).is_some());
    host::evict_all();
    assert!(kept(3).is_some());
    write(new | OpenFlags::TRUNCATE, &[4; 64 * 4096]);
    assert!(open(OpenFlags::READ).kept(space).expect("it can be read").is_none(), "it is large");
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
