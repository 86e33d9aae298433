//! exec: another program in place of the one that runs.
//!
//! The new address space is built completely before the old one goes, so that a failure leaves the
//! caller as it was. A program's bytes arrive by the same read that programs use, into anonymous
//! memory: on a mount with snapshots that makes them lazy, and safe from whoever overwrites the
//! file (A6).
#![forbid(unsafe_code)]

use super::elf::{ELIBBAD, HEADER_BYTES, LOADER_BASE, Program, Segment};
use super::thread::{AlternateStack, Beginning};
use super::{Current, Identity, Process, family};
use crate::arch::Registers;
use crate::file::{Caller, FileObject, Io, UserBuffers, random};
use crate::mem::{Backing, Placement, Prot, Space, USER_END, UserAddr, UserSlice};
use crate::sync::{Interrupt, Mutex};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno, FileOffset};

/// The stack of a program's first thread: as much as Linux gives by default. Nothing is spent
/// before it is used.
const STACK_BYTES: u64 = 8 << 20;
/// Arguments and environment together, at most. (Linux: a quarter of the stack.)
const MAX_ARGUMENT_BYTES: usize = 1 << 20;
/// One argument, at most, as on Linux.
const MAX_STRING_BYTES: usize = 128 << 10;
/// Interpreters of interpreters (`#!`), at most.
const MAX_SCRIPTS: usize = 4;
/// Bytes of a `#!` line that count.
const MAX_SCRIPT_LINE: usize = 256;
/// Bytes of a process's name.
const MAX_NAME: usize = 15;

/// What a program is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// Arguments, the program's name first.
    pub arguments: Vec<Vec<u8>>,
    /// Environment.
    pub environment: Vec<Vec<u8>>,
}

impl Arguments {
    /// Copies both vectors from the caller's memory.
    pub fn read(current: &Current, arguments: u64, environment: u64) -> Result<Self, Errno> {
        let mut left = MAX_ARGUMENT_BYTES;
        let arguments = read_vector(current, arguments, &mut left)?;
        Ok(Self { arguments, environment: read_vector(current, environment, &mut left)? })
    }
}

/// Copies a vector of strings, ended by a null pointer; a null vector is an empty one, as on Linux.
fn read_vector(current: &Current, vector: u64, left: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    let mut at = vector;
    if vector == 0 {
        return Ok(strings);
    }
    loop {
        let pointer = u64::from_le_bytes(current.read(at)?);
        if pointer == 0 {
            break;
        }
        let string = current
            .space()
            .read_string(UserAddr(pointer), MAX_STRING_BYTES)?
            .ok_or(Errno::E2BIG)?;
        *left = left.checked_sub(string.len() + 1 + size_of::<u64>()).ok_or(Errno::E2BIG)?;
        strings.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        strings.push(string);
        at = at.checked_add(8).ok_or(Errno::EFAULT)?;
    }
    Ok(strings)
}

/// Where a program's bytes come from.
pub(super) enum Image<'a> {
    /// A file.
    File(&'a Arc<dyn FileObject>),
    /// Memory: the ramdisk, before there is a root file system.
    Memory(&'a [u8]),
}

impl Image<'_> {
    /// Reads into a program's memory.
    fn read_to(&self, space: &Arc<Space>, to: UserSlice, offset: u64) -> Result<(), Errno> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| Errno::ENOEXEC)?;
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
                    match file.read(&io, &mut buffers, FileOffset(offset) + done)? {
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
        // Neighbours may share a page: it has the rights of both.
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
            space.protect(UserAddr(own_first), ByteCount(end - own_first), rights(segment))?;
        }
        if let Some(previous) = shared {
            space.protect(
                UserAddr(first),
                ByteCount(own_first - first),
                rights(previous) | rights(segment),
            )?;
        }
    }
    Ok(())
}

fn rights(segment: &Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.readable);
    prot.set(Prot::WRITE, segment.writable);
    prot.set(Prot::EXECUTE, segment.executable);
    prot
}

/// Makes the first stack: strings at its top, below them the vectors and what the kernel tells of
/// itself. Returns the stack pointer.
pub(super) fn build_stack(
    space: &Arc<Space>,
    program: &Program,
    path: &[u8],
    told: &Arguments,
) -> Result<u64, Errno> {
    let start = UserAddr(USER_END.0 - STACK_BYTES);
    space.map(
        Placement::FixedNoReplace(start),
        ByteCount(STACK_BYTES),
        Prot::READ | Prot::WRITE,
        Backing::Anonymous,
        "[stack]",
    )?;
    let mut strings = Vec::new();
    let total: usize =
        told.arguments.iter().chain(&told.environment).map(|string| string.len() + 1).sum();
    strings.try_reserve(total + path.len() + 64).map_err(|_| Errno::ENOMEM)?;
    let mut add = |bytes: &[u8]| {
        let offset = strings.len() as u64;
        strings.extend_from_slice(bytes);
        strings.push(0);
        offset
    };
    let arguments: Vec<u64> = told.arguments.iter().map(|string| add(string)).collect();
    let environment: Vec<u64> = told.environment.iter().map(|string| add(string)).collect();
    let path = add(path);
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let seed = add(&seed);
    let base = (USER_END.0 - strings.len() as u64) & !15;

    let mut words = Vec::new();
    words.try_reserve(arguments.len() + environment.len() + 64).map_err(|_| Errno::ENOMEM)?;
    words.push(arguments.len() as u64);
    words.extend(arguments.iter().map(|offset| base + offset));
    words.push(0);
    words.extend(environment.iter().map(|offset| base + offset));
    words.push(0);
    for (key, value) in auxiliary(program, base + path, base + seed) {
        words.extend([key, value]);
    }
    let sp = (base - 8 * words.len() as u64) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    space.copy_out_all(UserSlice::new(UserAddr(sp), ByteCount::of_len(bytes.len()))?, &bytes)?;
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

/// A file that can be started.
pub struct Executable {
    /// It.
    pub file: Arc<dyn FileObject>,
    /// Its canonical path.
    pub path: Vec<u8>,
}

/// The first bytes of a file.
fn head(current: &Current, file: &Arc<dyn FileObject>) -> Result<Vec<u8>, Errno> {
    part(current, file, 0, HEADER_BYTES)
}

/// Some bytes of a file; fewer where it ends.
fn part(
    current: &Current,
    file: &Arc<dyn FileObject>,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, Errno> {
    let io = Io { space: current.space(), caller: Some(current), nonblocking: false };
    let mut buffers = UserBuffers::kernel(length);
    let mut done = ByteCount::ZERO;
    while done < ByteCount::of_len(length) {
        let at = FileOffset(offset).checked_add(done).ok_or(Errno::ENOEXEC)?;
        match file.read(&io, &mut buffers, at)? {
            ByteCount::ZERO => break,
            count => done += count,
        }
    }
    Ok(buffers.into_bytes())
}

/// execve: replaces the caller's program. On success the caller goes on at the new program's first
/// instruction.
///
/// `open` opens a path for execution, with the rights checked.
pub fn exec(
    current: &Current,
    path: &[u8],
    told: Arguments,
    open: &dyn Fn(&[u8]) -> Result<Executable, Errno>,
) -> Result<(), Errno> {
    let mut told = told;
    let mut executable = open(path)?;
    let mut start = head(current, &executable.file)?;
    let mut script = path.to_vec();
    for depth in 0.. {
        let Some(line) = start.strip_prefix(b"#!") else { break };
        if depth == MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        let interpreter = told.wrap_script(line, &script)?;
        executable = open(&interpreter)?;
        start = head(current, &executable.file)?;
        script = interpreter;
    }
    let program = Program::parse(&start)?;
    drop(start);
    let loader = find_loader(current, &executable.file, &program, open)?;
    let space = current.space().successor()?;
    load(&space, &program, &Image::File(&executable.file))?;
    let entry = match &loader {
        Some((loader, file)) => {
            load(&space, loader, &Image::File(&file.file)).map(|()| loader.entry)?
        }
        None => program.entry,
    };
    space.set_heap_start(UserAddr(program.end()));
    let sp = build_stack(&space, &program, &script, &told)?;
    let beginning = Beginning::program(Registers::start(entry, sp))?;
    stop_other_threads(current)?;
    let identity = identity(&told, &script, executable.path);
    commit(current, space, &beginning, identity);
    Ok(())
}

/// The dynamic loader that a program asks for.
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
    let parsed = Program::parse_loader(&head(current, &loader.file)?).map_err(|_| ELIBBAD)?;
    Ok(Some((parsed, loader)))
}

impl Arguments {
    /// Puts a script's interpreter in front, as the line behind `#!` says, and returns its path.
    fn wrap_script(&mut self, line: &[u8], script: &[u8]) -> Result<Vec<u8>, Errno> {
        let line = line.get(..line.len().min(MAX_SCRIPT_LINE)).unwrap_or_default();
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
        let space = line.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(line.len());
        let (interpreter, option) = line.split_at_checked(space).ok_or(Errno::ENOEXEC)?;
        if interpreter.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        let mut arguments = Vec::from([interpreter.to_vec()]);
        if !option.trim_ascii().is_empty() {
            arguments.push(option.trim_ascii().to_vec());
        }
        arguments.push(script.to_vec());
        arguments.extend(self.arguments.drain(..).skip(1));
        self.arguments = arguments;
        Ok(interpreter.to_vec())
    }
}

/// Name and arguments for ps.
pub(super) fn identity(told: &Arguments, path: &[u8], program: Vec<u8>) -> Identity {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = name.get(..name.len().min(MAX_NAME)).unwrap_or_default().to_vec();
    let command_line =
        told.arguments.iter().flat_map(|argument| argument.iter().copied().chain([0])).collect();
    Identity { name, command_line, program }
}

/// The other threads of the process end before its memory changes.
fn stop_other_threads(current: &Current) -> Result<(), Errno> {
    let process = current.process();
    for thread in process.threads() {
        if thread.tid != current.thread.tid {
            thread.set_ending(0);
            super::scheduler::wake(&thread);
        }
    }
    Ok(process.queue.wait(Interrupt::Killable, || (process.thread_count() == 1).then_some(()))?)
}

/// From here on nothing fails.
fn commit(current: &Current, space: Arc<Space>, beginning: &Beginning, identity: Identity) {
    let thread = &current.thread;
    let process = current.process();
    let old_space = thread.replace_space(Some(space));
    close_on_exec(process);
    *process.identity.lock() = identity;
    process.actions.lock().reset_handlers();
    {
        let mut own = thread.signals.lock();
        own.alternate = AlternateStack::default();
        own.restore = None;
    }
    thread.clear_child_tid.store(0, Ordering::Relaxed);
    thread.reset_machine(beginning);
    thread.with_registers(|registers| *registers = beginning.registers);
    family::note_exec(process.pid);
    process.finish_vfork();
    drop(old_space);
}

/// The program gets a descriptor table of its own, without what was marked.
fn close_on_exec(process: &Arc<Process>) {
    let Some(old) = process.files() else { return };
    let mut table = old.lock().clone();
    let closed = table.take_close_on_exec();
    drop(process.replace_files(Some(Arc::new(Mutex::new(table)))));
    drop(old);
    drop(closed);
}
