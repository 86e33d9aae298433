//! The nodes of `/proc`, with their attributes. What they contain is in [`tree`](super::tree).

use super::{process, system};
use crate::file::{Fd, FileType, Stat, tasks};
use foundation::knob::Control;
use fsproto::Time;

/// The `st_dev` of `/proc`.
const DEVICE: u64 = 4;

/// A file or directory in `/proc`.
#[derive(Clone, Copy)]
pub enum Node {
    /// `/proc` itself.
    Root,
    /// `/proc/self`.
    CurrentProcess,
    /// A text file about the system.
    System(&'static system::File),
    /// `/proc/sys`, `/proc/sys/kernel` and `/proc/sys/lazy`.
    Directory(&'static Directory),
    /// A file in `/proc/sys/lazy`: a knob.
    Knob(&'static Control),
    /// `/proc/sys/lazy/mutant` (builds with mutants only).
    Mutant,
    /// `/proc/thread-self`.
    CurrentThread,
    /// `/proc/PID`.
    Process(u32),
    /// `/proc/PID/task`.
    Threads(u32),
    /// `/proc/PID/task/TID`: process and thread.
    Thread(u32, u32),
    /// A text file about a thread.
    ThreadFile(u32, u32, &'static process::File),
    /// `/proc/PID/fdinfo`.
    DescriptorTexts(u32),
    /// `/proc/PID/fdinfo/N`.
    DescriptorText(u32, Fd),
    /// A text file about a process.
    ProcessFile(u32, &'static process::File),
    /// `/proc/PID/mem`.
    Memory(u32),
    /// `/proc/PID/exe`, `/proc/PID/cwd` and `/proc/PID/root`.
    ProcessLink(u32, Link),
    /// `/proc/PID/fd`.
    Descriptors(u32),
    /// `/proc/PID/fd/N`.
    Descriptor(u32, Fd),
}

/// The target of a process's symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// `exe`: the program's file.
    Program,
    /// Its working directory.
    Directory,
    /// The root of its names, which all processes share.
    Root,
}

/// A directory whose names never change.
pub struct Directory {
    /// Its number.
    pub(super) inode: u64,
    /// Entries by name, sorted.
    pub(super) names: &'static [(&'static str, Fixed)],
}

/// An entry of a [`Directory`].
pub(super) enum Fixed {
    Directory(&'static Directory),
    File(&'static system::File),
    /// All knobs, by name.
    Knobs,
}

impl Node {
    /// What kind of file the node is.
    pub fn file_type(self) -> FileType {
        match self {
            Self::Root
            | Self::Directory(_)
            | Self::Process(_)
            | Self::Threads(_)
            | Self::Thread(..)
            | Self::Descriptors(_)
            | Self::DescriptorTexts(_) => FileType::Directory,
            Self::CurrentProcess
            | Self::CurrentThread
            | Self::ProcessLink(..)
            | Self::Descriptor(..) => FileType::Symlink,
            Self::System(_)
            | Self::Knob(_)
            | Self::Mutant
            | Self::ProcessFile(..)
            | Self::ThreadFile(..)
            | Self::DescriptorText(..)
            | Self::Memory(_) => FileType::Regular,
        }
    }

    /// Permission bits.
    pub fn mode(self) -> u16 {
        match self {
            Self::Knob(_) | Self::Mutant => 0o644,
            Self::Memory(_) => 0o600,
            Self::ProcessFile(_, file) if file.writable() => 0o644,
            node => match node.file_type() {
                FileType::Directory => 0o555,
                FileType::Symlink => 0o777,
                _ => 0o444,
            },
        }
    }

    /// Its number, unique in `/proc`.
    pub fn inode(self) -> u64 {
        let of_process = |pid: u32, rest: u64| u64::from(pid) << 20 | rest;
        match self {
            Self::Root => 1,
            Self::CurrentProcess => 2,
            Self::Mutant => 3,
            Self::Directory(directory) => directory.inode,
            Self::System(file) => 0x100 + address(file),
            Self::Knob(knob) => 0x100 + address(knob),
            Self::CurrentThread => 4,
            Self::Process(pid) => of_process(pid, 1),
            Self::Threads(pid) => of_process(pid, 7),
            Self::DescriptorTexts(pid) => of_process(pid, 8),
            // Numbers of threads and processes are from one sequence.
            Self::Thread(_, tid) => of_process(tid, 9),
            Self::ThreadFile(_, tid, file) => of_process(tid, 0x200 + file.number()),
            Self::DescriptorText(pid, fd) => {
                of_process(pid, 0x10_000 + u64::from(fd.0.unsigned_abs()))
            }
            Self::Descriptors(pid) => of_process(pid, 2),
            Self::Memory(pid) => of_process(pid, 5),
            Self::ProcessLink(pid, Link::Program) => of_process(pid, 3),
            Self::ProcessLink(pid, Link::Directory) => of_process(pid, 4),
            Self::ProcessLink(pid, Link::Root) => of_process(pid, 6),
            Self::ProcessFile(pid, file) => of_process(pid, 0x100 + file.number()),
            Self::Descriptor(pid, fd) => of_process(pid, 0x1000 + u64::from(fd.0.unsigned_abs())),
        }
    }

    /// Its attributes. All times are the present time.
    pub fn stat(self) -> Stat {
        let now = tasks().map_or(Time(0), |tasks| tasks.now());
        let file_type = self.file_type();
        Stat {
            device: DEVICE,
            inode: self.inode(),
            file_type,
            mode: self.mode(),
            links: if file_type == FileType::Directory { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        }
    }
}

/// The address of a static, which distinguishes it from others.
fn address<T>(of: &'static T) -> u64 {
    core::ptr::from_ref(of) as u64 & 0xffff_ffff
}
