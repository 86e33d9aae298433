//! The calls of descriptors that report events.

use foundation::ByteCount;
use kernel::file::Fd;
use kernel::syscall::{epoll, event_files, io, ipc, memfd};

use crate::cases::{BUFFER, PATH, RESULT, at, cases};
use crate::check::Case;
use crate::world::World;

/// `EPOLL_CTL_ADD`, `EPOLL_CTL_DEL`.
const ADD: u32 = 1;
const DELETE: u32 = 2;

/// A pipe as descriptors 0 and 1, with a byte in it; an epoll as descriptor 2; and in memory an
/// entry for the reader.
fn epoll_and_pipe(world: &World) {
    ipc::pipe(&world.process, at(RESULT)).expect("a pipe");
    epoll::epoll_create1(&world.process, 0).expect("an epoll");
    world.put(BUFFER, &[1; 12]);
    io::write(&world.process, Fd(1), at(BUFFER), ByteCount(1)).expect("space");
}

/// The cases of epoll and eventfd.
pub fn of_events() -> Vec<Case> {
    cases! {
        epoll_create, |_| () => |world| epoll::epoll_create(&world.process, 1);
        epoll_ctl, epoll_and_pipe => |world| {
            epoll::epoll_ctl(&world.process, Fd(2), ADD, Fd(0), at(BUFFER))?;
            epoll::epoll_ctl(&world.process, Fd(2), DELETE, Fd(0), at(BUFFER))
        };
        epoll_nested, |world| {
            epoll_and_pipe(world);
            epoll::epoll_create1(&world.process, 0).expect("another one");
        } => |world| epoll::epoll_ctl(&world.process, Fd(3), ADD, Fd(2), at(BUFFER));
        epoll_wait, |world| {
            epoll_and_pipe(world);
            epoll::epoll_ctl(&world.process, Fd(2), ADD, Fd(0), at(BUFFER)).expect("an entry");
        } => |world| epoll::epoll_wait(&world.process, Fd(2), at(BUFFER + 1), 4, 0);
        timerfd, |_| () => |world| event_files::timerfd_create(&world.process, 1, 0);
        memfd, |world| {
            world.put(PATH, b"name\0");
        } => |world| {
            memfd::memfd_create(&world.process, at(PATH), 0)
        };
        eventfd, |_| () => |world| epoll::eventfd2(&world.process, 1, 0);
    }
}
