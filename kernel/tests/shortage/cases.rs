//! The calls: of memory, files, names, pipes and messages, and faults.

use foundation::{ByteCount, Errno};
use kernel::file::Fd;
use kernel::mem::host::POOL_FRAMES;
use kernel::mem::{FaultError, UserAddr, mmu};
use kernel::syscall::{attributes, io, ipc, memory, names, open};

use crate::check::Case;
use crate::world::{BASE, PAGE, UNCOMPARED, World};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_DIRECTORY: u32 = 0o200_000;
const RW: u32 = 3;
const PRIVATE: u32 = 2;
const SHARED: u32 = 1;
const ANONYMOUS: u32 = 0x20;
const FIXED: u32 = 0x10;
const NOWHERE: Fd = Fd(-1);

/// Where the paths are.
const PATH: u64 = 0;
const OTHER_PATH: u64 = 1;
const RESULT: u64 = 2;
/// Where the buffers begin.
const BUFFER: u64 = 8;
/// Where much of a file is mapped.
const MAPPED: u64 = 200;
/// As many pages of it as may be dirty: half of an eighth of the host's frames.
const MANY: u64 = POOL_FRAMES as u64 / 16;
/// Where nothing is compared: what a failed call has replaced there may be gone.
const ELSEWHERE: u64 = 120;

fn at(page: u64) -> UserAddr {
    UserAddr(BASE + page * PAGE)
}

fn pages(count: u64) -> ByteCount {
    ByteCount(count * PAGE)
}

fn pattern(length: u64, seed: u64) -> Vec<u8> {
    (0..length).map(|at| (at / PAGE * 7 + at % 251 + seed) as u8 | 1).collect()
}

/// Opens `path` as the next descriptor.
fn opened(world: &World, path: &str, flags: u32) -> Fd {
    let address = world.put(PATH, format!("{path}\0").as_bytes());
    Fd(open::open(&world.process, address, flags, 0o644).expect("the file opens") as i32)
}

/// A file of some pages as descriptor 0.
fn file(world: &World) {
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
fn lazy(world: &World) {
    file(world);
    read(world).expect("it can be read");
}

fn read(world: &World) -> Result<u64, Errno> {
    io::pread64(&world.process, Fd(0), at(BUFFER), ByteCount(40 * PAGE + 100), 0)
}

/// A second file as descriptor 1.
fn two(world: &World) {
    lazy(world);
    opened(world, "/b", O_RDWR | O_CREAT);
}

fn pages_in_memory(world: &World) {
    world.put(BUFFER, &pattern(32 * PAGE, 5));
}

fn swapped(world: &World) {
    pages_in_memory(world);
    world.swap_out();
}

fn paths(world: &World) {
    file(world);
    world.put(PATH, b"/a\0");
    world.put(OTHER_PATH, b"/c\0");
}

fn map_much(world: &World) {
    let flags = SHARED | FIXED;
    memory::mmap(&world.process, at(MAPPED), pages(MANY + 1), RW, flags, Fd(0), 0).expect("a map");
}

fn fault(result: Result<u64, FaultError>) -> Result<u64, Errno> {
    result.map_err(Errno::from)
}

fn pair(world: &World) {
    ipc::socketpair(&world.process, 1, 5, 0, at(RESULT)).expect("a pair");
    pages_in_memory(world);
}

fn pair_with_message(world: &World) {
    pair(world);
    ipc::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0).expect("space");
    world.put(BUFFER, &pattern(32 * PAGE, 9));
}

macro_rules! cases {
    ($($name:ident, $prepare:expr => |$world:ident| $call:expr;)*) => {
        vec![$(Case { name: stringify!($name), prepare: $prepare, call: |$world| $call },)*]
    };
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut all = of_memory();
    all.extend(of_files());
    all.extend(of_mapped_files());
    all.extend(of_names());
    all.extend(of_messages());
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
            ipc::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0)
        };
        mmap_shared, |_| () => |world| {
            let flags = SHARED | ANONYMOUS | FIXED;
            memory::mmap(&world.process, at(BUFFER), pages(9), RW, flags, NOWHERE, 0)?;
            fault(mmu::store(&world.process.space, at(BUFFER + 3), 7).map(|_| 0))
        };
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
        fallocate, lazy => |world| io::fallocate(&world.process, Fd(0), 3, 5000, 60_000);
        fsync, lazy => |world| io::fsync(&world.process, Fd(0));
        mmap_file, file => |world| {
            let flags = PRIVATE | FIXED;
            memory::mmap(&world.process, at(ELSEWHERE), pages(30), RW, flags, Fd(0), 0)
        };
    }
}

fn of_mapped_files() -> Vec<Case> {
    cases! {
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
    }
}

fn of_names() -> Vec<Case> {
    cases! {
        open, paths => |world| {
            let fd = open::open(&world.process, at(PATH), O_RDWR, 0)?;
            open::close(&world.process, Fd(fd as i32))
        };
        create, paths => |world| {
            let flags = O_RDWR | O_CREAT;
            let fd = open::open(&world.process, at(OTHER_PATH), flags, 0o644)?;
            open::close(&world.process, Fd(fd as i32))
        };
        stat, paths => |world| attributes::stat(&world.process, at(PATH), at(UNCOMPARED));
        chmod, paths => |world| attributes::chmod(&world.process, at(PATH), 0o600);
        mkdir, |world| {
            world.put(PATH, b"/d\0");
        } => |world| names::mkdir(&world.process, at(PATH), 0o755);
        rename, paths => |world| names::rename(&world.process, at(PATH), at(OTHER_PATH));
        link, paths => |world| names::link(&world.process, at(PATH), at(OTHER_PATH));
        symlink, paths => |world| names::symlink(&world.process, at(PATH), at(OTHER_PATH));
        unlink, paths => |world| names::unlink(&world.process, at(PATH));
        readlink, |world| {
            paths(world);
            names::symlink(&world.process, at(PATH), at(OTHER_PATH)).expect("a link");
        } => |world| names::readlink(&world.process, at(OTHER_PATH), at(RESULT), 100);
        mknod_pipe, |world| {
            world.put(PATH, b"/p\0");
        } => |world| names::mknod(&world.process, at(PATH), 0o010_644, 0);
        getdents, |world| {
            paths(world);
            opened(world, "/", O_DIRECTORY);
        } => |world| {
            let count = names::getdents64(&world.process, Fd(1), at(RESULT), 4096);
            io::lseek(&world.process, Fd(1), 0, 0)?;
            count
        };
        chdir, |world| {
            world.put(PATH, b"/d\0");
            names::mkdir(&world.process, at(PATH), 0o755).expect("a directory");
        } => |world| names::chdir(&world.process, at(PATH));
        truncate, paths => |world| io::truncate(&world.process, at(PATH), 7000);
        statfs, paths => |world| attributes::statfs(&world.process, at(PATH), at(UNCOMPARED));
    }
}

fn of_messages() -> Vec<Case> {
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
        socketpair, |_| () => |world| ipc::socketpair(&world.process, 1, 1, 0, at(RESULT));
        send_small, pair => |world| {
            ipc::sendto(&world.process, Fd(0), at(BUFFER), ByteCount(500), 0, UserAddr(0), 0)
        };
        send_pages, pair => |world| {
            ipc::sendto(&world.process, Fd(0), at(BUFFER), pages(8), 0, UserAddr(0), 0)
        };
        receive_pages, pair_with_message => |world| {
            let (process, none) = (&world.process, UserAddr(0));
            ipc::recvfrom(process, Fd(1), at(BUFFER + 40), pages(8), 0x40, none, none)
        };
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
    }
}
