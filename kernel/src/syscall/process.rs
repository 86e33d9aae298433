//! Processes and threads: fork, exec, exit, wait, process groups and sessions, CPU affinity.

use super::{arguments, event_files, mutants};
use crate::arch::{Spent, clock};
use crate::file::{Caller, Fd, FileType, IoCaller, Status, namespace};
use crate::mem::UserAddr;
use crate::task::arguments::Arguments;
use crate::task::exec::{self, Executable};
use crate::task::exit::{Children, Found, WaitOptions};
use crate::task::signal::{SIGCHLD, SignalInfo};
use crate::task::{Current, exit, family, scheduler, send};
use alloc::format;
use core::sync::atomic::Ordering;
use foundation::Errno;
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;

/// Implements getpid(2).
pub fn getpid(current: &Current) -> Result<u64, Errno> {
    Ok(u64::from(current.process().pid))
}

/// Implements gettid(2).
pub fn gettid(current: &Current) -> Result<u64, Errno> {
    Ok(u64::from(current.thread.tid))
}

/// Implements getppid(2).
pub fn getppid(current: &Current) -> Result<u64, Errno> {
    Ok(current.process().parent().into())
}

/// Implements sched_yield(2).
pub fn sched_yield(_: &Current) -> Result<u64, Errno> {
    scheduler::yield_now();
    Ok(0)
}

/// Implements execve(2).
pub fn execve(
    current: &Current,
    path: UserAddr,
    arguments: UserAddr,
    environment: UserAddr,
) -> Result<u64, Errno> {
    let path =
        current.space().read_string(path, namespace::MAX_PATH + 1)?.ok_or(Errno::ENAMETOOLONG)?;
    mutants::exec_late_arguments(current);
    let arguments = Arguments::read(current, arguments, environment)?;
    let open = |path: &[u8]| open_executable(current, path);
    exec::exec(current, open(&path)?, &path, arguments, &open)?;
    Ok(0)
}

/// execveat(2). An interpreter finds the file below `/dev/fd`, unless its path is absolute.
pub fn execveat(
    current: &Current,
    dir: Fd,
    path: UserAddr,
    arguments: UserAddr,
    environment: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    arguments::only(flags, linux::AT_EMPTY_PATH | linux::AT_SYMLINK_NOFOLLOW)?;
    let path = arguments::path(current, path)?;
    let found = if path.is_empty() {
        if flags & linux::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        let file = current.open_file(dir)?;
        Executable { file: file.object().clone(), path: file.path().to_vec() }
    } else {
        let follow = flags & linux::AT_SYMLINK_NOFOLLOW == 0;
        let mode = if follow { OpenFlags::empty() } else { OpenFlags::NO_FOLLOW };
        let how = crate::file::OpenHow { flags: OpenFlags::READ | mode, mode: 0 };
        let base = arguments::base(current, dir, &path)?;
        let (file, place) = namespace::root().open(&base, &path, how)?;
        Executable { file, path: place.path }
    };
    let path = match path.first() {
        Some(b'/') => path,
        _ if dir == Fd::WORKING_DIRECTORY => path,
        None => format!("/dev/fd/{}", dir.0).into_bytes(),
        Some(_) => [format!("/dev/fd/{}/", dir.0).as_bytes(), &path].concat(),
    };
    let arguments = Arguments::read(current, arguments, environment)?;
    let open = |path: &[u8]| open_executable(current, path);
    exec::exec(current, checked(found)?, &path, arguments, &open)?;
    Ok(0)
}

/// Opens a file for execution: a regular file with an executable bit.
fn open_executable(current: &Current, path: &[u8]) -> Result<Executable, Errno> {
    let base = current.context().lock().directory.clone();
    let how = crate::file::OpenHow { flags: OpenFlags::READ, mode: 0 };
    let (file, place) = namespace::root().open(&base, path, how)?;
    checked(Executable { file, path: place.path })
}

/// A file, if it is regular and has an executable bit; else EACCES, or ELOOP for a symbolic link.
fn checked(executable: Executable) -> Result<Executable, Errno> {
    const EXECUTABLE_BITS: u16 = 0o111;
    match executable.file.type_and_mode()? {
        (FileType::Symlink, _) => Err(Errno::ELOOP),
        (FileType::Regular, mode) if mode & EXECUTABLE_BITS != 0 => Ok(executable),
        _ => Err(Errno::EACCES),
    }
}

/// exit(2): ends the thread.
pub fn exit(current: &Current, status: u64) -> Result<u64, Errno> {
    exit::exit_thread(current, status);
    Ok(0)
}

/// exit_group(2): ends the process.
pub fn exit_group(current: &Current, status: u64) -> Result<u64, Errno> {
    exit::exit_group(current, status);
    Ok(0)
}

/// Implements wait4(2).
pub fn wait4(
    current: &Current,
    pid: i32,
    status: UserAddr,
    options: u32,
    usage: UserAddr,
) -> Result<u64, Errno> {
    let options = WaitOptions::from_bits(options)
        .filter(|options| !options.intersects(WaitOptions::OF_WAITID))
        .ok_or(Errno::EINVAL)?
        | WaitOptions::ENDED;
    let which = match pid {
        -1 => Children::Any,
        0 => Children::Group(current.pgid()),
        i32::MIN => return Err(Errno::ESRCH),
        1.. => Children::Pid(pid.unsigned_abs()),
        _ => Children::Group(pid.unsigned_abs()),
    };
    let Some(found) = exit::wait(current.process(), which, options)? else { return Ok(0) };
    if !status.is_null() {
        current.write(status, &found.status.0.to_le_bytes())?;
    }
    if !usage.is_null() {
        current.write(usage, &usage_of(&found))?;
    }
    Ok(found.process.pid.into())
}

/// waitid(2). What it reports is also what SIGCHLD reports.
pub fn waitid(
    current: &Current,
    kind: u32,
    id: i32,
    info: UserAddr,
    options: u32,
    usage: UserAddr,
) -> Result<u64, Errno> {
    /// The first words of a `siginfo_t`, up to the status.
    const INFO_BYTES: usize = 28;
    let news = WaitOptions::ENDED | WaitOptions::STOPPED | WaitOptions::CONTINUED;
    let mut or_again = false;
    let mut options = WaitOptions::from_bits(options)
        .filter(|options| options.intersects(news))
        .ok_or(Errno::EINVAL)?;
    let which = match (kind, id) {
        (linux::P_ALL, _) => Children::Any,
        (linux::P_PID, 1..) => Children::Pid(id.unsigned_abs()),
        (linux::P_PGID, 0) => Children::Group(current.pgid()),
        (linux::P_PGID, 1..) => Children::Group(id.unsigned_abs()),
        (linux::P_PIDFD, 0..) => {
            let file = current.open_file(Fd(id))?;
            let process = event_files::pid_file(&file)?.process();
            if file.status().contains(Status::NONBLOCKING)
                && !options.contains(WaitOptions::NO_HANG)
            {
                (options, or_again) = (options | WaitOptions::NO_HANG, true);
            }
            Children::Pid(process.map_err(|_| Errno::ECHILD)?.pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let result = match exit::wait(current.process(), which, options) {
        Ok(None) if or_again => return Err(Errno::EAGAIN),
        result => result,
    };
    let mut bytes = [0; SignalInfo::BYTES];
    if let Ok(Some(found)) = &result {
        bytes = send::child_info(found.process.pid, SIGCHLD, found.status).to_bytes();
        if !usage.is_null() {
            current.write(usage, &usage_of(found))?;
        }
    }
    // As on Linux, it is zeros where there is no news, and after an error.
    if !info.is_null() {
        current.write(info, bytes.get(..INFO_BYTES).unwrap_or_default())?;
    }
    result.map(|_| 0)
}

/// `struct rusage` of a child and those that it has waited for.
fn usage_of(found: &Found) -> [u8; 144] {
    let (own, children) = (found.process.used.get(), found.process.children_used.get());
    usage_bytes(own.plus(children))
}

/// Length of a tick of times(2), 1/100 s.
const TICK_NS: u64 = 10_000_000;
const NS_PER_US: u64 = 1000;
const US_PER_S: u64 = 1_000_000;

/// `struct rusage`, in which only the times are filled.
fn usage_bytes(used: Spent) -> [u8; 144] {
    let mut bytes = [0; 144];
    let [user, system] = [used.user_ns, used.system_ns].map(|ns| ns / NS_PER_US);
    let words = [user / US_PER_S, user % US_PER_S, system / US_PER_S, system % US_PER_S];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// getrusage(2): CPU times only.
pub fn getrusage(current: &Current, who: i32, usage: UserAddr) -> Result<u64, Errno> {
    scheduler::account();
    let used = match who {
        0 => current.process().used.get(),
        1 => current.thread.used.get(),
        -1 => current.process().children_used.get(),
        _ => return Err(Errno::EINVAL),
    };
    current.write(usage, &usage_bytes(used))?;
    Ok(0)
}

/// times(2): CPU times, in ticks. Returns the time since boot, in ticks.
pub fn times(current: &Current, buffer: UserAddr) -> Result<u64, Errno> {
    scheduler::account();
    let process = current.process();
    if !buffer.is_null() {
        let (own, children) = (process.used.get(), process.children_used.get());
        let times = [own.user_ns, own.system_ns, children.user_ns, children.system_ns];
        let mut bytes = [0; 32];
        for (chunk, ns) in bytes.chunks_exact_mut(8).zip(times) {
            chunk.copy_from_slice(&(ns / TICK_NS).to_le_bytes());
        }
        current.write(buffer, &bytes)?;
    }
    Ok(clock::now_ns() / TICK_NS)
}

/// Decodes a process number, where 0 means the caller.
fn pid_or_own(current: &Current, pid: i32) -> Result<u32, Errno> {
    match u32::try_from(pid) {
        Ok(0) => Ok(current.pid()),
        Ok(pid) => Ok(pid),
        Err(_) => Err(Errno::ESRCH),
    }
}

/// Implements setpgid(2).
pub fn setpgid(current: &Current, pid: i32, group: i32) -> Result<u64, Errno> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = pid_or_own(current, pid)?;
    let group = if group == 0 { pid } else { group.unsigned_abs() };
    family::set_group(current.pid(), pid, group)?;
    Ok(0)
}

/// Implements getpgid(2).
pub fn getpgid(current: &Current, pid: i32) -> Result<u64, Errno> {
    let relations = family::relations(pid_or_own(current, pid)?).ok_or(Errno::ESRCH)?;
    Ok(relations.group.into())
}

/// Implements getpgrp(2).
pub fn getpgrp(current: &Current) -> Result<u64, Errno> {
    getpgid(current, 0)
}

/// Implements getsid(2).
pub fn getsid(current: &Current, pid: i32) -> Result<u64, Errno> {
    let relations = family::relations(pid_or_own(current, pid)?).ok_or(Errno::ESRCH)?;
    Ok(relations.session.into())
}

/// Implements setsid(2).
pub fn setsid(current: &Current) -> Result<u64, Errno> {
    family::new_session(current.pid()).map(u64::from)
}

/// set_tid_address(2): sets where a zero is written at the thread's end.
pub fn set_tid_address(current: &Current, address: UserAddr) -> Result<u64, Errno> {
    current.thread.clear_child_tid.store(address.0, Ordering::Relaxed);
    gettid(current)
}

/// ESRCH unless there is a thread of this number; 0 means the caller.
fn check_thread(tid: i32) -> Result<(), Errno> {
    match u32::try_from(tid) {
        Ok(0) => Ok(()),
        Ok(tid) => family::find_thread(tid).map(drop).ok_or(Errno::ESRCH),
        Err(_) => Err(Errno::ESRCH),
    }
}

/// sched_getaffinity(2): there is one CPU.
pub fn sched_getaffinity(
    current: &Current,
    tid: i32,
    bytes: u32,
    mask: UserAddr,
) -> Result<u64, Errno> {
    const MASK_BYTES: u32 = 8;
    if !bytes.is_multiple_of(MASK_BYTES) || bytes == 0 {
        return Err(Errno::EINVAL);
    }
    check_thread(tid)?;
    current.write(mask, &1u64.to_le_bytes())?;
    Ok(MASK_BYTES.into())
}

/// sched_setaffinity(2): accepts any set with the first CPU.
pub fn sched_setaffinity(
    current: &Current,
    tid: i32,
    bytes: u32,
    mask: UserAddr,
) -> Result<u64, Errno> {
    let first: [u8; 1] = if bytes == 0 { [0] } else { current.read(mask)? };
    check_thread(tid)?;
    if first[0] & 1 == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}
