//! Text about the whole system.

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
/// The machine's name.
pub const HOST_TEXT: &str = "sloth";

/// `/proc/sys/kernel/hostname`.
pub static HOST_NAME: File =
    File { name: "hostname", text: || Ok(format!("{HOST_TEXT}\n").into_bytes()) };
/// `/proc/sys/kernel/osrelease`.
pub static RELEASE: File =
    File { name: "osrelease", text: || Ok(format!("{RELEASE_TEXT}\n").into_bytes()) };
/// `/proc/sys/kernel/ostype`.
pub static SYSTEM_NAME: File =
    File { name: "ostype", text: || Ok(format!("{SYSTEM_TEXT}\n").into_bytes()) };

/// The files in `/proc` itself.
pub static FILES: [File; 10] = [
    File { name: "filesystems", text: file_systems },
    File { name: "kept", text: super::kept::text },
    File { name: "lazy", text: lazy },
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

fn file_systems() -> Result<Vec<u8>, OutOfMemory> {
    fallible::to_vec(b"nodev\tproc\nnodev\tdevtmpfs\nnodev\tsloth\n")
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
            for &byte in field {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => write!(text, "\\{byte:03o}")?,
                    byte => fallible::push(&mut text.0, byte)?,
                }
            }
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
