//! Open file descriptions, which dup and fork share.

use super::{
    FileObject, FileSystem, FileType, Io, IoCaller, MAX_OFFSET, Stat, UserBuffers, WritePosition,
    mapped::{self, Failures},
    mutants,
    notify::{Notifier, Ready, Watched, Watcher, is_same},
};
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::file_pages::Opened;
use crate::mem::limits::{INFINITE, Resource};
use crate::mem::{Backing, OutOfMemory, Space, fallible};
use crate::sync::{Mutex, SleepLock, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use foundation::{ByteCount, Errno, FileOffset};
use linux_raw_sys::general as linux;
use spin::Once;

bitflags::bitflags! {
    /// Access mode and status flags.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u32 {
        /// May be read.
        const READ = 1 << 0;
        /// May be written.
        const WRITE = 1 << 1;
        /// Writes append.
        const APPEND = 1 << 2;
        /// EAGAIN instead of waiting.
        const NONBLOCKING = 1 << 3;
        /// `O_PATH`: neither readable nor writable.
        const PATH = 1 << 4;
        /// `O_NOATIME`: reads leave the access time.
        const KEEP_ACCESS_TIME = 1 << 5;
        /// Signals are sent when it becomes ready.
        const ASYNC = 1 << 6;
    }
}

impl Status {
    /// As fcntl(2) reports them.
    pub fn linux_flags(self) -> u32 {
        let status = self;
        if status.contains(Status::PATH) {
            return linux::O_PATH;
        }
        let access = match (status.contains(Status::READ), status.contains(Status::WRITE)) {
            (true, true) => linux::O_RDWR,
            (false, true) => linux::O_WRONLY,
            _ => linux::O_RDONLY,
        };
        let append = if status.contains(Status::APPEND) { linux::O_APPEND } else { 0 };
        let nonblocking = if status.contains(Status::NONBLOCKING) { linux::O_NONBLOCK } else { 0 };
        let no_atime = if status.contains(Status::KEEP_ACCESS_TIME) { linux::O_NOATIME } else { 0 };
        let signals = if status.contains(Status::ASYNC) { linux::FASYNC } else { 0 };
        // `O_LARGEFILE`, which Linux sets for every file on this architecture.
        const LARGE: u32 = 0o100_000;
        access | append | nonblocking | no_atime | signals | LARGE
    }
}

/// Whether a transfer moves the position behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovesPosition {
    /// As write(2).
    Yes,
    /// As pwrite(2).
    No,
}

/// Bytes that an open file takes, its path apart: itself, and the object behind it.
const BYTES: usize = 512;

/// An object with a position, shared by all descriptors that result from one open.
pub struct OpenFile {
    object: Arc<dyn FileObject>,
    path: Vec<u8>,
    filesystem: Option<Arc<dyn FileSystem>>,
    position: SleepLock<FileOffset, rank::Position>,
    status: AtomicU32,
    /// Called when this is dropped, once a lock of the whole file was set.
    drop_hook: Once<fn(&Self)>,
    /// The failure of write-back that was reported last (`mapped`).
    failure_seen: AtomicU64,
    /// Those of the file, once it was mapped by this open file.
    failures: Once<Arc<Failures>>,
    /// Who gets signals when it becomes ready, once somebody has chosen that.
    signal_io: Once<Arc<dyn Any + Send + Sync>>,
    /// Called when this is dropped: the entries of epolls.
    watchers: Mutex<Vec<Arc<dyn Watcher>>, rank::FileWatchers>,
    _charge: Charge,
}

impl OpenFile {
    /// An object opened by a canonical path, with its position at 0. `account` pays for it.
    pub fn new(
        object: Arc<dyn FileObject>,
        status: Status,
        path: Vec<u8>,
        filesystem: Option<Arc<dyn FileSystem>>,
        account: &Arc<Account>,
    ) -> Result<Arc<Self>, Errno> {
        let charge = Charge::take(account, Kind::Files, BYTES + path.capacity())?;
        Ok(Arc::new(Self {
            object,
            path,
            filesystem,
            position: SleepLock::new(FileOffset::ZERO),
            status: AtomicU32::new(status.bits()),
            drop_hook: Once::new(),
            failure_seen: AtomicU64::new(mapped::latest_failure()),
            failures: Once::new(),
            signal_io: Once::new(),
            watchers: Mutex::default(),
            _charge: charge,
        }))
    }

    /// An object without a name: a pipe, a socket.
    pub fn nameless(
        object: Arc<dyn FileObject>,
        status: Status,
        account: &Arc<Account>,
    ) -> Result<Arc<Self>, Errno> {
        Self::new(object, status, Vec::new(), None, account)
    }

    /// What is open: a file, a pipe's end, a device.
    pub fn object(&self) -> &Arc<dyn FileObject> {
        &self.object
    }

    /// The canonical path by which it was opened; empty for objects without a name.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether it is a directory, so that paths can start there.
    pub fn is_directory(&self) -> Result<bool, Errno> {
        Ok(self.object.type_and_mode()?.0 == FileType::Directory)
    }

    /// The file system that contains it.
    pub fn filesystem(&self) -> Option<&Arc<dyn FileSystem>> {
        self.filesystem.as_ref()
    }

    /// Access mode and status flags.
    pub fn status(&self) -> Status {
        Status::from_bits_truncate(self.status.load(Ordering::Relaxed))
    }

    /// Sets the flags that can change (`F_SETFL`): `APPEND`, `NONBLOCKING` and `ASYNC`.
    pub fn set_status(&self, flags: Status) {
        let changeable = Status::APPEND | Status::NONBLOCKING | Status::ASYNC;
        let status = (self.status() - changeable) | (flags & changeable);
        self.status.store(status.bits(), Ordering::Relaxed);
    }

    /// EBADF unless it was opened for `access`.
    pub fn require(&self, access: Status) -> Result<(), Errno> {
        let status = self.status();
        if status.contains(access) && !status.contains(Status::PATH) {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    /// Reads at the position, and advances it by the number of bytes read (R2).
    pub fn read(&self, caller: &dyn IoCaller, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        self.require(Status::READ)?;
        let io = self.io(caller);
        if !self.object.seekable() {
            return self.object.read(&io, to, FileOffset::ZERO);
        }
        if let Some(read) = mutants::no_position_lock(&self.position, &*self.object, &io, to) {
            return read;
        }
        let mut position = self.position.lock()?;
        check_end(*position, to)?;
        mapped::before_read(&self.object, *position, to.remaining())?;
        let requested = to.remaining();
        let count = self.object.read(&io, to, *position)?;
        *position = position.saturating_add(mutants::step(requested, count));
        Ok(count)
    }

    /// Reads at an offset, without the position.
    pub fn read_at(
        &self,
        caller: &dyn IoCaller,
        to: &mut UserBuffers,
        at: FileOffset,
    ) -> Result<ByteCount, Errno> {
        self.require(Status::READ)?;
        self.require_positions()?;
        check_end(at, to)?;
        mapped::before_read(&self.object, at, to.remaining())?;
        self.object.read(&self.io(caller), to, at)
    }

    /// Writes at the position, or at the end with `APPEND`, and sets the position to the end of the
    /// write.
    pub fn write(&self, caller: &dyn IoCaller, from: &mut UserBuffers) -> Result<ByteCount, Errno> {
        self.require(Status::WRITE)?;
        let io = self.io(caller);
        if !self.object.seekable() {
            return Ok(self.object.write(&io, from, WritePosition::At(FileOffset::ZERO))?.bytes);
        }
        let mut position = self.position.lock()?;
        let at = self.target(caller, *position, from)?;
        let written = self.object.write(&io, from, at)?;
        if !written.bytes.is_zero() {
            *position = written.end;
        }
        Ok(written.bytes)
    }

    /// Writes at an offset, without the position. With `APPEND` it writes at the end, as on Linux
    /// (W6).
    pub fn write_at(
        &self,
        caller: &dyn IoCaller,
        from: &mut UserBuffers,
        at: FileOffset,
    ) -> Result<ByteCount, Errno> {
        self.require(Status::WRITE)?;
        self.require_positions()?;
        let at = self.target(caller, at, from)?;
        Ok(self.object.write(&self.io(caller), from, at)?.bytes)
    }

    /// Writes at the end, whatever the status flags.
    pub fn append(
        &self,
        caller: &dyn IoCaller,
        from: &mut UserBuffers,
        moves: MovesPosition,
    ) -> Result<ByteCount, Errno> {
        self.require(Status::WRITE)?;
        let io = self.io(caller);
        if !self.object.seekable() {
            return Ok(self.object.write(&io, from, WritePosition::End)?.bytes);
        }
        let mut position = self.position.lock()?;
        self.limit_write(caller, None, from)?;
        let written = self.object.write(&io, from, WritePosition::End)?;
        if moves == MovesPosition::Yes && !written.bytes.is_zero() {
            *position = written.end;
        }
        Ok(written.bytes)
    }

    /// Runs `change` with the position locked. ESPIPE for objects without positions.
    pub fn with_position<T>(
        &self,
        change: impl FnOnce(&mut FileOffset) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.require_positions()?;
        change(&mut *self.position.lock()?)
    }

    /// EBADF for a file opened with `O_PATH`.
    pub fn require_not_path(&self) -> Result<(), Errno> {
        self.require(Status::empty())
    }

    /// ESPIPE for objects without positions.
    pub fn require_positions(&self) -> Result<(), Errno> {
        if self.object.seekable() { Ok(()) } else { Err(Errno::ESPIPE) }
    }

    /// The position; 0 while a transfer moves it, and for objects without one.
    pub fn known_position(&self) -> FileOffset {
        self.position.peek().unwrap_or(FileOffset::ZERO)
    }

    /// Where a write begins. Limits `from` to what the caller's limit of file sizes allows; EFBIG
    /// beyond it.
    fn target(
        &self,
        caller: &dyn IoCaller,
        at: FileOffset,
        from: &mut UserBuffers,
    ) -> Result<WritePosition, Errno> {
        check_end(at, from)?;
        let appends = self.status().contains(Status::APPEND);
        self.limit_write(caller, (!appends).then_some(at), from)?;
        Ok(if appends { WritePosition::End } else { WritePosition::At(at) })
    }

    /// Limits `from` to what the caller's limit of file sizes allows at an offset, or at the end of
    /// the file. EFBIG beyond it.
    fn limit_write(
        &self,
        caller: &dyn IoCaller,
        at: Option<FileOffset>,
        from: &mut UserBuffers,
    ) -> Result<(), Errno> {
        if caller.account().limits.get(Resource::FileSize) == INFINITE {
            return Ok(());
        }
        let Stat { file_type, size, .. } = self.object.stat()?;
        let at = at.unwrap_or(FileOffset::ZERO + size);
        if file_type == FileType::Regular && !from.remaining().is_zero() {
            from.limit(space_below_limit(caller, at)?);
        }
        Ok(())
    }

    /// What a region is backed by that maps the file shared, from `offset` on. It must be open for
    /// reading. ENODEV where it cannot be mapped.
    pub fn map(
        self: &Arc<Self>,
        space: &Arc<Space>,
        offset: FileOffset,
        length: ByteCount,
    ) -> Result<Backing, Errno> {
        let opened = self.clone() as Arc<dyn Opened>;
        let (backing, failures) =
            mapped::map(space, &self.object, &self.path, opened, offset, length)?;
        self.failures.call_once(|| failures);
        Ok(backing)
    }

    /// Writes what was stored to the file's mappings, as for fsync(2), and reports also failures
    /// that were not reported to this open file.
    pub fn write_mapped(&self) -> Result<(), Errno> {
        let written = mapped::write_file(&self.object);
        written.and(self.report_failure())
    }

    /// The failure to write what was stored to the file's mappings, once.
    pub fn report_failure(&self) -> Result<(), Errno> {
        let own = self.failures.get().map_or(Ok(()), |failures| failures.report(self));
        own.and(mapped::report(&self.object, self))
    }

    /// Has `hook` called when this open file is dropped. The first call stays.
    pub(super) fn call_on_drop(&self, hook: fn(&Self)) {
        self.drop_hook.call_once(|| hook);
    }

    /// Who gets signals when it becomes ready: a `SignalIo`.
    pub(super) fn signal_io(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.signal_io.get().cloned()
    }

    /// Keeps what [`signal_io`](Self::signal_io) returns. The first call stays.
    pub(super) fn keep_signal_io(&self, signal_io: Arc<dyn Any + Send + Sync>) {
        self.signal_io.call_once(|| signal_io);
    }

    /// Has a watcher called when this open file is dropped.
    pub(super) fn watch(&self, watcher: &Arc<impl Watcher + 'static>) -> Result<(), OutOfMemory> {
        fallible::push(&mut self.watchers.lock(), watcher.clone() as Arc<dyn Watcher>)
    }

    /// Undoes [`watch`](Self::watch).
    pub(super) fn unwatch(&self, watcher: &Arc<impl Watcher>) {
        let mut watchers = self.watchers.lock();
        let at = watchers.iter().position(|one| is_same(one, watcher));
        let removed = at.map(|at| watchers.swap_remove(at));
        let needed = watchers.len();
        fallible::shrink(&mut watchers, needed);
        drop(watchers);
        drop(removed);
    }

    /// The parameters of a transfer by this open file.
    pub fn io<'a>(&self, caller: &'a dyn IoCaller) -> Io<'a> {
        Io {
            space: caller.space(),
            caller: Some(caller),
            nonblocking: self.status().contains(Status::NONBLOCKING),
        }
    }
}

impl Watched for OpenFile {
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        self.object.notifiers(visit);
    }
}

impl Opened for OpenFile {
    fn may_write(&self) -> bool {
        self.status().contains(Status::READ | Status::WRITE)
    }

    fn last_failure(&self) -> &AtomicU64 {
        &self.failure_seen
    }
}

/// EINVAL where a transfer would exceed the largest file offset.
fn check_end(at: FileOffset, buffers: &UserBuffers) -> Result<(), Errno> {
    let end = at.checked_add(buffers.remaining());
    if end.is_some_and(|end| end <= MAX_OFFSET) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The bytes from `at` on that the caller's limit of file sizes allows. EFBIG where there are none,
/// with SIGXFSZ.
fn space_below_limit(caller: &dyn IoCaller, at: FileOffset) -> Result<ByteCount, Errno> {
    let end = FileOffset(caller.account().limits.get(Resource::FileSize));
    if at >= end {
        caller.raise(SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(end.saturating_since(at))
}

/// EFBIG, with SIGXFSZ, for a length beyond the caller's limit of file sizes that a file does not
/// have yet.
pub fn check_length(
    caller: &dyn IoCaller,
    object: &Arc<dyn FileObject>,
    length: ByteCount,
) -> Result<(), Errno> {
    if length.0 <= caller.account().limits.get(Resource::FileSize) || length <= object.stat()?.size
    {
        return Ok(());
    }
    caller.raise(SIGXFSZ);
    Err(Errno::EFBIG)
}

/// Sent at a write beyond the limit of file sizes.
const SIGXFSZ: u8 = linux::SIGXFSZ as u8;

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(hook) = self.drop_hook.get() {
            hook(self);
        }
        // The list is unlocked before a watcher is called.
        let watchers = core::mem::take(&mut *self.watchers.lock());
        watchers.into_iter().for_each(|watcher| watcher.closed(self));
    }
}
