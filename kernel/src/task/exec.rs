//! exec: another program in place of the one that runs.
//!
//! The new address space is complete before the old one is dropped, so a failure leaves the caller
//! unchanged. A program is loaded by the same read that programs use, into anonymous memory. On a
//! mount with snapshots its pages are therefore lazy, and later writes to the file do not change
//! them (A6).
#![forbid(unsafe_code)]

use super::arguments::{Arguments, Pace, ScriptLine};
use super::elf::{ELIBBAD, HEADER_BYTES, LOADER_BASE, Program, Segment};
use super::thread::{AlternateStack, InitialState};
use super::{Current, Identity, WaitStatus, family, robust};
use crate::arch::Registers;
use crate::file::{FdTable, FileObject, Io, IoCaller, UserBuffers, random};
use crate::mem::limits::{INFINITE, Resource};
use crate::mem::{
    Backing, Claim, Occupant, OutOfMemory, PAGE_BYTES, Placement, Prot, Space, USER_END, UserAddr,
    UserSlice, fallible,
};
use crate::sync::{Interrupt, Mutex};
use alloc::sync::Arc;
use alloc::vec::Vec;
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

/// The file of a program.
pub(super) enum Image<'a> {
    /// An open file.
    File(&'a Arc<dyn FileObject>),
    /// Memory: a member of the ramdisk, before there is a root file system.
    Memory(&'a [u8]),
}

impl Image<'_> {
    /// Fills `to` from `offset` on; ENOEXEC where the file is too short.
    fn read_to(&self, space: &Arc<Space>, to: UserSlice, offset: FileOffset) -> Result<(), Errno> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset.0).map_err(|_| Errno::ENOEXEC)?;
                let part = bytes
                    .get(start..)
                    .and_then(|rest| rest.get(..to.len()))
                    .ok_or(Errno::ENOEXEC)?;
                Ok(space.copy_out_all(to, part)?)
            }
            Self::File(file) => {
                let io = Io { space, caller: None, nonblocking: false };
                let mut buffers = UserBuffers::one(to);
                let mut done = ByteCount::ZERO;
                while done < ByteCount::of_len(to.len()) {
                    match file.read(&io, &mut buffers, offset + done)? {
                        ByteCount::ZERO => return Err(Errno::ENOEXEC),
                        count => done += count,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Loads a program into an empty space.
pub(super) fn load(space: &Arc<Space>, program: &Program, image: &Image<'_>) -> Result<(), Errno> {
    let mut mapped_end = 0;
    for segment in &program.segments {
        let (first, end) = segment.pages();
        // Neighbours may share a page, which then gets the permissions of both.
        let first_new = first.max(mapped_end);
        if first_new < end {
            let placement = Placement::FixedNoReplace(UserAddr(first_new));
            space.map(
                placement,
                ByteCount(end - first_new),
                Prot::READ | Prot::WRITE,
                Backing::Anonymous,
                "",
            )?;
            mapped_end = end;
        }
    }
    for segment in &program.segments {
        if segment.file_bytes > 0 {
            image.read_to(
                space,
                UserSlice::new(UserAddr(segment.start), ByteCount(segment.file_bytes))?,
                segment.offset,
            )?;
        }
    }
    for (index, segment) in program.segments.iter().enumerate() {
        let (first, end) = segment.pages();
        let previous = index.checked_sub(1).and_then(|index| program.segments.get(index));
        let shared = previous.filter(|previous| previous.pages().1 > first);
        let own_first = shared.map_or(first, |previous| previous.pages().1);
        if own_first < end {
            space.protect(UserAddr(own_first), ByteCount(end - own_first), permissions(segment))?;
        }
        if let Some(previous) = shared {
            space.protect(
                UserAddr(first),
                ByteCount(own_first - first),
                permissions(previous) | permissions(segment),
            )?;
        }
    }
    Ok(())
}

fn permissions(segment: &Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.readable);
    prot.set(Prot::WRITE, segment.writable);
    prot.set(Prot::EXECUTE, segment.executable);
    prot
}

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

/// The first bytes of a file, which hold its headers.
fn first_bytes(current: &Current, file: &Arc<dyn FileObject>) -> Result<Vec<u8>, Errno> {
    part(current, file, FileOffset::ZERO, HEADER_BYTES)
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
/// `open` opens a path for execution and checks its permissions.
pub fn exec(
    current: &Current,
    path: &[u8],
    mut arguments: Arguments,
    open: &dyn Fn(&[u8]) -> Result<Executable, Errno>,
) -> Result<(), Errno> {
    let mut executable = open(path)?;
    let mut start = first_bytes(current, &executable.file)?;
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
        start = first_bytes(current, &executable.file)?;
    }
    let program = Program::parse(&start)?;
    drop(start);
    let loader = find_loader(current, &executable.file, &program, open)?;
    let space = Occupant::new(&current.space().successor(current.process().account.clone())?);
    load(&space, &program, &Image::File(&executable.file))?;
    let entry = match &loader {
        Some((loader, file)) => {
            load(&space, loader, &Image::File(&file.file)).map(|()| loader.entry)?
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
    let files = files.lock().for_exec(&process.account)?;
    commit(current, space, &initial, identity, files);
    Ok(())
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
        Program::parse_loader(&first_bytes(current, &loader.file)?).map_err(|_| ELIBBAD)?;
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
    process.actions.lock().reset_handlers();
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
