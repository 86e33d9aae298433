//! The calls of memory and of open files, and faults.

use foundation::{ByteCount, Errno};
use kernel::file::Fd;
use kernel::mem::host::POOL_FRAMES;
use kernel::mem::{FaultError, UserAddr, mmu};
use kernel::syscall::{io, memory, message, open, ranges, socket};

use crate::check::Case;
use crate::world::{BASE, PAGE, UNCOMPARED, World};
use crate::{events, messages, names};

pub const O_RDWR: u32 = 2;
pub const O_CREAT: u32 = 0o100;
pub const O_DIRECTORY: u32 = 0o200_000;
const RW: u32 = 3;
const PRIVATE: u32 = 2;
const SHARED: u32 = 1;
const ANONYMOUS: u32 = 0x20;
const FIXED: u32 = 0x10;
const NOWHERE: Fd = Fd(-1);

/// Where the paths are.
pub const PATH: u64 = 0;
pub const OTHER_PATH: u64 = 1;
pub const RESULT: u64 = 2;
/// Where the buffers begin.
pub const BUFFER: u64 = 8;
/// Where much of a file is mapped.
const MAPPED: u64 = 200;
/// As many pages of it as may be dirty: half of an eighth of the host's frames.
const MANY: u64 = POOL_FRAMES as u64 / 16;
/// Where nothing is compared: what a failed call has replaced there may be gone.
const ELSEWHERE: u64 = 120;

pub fn at(page: u64) -> UserAddr {
    UserAddr(BASE + page * PAGE)
}

pub fn pages(count: u64) -> ByteCount {
    ByteCount(count * PAGE)
}

pub fn pattern(length: u64, seed: u64) -> Vec<u8> {
    (0..length).map(|at| (at / PAGE * 7 + at % 251 + seed) as u8 | 1).collect()
}

/// Opens `path` as the next descriptor.
pub fn opened(world: &World, path: &str, flags: u32) -> Fd {
    let address = world.put(PATH, format!("{path}\0").as_bytes());
    Fd(open::open(&world.process, address, flags, 0o644).expect("the file opens") as i32)
}

/// A file of some pages as descriptor 0.
pub fn file(world: &World) {
    let fd = opened(world, "/a", O_RDWR | O_CREAT);
    let bytes = world.put(BUFFER, &pattern(40 * PAGE + 100, 1));
    io::pwrite64(&world.process, fd, bytes, ByteCount(40 * PAGE + 100), 0).expect("space");
    memory::munmap(&world.process, at(BUFFER), pages(80)).expect("it is mapped");
    map(world, BUFFER, 80).expect("memory");
}

fn map(world: &World, page: u64, count: u64) -> Result<u64, Errno> {
    let flags = PRIVATE | ANONYMOUS | FIXED;
    memory::mmap(&world.process, at(page), pages(count), RW, flags, NOWHERE, 0)
}

/// The file, and a buffer that is backed by it.
pub fn lazy(world: &World) {
    file(world);
    read(world).expect("it can be read");
}

fn read(world: &World) -> Result<u64, Errno> {
    io::pread64(&world.process, Fd(0), at(BUFFER), ByteCount(40 * PAGE + 100), 0)
}

/// A second file as descriptor 1.
pub fn two(world: &World) {
    lazy(world);
    opened(world, "/b", O_RDWR | O_CREAT);
}

pub fn pages_in_memory(world: &World) {
    world.put(BUFFER, &pattern(32 * PAGE, 5));
}

fn swapped(world: &World) {
    pages_in_memory(world);
    world.swap_out();
}

fn map_much(world: &World) {
    io::ftruncate(&world.process, Fd(0), ((MANY + 1) * PAGE) as i64).expect("a length");
    let flags = SHARED | FIXED;
    memory::mmap(&world.process, at(MAPPED), pages(MANY + 1), RW, flags, Fd(0), 0).expect("a map");
}

fn fault(result: Result<u64, FaultError>) -> Result<u64, Errno> {
    result.map_err(Errno::from)
}

pub fn pair(world: &World) {
    socket::socketpair(&world.process, 1, 5, 0, at(RESULT)).expect("a pair");
    pages_in_memory(world);
}

macro_rules! cases {
    ($($name:ident, $prepare:expr => |$world:ident| $call:expr;)*) => {
        vec![$($crate::check::Case {
            name: stringify!($name),
            world: $crate::world::World::new,
            prepare: $prepare,
            call: |$world| $call,
        },)*]
    };
}
pub(crate) use cases;

/// All cases.
pub fn all() -> Vec<Case> {
    let mut all = of_memory();
    all.extend(of_locked_memory());
    all.extend(of_files());
    all.extend(of_open_files());
    all.extend(of_mapped_files());
    all.extend(names::of_names());
    all.extend(names::of_attributes());
    all.extend(names::of_mounts());
    all.extend(messages::of_messages());
    all.extend(messages::of_sockets());
    all.extend(messages::of_descriptors());
    all.extend(events::of_events());
    all
}

fn of_memory() -> Vec<Case> {
    cases! {
        mmap, |_| () => |world| map(world, 100, 4);
        mmap_over, lazy => |world| map(world, BUFFER + 2, 20);
        munmap, lazy => |world| memory::munmap(&world.process, at(BUFFER + 3), pages(9));
        mprotect, lazy => |world| memory::mprotect(&world.process, at(BUFFER + 3), pages(9), 1);
        mremap_grow, pages_in_memory => |world| {
            let process = &world.process;
            memory::mremap(process, at(90), pages(6), pages(20), 1, UserAddr(0)).map(|_| 0)
        };
        mremap_to, two => |world| {
            let (from, to) = (at(BUFFER + 2), at(200));
            // Where it was done before, there is nothing to move any more.
            memory::mremap(&world.process, from, pages(30), pages(30), 3, to)
        };
        dontneed, lazy => |world| memory::madvise(&world.process, at(BUFFER + 1), pages(30), 4);
        brk, |_| () => |world| {
            let process = &world.process;
            memory::brk(process, UserAddr(BASE + 300 * PAGE))
        };
        mincore, lazy => |world| {
            // Comparing loads pages, so the result is not compared.
            memory::mincore(&world.process, at(BUFFER), pages(40), at(UNCOMPARED))
        };
        fork, lazy => |world| {
            let child = world.process.space.fork()?;
            fault(mmu::load(&child, at(BUFFER)).map(|_| 0))
        };
        regions, lazy => |world| Ok(world.process.space.regions().map(|_| 0)?);
        load_anonymous, |_| () => |world| {
            fault(mmu::load(&world.process.space, at(70)).map(|_| 0))
        };
        store_anonymous, |_| () => |world| {
            fault(mmu::store(&world.process.space, at(70), 9).map(|_| 0))
        };
        load_lazy, lazy => |world| {
            fault(mmu::load(&world.process.space, at(BUFFER + 20)).map(|_| 0))
        };
        store_lazy, lazy => |world| {
            fault(mmu::store(&world.process.space, at(BUFFER + 20), 7).map(|_| 0))
        };
        load_all, lazy => |world| fault(world.process.space.load_all().map(|()| 0));
        load_swapped, swapped => |world| {
            fault(mmu::load(&world.process.space, at(BUFFER + 4)).map(|_| 0))
        };
        store_swapped, swapped => |world| {
            fault(mmu::store(&world.process.space, at(BUFFER + 4), 7).map(|_| 0))
        };
        dontneed_swapped, swapped => |world| {
            memory::madvise(&world.process, at(BUFFER + 1), pages(20), 4)
        };
        fork_swapped, swapped => |world| world.process.space.fork().map(|_| 0);
        send_swapped, |world| {
            pair(world);
            world.swap_out();
        } => |world| {
            message::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0)
        };
        mmap_shared, |_| () => |world| {
            let flags = SHARED | ANONYMOUS | FIXED;
            memory::mmap(&world.process, at(BUFFER), pages(9), RW, flags, NOWHERE, 0)?;
            fault(mmu::store(&world.process.space, at(BUFFER + 3), 7).map(|_| 0))
        };
    }
}

fn of_locked_memory() -> Vec<Case> {
    cases! {
        mlock, lazy => |world| memory::mlock(&world.process, at(BUFFER + 2), pages(6));
        munlock, |world| {
            lazy(world);
            memory::mlock(&world.process, at(BUFFER + 2), pages(6)).expect("memory");
        } => |world| memory::munlock(&world.process, at(BUFFER + 3), pages(2));
        mlockall, lazy => |world| memory::mlockall(&world.process, 1);
        munlockall, |world| {
            lazy(world);
            memory::mlockall(&world.process, 1).expect("memory");
        } => |world| memory::munlockall(&world.process);
    }
}

fn of_files() -> Vec<Case> {
    cases! {
        read_lazy, file => |world| read(world);
        read_small, file => |world| {
            io::pread64(&world.process, Fd(0), at(BUFFER), ByteCount(3 * PAGE), 100)
        };
        readv, |world| {
            file(world);
            let vector = [at(BUFFER).0, 20 * PAGE, at(BUFFER + 40).0 + 50, 9 * PAGE];
            let bytes: Vec<u8> = vector.iter().flat_map(|word| word.to_le_bytes()).collect();
            world.put(RESULT, &bytes);
        } => |world| {
            io::preadv(&world.process, Fd(0), at(RESULT), 2, 0)
        };
        write_data, |world| {
            file(world);
            pages_in_memory(world);
        } => |world| {
            io::pwrite64(&world.process, Fd(0), at(BUFFER), pages(32), 100)
        };
        write_small, file => |world| {
            io::pwrite64(&world.process, Fd(0), at(PATH), ByteCount(100), 3 * PAGE as i64 - 50)
        };
        write_reference, two => |world| {
            io::pwrite64(&world.process, Fd(1), at(BUFFER), pages(40), 0)
        };
        write_mixed, |world| {
            two(world);
            for page in [3, 9, 10, 30] {
                world.put(BUFFER + page, b"new");
            }
        } => |world| {
            io::pwrite64(&world.process, Fd(1), at(BUFFER), pages(40), 10)
        };
        write_over_snapshot, |world| {
            lazy(world);
            world.put(BUFFER + 45, &pattern(20 * PAGE, 77));
        } => |world| {
            io::pwrite64(&world.process, Fd(0), at(BUFFER + 45), pages(20), 2 * PAGE as i64)
        };
        writev, |world| {
            two(world);
            world.put(BUFFER + 5, b"new");
            let vector = [at(BUFFER).0, 20 * PAGE, at(BUFFER + 30).0 + 50, 9 * PAGE];
            let bytes: Vec<u8> = vector.iter().flat_map(|word| word.to_le_bytes()).collect();
            world.put(RESULT, &bytes);
        } => |world| {
            io::pwritev(&world.process, Fd(1), at(RESULT), 2, 0)
        };
        ftruncate, lazy => |world| io::ftruncate(&world.process, Fd(0), 5000);
        fallocate, lazy => |world| ranges::fallocate(&world.process, Fd(0), 3, 5000, 60_000);
        mmap_file, file => |world| {
            let flags = PRIVATE | FIXED;
            memory::mmap(&world.process, at(ELSEWHERE), pages(30), RW, flags, Fd(0), 0)
        };
    }
}

fn of_open_files() -> Vec<Case> {
    cases! {
        fsync, lazy => |world| io::fsync(&world.process, Fd(0));
        syncfs, lazy => |world| io::syncfs(&world.process, Fd(0));
        sync, lazy => |world| io::sync(&world.process);
        read, file => |world| {
            io::lseek(&world.process, Fd(0), 0, 0)?;
            io::read(&world.process, Fd(0), at(BUFFER), pages(40))
        };
        write, two => |world| {
            io::lseek(&world.process, Fd(1), 0, 0)?;
            io::write(&world.process, Fd(1), at(BUFFER), pages(40))
        };
        lseek_data, file => |world| {
            // SEEK_HOLE and SEEK_DATA.
            let hole = io::lseek(&world.process, Fd(0), 0, 4)?;
            io::lseek(&world.process, Fd(0), 5, 3).map(|data| data + hole)
        };
        fadvise, file => |world| ranges::fadvise64(&world.process, Fd(0), 0, 40 * PAGE as i64, 3);
    }
}

/// Files are mapped only where the kernel is the server's only client.
fn of_mapped_files() -> Vec<Case> {
    let mut cases = cases! {
        mmap_file_shared, file => |world| {
            let flags = SHARED | FIXED;
            memory::mmap(&world.process, at(ELSEWHERE), pages(30), RW, flags, Fd(0), 0)?;
            fault(mmu::load(&world.process.space, at(ELSEWHERE + 3)).map(|_| 0))
        };
        msync, |world| {
            file(world);
            let (process, flags) = (&world.process, SHARED | FIXED);
            memory::mmap(process, at(BUFFER), pages(30), RW, flags, Fd(0), 0).expect("a map");
            world.put(BUFFER + 4, b"stored");
        } => |world| memory::msync(&world.process, at(BUFFER), pages(30), 4);
        store_mapped, |world| {
            file(world);
            map_much(world);
            let dirty = at(MAPPED).0..at(MAPPED + MANY).0;
            dirty.step_by(PAGE as usize).for_each(|page| {
                mmu::store(&world.process.space, UserAddr(page), 7).expect("memory");
            });
        } => |world| {
            let space = &world.process.space;
            fault(mmu::store(space, at(MAPPED + MANY), 7).map(|()| 0))
        };
    };
    cases.iter_mut().for_each(|case| case.world = World::sole);
    cases
}
