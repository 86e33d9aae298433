//! `/dev`: a fixed directory of devices, with `/dev/pts` and the disks in it.

mod disk;
mod framebuffer;
mod messages;
mod pts;

use super::tty::{Terminal, Tty, pair, registry};
use super::{
    DirectoryEntry, FileObject, FileSystem, FileSystemFigures, FileType, Io, OpenHow, Ready,
    SetAttr, Stat, Tasks, UserBuffers, Walk, WriteOutcome, WritePosition, random, tasks,
};
use crate::dev;
use crate::mem::fallible;
use crate::mem::{Frame, PAGE_BYTES, PhysAddr};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::OpenFlags;

/// `TMPFS_MAGIC`, as for devtmpfs on Linux.
const MAGIC: u64 = 0x0102_1994;
/// Bytes that endless devices transfer before they yield and check for signals.
const CHUNK: usize = 16 * PAGE_BYTES;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// An entry of `/dev`.
#[derive(Clone, Copy)]
enum Entry {
    Memory(Memory),
    Terminal(usize),
    /// `tty`: the caller's controlling terminal.
    ControllingTerminal,
    /// `ptmx`: opening it creates a pseudo-terminal.
    Master,
    /// `pts`: the directory of pseudo-terminals.
    Terminals,
    /// `disk`: the directory of links to disks.
    Disks,
    Ramdisk,
    /// `kmsg`: the kernel's log.
    Messages,
    /// `fb0`: the screen.
    Framebuffer,
    /// `serio_raw0`: the keyboard's bytes.
    Keyboard,
    Link(&'static [u8]),
}

/// Devices without hardware, with the minor numbers of Linux's major 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Null = 3,
    Zero = 5,
    Full = 7,
    Random = 8,
    Urandom = 9,
}

const ENTRIES: &[(&[u8], Entry)] = &[
    (b"console", Entry::Terminal(0)),
    (b"disk", Entry::Disks),
    (b"fb0", Entry::Framebuffer),
    (b"fd", Entry::Link(b"/proc/self/fd")),
    (b"full", Entry::Memory(Memory::Full)),
    (b"kmsg", Entry::Messages),
    (b"null", Entry::Memory(Memory::Null)),
    (b"ptmx", Entry::Master),
    (b"pts", Entry::Terminals),
    (b"ramdisk", Entry::Ramdisk),
    (b"random", Entry::Memory(Memory::Random)),
    (b"serio_raw0", Entry::Keyboard),
    (b"shm", Entry::Link(b"/run/shm")),
    (b"stderr", Entry::Link(b"/proc/self/fd/2")),
    (b"stdin", Entry::Link(b"/proc/self/fd/0")),
    (b"stdout", Entry::Link(b"/proc/self/fd/1")),
    (b"tty", Entry::ControllingTerminal),
    (b"ttyS0", Entry::Terminal(0)),
    (b"ttyS1", Entry::Terminal(1)),
    (b"ttyS2", Entry::Terminal(2)),
    (b"urandom", Entry::Memory(Memory::Urandom)),
    (b"zero", Entry::Memory(Memory::Zero)),
];

impl Entry {
    /// Whether this machine has the device.
    fn is_present(self) -> bool {
        match self {
            Self::Framebuffer => dev::framebuffer::layout().is_some(),
            Self::Keyboard => registry::keyboard().is_some(),
            _ => true,
        }
    }

    fn file_type(self) -> FileType {
        match self {
            Self::Memory(_)
            | Self::Terminal(_)
            | Self::ControllingTerminal
            | Self::Master
            | Self::Messages
            | Self::Framebuffer
            | Self::Keyboard => FileType::CharacterDevice,
            Self::Terminals | Self::Disks => FileType::Directory,
            Self::Ramdisk => FileType::Regular,
            Self::Link(_) => FileType::Symlink,
        }
    }
}

/// The file system of `/dev`.
pub struct DeviceFileSystem;

enum Found {
    Root,
    Entry(u64, Entry),
    /// A pseudo-terminal in `/dev/pts`.
    Pseudo(Arc<Tty>),
    /// A disk, or what leads to one.
    Disk(disk::Node),
}

fn find(path: &[u8]) -> Result<Found, Errno> {
    if path.is_empty() {
        return Ok(Found::Root);
    }
    if let Some(node) = disk::find(path) {
        return node.map(Found::Disk);
    }
    let (name, below) =
        path.split_at(path.iter().position(|&byte| byte == b'/').unwrap_or(path.len()));
    let at = ENTRIES.iter().position(|(entry, _)| *entry == name).ok_or(Errno::ENOENT)?;
    let (_, entry) =
        ENTRIES.get(at).filter(|(_, entry)| entry.is_present()).ok_or(Errno::ENOENT)?;
    match (entry, below) {
        // A name below a link: the link has to be followed.
        (Entry::Link(_), _) | (_, []) => Ok(Found::Entry(at as u64 + 2, *entry)),
        (Entry::Terminals, [_, name @ ..]) => {
            pts::find(name).map(Found::Pseudo).ok_or(Errno::ENOENT)
        }
        _ => Err(Errno::ENOTDIR),
    }
}

/// The length of the link's name, if the link has to be followed: it is not the last component, or
/// the last one is followed.
fn followed(path: &[u8], flags: OpenFlags) -> Option<usize> {
    let name = path.split(|&byte| byte == b'/').next().unwrap_or_default().len();
    (name < path.len() || !flags.contains(OpenFlags::NO_FOLLOW)).then_some(name)
}

impl FileSystem for DeviceFileSystem {
    fn type_name(&self) -> &'static str {
        "devtmpfs"
    }

    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        let found = match find(path) {
            Err(Errno::ENOENT) if how.flags.contains(OpenFlags::CREATE) => {
                return Err(Errno::EPERM);
            }
            found => found?,
        };
        let directory: Arc<dyn FileObject> = match found {
            Found::Disk(node) => return node.open(path, how),
            Found::Root => Arc::new(Directory),
            Found::Entry(inode, Entry::Terminals) => Arc::new(pts::Terminals { inode }),
            Found::Entry(inode, Entry::Link(target)) => {
                return Ok(match followed(path, how.flags) {
                    Some(walked) => Walk::Link { which: 0, walked, target: target.to_vec() },
                    None => Walk::Done(Arc::new(Link { inode, target })),
                });
            }
            _ if how.flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) => {
                return Err(Errno::EEXIST);
            }
            _ if how.flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            Found::Entry(inode, entry) => {
                return open_device(inode, entry, how.flags).map(Walk::Done);
            }
            Found::Pseudo(tty) => return Ok(Walk::Done(Terminal::open(tty, how.flags)?)),
        };
        if how.flags.intersects(OpenFlags::WRITE | OpenFlags::CREATE) {
            Err(Errno::EISDIR)
        } else {
            Ok(Walk::Done(directory))
        }
    }

    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        let stat = match find(path)? {
            Found::Disk(node) => return node.stat(path, flags),
            Found::Root => Directory.stat(),
            Found::Entry(inode, Entry::Terminals) => pts::Terminals { inode }.stat(),
            Found::Entry(inode, Entry::Link(target)) => match followed(path, flags) {
                Some(walked) => {
                    return Ok(Walk::Link { which: 0, walked, target: target.to_vec() });
                }
                None => Link { inode, target }.stat(),
            },
            _ if flags.contains(OpenFlags::DIRECTORY) => Err(Errno::ENOTDIR),
            Found::Pseudo(tty) => Ok(tty.stat()),
            Found::Entry(inode, entry) => {
                open_device(inode, entry, OpenFlags::empty()).and_then(|device| device.stat())
            }
        };
        stat.map(Walk::Done)
    }

    fn figures(&self) -> Result<FileSystemFigures, Errno> {
        Ok(FileSystemFigures { magic: MAGIC, ..FileSystemFigures::default() })
    }
}

fn open_device(inode: u64, entry: Entry, flags: OpenFlags) -> Result<Arc<dyn FileObject>, Errno> {
    let is_used = flags.intersects(OpenFlags::READ | OpenFlags::WRITE);
    match entry {
        Entry::Memory(which) => Ok(Arc::new(MemoryDevice { inode, which })),
        Entry::Terminal(number) => {
            Ok(Terminal::open(registry::serial(number).ok_or(Errno::ENXIO)?, flags)?)
        }
        // Opened for attributes only: needs no terminal, and creates none.
        Entry::ControllingTerminal | Entry::Master if !is_used => {
            Ok(Arc::new(Attributes(match entry {
                Entry::Master => pair::master_stat(),
                _ => Stat {
                    file_type: FileType::CharacterDevice,
                    mode: 0o666,
                    links: 1,
                    inode,
                    device_number: 5 << 8,
                    ..Stat::of_device()
                },
            })))
        }
        Entry::ControllingTerminal => {
            let tasks = tasks().ok_or(Errno::ENXIO)?;
            let session =
                tasks.current_pid().and_then(|pid| tasks.process(pid)).ok_or(Errno::ENXIO)?.sid;
            Ok(Terminal::open(registry::controlling(session).ok_or(Errno::ENXIO)?, flags)?)
        }
        Entry::Master => {
            let account = tasks().and_then(Tasks::account).unwrap_or_default();
            Ok(pair::Master::open(&account)?)
        }
        Entry::Ramdisk => Ok(Arc::new(Ramdisk { inode })),
        Entry::Messages => Ok(Arc::new(messages::Messages::open(inode))),
        Entry::Framebuffer => Ok(Arc::new(framebuffer::Framebuffer::open(inode)?)),
        Entry::Keyboard => Ok(Terminal::open(registry::keyboard().ok_or(Errno::ENXIO)?, flags)?),
        // Links and directories are handled by the caller.
        Entry::Link(_) | Entry::Terminals | Entry::Disks => Err(Errno::ELOOP),
    }
}

/// A device that was opened for its attributes only.
struct Attributes(Stat);

impl FileObject for Attributes {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.0)
    }
}

/// `/dev` itself.
struct Directory;

impl FileObject for Directory {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat {
            file_type: FileType::Directory,
            mode: 0o755,
            links: 2,
            inode: 1,
            ..Stat::of_device()
        })
    }
    fn read(&self, _: &Io<'_>, _: &mut UserBuffers, _: FileOffset) -> Result<ByteCount, Errno> {
        Err(Errno::EISDIR)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read_dir(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        for (at, (name, entry)) in
            (0u64..).zip(ENTRIES).skip(usize::try_from(cookie).unwrap_or(usize::MAX))
        {
            if !entry.is_present() {
                continue;
            }
            if !sink(DirectoryEntry {
                inode: at + 2,
                next: at + 1,
                file_type: entry.file_type(),
                name,
            }) {
                return Ok(());
            }
        }
        disk::list(cookie, ENTRIES.len() as u64, sink);
        Ok(())
    }
}

struct Link {
    inode: u64,
    target: &'static [u8],
}

impl FileObject for Link {
    fn stat(&self) -> Result<Stat, Errno> {
        let size = ByteCount::of_len(self.target.len());
        Ok(Stat {
            file_type: FileType::Symlink,
            mode: 0o777,
            links: 1,
            inode: self.inode,
            size,
            ..Stat::of_device()
        })
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.target.to_vec())
    }
}

struct MemoryDevice {
    inode: u64,
    which: Memory,
}

impl MemoryDevice {
    /// Fills `to` in chunks. Yields between them; a signal ends it early.
    fn fill(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if matches!(self.which, Memory::Random | Memory::Urandom) {
            return random::put(io.space, to);
        }
        let mut done = ByteCount::ZERO;
        while !to.remaining().is_zero() {
            match to.put(io.space, &ZEROS) {
                Ok(0) => break,
                Ok(count) => done += ByteCount::of_len(count),
                Err(error) => return if !done.is_zero() { Ok(done) } else { Err(error) },
            }
            if done.0.is_multiple_of(CHUNK as u64) && relax(Interrupt::Signal).is_err() {
                break;
            }
        }
        Ok(done)
    }
}

impl FileObject for MemoryDevice {
    fn is_zeros(&self) -> bool {
        self.which == Memory::Zero
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let device_number = 1 << 8 | self.which as u64;
        Ok(Stat {
            file_type: FileType::CharacterDevice,
            mode: 0o666,
            links: 1,
            inode: self.inode,
            device_number,
            ..Stat::of_device()
        })
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        if self.which == Memory::Null { Ok(ByteCount::ZERO) } else { self.fill(io, to) }
    }
    fn write(
        &self,
        _io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let bytes = from.remaining();
        if self.which == Memory::Full && !bytes.is_zero() {
            return Err(Errno::ENOSPC);
        }
        from.skip(bytes);
        Ok(WriteOutcome::from_start(at.offset(), bytes))
    }
    fn seekable(&self) -> bool {
        true
    }
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        refuse_length(change)
    }
    fn poll(&self) -> Ready {
        Ready::READ | Ready::WRITE
    }
}

/// Refuses changes of the length, and ignores other changes.
fn refuse_length(change: &SetAttr) -> Result<(), Errno> {
    if change.mask.contains(fsproto::AttrMask::SIZE) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Address and length in bytes of the ramdisk; 0 after its pages were moved to a mapping.
static RAMDISK: Mutex<(PhysAddr, u64), rank::Ramdisk> = Mutex::new((PhysAddr(0), 0));

/// Sets the location of the ramdisk: page-aligned physical memory, reserved in the frame table so
/// that it can be adopted.
pub fn set_ramdisk(start: PhysAddr, len_bytes: u64) {
    *RAMDISK.lock() = (start, len_bytes);
}

/// The ramdisk. Mapping it moves its frames, once: they become private pages of the mapping.
struct Ramdisk {
    inode: u64,
}

impl FileObject for Ramdisk {
    fn stat(&self) -> Result<Stat, Errno> {
        let size = RAMDISK.lock().1;
        Ok(Stat {
            file_type: FileType::Regular,
            mode: 0o400,
            links: 1,
            inode: self.inode,
            size: ByteCount(size),
            blocks: size.div_ceil(512),
            ..Stat::of_device()
        })
    }

    fn take_frames(&self, first: PageCount, pages: PageCount) -> Result<Vec<Frame>, Errno> {
        let mut ramdisk = RAMDISK.lock();
        let (start, len_bytes) = *ramdisk;
        let all = len_bytes.div_ceil(PAGE_BYTES as u64);
        if !first.is_zero() || pages.0 < all || all == 0 {
            return Err(Errno::EINVAL);
        }
        let mut frames = fallible::with_capacity(all as usize)?;
        // From here on, dropping the frames frees them.
        *ramdisk = (PhysAddr(0), 0);
        drop(ramdisk);
        for page in 0..all {
            let address = PhysAddr(start.0 + page * PAGE_BYTES as u64);
            frames.push(Frame::adopt(address).ok_or(Errno::EIO)?);
        }
        Ok(frames)
    }
}
