//! The file servers: memfs on the ramdisk and snapfs on memfs; and how any server is started,
//! scratchfs ([`swap`](crate::swap)) included. Each is a process, connected by socket pairs, with
//! relays in between on request.

use crate::config::Relay;
use crate::disk::{Disk, Half};
use crate::{Attempt, ramdisk, relays};
use core::cell::Cell;
use fsserver::{BlockDevice, Resources, TransportConnection};
use user::alloc::boxed::Box;
use user::prelude::*;
use user::sys::abi;
use user::transport::SocketTransport;

/// prctl: marks this process as a file server. The kernel then pins its memory and reads eagerly
/// for it (F8). Further arguments: the server's floor in bytes, and the rank of its claims.
const PR_SET_IO_FLUSHER: u32 = 57;

/// prctl: the process's name, as `ps` shows it.
const PR_SET_NAME: u32 = 15;

/// The share of free memory at the start that memfs may use, as its budget and its floor. The rest
/// is for programs. All floors together may be at most as much of all memory.
const MEMORY_SHARE: (u64, u64) = (1, 2);

/// The share of memory that is the floor of snapfs, for its handles and its map of rescued pages,
/// and the least and the most that it can use.
const SNAPFS_SHARE: u64 = 16;
const SNAPFS_LEAST: u64 = 2 << 20;
const SNAPFS_MOST: u64 = 8 << 20;
/// The floor of scratchfs: its map for each block, and its buffers.
const SCRATCHFS_BYTES_PER_BLOCK: u64 = 20;
const SCRATCHFS_BYTES: u64 = 1 << 20;
/// Maximum size of the swap file as a multiple of memory, as in the kernel: scratchfs needs no more
/// of the disk, nor a map for more.
const SWAP_SHARE: u64 = 16;

/// Blocks of its part of the disk that the swap file can use.
pub fn blocks_for_swap(disk: &Disk) -> u64 {
    disk.blocks.min(memory().0 / PAGE * SWAP_SHARE)
}

/// What a server can count on: bytes of memory beyond what it has at its start, and the rank of its
/// claims for more.
#[derive(Clone, Copy)]
pub struct Floor {
    bytes: u64,
    rank: usize,
}

impl Floor {
    /// That of a relay, which needs nothing but one message.
    pub const RELAY: Self = Self { bytes: 0, rank: FILE_SERVER };

    fn snapfs() -> Self {
        let bytes = whole_pages((memory().0 / SNAPFS_SHARE).clamp(SNAPFS_LEAST, SNAPFS_MOST));
        Self { bytes, rank: FILE_SERVER }
    }

    /// That of scratchfs on a part of the disk.
    pub fn scratchfs(disk: &Disk) -> Self {
        let map_bytes = blocks_for_swap(disk) * SCRATCHFS_BYTES_PER_BLOCK;
        let bytes = whole_pages(map_bytes + SCRATCHFS_BYTES + PAGE - 1);
        Self { bytes, rank: SWAP_SERVER }
    }
}

const PAGE: u64 = foundation::PAGE_BYTES as u64;

/// Floors are whole pages: rounded up by the kernel, their sum would exceed what is allowed.
fn whole_pages(bytes: u64) -> u64 {
    bytes / PAGE * PAGE
}

/// The ranks of claims, as prctl takes them.
const SWAP_SERVER: usize = 1;
const FILE_SERVER: usize = 2;

/// Bytes of memory, and bytes of it that are free.
fn memory() -> (u64, u64) {
    sys::sysinfo().map_or((0, 0), |info| {
        let unit = u64::from(info.mem_unit.max(1));
        (info.totalram * unit, info.freeram * unit)
    })
}

/// A pair of sockets that preserve message boundaries.
pub fn pair() -> Attempt<[Fd; 2]> {
    sys::socketpair(sys::net::SOCK_SEQPACKET).map_err(|error| ("a socket pair", error))
}

/// What mounting the root needs.
pub struct Root {
    /// Leads to snapfs, or to the relay before it.
    pub server: Fd,
    /// The end of snapfs of its connection with memfs, or with the relay in between: the kernel's
    /// page-ins go there directly (F9).
    pub base: Fd,
}

/// Starts memfs and snapfs. On `placed` are files that the ramdisk only lists.
pub fn start(
    ramdisk: &'static [u8],
    relay: Relay,
    disk: Option<Disk>,
    placed: Option<Disk>,
) -> Attempt<Root> {
    let [memfs_end, snapfs_base] = pair()?;
    let [snapfs_end, root] = pair()?;
    let memory_bytes = memory_for_files(disk.as_ref());
    let floor = Floor { bytes: memory_bytes, rank: FILE_SERVER };
    let disk = disk.map(|disk| disk.half(Half::First));
    fork_keeping("memfs", floor, memfs_end, disk.as_ref().map(|disk| disk.fd), |transport| {
        let devices =
            [disk, placed].map(|disk| disk.map(|disk| Box::new(disk) as Box<dyn BlockDevice>));
        let resources = resources(floor, fsserver::memfs::RESERVE_BYTES)?;
        fsserver::memfs::run(ramdisk, resources, devices, ServerClock::default(), transport)
            .map_err(|error| format!("{error}"))
    })?;
    // SAFETY: the settings were copied out of it; only memfs uses it from here on.
    unsafe { ramdisk::release(ramdisk) };
    let _ = sys::close(memfs_end);
    let snapfs_base = if relay.base {
        relays::insert("relay-base", snapfs_base, relay.log)?
    } else {
        snapfs_base
    };
    // snapfs needs two descriptors: `fork_keeping` keeps the one that leads to its base, too.
    fork_keeping("snapfs", Floor::snapfs(), snapfs_end, Some(snapfs_base), |transport| {
        fsserver::snapfs::run(
            TransportConnection(SocketTransport::new(snapfs_base)),
            resources(Floor::snapfs(), fsserver::snapfs::RESERVE_BYTES)?,
            ServerClock::default(),
            transport,
        )
        .map_err(|error| format!("{error:?}"))
    })?;
    let _ = sys::close(snapfs_end);
    let server = if relay.client { relays::insert("relay-client", root, relay.log)? } else { root };
    Ok(Root { server, base: snapfs_base })
}

/// How many bytes memfs may keep in memory besides the ramdisk: its budget, which is its floor.
fn memory_for_files(disk: Option<&Disk>) -> u64 {
    let (all, free) = memory();
    let swap = disk.map(|disk| disk.half(Half::Second));
    let others = Floor::snapfs().bytes + swap.map_or(0, |disk| Floor::scratchfs(&disk).bytes);
    let share = |bytes: u64| bytes / MEMORY_SHARE.1 * MEMORY_SHARE.0;
    whole_pages(share(free).min(share(all).saturating_sub(others)))
}

/// What a server may use. Fills its reserve, from which the small allocations of a request are
/// served when memory is short.
pub fn resources(floor: Floor, reserve_bytes: usize) -> core::result::Result<Resources, String> {
    user::heap::reserve(reserve_bytes).map_err(|error| format!("its reserve: {error}"))?;
    Ok(Resources { memory_bytes: floor.bytes, replenish: user::heap::replenish })
}

/// The servers' clock.
#[derive(Default)]
struct ServerClock {
    /// The last time returned by `now`, and the time-stamp counter at that moment.
    last: Cell<(fsproto::Time, u64)>,
}

/// Ticks of the time-stamp counter for which the last time counts as recent: about 1 ms at 1 GHz.
const RECENT_TICKS: u64 = 1 << 20;

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every processor that this kernel runs on has it, and it changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl fsserver::Clock for ServerClock {
    fn now(&self) -> fsproto::Time {
        let now = sys::clock(abi::CLOCK_REALTIME).unwrap_or_default();
        let now = fsproto::Time(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        self.last.set((now, ticks()));
        now
    }

    fn recent(&self) -> fsproto::Time {
        let (time, at) = self.last.get();
        if at != 0 && ticks().wrapping_sub(at) < RECENT_TICKS { time } else { self.now() }
    }
}

/// Forks a server process that serves on `end` until its client has closed the other end.
fn fork_keeping(
    name: &'static str,
    floor: Floor,
    end: Fd,
    other: Option<Fd>,
    serve: impl FnOnce(SocketTransport) -> core::result::Result<(), String>,
) -> Attempt<()> {
    start_marked(name, floor, [end, other.unwrap_or(end)], || serve(SocketTransport::new(end)))
        .map(drop)
}

/// Forks a marked process that keeps two descriptors and standard error. Returns its id.
pub fn start_marked(
    name: &'static str,
    floor: Floor,
    keep: [Fd; 2],
    body: impl FnOnce() -> core::result::Result<(), String>,
) -> Attempt<i32> {
    if let Some(child) = sys::fork().map_err(|error| (name, error))? {
        return Ok(child);
    }
    // A new session, so that no terminal's signal reaches it. It keeps only its own descriptors, so
    // that it notices when its client closes the other end.
    let _ = sys::setsid();
    let _ = sys::prctl(PR_SET_NAME, name_bytes(name).as_ptr() as usize, 0, 0, 0);
    let last = keep[0].max(keep[1]).0 + 4;
    for fd in (0..=last).map(Fd).filter(|fd| !keep.contains(fd) && *fd != Fd::STDERR) {
        let _ = sys::close(fd);
    }
    if let Err(error) = sys::prctl(PR_SET_IO_FLUSHER, 1, floor.bytes as usize, floor.rank, 0) {
        complain(name, b"the server's mark", error);
        sys::exit(1)
    }
    if let Err(error) = body() {
        eprintln!("{name}: {error}");
        sys::exit(1)
    }
    sys::exit(0)
}

/// The name, padded with zeros, as prctl(2) expects it.
fn name_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}
