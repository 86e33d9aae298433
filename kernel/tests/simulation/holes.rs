//! A test with a fixed script.

use std::sync::Arc;

use foundation::counter::{Counter, GLOBAL};
use foundation::{ByteCount, FileOffset};
use fsproto::{AttrMask, OpenFlags};
use kernel::file::{FileSystem, Io, OpenHow, SetAttr, UserBuffers, Walk, WritePosition};
use kernel::mem::{Backing, Placement, Prot, Space, UserAddr, UserSlice, mmu};
use kernel::mount::{Mount, MountedTree};

use crate::order::Order;
use crate::script::{Seat, Setup};
use crate::{sched, swap_file, wire, world};

/// R10: a reply lists the first holes only; the kernel requests the others once, and then holes
/// cost neither pages nor messages.
#[test]
fn r10_holes_beyond_the_first_list() {
    const ISLANDS: u64 = 300;
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let setup = Setup {
        seats: vec![Seat { client: 0, process: 0 }],
        capacity_pages: 4 * ISLANDS,
        budget_pages: 0,
        fault_around: 16,
        fault_around_max: 64,
        fault_whole: 0,
        copy_touched: 0,
        coalesce_pages: 0,
        compose_pages: 16,
        min_lazy_pages: 2,
        lacks: 0,
        overtaking: false,
        untrusted: false,
        sole: false,
        looks: false,
    };
    swap_file::begin();
    wire::begin(&setup);
    world::begin(&setup);
    sched::run(Order::drawn(7), vec![Box::new(|| look_at_islands(ISLANDS))]);
    world::end();
    wire::end();
    swap_file::end();
}

fn look_at_islands(islands: u64) {
    const PAGE: u64 = 4096;
    let (_, session) = wire::connect();
    let mount: Arc<Mount> = Mount::new(session).expect("the servers say hello");
    let space = Space::new().expect("memory for a space");
    let io = Io { space: &space, caller: None, nonblocking: false };
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let Ok(Walk::Done(file)) = MountedTree(mount).open(b"a", OpenHow { flags, mode: 0o600 }) else {
        panic!("no file")
    };
    for island in 0..islands {
        let mut byte = UserBuffers::kernel_bytes(vec![island as u8 | 1]);
        file.write(&io, &mut byte, WritePosition::At(FileOffset((2 * island + 1) * PAGE)))
            .expect("space for a byte");
    }
    let bytes = islands * 2 * PAGE;
    let whole = SetAttr { mask: AttrMask::SIZE, size: ByteCount(bytes), ..SetAttr::default() };
    file.set_attr(&whole).expect("a hole costs nothing");
    let anywhere = Placement::Anywhere(UserAddr(0));
    let buffer = space
        .map(anywhere, ByteCount(bytes), Prot::READ | Prot::WRITE, Backing::Anonymous, "")
        .expect("space for a buffer");
    let slice = UserSlice::new(buffer, ByteCount(bytes)).expect("a user address");
    assert_eq!(
        file.read(&io, &mut UserBuffers::one(slice), FileOffset::ZERO),
        Ok(ByteCount(bytes))
    );
    let before = (GLOBAL.get(Counter::MessagesSent), GLOBAL.get(Counter::PagesHole));
    for hole in 0..islands {
        assert_eq!(mmu::load(&space, UserAddr(buffer.0 + 2 * hole * PAGE)), Ok(0), "hole {hole}");
    }
    let messages = GLOBAL.get(Counter::MessagesSent) - before.0;
    // One request for each list, and a page-in that was in flight at that time. A page-in for each
    // window would be 37.
    assert!(messages <= 3 * (islands / 64 + 1), "{messages} messages for {islands} holes");
    assert!(
        GLOBAL.get(Counter::PagesHole) - before.1 > islands - 64,
        "holes that were not known to be holes"
    );
    for island in 0..islands {
        let at = buffer.0 + (2 * island + 1) * PAGE;
        assert_eq!(mmu::load(&space, UserAddr(at)), Ok(island as u8 | 1), "island {island}");
    }
}
