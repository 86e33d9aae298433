//! The calls of pipes, sockets, locks, descriptors and devices.

use std::sync::atomic::Ordering;

use foundation::{ByteCount, Errno};
use kernel::file::Fd;
use kernel::mem::UserAddr;
use kernel::syscall::{io, ioctl, ipc, message, mounting, names, open, poll, random, socket};

use crate::cases::{
    BUFFER, O_RDWR, OTHER_PATH, PATH, RESULT, at, cases, file, pages, pages_in_memory, pair,
    pattern, two,
};
use crate::check::Case;
use crate::world::{PAGE, UNCOMPARED, World};

/// Entries of poll.
const POLLED: u64 = 200;

fn pair_with_message(world: &World) {
    pair(world);
    message::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0).expect("space");
    world.put(BUFFER, &pattern(32 * PAGE, 9));
}

/// A `struct msghdr` with one vector: pages of the buffer.
fn header(world: &World) {
    header_with(world, [0; 2]);
}

/// The same with control data at an address, and their length in bytes.
fn header_with(world: &World, control: [u64; 2]) {
    let mut words = [0; 9];
    (words[4], words[5]) = (control[0], control[1]);
    (words[2], words[3]) = (at(RESULT).0 + 56, 1);
    (words[7], words[8]) = (at(BUFFER).0, 8 * PAGE);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    world.put(RESULT, &bytes);
}

/// The devices, mounted on `/d`.
pub fn devices(world: &World) {
    world.put(PATH, b"/d\0");
    names::mkdir(&world.process, at(PATH), 0o755).expect("a directory");
    world.put(OTHER_PATH, b"devtmpfs\0");
    let none = UserAddr(0);
    mounting::mount(&world.process, none, at(PATH), at(OTHER_PATH), 0, none).expect("devices");
    world.put(PATH, b"/d/ptmx\0");
    world.put(OTHER_PATH, b"/d/kmsg\0");
    world.put(RESULT, &0u32.to_le_bytes());
    world.put(BUFFER, b"a line\n");
}

/// Opens the slave of a master, and sends a line to it.
fn talk(world: &World, master: Fd) -> Result<u64, Errno> {
    // TIOCSPTLCK: unlocks it; TIOCGPTPEER: opens it.
    ioctl::ioctl(&world.process, master, 0x4004_5431, at(RESULT).0)?;
    let slave = Fd(ioctl::ioctl(&world.process, master, 0x5441, u64::from(O_RDWR))? as i32);
    let outcome = io::write(&world.process, master, at(BUFFER), ByteCount(7))
        .and_then(|_| io::read(&world.process, slave, at(UNCOMPARED), ByteCount(7)));
    open::close(&world.process, slave)?;
    outcome
}

/// An abstract address.
const ADDRESS: &[u8] = b"\x01\0\0shortage";

/// A socket that listens, and one that can connect to it, without the parts that are measured.
fn listening(world: &World) {
    let process = &world.process;
    for _ in 0..2 {
        socket::socket(process, 1, 1, 0).expect("a socket");
    }
    world.put(PATH, ADDRESS);
    socket::bind(process, Fd(0), at(PATH), ADDRESS.len() as i32).expect("a name");
    socket::listen(process, Fd(0), 1).expect("it listens");
}

/// A header as that of [`header`], with control data: the sending socket, twice.
fn header_with_files(world: &World) {
    let control = [24u64, 1 | 1 << 32, 0];
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_le_bytes()).collect();
    world.put(RESULT + 1, &bytes);
    header_with(world, [at(RESULT + 1).0, 24]);
}

/// The cases of sockets with names, and of what passes through them.
pub fn of_sockets() -> Vec<Case> {
    cases! {
        socket, |_| () => |world| socket::socket(&world.process, 1, 1, 0);
        bind, |world| {
            socket::socket(&world.process, 1, 1, 0).expect("a socket");
            world.put(PATH, ADDRESS);
        } => |world| socket::bind(&world.process, Fd(0), at(PATH), ADDRESS.len() as i32);
        bind_automatic, |world| {
            socket::socket(&world.process, 1, 2, 0).expect("a socket");
            world.put(PATH, ADDRESS);
        } => |world| socket::bind(&world.process, Fd(0), at(PATH), 2);
        connect, listening => |world| {
            socket::connect(&world.process, Fd(1), at(PATH), ADDRESS.len() as i32)
        };
        accept, |world| {
            listening(world);
            socket::connect(&world.process, Fd(1), at(PATH), ADDRESS.len() as i32).expect("space");
        } => |world| socket::accept4(&world.process, Fd(0), UserAddr(0), UserAddr(0), 0);
        send_files, |world| {
            pair(world);
            header_with_files(world);
        } => |world| message::sendmsg(&world.process, Fd(0), at(RESULT), 0x40);
        receive_files, |world| {
            pair(world);
            header_with_files(world);
            message::sendmsg(&world.process, Fd(0), at(RESULT), 0x40).expect("space");
        } => |world| message::recvmsg(&world.process, Fd(1), at(RESULT), 0x40);
    }
}

/// The cases of pipes and sockets.
pub fn of_messages() -> Vec<Case> {
    cases! {
        pipe, |_| () => |world| ipc::pipe(&world.process, at(RESULT));
        pipe_write, |world| {
            ipc::pipe(&world.process, at(RESULT)).expect("a pipe");
            pages_in_memory(world);
        } => |world| io::write(&world.process, Fd(1), at(BUFFER), pages(3));
        pipe_read, |world| {
            ipc::pipe(&world.process, at(RESULT)).expect("a pipe");
            pages_in_memory(world);
            io::write(&world.process, Fd(1), at(BUFFER), pages(3)).expect("space");
        } => |world| io::read(&world.process, Fd(0), at(BUFFER + 40), ByteCount(100));
        socketpair, |_| () => |world| socket::socketpair(&world.process, 1, 1, 0, at(RESULT));
        send_small, pair => |world| {
            message::sendto(&world.process, Fd(0), at(BUFFER), ByteCount(500), 0, UserAddr(0), 0)
        };
        send_pages, pair => |world| {
            message::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0)
        };
        receive_pages, pair_with_message => |world| {
            let (process, none) = (&world.process, UserAddr(0));
            message::recvfrom(process, Fd(1), at(BUFFER + 40), pages(8), 0x40, none, none)
        };
        sendmsg, |world| {
            pair(world);
            header(world);
        } => |world| message::sendmsg(&world.process, Fd(0), at(RESULT), 0x40);
        recvmsg, |world| {
            pair_with_message(world);
            header(world);
        } => |world| message::recvmsg(&world.process, Fd(1), at(RESULT), 0x40);
        exchange_packets, |world| {
            pair_with_message(world);
            world.process.is_server.store(true, Ordering::Relaxed);
        } => |world| {
            let (from, to) = (at(BUFFER + 40), at(BUFFER));
            ipc::exchange(&world.process, Fd(1), from, 2 * PAGE, to, 8 * PAGE, 0)
        };
        exchange_pages, |world| {
            pair_with_message(world);
            world.process.is_server.store(true, Ordering::Relaxed);
        } => |world| {
            let (header, to) = (at(BUFFER + 40), at(BUFFER + 4));
            let flags = 4 | 2 << 8;
            ipc::exchange(&world.process, Fd(1), header, at(BUFFER).0, to, 8 * PAGE, flags)
        };
        stream_write, |world| {
            socket::socketpair(&world.process, 1, 1, 0, at(RESULT)).expect("a pair");
            pages_in_memory(world);
        } => |world| io::write(&world.process, Fd(0), at(BUFFER), pages(3));
    }
}

/// A pipe, and what waits for it: entries of poll, a set of select, and no time.
fn polled(world: &World) {
    ipc::pipe(&world.process, at(RESULT)).expect("a pipe");
    // The reader, for input (POLLIN).
    let entry = [0, 0, 0, 0, 1, 0, 0, 0];
    world.put(BUFFER, &entry.repeat(POLLED as usize));
    world.put(BUFFER + 1, &1u64.to_le_bytes());
    world.put(BUFFER + 2, &[0; 16]);
}

/// The cases of descriptors, locks and devices.
pub fn of_descriptors() -> Vec<Case> {
    cases! {
        lock, |world| {
            file(world);
            // A struct flock: a write lock of bytes 0 to 99.
            let mut flock = [0; 32];
            flock[..2].copy_from_slice(&1u16.to_le_bytes());
            flock[16..24].copy_from_slice(&100u64.to_le_bytes());
            world.put(RESULT, &flock);
        } => |world| {
            // F_SETLK.
            open::fcntl(&world.process, Fd(0), 6, at(RESULT).0)
        };
        flock, file => |world| open::flock(&world.process, Fd(0), 2);
        dup, file => |world| open::dup2(&world.process, Fd(0), Fd(500));
        pipe_resize, |world| {
            ipc::pipe(&world.process, at(RESULT)).expect("a pipe");
        } => |world| {
            // F_SETPIPE_SZ.
            open::fcntl(&world.process, Fd(0), 1031, 1 << 20)
        };
        dup_lowest, file => |world| {
            // F_DUPFD, above all that there is space for.
            let fd = open::fcntl(&world.process, Fd(0), 0, 700)?;
            open::close(&world.process, Fd(fd as i32))
        };
        poll, polled => |world| poll::poll(&world.process, at(BUFFER), POLLED, 0);
        select, polled => |world| {
            let none = UserAddr(0);
            poll::select(&world.process, 64, at(BUFFER + 1), none, none, at(BUFFER + 2))
        };
        close_range, two => |world| open::close_range(&world.process, 1, 5, 0);
        terminal, devices => |world| {
            // A pseudo-terminal: a master, its slave, a line from one to the other, and the end.
            let master = Fd(open::open(&world.process, at(PATH), O_RDWR, 0)? as i32);
            let outcome = talk(world, master);
            open::close(&world.process, master)?;
            outcome
        };
        getrandom, |_| () => |world| {
            random::getrandom(&world.process, at(UNCOMPARED), ByteCount(100), 0)
        };
        log, devices => |world| {
            let log = Fd(open::open(&world.process, at(OTHER_PATH), 0o4000, 0)? as i32);
            let outcome = io::read(&world.process, log, at(UNCOMPARED), ByteCount(1000));
            open::close(&world.process, log)?;
            match outcome {
                Err(Errno::EAGAIN) => Ok(0),
                outcome => outcome,
            }
        };
    }
}
