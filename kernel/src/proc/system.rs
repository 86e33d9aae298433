//! Text about the whole system.

use super::details;
use super::lines::{lines, pids};
use crate::file::{namespace, tasks};
use crate::mem::{
    OutOfMemory, PAGE_BYTES, cache,
    fallible::{self, Text},
    frame, stores, swap,
};
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use foundation::counter::{self, Counters};

/// A file of text.
pub struct File {
    /// The name in `/proc`.
    pub name: &'static str,
    /// Makes its text.
    pub text: fn() -> Result<Vec<u8>, OutOfMemory>,
}

/// The release in uname(2) and `/proc`, from which programs derive the features of a Linux kernel.
pub const RELEASE_TEXT: &str = "6.1.0-sloth";
/// The name of the system, which programs compare.
pub const SYSTEM_TEXT: &str = "Linux";
/// The version, free text.
pub const VERSION_TEXT: &str = concat!("#1 Sloth ", env!("CARGO_PKG_VERSION"));

/// The files in `/proc` itself.
pub static FILES: [File; 16] = [
    File { name: "cmdline", text: || fallible::to_vec(b"\n") },
    File { name: "cpuinfo", text: super::cpuinfo::text },
    File { name: "devices", text: devices },
    File { name: "filesystems", text: file_systems },
    File { name: "kept", text: super::kept::text },
    File { name: "lazy", text: lazy },
    File { name: "partitions", text: || fallible::to_vec(b"major minor  #blocks  name\n\n") },
    File { name: "swaps", text: swaps },
    File { name: "vmstat", text: paging },
    File { name: "loadavg", text: || Ok(b"0.00 0.00 0.00 1/1 1\n".to_vec()) },
    File { name: "meminfo", text: memory },
    File { name: "mounts", text: mounts },
    File { name: "servers", text: servers },
    File { name: "stat", text: statistics },
    File { name: "uptime", text: uptime },
    File {
        name: "version",
        text: || Ok(format!("{SYSTEM_TEXT} version {RELEASE_TEXT} {VERSION_TEXT}\n").into_bytes()),
    },
];

/// Major numbers of device files.
fn devices() -> Result<Vec<u8>, OutOfMemory> {
    fallible::to_vec(
        b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  \
          5 /dev/ptmx\n 10 misc\n 29 fb\n136 pts\n\nBlock devices:\n254 virtblk\n",
    )
}

/// The swap file, if there is one.
fn swaps() -> Result<Vec<u8>, OutOfMemory> {
    let (slots, free) = swap::stats();
    let kib = |pages: usize| pages * PAGE_BYTES / 1024;
    let mut text = Text::default();
    writeln!(text, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")?;
    if slots > 0 {
        let (size, used) = (kib(slots), kib(slots - free));
        writeln!(text, "{:<40}file\t\t{size}\t\t{used}\t\t-2", "/scratch")?;
    }
    Ok(text.0)
}

/// `/proc/vmstat`: what tools for memory read first. What is not counted is 0.
fn paging() -> Result<Vec<u8>, OutOfMemory> {
    let frames = frame::stats();
    let (slots, slots_free) = swap::stats();
    let figures = [
        ("nr_free_pages", frames.free),
        ("nr_file_pages", cache::cached_frames()),
        ("nr_dirty", stores::dirty_pages()),
        ("nr_writeback", 0),
        ("nr_swap_used", slots - slots_free),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", 0),
        ("pgmajfault", 0),
        ("oom_kill", 0),
    ];
    let mut text = Text::default();
    for (name, figure) in figures {
        writeln!(text, "{name} {figure}")?;
    }
    Ok(text.0)
}

fn file_systems() -> Result<Vec<u8>, OutOfMemory> {
    fallible::to_vec(b"nodev\tproc\nnodev\tsysfs\nnodev\tdevtmpfs\nnodev\tsloth\n")
}

/// The counters of E3.
fn lazy() -> Result<Vec<u8>, OutOfMemory> {
    counter_lines(&counter::GLOBAL)
}

/// Counters as `name: value` lines.
pub fn counter_lines(counters: &Counters) -> Result<Vec<u8>, OutOfMemory> {
    lines(counters.iter())
}

/// The sums of the counters on the mounted servers (E3), as of the last statfs(2) of each mount.
fn servers() -> Result<Vec<u8>, OutOfMemory> {
    let mut sums = [("bytes_rescued", 0), ("bytes_elided", 0), ("bytes_cloned", 0)];
    for mount in namespace::root().mounts() {
        let figures = mount.filesystem.known_figures();
        let counts = [figures.bytes_rescued, figures.bytes_elided, figures.bytes_cloned];
        sums.iter_mut().zip(counts).for_each(|((_, sum), count)| *sum += count);
    }
    lines(sums.into_iter())
}

fn memory() -> Result<Vec<u8>, OutOfMemory> {
    let frames = frame::stats();
    let kib = |frames: usize| frames * PAGE_BYTES / 1024;
    let cached = cache::cached_frames();
    let (slots, slots_free) = swap::stats();
    let lines = [
        ("MemTotal", kib(frames.total)),
        ("MemFree", kib(frames.free)),
        ("MemAvailable", kib(frames.free + cached)),
        ("Buffers", 0),
        ("Cached", kib(cached)),
        ("SwapCached", 0),
        ("Dirty", kib(stores::dirty_pages())),
        ("Shmem", 0),
        ("SReclaimable", 0),
        ("SwapTotal", kib(slots)),
        ("SwapFree", kib(slots_free)),
    ];
    let mut text = Text::default();
    for (name, kib) in lines {
        writeln!(text, "{:<15} {kib:>8} kB", format!("{name}:"))?;
    }
    Ok(text.0)
}

/// Mounts as in fstab; blanks in names as octal escapes.
pub(super) fn mounts() -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    for mount in namespace::root().mounts() {
        for field in [mount.source.as_slice(), &mount.path, mount.filesystem.type_name().as_bytes()]
        {
            details::escape(&mut text, field)?;
            write!(text, " ")?;
        }
        writeln!(text, "rw 0 0")?;
    }
    Ok(text.0)
}

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_HUNDREDTH: u64 = 10_000_000;

fn uptime() -> Result<Vec<u8>, OutOfMemory> {
    let seconds = |ns: u64| format!("{}.{:02}", ns / NS_PER_S, ns / NS_PER_HUNDREDTH % 100);
    let [up, idle] = tasks().map_or([0; 2], |tasks| [tasks.uptime_ns(), tasks.idle_ns()]);
    Ok(format!("{} {}\n", seconds(up), seconds(idle)).into_bytes())
}

fn statistics() -> Result<Vec<u8>, OutOfMemory> {
    let Some(tasks) = tasks() else { return Ok(Vec::new()) };
    // What ended is among the reaped children of somebody.
    let (mut user, mut system) = (0, 0);
    for view in pids().filter_map(|pid| tasks.process(pid)) {
        user += view.used.user + view.children_used.user;
        system += view.used.system + view.children_used.system;
    }
    let idle = tasks.idle_ns() / NS_PER_HUNDREDTH;
    let started =
        (tasks.now().0 / NS_PER_S as i64).saturating_sub((tasks.uptime_ns() / NS_PER_S) as i64);
    let times = format!("{user} 0 {system} {idle} 0 0 0 0 0 0");
    let made = pids().last().unwrap_or(0);
    let text = format!(
        "cpu  {times}\ncpu0 {times}\nintr 0\nctxt 0\nbtime {started}\n\
         processes {made}\nprocs_running 1\nprocs_blocked 0\n"
    );
    Ok(text.into_bytes())
}
