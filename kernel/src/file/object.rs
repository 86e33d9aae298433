//! What an open file refers to: a file on a server, a directory, a pipe's end, a device.

use super::{FileType, Identity, IoCaller, Notifier, Ready, SetAttr, Stat, UserBuffers};
use crate::mem::{Account, Frame, KeptFile, Pager, Snapshot, Space};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::{AllocateMode, Handle, OpenFlags};

/// On whose behalf an object is read or written.
#[derive(Clone, Copy)]
pub struct Io<'a> {
    /// The address space: its policy says whether reads are lazy, its counters count.
    pub space: &'a Arc<Space>,
    /// The calling process; none for the kernel's own transfers.
    pub caller: Option<&'a dyn IoCaller>,
    /// `O_NONBLOCK`: EAGAIN instead of waiting. Files on servers ignore it.
    pub nonblocking: bool,
}

impl Io<'_> {
    /// Who pays for what the kernel keeps of the transfer.
    #[inline]
    pub fn account(&self) -> &Arc<Account> {
        self.caller.map_or(&self.space.account, IoCaller::account)
    }
}

/// Where a write begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePosition {
    /// At this offset. Objects without positions ignore it.
    At(FileOffset),
    /// At the end of the file, as the object or its server finds it (W6).
    End,
}

impl WritePosition {
    /// The offset; 0 for [`End`](Self::End), for objects that have no end.
    pub fn offset(self) -> FileOffset {
        match self {
            Self::At(offset) => offset,
            Self::End => FileOffset::ZERO,
        }
    }
}

/// The result of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Bytes written.
    pub bytes: ByteCount,
    /// Offset after the last byte written. Meaningless for objects without positions.
    pub end: FileOffset,
}

impl WriteOutcome {
    /// A write of `bytes` from `start` on. The end saturates.
    pub fn from_start(start: FileOffset, bytes: ByteCount) -> Self {
        Self { bytes, end: start.saturating_add(bytes) }
    }

    /// Offset of the first byte written.
    pub fn start(&self) -> FileOffset {
        FileOffset(self.end.0.saturating_sub(self.bytes.0))
    }

    /// A write to an object without positions.
    pub fn without_position(bytes: ByteCount) -> Self {
        Self { bytes, end: FileOffset::ZERO }
    }
}

/// One name in a directory, and the file that it refers to.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The file's number in its file system.
    pub inode: u64,
    /// Cookie with which reading continues after this entry; never 0.
    pub next: u64,
    /// The file's type.
    pub file_type: FileType,
    /// The entry's name, without `/`.
    pub name: &'a [u8],
}

impl<'a> From<fsproto::dirent::DirEntry<'a>> for DirectoryEntry<'a> {
    fn from(entry: fsproto::dirent::DirEntry<'a>) -> Self {
        Self { inode: entry.id.0, next: entry.next, file_type: entry.kind.into(), name: entry.name }
    }
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Bytes that have storage.
    Data,
    /// Bytes that have none, and are zeros.
    Hole,
}

/// How pages of a mapped file are fetched.
pub struct MappingSource {
    /// What fetches them.
    pub pager: Arc<dyn Pager>,
    /// The handle by which the server knows the file.
    pub handle: Handle,
    /// Whether others may change the file, so that a lease is needed while pages are in memory.
    pub needs_lease: bool,
}

/// The object behind an open file. Default methods return what Linux returns where an operation
/// makes no sense.
///
/// Callers hold no lock that a server could need, and have checked access mode and offsets.
pub trait FileObject: Any + Send + Sync {
    /// The file's attributes, as for fstat(2).
    fn stat(&self) -> Result<Stat, Errno>;

    /// What another open of the same file results in, through `/proc/PID/fd`, where that is not
    /// this object.
    fn reopen(&self, _flags: OpenFlags) -> Result<Option<Arc<dyn FileObject>>, Errno> {
        Ok(None)
    }

    /// The same for every object that is open on the same file; `None` for files that cannot be
    /// mapped shared.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// What fetches pages of the file as it is; `None` where the file cannot be mapped shared.
    fn mapping_source(&self) -> Option<MappingSource> {
        None
    }

    /// Waits until no request that changes the file is under way that began before.
    fn await_changes(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Asks for a lease: from the reply on, the server recalls it before the file changes by others
    /// (`mapped::recall`).
    fn lease(&self) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// Writes the first `length` bytes of adjacent pages of a mapped file at `at`, a page boundary,
    /// below the end of the file. The pages' frames do not change meanwhile. Returns how many bytes
    /// were written.
    fn write_pages(
        &self,
        _at: FileOffset,
        _pages: &[Frame],
        _length: ByteCount,
    ) -> Result<ByteCount, Errno> {
        Err(Errno::ENODEV)
    }

    /// Whether a mapping of it is anonymous memory: `/dev/zero`.
    fn is_zeros(&self) -> bool {
        false
    }

    /// Whether its server is gone, so that it can never be read or written again.
    fn is_lost(&self) -> bool {
        false
    }

    /// Reads at most `to.remaining()` bytes from `at` on. Returns the number of bytes read, 0 at
    /// the end of the file.
    fn read(
        &self,
        _io: &Io<'_>,
        _to: &mut UserBuffers,
        _at: FileOffset,
    ) -> Result<ByteCount, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes as much of `from` as possible. An error only where nothing was written.
    fn write(
        &self,
        _io: &Io<'_>,
        _from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Err(Errno::EINVAL)
    }

    /// Whether the object has positions. Pipes, sockets and terminals have none: lseek and pread
    /// return ESPIPE, and no position lock is taken.
    fn seekable(&self) -> bool {
        false
    }

    /// Changes attributes; the length with `AttrMask::SIZE`.
    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Returns when all data is on stable storage.
    fn sync(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2).
    fn allocate(
        &self,
        _offset: FileOffset,
        _length: ByteCount,
        _mode: AllocateMode,
    ) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// The first byte of the wanted kind from `from` on, in a regular file of `size` bytes. By
    /// default all is data.
    fn find(
        &self,
        from: FileOffset,
        _size: ByteCount,
        wanted: Wanted,
    ) -> Result<Option<FileOffset>, Errno> {
        Ok((wanted == Wanted::Data).then_some(from))
    }

    /// Passes the entries after `cookie` (0: from the start) to `sink` until it returns `false` or
    /// the directory ends. The caller adds `.` and `..`.
    fn read_dir(
        &self,
        _cookie: u64,
        _sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// The target of a symbolic link.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// ioctl(2), with Linux's request numbers.
    fn ioctl(&self, _caller: &dyn IoCaller, _request: u32, _argument: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// What can be done without waiting. Changes are reported by
    /// [`Notifier::notify`](super::Notifier::notify).
    fn poll(&self) -> Ready {
        Ready::READ | Ready::WRITE
    }

    /// Whether [`poll`](Self::poll) depends on the process that calls it.
    fn is_per_caller(&self) -> bool {
        false
    }

    /// Passes the notifiers that report changes of [`poll`](Self::poll), each with what its changes
    /// can concern. None where the object is always ready, as regular files are: then epoll refuses
    /// it. Always the same ones for one object.
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        if matches!(self.type_and_mode(), Ok((FileType::Pipe | FileType::Socket, _))) {
            visit(Notifier::of_every_change(), Ready::all());
        }
    }

    /// The capacity of a pipe (`F_GETPIPE_SZ`).
    fn pipe_capacity(&self) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    /// Changes the capacity of a pipe, and returns the new one (`F_SETPIPE_SZ`).
    fn set_pipe_capacity(&self, _bytes: usize) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    /// A snapshot of a range, for mapping it: programs (A6) and private file mappings. Short at the
    /// end of the file. `None` where the file supports no snapshots or the space's policy is eager:
    /// the caller reads instead.
    fn snapshot(
        &self,
        _space: &Arc<Space>,
        _offset: FileOffset,
        _length: ByteCount,
    ) -> Result<Option<Arc<Snapshot>>, Errno> {
        Ok(None)
    }

    /// Type and permission bits, as they were when the file was opened, or are now.
    fn type_and_mode(&self) -> Result<(FileType, u16), Errno> {
        self.stat().map(|stat| (stat.file_type, stat.mode))
    }

    /// All contents of the file, where they are small and can be kept. Else the caller reads.
    fn kept(&self, _space: &Arc<Space>) -> Result<Option<KeptFile>, Errno> {
        Ok(None)
    }

    /// Moves the frames of `pages` pages from page `first` on to the caller, for a private mapping
    /// (`/dev/ramdisk`, once). May return fewer.
    fn take_frames(&self, _first: PageCount, _pages: PageCount) -> Result<Vec<Frame>, Errno> {
        Err(Errno::ENODEV)
    }
}

/// The object as the concrete type `T`; `None` for another type.
pub fn downcast<T: FileObject>(object: &Arc<dyn FileObject>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = object.clone();
    any.downcast().ok()
}

/// The same without a count of its own.
#[inline]
pub fn downcast_ref<T: FileObject>(object: &Arc<dyn FileObject>) -> Option<&T> {
    let any: &dyn Any = &**object;
    any.downcast_ref()
}
