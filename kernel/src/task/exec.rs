//! exec: another program in place of the one that runs.
//!
//! The new address space is complete before the old one is dropped, so a failure leaves the caller
//! unchanged.
#![forbid(unsafe_code)]

use super::arguments::{Arguments, Pace, ScriptLine};
use super::elf::{ELIBBAD, HEADER_BYTES, LOADER_BASE, Program};
use super::load::{Image, load};
use super::signal::SIGCHLD;
use super::thread::{AlternateStack, InitialState};
use super::{Current, Identity, WaitStatus, family, posix_timer, robust};
use crate::arch::Registers;
use crate::file::{FdTable, FileObject, Io, IoCaller, OnExec, UserBuffers, lock, mapped, random};
use crate::mem::limits::{INFINITE, Resource};
use crate::mem::{
    Backing, Claim, Frame, KeptFile, Occupant, OutOfMemory, PAGE_BYTES, Placement, Prot, Space,
    USER_END, UserAddr, UserSlice, fallible,
};
use crate::sync::{Interrupt, Mutex, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno, FileOffset};
use zerocopy::IntoBytes;

/// Size of the stack of a program's first thread: Linux's default. Pages are allocated when they
/// are touched.
const STACK_BYTES: u64 = 8 << 20;
/// A smaller stack could not hold what every program needs to start.
const MIN_STACK: u64 = 128 << 10;
/// Mappings begin below that.
const MAX_STACK: u64 = 15 << 20;
/// Upper bound for nested `#!` interpreters, as on Linux.
const MAX_SCRIPTS: usize = 5;
/// Bytes of a process's name, at most.
const MAX_NAME: usize = 15;
/// Bytes of the arguments that the kernel keeps for /proc, at most: a page, as Linux did before it
/// read them from the program's memory.
const MAX_COMMAND_LINE: usize = PAGE_BYTES;

/// The size of the first stack: `RLIMIT_STACK`, as far as there is space for it.
fn stack_bytes(space: &Space) -> u64 {
    match space.account.limits.get(Resource::Stack) {
        INFINITE => STACK_BYTES,
        limit => (limit / PAGE_BYTES as u64 * PAGE_BYTES as u64).clamp(MIN_STACK, MAX_STACK),
    }
}

/// Makes the first stack: strings at its top, below them the argument, environment and auxiliary
/// vectors. Returns the stack pointer.
pub(super) fn build_stack(
    space: &Arc<Space>,
    program: &Program,
    path: &[u8],
    arguments: &Arguments,
) -> Result<u64, Errno> {
    let bytes = stack_bytes(space);
    let start = UserAddr(USER_END.0 - bytes);
    space.map(
        Placement::FixedNoReplace(start),
        ByteCount(bytes),
        Prot::READ | Prot::WRITE,
        Backing::Anonymous,
        "[stack]",
    )?;
    let total: usize = arguments
        .arguments
        .iter()
        .chain(&arguments.environment)
        .map(|string| string.len() + 1)
        .sum();
    let pointers = 8 * (arguments.arguments.len() + arguments.environment.len());
    if (total + pointers + 2 * PAGE_BYTES) as u64 > bytes {
        return Err(Errno::E2BIG);
    }
    let mut strings = fallible::with_capacity(total + path.len() + 64)?;
    let mut add = |bytes: &[u8]| {
        let offset = strings.len() as u64;
        strings.extend_from_slice(bytes);
        strings.push(0);
        offset
    };
    let mut pace = Pace::default();
    let mut add_all = |all: &[Vec<u8>]| {
        let mut offsets = fallible::with_capacity(all.len())?;
        for string in all {
            pace.step(string)?;
            offsets.push(add(string));
        }
        Ok::<_, Errno>(offsets)
    };
    let arguments_at = add_all(&arguments.arguments)?;
    let environment_at = add_all(&arguments.environment)?;
    let path = add(path);
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let seed = add(&seed);
    let base = (USER_END.0 - strings.len() as u64) & !15;

    let count = arguments_at.len() + environment_at.len();
    let mut words = fallible::with_capacity(count + 64)?;
    words.push(arguments_at.len() as u64);
    words.extend(arguments_at.iter().map(|offset| base + offset));
    words.push(0);
    words.extend(environment_at.iter().map(|offset| base + offset));
    words.push(0);
    pace.step(words.as_bytes())?;
    for (key, value) in auxiliary(program, base + path, base + seed) {
        words.extend([key, value]);
    }
    let sp = (base - 8 * words.len() as u64) & !15;
    let bytes = words.as_bytes();
    space.copy_out_all(UserSlice::new(UserAddr(sp), ByteCount::of_len(bytes.len()))?, bytes)?;
    space.copy_out_all(
        UserSlice::new(UserAddr(base), ByteCount::of_len(strings.len()))?,
        &strings,
    )?;
    Ok(sp)
}

/// The auxiliary vector, by Linux's numbers.
fn auxiliary(program: &Program, path: u64, seed: u64) -> [(u64, u64); 16] {
    [
        (3, program.headers),
        (4, 56),
        (5, u64::from(program.header_count)),
        (6, 4096),
        (7, if program.loader.is_some() { LOADER_BASE } else { 0 }),
        (8, 0),
        (9, program.entry),
        (11, 0),
        (12, 0),
        (13, 0),
        (14, 0),
        (17, 100),
        (23, 0),
        (25, seed),
        (31, path),
        (0, 0),
    ]
}

/// A file that is executable.
pub struct Executable {
    /// The open file.
    pub file: Arc<dyn FileObject>,
    /// Its canonical path.
    pub path: Vec<u8>,
}

/// What is kept of a small file, once stores to its shared mappings are in it (M4).
fn kept(current: &Current, file: &Arc<dyn FileObject>) -> Result<Option<KeptFile>, Errno> {
    mapped::write_file(file)?;
    file.kept(current.space())
}

/// The first bytes of a file, which hold its headers.
fn first_bytes(
    current: &Current,
    file: &Arc<dyn FileObject>,
    kept: Option<&KeptFile>,
) -> Result<FirstBytes, Errno> {
    let frame = kept.and_then(|kept| kept.frames(0, 1)).and_then(<[Frame]>::first);
    match frame {
        Some(frame) => Ok(FirstBytes::Frame(frame.clone())),
        None => part(current, file, FileOffset::ZERO, HEADER_BYTES).map(FirstBytes::Copied),
    }
}

/// Up to a page from the start of a file.
enum FirstBytes {
    Copied(Vec<u8>),
    /// Zeros follow the end of the file.
    Frame(Frame),
}

impl Deref for FirstBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Frame(frame) => frame.bytes(),
        }
    }
}

/// `length` bytes of a file from `offset` on; fewer where it ends.
fn part(
    current: &Current,
    file: &Arc<dyn FileObject>,
    offset: FileOffset,
    length: usize,
) -> Result<Vec<u8>, Errno> {
    let io = Io { space: current.space(), caller: Some(current), nonblocking: false };
    let mut buffers = UserBuffers::kernel(length);
    let mut done = ByteCount::ZERO;
    while done < ByteCount::of_len(length) {
        let at = offset.checked_add(done).ok_or(Errno::ENOEXEC)?;
        match file.read(&io, &mut buffers, at)? {
            ByteCount::ZERO => break,
            count => done += count,
        }
    }
    Ok(buffers.into_bytes())
}

/// execve(2): replaces the caller's program. On success the caller continues at the new program's
/// first instruction.
///
/// `path` is that of `executable`, which an interpreter finds. `open` opens another path for
/// execution and checks its permissions.
pub fn exec(
    current: &Current,
    mut executable: Executable,
    path: &[u8],
    mut arguments: Arguments,
    open: &dyn Fn(&[u8]) -> Result<Executable, Errno>,
) -> Result<(), Errno> {
    let mut kept = kept(current, &executable.file)?;
    let mut start = first_bytes(current, &executable.file, kept.as_ref())?;
    let mut script = path.to_vec();
    let mut depth = 0;
    while let Some(line) = ScriptLine::parse(&start)? {
        if depth == MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        depth += 1;
        arguments.wrap_script(line, &script)?;
        if line.interpreter.is_empty() {
            // Linux opens the working directory, which is no program.
            return Err(Errno::EACCES);
        }
        executable = open(line.interpreter)?;
        script = line.interpreter.to_vec();
        kept = self::kept(current, &executable.file)?;
        start = first_bytes(current, &executable.file, kept.as_ref())?;
    }
    let program = Program::parse(&start)?;
    drop(start);
    let loader = find_loader(current, &executable.file, &program, open)?;
    let space = Occupant::new(&current.space().successor(current.process().account.clone())?);
    load(&space, &program, &Image::of(&executable.file, kept.as_ref()))?;
    drop(kept);
    let entry = match &loader {
        Some((loader, file)) => {
            let kept = self::kept(current, &file.file)?;
            load(&space, loader, &Image::of(&file.file, kept.as_ref()))?;
            loader.entry
        }
        None => program.entry,
    };
    space.set_heap_start(UserAddr(program.end()));
    let sp = build_stack(&space, &program, &script, &arguments)?;
    let initial = InitialState::program(Registers::start(entry, sp))?;
    let identity = identity(&arguments, &script, executable.path)?;
    stop_other_threads(current)?;
    let process = current.process();
    let files = process.files().ok_or(Errno::ESRCH)?;
    release_locks(process.pid, &files);
    let files = files.lock().for_exec(&process.account)?;
    commit(current, space, &initial, identity, files);
    Ok(())
}

/// Releases a process's range locks on the files that exec closes.
fn release_locks(pid: u32, files: &Mutex<FdTable, rank::Descriptors>) {
    let mut next = 0;
    while lock::has_records(pid) {
        let files = files.lock();
        let mut closing =
            files.iter().filter(|(fd, entry)| fd.0 >= next && entry.on_exec == OnExec::Close);
        let Some((fd, file)) = closing.next().map(|(fd, entry)| (fd, entry.file.clone())) else {
            return;
        };
        drop(closing);
        drop(files);
        lock::closed(pid, &file);
        next = fd.0 + 1;
    }
}

/// The dynamic loader that a program names, parsed; `None` for a static program.
fn find_loader(
    current: &Current,
    file: &Arc<dyn FileObject>,
    program: &Program,
    open: &dyn Fn(&[u8]) -> Result<Executable, Errno>,
) -> Result<Option<(Program, Executable)>, Errno> {
    let Some((offset, length)) = program.loader else { return Ok(None) };
    let path = part(current, file, offset, length)?;
    let path =
        path.get(..length).and_then(|path| path.strip_suffix(b"\0")).ok_or(Errno::ENOEXEC)?;
    let loader = open(path)?;
    let parsed =
        Program::parse_loader(&first_bytes(current, &loader.file, None)?).map_err(|_| ELIBBAD)?;
    Ok(Some((parsed, loader)))
}

/// Name, command line and path of the program, as /proc shows them.
pub(super) fn identity(
    arguments: &Arguments,
    path: &[u8],
    program: Vec<u8>,
) -> Result<Identity, OutOfMemory> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = name.get(..name.len().min(MAX_NAME)).unwrap_or_default().to_vec();
    let arguments = &arguments.arguments;
    let bytes: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    let mut command_line = fallible::with_capacity(bytes.min(MAX_COMMAND_LINE))?;
    let all = arguments.iter().flat_map(|argument| argument.iter().copied().chain([0]));
    command_line.extend(all.take(MAX_COMMAND_LINE));
    Ok(Identity { name, command_line: Arc::new(command_line), program })
}

/// Ends the other threads of the process, before its memory changes. Fails if this thread is
/// killed.
fn stop_other_threads(current: &Current) -> Result<(), Errno> {
    let process = current.process();
    for thread in process.threads() {
        if thread.tid != current.thread.tid {
            thread.set_ending(WaitStatus::default());
            super::scheduler::wake(&thread);
        }
    }
    Ok(process.queue.wait(Interrupt::Killable, || (process.thread_count() == 1).then_some(()))?)
}

/// Puts the new program in place. Cannot fail.
fn commit(
    current: &Current,
    space: Occupant,
    initial: &InitialState,
    identity: Identity,
    files: FdTable,
) {
    let thread = &current.thread;
    let process = current.process();
    if space.policy.claim() == Claim::Program {
        process.account.unmark_server();
    }
    robust::release(thread);
    let old_space = thread.replace_space(Some(space));
    // The process gets a table of its own.
    let old_files = process.replace_files(Some(Arc::new(Mutex::new(files))));
    *process.identity.lock() = identity;
    let actions = process.with_actions(|actions| actions.clone());
    process.replace_actions(actions);
    process.choices.exec();
    posix_timer::delete_all(process);
    process.set_exit_signal(SIGCHLD);
    {
        let mut own = thread.signals.lock();
        own.alternate = AlternateStack::default();
        own.restore = None;
    }
    thread.clear_child_tid.store(0, Ordering::Relaxed);
    thread.robust_list.store(0, Ordering::Relaxed);
    thread.reset_machine(initial);
    thread.with_registers(|registers| *registers = initial.registers);
    family::note_exec(process.pid);
    process.finish_vfork();
    old_files.into_iter().for_each(FdTable::release);
    drop(old_space);
}
