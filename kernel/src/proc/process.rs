//! Text about one process.

use super::details;
use super::system::{counter_lines, mounts};
use crate::file::ProcessView;
use crate::mem::{
    OutOfMemory, PAGE_BYTES, Prot, ReadMode, RegionInfo,
    fallible::{self, Text},
};
use crate::sync::{Interrupt, relax};
use crate::trace::{self, Tracing};
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use foundation::Errno;

/// A file in `/proc/PID`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `cgroup`: the only group.
    ControlGroup,
    /// Arguments, each ended by a NUL.
    CommandLine,
    /// `comm`: the program's name.
    Name,
    /// Bytes that it has transferred, which are not counted.
    Io,
    /// Counters of laziness. Writing 0 or 1 disables or enables laziness for this process.
    Lazy,
    /// Its resource limits.
    Limits,
    /// The regions of the address space.
    Maps,
    /// The mounts with their numbers.
    MountInfo,
    /// The same text as `/proc/mounts`.
    Mounts,
    /// `oom_adj`: an older form of the next but one.
    OldAdjustment,
    /// `oom_score`: how probable it is that it is ended. Not known before memory is short.
    Score,
    /// `oom_score_adj`: thousandths of memory and swap by which it seems to hold more, or less, if
    /// a process has to be ended.
    ScoreAdjustment,
    /// Its execution domain.
    Personality,
    /// The regions in detail.
    DetailedMaps,
    /// One line of numbers, for ps.
    Stat,
    /// Sizes of memory in pages.
    StatM,
    /// The same numbers in readable form.
    Status,
    /// Whether the process is traced. Writing 1 or 0 begins or ends tracing.
    Trace,
    /// What it waits for, which is not shown.
    WaitChannel,
}

/// All files, sorted by name.
pub static FILES: [File; 19] = [
    File::ControlGroup,
    File::CommandLine,
    File::Name,
    File::Io,
    File::Lazy,
    File::Limits,
    File::Maps,
    File::MountInfo,
    File::Mounts,
    File::OldAdjustment,
    File::Score,
    File::ScoreAdjustment,
    File::Personality,
    File::DetailedMaps,
    File::Stat,
    File::StatM,
    File::Status,
    File::Trace,
    File::WaitChannel,
];

impl File {
    /// Its name in `/proc/PID`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ControlGroup => "cgroup",
            Self::CommandLine => "cmdline",
            Self::Name => "comm",
            Self::Io => "io",
            Self::Lazy => "lazy",
            Self::Limits => "limits",
            Self::Maps => "maps",
            Self::MountInfo => "mountinfo",
            Self::Mounts => "mounts",
            Self::OldAdjustment => "oom_adj",
            Self::Score => "oom_score",
            Self::ScoreAdjustment => "oom_score_adj",
            Self::Personality => "personality",
            Self::DetailedMaps => "smaps",
            Self::Stat => "stat",
            Self::StatM => "statm",
            Self::Status => "status",
            Self::Trace => "trace",
            Self::WaitChannel => "wchan",
        }
    }

    /// Its index in [`FILES`].
    pub fn number(self) -> u64 {
        self as u64
    }

    /// Whether it can be written to.
    pub fn writable(self) -> bool {
        matches!(self, Self::Lazy | Self::ScoreAdjustment | Self::Trace)
    }

    /// Generates its contents.
    pub fn text(self, view: &ProcessView) -> Result<Vec<u8>, OutOfMemory> {
        Ok(match self {
            Self::ControlGroup => fallible::to_vec(b"0::/\n")?,
            Self::CommandLine => fallible::to_vec(view.command_line.as_slice())?,
            Self::Name => [view.name.as_slice(), b"\n"].concat(),
            Self::Io => fallible::to_vec(NO_TRANSFERS)?,
            Self::Lazy => match &view.space {
                Some(space) => {
                    let mut text = Text(counter_lines(&space.counters)?);
                    writeln!(text, "pages_lazy_now: {}", space.stats().lazy)?;
                    text.0
                }
                None => Vec::new(),
            },
            Self::Limits => details::limits(view)?,
            Self::Maps => maps(view, Detail::None)?,
            Self::DetailedMaps => maps(view, Detail::Sizes)?,
            Self::MountInfo => details::mount_info()?,
            Self::Mounts => mounts()?,
            Self::OldAdjustment => {
                let thousandths = i32::from(view.account.limits.adjustment());
                let value = if thousandths == 1000 { 15 } else { thousandths * 17 / 1000 };
                format!("{value}\n").into_bytes()
            }
            Self::Score => fallible::to_vec(b"0\n")?,
            Self::Personality => fallible::to_vec(b"00000000\n")?,
            Self::WaitChannel => fallible::to_vec(b"0")?,
            Self::ScoreAdjustment => format!("{}\n", view.account.limits.adjustment()).into_bytes(),
            Self::Stat => stat(view),
            Self::StatM => {
                let (size, resident) = sizes(view);
                format!("{size} {resident} 0 0 0 {size} 0\n").into_bytes()
            }
            Self::Status => status(view)?,
            Self::Trace => format!("{}\n", u8::from(trace::is_traced(view.pid))).into_bytes(),
        })
    }

    /// Sets what it shows; 0 disables a setting, and 1 enables it.
    pub fn set(self, view: &ProcessView, value: i64) -> Result<(), Errno> {
        match (self, value) {
            (Self::ScoreAdjustment, thousandths) => view.account.limits.adjust(thousandths)?,
            (Self::Trace, 0) => trace::set(view.pid, Tracing::Off),
            (Self::Trace, 1) => trace::set(view.pid, Tracing::On),
            (Self::Lazy, 0 | 1) => {
                let mode = if value == 0 { ReadMode::Eager } else { ReadMode::Lazy };
                view.space.as_ref().ok_or(Errno::ESRCH)?.policy.set_read_mode(mode)
            }
            (Self::Lazy | Self::Trace, _) => return Err(Errno::EINVAL),
            _ => return Err(Errno::EACCES),
        }
        Ok(())
    }
}

/// The text of `io`: nothing of it is counted.
const NO_TRANSFERS: &[u8] = b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\n\
    write_bytes: 0\ncancelled_write_bytes: 0\n";

/// Mapped and resident pages.
fn sizes(view: &ProcessView) -> (u64, u64) {
    let stats = view.space.as_ref().map(|space| space.stats()).unwrap_or_default();
    (stats.size.0, stats.resident.0)
}

/// The fields of proc(5); those without a meaning here are 0.
fn stat(view: &ProcessView) -> Vec<u8> {
    let (size, resident) = sizes(view);
    let size_bytes = size * PAGE_BYTES as u64;
    let mut text = format!("{} (", view.tid).into_bytes();
    text.extend_from_slice(&view.name);
    let ProcessView { ppid, pgid, sid, start_ticks, threads, niceness, .. } = view;
    let priority = 20 + niceness;
    let (used, children) = (view.used, view.children_used);
    let times = format!("{} {} {} {}", used.user, used.system, children.user, children.system);
    let state = char::from(view.state);
    let rest = format!(
        ") {state} {ppid} {pgid} {sid} 0 -1 0 0 0 0 0 {times} {priority} {niceness} \
         {threads} 0 {start_ticks} {size_bytes} {resident} \
         18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    text.extend_from_slice(rest.as_bytes());
    text
}

fn status(view: &ProcessView) -> Result<Vec<u8>, OutOfMemory> {
    let stats = view.space.as_ref().map(|space| space.stats()).unwrap_or_default();
    let kib = |pages: u64| pages * PAGE_BYTES as u64 / 1024;
    let state = match view.state {
        b'R' => "R (running)",
        b'D' => "D (disk sleep)",
        b'T' => "T (stopped)",
        b'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    };
    let mut text = Text(fallible::to_vec(b"Name:\t")?);
    fallible::extend(&mut text.0, &view.name)?;
    let ProcessView { pid, tid, ppid, umask, threads, .. } = view;
    writeln!(text, "\nUmask:\t{umask:04o}\nState:\t{state}\nTgid:\t{pid}\nNgid:\t0")?;
    writeln!(text, "Pid:\t{tid}\nPPid:\t{ppid}\nTracerPid:\t0")?;
    writeln!(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0")?;
    let slots = view.files.as_ref().map_or(0, |files| files.lock().len());
    writeln!(text, "FDSize:\t{slots}\nGroups:\t ")?;
    let locked = view.space.as_ref().map_or(0, |space| space.locked().0);
    let floor = view.space.as_ref().map_or(0, |space| space.policy.floor().0);
    if view.space.is_some() {
        for (name, pages) in [
            ("VmPeak", stats.size.0),
            ("VmSize", stats.size.0),
            ("VmLck", locked),
            ("VmPin", 0),
            ("VmHWM", stats.resident.0),
            ("VmRSS", stats.resident.0),
            ("RssAnon", stats.resident.0),
            ("RssFile", 0),
            ("RssShmem", 0),
            ("VmSwap", stats.swapped.0),
        ] {
            writeln!(text, "{name}:\t{:8} kB", kib(pages))?;
        }
    }
    writeln!(text, "Threads:\t{threads}")?;
    details::capabilities(&mut text, view)?;
    writeln!(text, "Server:\t{}", u8::from(view.is_server))?;
    writeln!(text, "Floor:\t{:8} kB", kib(floor))?;
    Ok(text.0)
}

/// Lines after which others may run.
const LINES_AT_ONCE: usize = 256;

/// What is written of a region besides its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    None,
    Sizes,
}

fn maps(view: &ProcessView, detail: Detail) -> Result<Vec<u8>, OutOfMemory> {
    let Some(space) = &view.space else { return Ok(Vec::new()) };
    let regions = space.regions()?;
    let mut text = Text::default();
    for (number, RegionInfo { range, prot, shared, label, .. }) in regions.into_iter().enumerate() {
        if number % LINES_AT_ONCE == LINES_AT_ONCE - 1 && relax(Interrupt::Killable).is_err() {
            break;
        }
        let letter = |of: Prot, letter: char| if prot.contains(of) { letter } else { '-' };
        let (read, write, execute) =
            (letter(Prot::READ, 'r'), letter(Prot::WRITE, 'w'), letter(Prot::EXECUTE, 'x'));
        let sharing = if shared { 's' } else { 'p' };
        let (start, end) = (range.start.user_start().0, range.end.user_start().0);
        let line =
            format!("{start:08x}-{end:08x} {read}{write}{execute}{sharing} 00000000 00:00 0 ");
        if label.is_empty() {
            writeln!(text, "{line}")?;
        } else {
            writeln!(text, "{line:<73}{label}")?;
        }
        if detail == Detail::Sizes {
            let resident = space.stats_in(range).resident.bytes().0;
            let flags = [(Prot::READ, "rd "), (Prot::WRITE, "wr "), (Prot::EXECUTE, "ex ")];
            let flags = flags.map(|(of, name)| if prot.contains(of) { name } else { "" });
            details::mapping(&mut text, end - start, resident, &flags.concat())?;
        }
    }
    Ok(text.0)
}
