//! The tree of `/proc`: the names in its directories, and the contents of its files.

use super::lines::pids;
use super::memory::ProcessMemory;
use super::node::{Directory, Fixed, Link, Node};
use super::{details, mutants, process, settings, system};
use crate::file::{Fd, FileObject, FileType, ProcessView, tasks};
use crate::mem::fallible;
use crate::sync::{Interrupt, relax};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{Errno, knob};

static SYS: Directory = Directory {
    inode: 0x10,
    names: &[
        ("fs", Fixed::Directory(&settings::FS)),
        ("kernel", Fixed::Directory(&settings::KERNEL)),
        ("lazy", Fixed::Directory(&LAZY)),
        ("vm", Fixed::Directory(&settings::VM)),
    ],
};
static LAZY: Directory = Directory { inode: 0x12, names: &[("", Fixed::Knobs)] };

/// The name of the file that chooses a mutant, among the knobs.
const MUTANT: &str = "mutant";

/// A living process or a zombie; ENOENT for an unknown number.
fn process(pid: u32) -> Result<ProcessView, Errno> {
    tasks().and_then(|tasks| tasks.process(pid)).ok_or(Errno::ENOENT)
}

/// A thread of a living process.
fn thread(pid: u32, tid: u32) -> Result<ProcessView, Errno> {
    tasks().and_then(|tasks| tasks.thread(pid, tid)).ok_or(Errno::ENOENT)
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
            Self::Threads(pid) => {
                let tid = number(name).ok_or(Errno::ENOENT)?;
                thread(pid, tid).map(|_| Self::Thread(pid, tid))
            }
            Self::Thread(pid, tid) => {
                thread(pid, tid)?;
                let file = process::FILES.iter().find(|file| file.name() == name);
                file.map(|file| Self::ThreadFile(pid, tid, file)).ok_or(Errno::ENOENT)
            }
            Self::Descriptors(pid) | Self::DescriptorTexts(pid) => {
                let fd = number(name).and_then(|fd| i32::try_from(fd).ok()).map(Fd);
                let fd = fd.ok_or(Errno::ENOENT)?;
                descriptor(pid, fd)?;
                let is_text = matches!(self, Self::DescriptorTexts(_));
                Ok(if is_text { Self::DescriptorText(pid, fd) } else { Self::Descriptor(pid, fd) })
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
            Self::ThreadFile(pid, tid, file) => Ok(file.text(&thread(pid, tid)?)?),
            Self::DescriptorText(pid, fd) => Ok(details::descriptor(&*descriptor(pid, fd)?)?),
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
            Self::ProcessFile(pid, file) | Self::ThreadFile(pid, _, file) if file.writable() => {
                file.set(&process(pid)?, value?)
            }
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
            Self::CurrentThread => {
                let tasks = tasks().ok_or(Errno::ENOENT)?;
                let (pid, tid) =
                    tasks.current_pid().zip(tasks.current_tid()).ok_or(Errno::ENOENT)?;
                Ok(format!("{pid}/task/{tid}").into_bytes())
            }
            Self::ProcessLink(pid, link) => {
                let view = process(pid)?;
                let target = match link {
                    Link::Program => view.program,
                    Link::Directory => view.directory,
                    Link::Root => b"/".to_vec(),
                };
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
                    ("root", Self::ProcessLink(pid, Link::Root)),
                ];
                let files =
                    process::FILES.iter().map(|file| (file.name(), Self::ProcessFile(pid, file)));
                let folders = [
                    ("fd", Self::Descriptors(pid)),
                    ("fdinfo", Self::DescriptorTexts(pid)),
                    ("mem", Self::Memory(pid)),
                    ("task", Self::Threads(pid)),
                ];
                let mut all = files.chain(links).chain(folders);
                all.all(|(name, node)| sink(name, node));
            }
            Self::Threads(pid) => {
                let next = |last| tasks().and_then(|tasks| tasks.next_tid(pid, last));
                let mut tids = core::iter::successors(next(0), |&last| next(last));
                tids.all(|tid| sink(&format!("{tid}"), Self::Thread(pid, tid)));
            }
            Self::Thread(pid, tid) => {
                let mut files = process::FILES.iter();
                files.all(|file| sink(file.name(), Self::ThreadFile(pid, tid, file)));
            }
            Self::Descriptors(pid) | Self::DescriptorTexts(pid) => {
                let files = process(pid)?.files.ok_or(Errno::ENOENT)?;
                let fds = fallible::collect(files.lock().iter().map(|(fd, _)| fd))?;
                let node = |fd| match self {
                    Self::DescriptorTexts(_) => Self::DescriptorText(pid, fd),
                    _ => Self::Descriptor(pid, fd),
                };
                fds.into_iter().all(|fd| sink(&format!("{fd}"), node(fd)));
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
        "thread-self" => Ok(Node::CurrentThread),
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
    let fixed = [
        ("self", Node::CurrentProcess),
        ("sys", Node::Directory(&SYS)),
        ("thread-self", Node::CurrentThread),
    ];
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
        "root" => Ok(Node::ProcessLink(pid, Link::Root)),
        "fd" => Ok(Node::Descriptors(pid)),
        "fdinfo" => Ok(Node::DescriptorTexts(pid)),
        "task" => Ok(Node::Threads(pid)),
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
