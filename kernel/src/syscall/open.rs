//! Opening, duplicating and closing descriptors; their flags; file locks.

use super::arguments::{base, install, limit, load, only, open_file, path, position, store, word};
use super::owner;
use crate::file::lock::{self, LockMode, Owner, Range};
use crate::file::signal_io::set_async;
use crate::file::tty::Terminal;
use crate::file::tty::pair::Master;
use crate::file::{
    Caller, Descriptor, Fd, FileType, MAX_OFFSET, OnExec, OpenFile, OpenHow, Status, downcast,
    downcast_ref, fifo, namespace, socket,
};
use crate::mem::fallible::Text;
use crate::mem::{OutOfMemory, UserAddr};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use foundation::Errno;
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;

/// `O_TMPFILE` without `O_DIRECTORY`, which it includes.
const O_TMPFILE: u32 = linux::O_TMPFILE & !linux::O_DIRECTORY;

/// Implements open(2).
pub fn open(current: &dyn Caller, path: UserAddr, flags: u32, mode: u32) -> Result<u64, Errno> {
    openat(current, Fd::WORKING_DIRECTORY, path, flags, mode)
}

/// Implements creat(2).
pub fn creat(current: &dyn Caller, path: UserAddr, mode: u32) -> Result<u64, Errno> {
    openat(
        current,
        Fd::WORKING_DIRECTORY,
        path,
        linux::O_CREAT | linux::O_WRONLY | linux::O_TRUNC,
        mode,
    )
}

/// Implements openat(2).
pub fn openat(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    flags: u32,
    mode: u32,
) -> Result<u64, Errno> {
    let path = path(current, address)?;
    let base = base(current, dir, &path)?;
    let (status, how) = (status(flags)?, how(current, flags, mode)?);
    let (object, place) = namespace::root().open(&base, &path, how)?;
    if flags & linux::O_NOFOLLOW != 0
        && flags & linux::O_PATH == 0
        && object.stat()?.file_type == FileType::Symlink
    {
        return Err(Errno::ELOOP);
    }
    if flags & (linux::O_NOCTTY | linux::O_PATH) == 0
        && let Some(terminal) = downcast::<Terminal>(&object)
    {
        terminal.opened(current);
    }
    let object = match downcast::<fifo::Node>(&object).filter(|_| flags & linux::O_PATH == 0) {
        Some(node) => node.open(status)?,
        None => object,
    };
    if flags & linux::O_PATH == 0 && downcast_ref::<socket::Node>(&object).is_some() {
        return Err(Errno::ENXIO);
    }
    let mut path = place.path;
    if how.flags.contains(OpenFlags::UNNAMED) {
        name_unnamed(&mut path, object.stat()?.inode)?;
    }
    let file = OpenFile::new(object, status, path, Some(place.filesystem), current.account())?;
    install(current, file, OnExec::close_if(flags & linux::O_CLOEXEC != 0))
}

/// The path that is shown of a file without a name, from that of its directory.
fn name_unnamed(path: &mut Vec<u8>, inode: u64) -> Result<(), OutOfMemory> {
    let slash = if path.as_slice() == b"/" { "" } else { "/" };
    let mut text = Text(core::mem::take(path));
    write!(text, "{slash}#{inode} (deleted)")?;
    *path = text.0;
    Ok(())
}

/// TIOCGPTPEER: opens the terminal of a pseudo-terminal by its master, even if its name is gone.
pub(super) fn open_peer(current: &dyn Caller, file: &OpenFile, flags: u64) -> Result<u64, Errno> {
    let not_one =
        if downcast::<Terminal>(file.object()).is_some() { Errno::EIO } else { Errno::ENOTTY };
    let master = downcast::<Master>(file.object()).ok_or(not_one)?;
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let (terminal, path) = master.open_terminal(how(current, flags, 0)?.flags)?;
    if flags & linux::O_NOCTTY == 0 {
        terminal.opened(current);
    }
    let file = OpenFile::new(
        terminal,
        status(flags)?,
        path,
        file.filesystem().cloned(),
        current.account(),
    )?;
    install(current, file, OnExec::close_if(flags & linux::O_CLOEXEC != 0))
}

/// Decodes access mode and status flags.
fn status(flags: u32) -> Result<Status, Errno> {
    if flags & linux::O_PATH != 0 {
        return Ok(Status::PATH);
    }
    let mut status = match flags & linux::O_ACCMODE {
        linux::O_RDONLY => Status::READ,
        linux::O_WRONLY => Status::WRITE,
        linux::O_RDWR => Status::READ | Status::WRITE,
        _ => return Err(Errno::EINVAL),
    };
    status.set(Status::APPEND, flags & linux::O_APPEND != 0);
    status.set(Status::NONBLOCKING, flags & linux::O_NONBLOCK != 0);
    status.set(Status::KEEP_ACCESS_TIME, flags & linux::O_NOATIME != 0);
    Ok(status)
}

/// The request to the file system.
fn how(current: &dyn Caller, flags: u32, mode: u32) -> Result<OpenHow, Errno> {
    let mode = mode as u16 & 0o7777 & !current.context().lock().umask;
    let mut wanted = OpenFlags::empty();
    wanted.set(OpenFlags::DIRECTORY, flags & linux::O_DIRECTORY != 0);
    wanted.set(OpenFlags::NO_FOLLOW, flags & linux::O_NOFOLLOW != 0);
    if flags & linux::O_PATH != 0 {
        return Ok(OpenHow { flags: wanted, mode: 0 });
    }
    let access = flags & linux::O_ACCMODE;
    wanted.set(OpenFlags::READ, access != linux::O_WRONLY);
    wanted.set(OpenFlags::KEEP_ACCESS_TIME, flags & linux::O_NOATIME != 0);
    // Truncation is a change, even through a descriptor for reading.
    wanted.set(OpenFlags::WRITE, access != linux::O_RDONLY || flags & linux::O_TRUNC != 0);
    wanted.set(OpenFlags::TRUNCATE, flags & linux::O_TRUNC != 0);
    if flags & O_TMPFILE != 0 {
        if flags & linux::O_DIRECTORY == 0 || access == linux::O_RDONLY {
            return Err(Errno::EINVAL);
        }
        wanted -= OpenFlags::DIRECTORY | OpenFlags::TRUNCATE;
        wanted.set(OpenFlags::EXCLUSIVE, flags & linux::O_EXCL != 0);
        return Ok(OpenHow { flags: wanted | OpenFlags::CREATE | OpenFlags::UNNAMED, mode });
    }
    // Without O_CREAT only for disks, which are then opened exclusively.
    wanted.set(OpenFlags::EXCLUSIVE, flags & linux::O_EXCL != 0);
    if flags & linux::O_CREAT != 0 {
        if flags & linux::O_DIRECTORY != 0 {
            return Err(Errno::EINVAL);
        }
        wanted |= OpenFlags::CREATE;
    }
    Ok(OpenHow { flags: wanted, mode })
}

/// Implements close(2).
pub fn close(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    let closed = current.files().lock().remove(fd)?;
    lock::closed(current.pid(), &closed.file);
    let reported = closed.file.report_failure();
    drop(closed);
    reported.map(|()| 0)
}

/// Implements close_range(2).
pub fn close_range(current: &dyn Caller, first: u32, last: u32, flags: u32) -> Result<u64, Errno> {
    const CLOSE_ON_EXEC: u32 = 4;
    only(flags, CLOSE_ON_EXEC)?;
    if first > last {
        return Err(Errno::EINVAL);
    }
    if flags != 0 {
        current.files().lock().set_range_on_exec(first, last, OnExec::Close);
        return Ok(0);
    }
    // Each is dropped with the table unlocked.
    loop {
        let closed = current.files().lock().take_first(first, last);
        let Some(closed) = closed else { return Ok(0) };
        lock::closed(current.pid(), &closed.file);
        drop(closed);
        relax(Interrupt::Killable)?;
    }
}

/// Implements dup(2).
pub fn dup(current: &dyn Caller, fd: Fd) -> Result<u64, Errno> {
    install(current, open_file(current, fd)?, OnExec::Keep)
}

/// Implements dup2(2).
pub fn dup2(current: &dyn Caller, old: Fd, new: Fd) -> Result<u64, Errno> {
    if old == new {
        return open_file(current, old).map(|_| new.result());
    }
    duplicate_to(current, old, new, OnExec::Keep)
}

/// Implements dup3(2).
pub fn dup3(current: &dyn Caller, old: Fd, new: Fd, flags: u32) -> Result<u64, Errno> {
    only(flags, linux::O_CLOEXEC)?;
    if old == new {
        return Err(Errno::EINVAL);
    }
    duplicate_to(current, old, new, OnExec::close_if(flags != 0))
}

fn duplicate_to(current: &dyn Caller, old: Fd, new: Fd, on_exec: OnExec) -> Result<u64, Errno> {
    let file = open_file(current, old)?;
    let limit = limit(current);
    let replaced = current.files().lock().replace(new, Descriptor { file, on_exec }, limit)?;
    if let Some(replaced) = &replaced {
        lock::closed(current.pid(), &replaced.file);
    }
    drop(replaced);
    Ok(new.result())
}

/// Implements fcntl(2).
pub fn fcntl(current: &dyn Caller, fd: Fd, command: u32, argument: u64) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    let is_of_descriptor = matches!(
        command,
        linux::F_DUPFD | linux::F_DUPFD_CLOEXEC | linux::F_GETFD | linux::F_SETFD | linux::F_GETFL
    );
    if !is_of_descriptor {
        file.require_not_path()?;
    }
    match command {
        linux::F_DUPFD => duplicate_from(current, file, argument, OnExec::Keep),
        linux::F_DUPFD_CLOEXEC => duplicate_from(current, file, argument, OnExec::Close),
        linux::F_GETFD => {
            let on_exec = current.files().lock().descriptor(fd)?.on_exec;
            Ok(u64::from(on_exec == OnExec::Close))
        }
        linux::F_SETFD => {
            let on_exec = OnExec::close_if(argument & u64::from(linux::FD_CLOEXEC) != 0);
            current.files().lock().set_on_exec(fd, on_exec).map(|()| 0)
        }
        linux::F_GETFL => Ok(u64::from(file.status().linux_flags())),
        linux::F_SETFL => {
            let wants_signals = argument as u32 & linux::FASYNC != 0;
            set_async(&file, fd, wants_signals, current.account())?;
            let mut status = file.status() & Status::ASYNC;
            status.set(Status::APPEND, argument as u32 & linux::O_APPEND != 0);
            status.set(Status::NONBLOCKING, argument as u32 & linux::O_NONBLOCK != 0);
            file.set_status(status);
            Ok(0)
        }
        linux::F_GETLK | linux::F_SETLK | linux::F_SETLKW => {
            let owner = Owner::Process(current.pid());
            record_lock(current, &file, owner, command, UserAddr(argument))
        }
        linux::F_OFD_GETLK | linux::F_OFD_SETLK | linux::F_OFD_SETLKW => {
            let like = command - linux::F_OFD_GETLK + linux::F_GETLK;
            record_lock(current, &file, Owner::file(&file), like, UserAddr(argument))
        }
        linux::F_GETPIPE_SZ => Ok(file.object().pipe_capacity()? as u64),
        linux::F_SETPIPE_SZ => {
            Ok(file.object().set_pipe_capacity(argument as u32 as usize)? as u64)
        }
        _ => owner::command(current, &file, command, argument),
    }
}

fn duplicate_from(
    current: &dyn Caller,
    file: Arc<OpenFile>,
    lowest: u64,
    on_exec: OnExec,
) -> Result<u64, Errno> {
    let lowest = usize::try_from(lowest)
        .ok()
        .filter(|&lowest| lowest < limit(current))
        .ok_or(Errno::EINVAL)?;
    let fd = current.files().lock().insert(Descriptor { file, on_exec }, lowest..limit(current));
    fd.map(Fd::result)
}

/// Size of a `struct flock`, in bytes: type and whence of 16 bits each, padding, start, length,
/// process.
const FLOCK_BYTES: usize = 32;

/// Record locks of fcntl(2).
fn record_lock(
    current: &dyn Caller,
    file: &Arc<OpenFile>,
    owner: Owner,
    command: u32,
    address: UserAddr,
) -> Result<u64, Errno> {
    let mut flock = [0; FLOCK_BYTES];
    load(current, address, &mut flock)?;
    let first = word(&flock, 0);
    let (kind, whence) = (first as u16, u32::from((first >> 16) as u16));
    let base = match whence {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => file.with_position(|position| Ok(position.0))?,
        linux::SEEK_END => file.object().stat()?.size.0,
        _ => return Err(Errno::EINVAL),
    };
    if matches!(owner, Owner::File(_)) && word(&flock, 24) as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let range = range(base, word(&flock, 8) as i64, word(&flock, 16) as i64)?;
    let kind = match u32::from(kind) {
        linux::F_RDLCK => Some(LockMode::Shared),
        linux::F_WRLCK => Some(LockMode::Exclusive),
        linux::F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    if command != linux::F_GETLK {
        match kind {
            Some(LockMode::Shared) => file.require(Status::READ)?,
            Some(LockMode::Exclusive) => file.require(Status::WRITE)?,
            None => {}
        }
        let wait = if command == linux::F_SETLKW { lock::Wait::Yes } else { lock::Wait::No };
        return lock::set_record((owner, current.account()), file, range, kind, wait).map(|()| 0);
    }
    let conflict = lock::find_conflict(owner, file, range, kind.ok_or(Errno::EINVAL)?)?;
    let mut put = |at: usize, value: &[u8]| {
        flock.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from)
    };
    match conflict {
        None => put(0, &(linux::F_UNLCK as u16).to_le_bytes()),
        Some(held) => {
            let kind = if held.mode == LockMode::Shared { linux::F_RDLCK } else { linux::F_WRLCK };
            let to_end = held.range.end >= MAX_OFFSET;
            let length = if to_end { 0 } else { (held.range.end - held.range.start).0 };
            put(0, &(kind as u16).to_le_bytes());
            put(2, &(linux::SEEK_SET as u16).to_le_bytes());
            put(8, &held.range.start.0.to_le_bytes());
            put(16, &length.to_le_bytes());
            // An open file is no process: -1.
            let pid = if let Owner::Process(pid) = held.owner { pid } else { u32::MAX };
            put(24, &pid.to_le_bytes());
        }
    }
    store(current, address, &flock)
}

/// The range of a `struct flock`. Length 0 extends to the maximum offset; a negative length extends
/// backwards.
fn range(base: u64, start: i64, length: i64) -> Result<Range, Errno> {
    let start = i64::try_from(base)
        .ok()
        .and_then(|base| base.checked_add(start))
        .ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match length {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(length).ok_or(Errno::EOVERFLOW)?),
        _ => (start.checked_add(length).ok_or(Errno::EINVAL)?, start),
    };
    Ok(Range { start: position(start)?, end: position(end)? })
}

/// flock(2): locks that belong to open files.
pub fn flock(current: &dyn Caller, fd: Fd, operation: u32) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    let wait = if operation & linux::LOCK_NB != 0 { lock::Wait::No } else { lock::Wait::Yes };
    let kind = match operation & !linux::LOCK_NB {
        linux::LOCK_SH => Some(LockMode::Shared),
        linux::LOCK_EX => Some(LockMode::Exclusive),
        linux::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    lock::set_whole(&file, kind, wait).map(|()| 0)
}
