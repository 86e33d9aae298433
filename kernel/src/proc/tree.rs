//! The tree of `/proc`: the names in its directories, and the contents of its files.

use super::lines::pids;
use super::memory::ProcessMemory;
use super::node::{Directory, Fixed, Link, Node};
use super::{mutants, process, system};
use crate::file::{Fd, FileObject, FileType, ProcessView, tasks};
use crate::mem::fallible;
use crate::sync::{Interrupt, relax};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{Errno, knob};

static SYS: Directory = Directory {
    inode: 0x10,
    names: &[("kernel", Fixed::Directory(&KERNEL)), ("lazy", Fixed::Directory(&LAZY))],
};
static KERNEL: Directory = Directory {
    inode: 0x11,
    names: &[
        ("hostname", Fixed::File(&system::HOST_NAME)),
        ("osrelease", Fixed::File(&system::RELEASE)),
        ("ostype", Fixed::File(&system::SYSTEM_NAME)),
    ],
};
static LAZY: Directory = Directory { inode: 0x12, names: &[("", Fixed::Knobs)] };

/// The name of the file that chooses a mutant, among the knobs.
const MUTANT: &str = "mutant";

/// A living process or a zombie; ENOENT for an unknown number.
fn process(pid: u32) -> Result<ProcessView, Errno> {
    tasks().and_then(|tasks| tasks.process(pid)).ok_or(Errno::ENOENT)
}

/// A decimal number in its canonical form: no sign, no leading zero.
fn number(name: &str) -> Option<u32> {
    let value: u32 = name.parse().ok()?;
    (format!("{value}") == name).then_some(value)
}

impl Node {
    /// The node under a name. Links are not followed.
    pub fn child(self, name: &[u8]) -> Result<Self, Errno> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        match self {
            Self::Root => root_child(name),
            Self::Directory(directory) => directory.child(name),
            Self::Process(pid) => process_child(pid, name),
            Self::Descriptors(pid) => {
                let fd = number(name).and_then(|fd| i32::try_from(fd).ok()).map(Fd);
                let fd = fd.ok_or(Errno::ENOENT)?;
                descriptor(pid, fd)?;
                Ok(Self::Descriptor(pid, fd))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The text of a file.
    pub fn text(self) -> Result<Vec<u8>, Errno> {
        match self {
            Self::System(file) => Ok((file.text)()?),
            Self::Knob(knob) => Ok(format!("{}\n", knob.get()).into_bytes()),
            Self::Mutant => Ok(mutants::chosen()),
            Self::ProcessFile(pid, file) => Ok(file.text(&process(pid)?)?),
            node if node.file_type() == FileType::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Writes a setting; `text` is all of it.
    pub fn set(self, text: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?.trim();
        let value = match text {
            "on" => Ok(1),
            "off" => Ok(0),
            text => text.parse::<i64>().map_err(|_| Errno::EINVAL),
        };
        match self {
            Self::Knob(knob) => {
                let value = u64::try_from(value?).map_err(|_| Errno::EINVAL)?;
                knob.set(value).map_err(|_| Errno::EINVAL)
            }
            Self::Mutant => mutants::choose(text),
            Self::ProcessFile(pid, file) if file.writable() => file.set(&process(pid)?, value?),
            _ => Err(Errno::EACCES),
        }
    }

    /// The target of a symbolic link.
    pub fn target(self) -> Result<Vec<u8>, Errno> {
        match self {
            Self::CurrentProcess => {
                let pid = tasks().and_then(|tasks| tasks.current_pid()).ok_or(Errno::ENOENT)?;
                Ok(format!("{pid}").into_bytes())
            }
            Self::ProcessLink(pid, link) => {
                let view = process(pid)?;
                let target = if link == Link::Program { view.program } else { view.directory };
                if target.is_empty() { Err(Errno::ENOENT) } else { Ok(target) }
            }
            Self::Descriptor(pid, fd) => {
                let file = descriptor(pid, fd)?;
                if !file.path().is_empty() {
                    return Ok(file.path().to_vec());
                }
                let stat = file.object().stat()?;
                let what = if stat.file_type == FileType::Socket { "socket" } else { "pipe" };
                Ok(format!("{what}:[{}]", stat.inode).into_bytes())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The object that opening this node opens, if it is not the node's text: a descriptor's
    /// object, which may have no name any more, or a process's memory.
    pub fn object(self) -> Result<Option<Arc<dyn FileObject>>, Errno> {
        match self {
            Self::Descriptor(pid, fd) => Ok(Some(descriptor(pid, fd)?.object().clone())),
            Self::Memory(pid) => Ok(Some(Arc::new(ProcessMemory::new(&process(pid)?)?))),
            _ => Ok(None),
        }
    }

    /// Passes the names in a directory and their nodes to `sink`, until it returns false.
    pub fn names(self, sink: &mut Sink<'_>) -> Result<(), Errno> {
        match self {
            Self::Root => root_names(sink),
            Self::Directory(directory) => directory.names(sink),
            Self::Process(pid) => {
                let links = [
                    ("cwd", Self::ProcessLink(pid, Link::Directory)),
                    ("exe", Self::ProcessLink(pid, Link::Program)),
                ];
                let files =
                    process::FILES.iter().map(|file| (file.name(), Self::ProcessFile(pid, file)));
                let mut all = files
                    .chain(links)
                    .chain([("fd", Self::Descriptors(pid)), ("mem", Self::Memory(pid))]);
                all.all(|(name, node)| sink(name, node));
            }
            Self::Descriptors(pid) => {
                let files = process(pid)?.files.ok_or(Errno::ENOENT)?;
                let fds = fallible::collect(files.lock().iter().map(|(fd, _)| fd))?;
                fds.into_iter().all(|fd| sink(&format!("{fd}"), Self::Descriptor(pid, fd)));
            }
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(())
    }
}

/// Gets a name and its node. Returns false to end the list.
pub type Sink<'a> = dyn FnMut(&str, Node) -> bool + 'a;

fn root_child(name: &str) -> Result<Node, Errno> {
    if let Some(pid) = number(name) {
        return process(pid).map(|_| Node::Process(pid));
    }
    match name {
        "self" => Ok(Node::CurrentProcess),
        "sys" => Ok(Node::Directory(&SYS)),
        name => system::FILES
            .iter()
            .find(|file| file.name == name)
            .map(Node::System)
            .ok_or(Errno::ENOENT),
    }
}

/// Names of processes after which others may run.
const NAMES_AT_ONCE: usize = 64;

fn root_names(sink: &mut Sink<'_>) {
    let fixed = [("self", Node::CurrentProcess), ("sys", Node::Directory(&SYS))];
    let files = system::FILES.iter().map(|file| (file.name, Node::System(file)));
    if files.chain(fixed).all(|(name, node)| sink(name, node)) {
        pids().enumerate().all(|(number, pid)| {
            let goes_on = number % NAMES_AT_ONCE > 0 || relax(Interrupt::Killable).is_ok();
            goes_on && sink(&format!("{pid}"), Node::Process(pid))
        });
    }
}

fn process_child(pid: u32, name: &str) -> Result<Node, Errno> {
    process(pid)?;
    match name {
        "cwd" => Ok(Node::ProcessLink(pid, Link::Directory)),
        "exe" => Ok(Node::ProcessLink(pid, Link::Program)),
        "fd" => Ok(Node::Descriptors(pid)),
        "mem" => Ok(Node::Memory(pid)),
        name => process::FILES
            .iter()
            .find(|file| file.name() == name)
            .map(|file| Node::ProcessFile(pid, file))
            .ok_or(Errno::ENOENT),
    }
}

fn descriptor(pid: u32, fd: Fd) -> Result<Arc<crate::file::OpenFile>, Errno> {
    let files = process(pid)?.files.ok_or(Errno::ENOENT)?;
    let file = files.lock().get(fd).cloned();
    file.map_err(|_| Errno::ENOENT)
}

impl Directory {
    fn child(&'static self, name: &str) -> Result<Node, Errno> {
        let mut found = Err(Errno::ENOENT);
        self.names(&mut |other, node| {
            if other == name {
                found = Ok(node);
            }
            found.is_err()
        });
        found
    }

    fn names(&'static self, sink: &mut Sink<'_>) {
        self.names.iter().all(|(name, entry)| match entry {
            Fixed::Directory(directory) => sink(name, Node::Directory(directory)),
            Fixed::File(file) => sink(name, Node::System(file)),
            Fixed::Knobs => {
                knob::ALL.iter().all(|knob| sink(knob.name(), Node::Knob(knob)))
                    && (!mutants::ARE_BUILT || sink(MUTANT, Node::Mutant))
            }
        });
    }
}
