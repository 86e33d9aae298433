//! M4: a program that was stored to through a mapping is run as it was stored.

use super::compare::P;
use crate::space::{EXEC_OK, EXEC_TARGET};
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE};
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

/// Runs a program and returns its exit status.
fn run(path: &str, arguments: &[&[u8]]) -> Outcome<Option<i32>> {
    let child = Child::start("program", || {
        let error = sys::execve(path.as_bytes(), arguments, &[]);
        Err(format!("execve {path}: {error:?}"))
    })?;
    Ok(child.status()?.exit_code())
}

/// Gives a file the permissions of a program, and closes its descriptor: it is ETXTBSY otherwise.
fn into_program(file: File) -> Outcome<String> {
    sys::fchmod(file.fd, 0o755).named("fchmod")?;
    let path = format!("{}.program", file.path);
    sys::link(file.path.as_bytes(), path.as_bytes()).named("link")?;
    Ok(path)
}

/// A process makes a program through a mapping, and ends without munmap.
fn make_by_mapping(path: &str, length: usize, put: impl FnOnce(&Buffer) -> Outcome) -> Outcome {
    // For the directory.
    drop(File::sparse("nothing", 0)?);
    Child::start("writer", || {
        let flags = abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC;
        let fd = sys::open(path.as_bytes(), flags, 0o755).named("open")?;
        sys::ftruncate(fd, ByteCount(length as u64)).named("ftruncate")?;
        let map = Buffer::of_file(fd, length)?;
        put(&map)?;
        map.leak();
        Ok(())
    })?
    .join()
}

/// A program is made through a mapping, by read(2) of another one into it, or by stores. Nothing is
/// asked of the file between the end of its maker and the program's start.
#[guest_test]
fn m4_a_program_is_written_by_mapping() -> Outcome {
    let own = sys::open(b"/proc/self/exe", abi::O_RDONLY, 0).named("/proc/self/exe")?;
    let length = sys::fstat(own).named("fstat")?.st_size as usize;
    let path = format!("{}/program", proof::kit::directory());
    make_by_mapping(&path, length, |map| {
        let mut done = 0;
        while done < length {
            let count = os::read(own, map.at(done), length - done).named("read")?;
            check!(count > 0, "the program ends at {done} of {length}");
            done += count;
        }
        Ok(())
    })?;
    sys::close(own).named("close")?;
    let mut arguments: Vec<&[u8]> = vec![b"rules", EXEC_TARGET.as_bytes()];
    let strings = crate::space::arguments();
    arguments.extend(strings.iter().map(Vec::as_slice));
    check_eq!(run(&path, &arguments)?, Some(EXEC_OK), "status of the program");
    for (status, length) in [(31, PAGE), (32, 200 * PAGE), (33, PROGRAM_BYTES)] {
        make_by_mapping(&path, length, |map| {
            let program = small_program(status);
            program.iter().enumerate().for_each(|(at, byte)| map.store(at, *byte));
            Ok(())
        })?;
        check_eq!(run(&path, &[b"small"])?, Some(status.into()), "status of {length} bytes");
    }
    sys::unlink(path.as_bytes()).named("unlink")
}

/// Where the small program begins in its file and in memory.
const BASE: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;
const PROGRAM_BYTES: usize = HEADERS + 12;

/// A static program of one page that exits with a status, which is its byte at [`STATUS_AT`].
fn small_program(status: u8) -> Vec<u8> {
    // mov edi, status; mov eax, 60; syscall.
    let code = [0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let put = |program: &mut Vec<u8>, value: u64, bytes: usize| {
        program.extend_from_slice(&value.to_le_bytes()[..bytes]);
    };
    let end = (HEADERS + code.len()) as u64;
    // The header: an executable for this processor, its entry, one program header behind it.
    for (value, bytes) in [
        (2, 2),
        (62, 2),
        (1, 4),
        (BASE + HEADERS as u64, 8),
        (64, 8),
        (0, 8),
        (0, 4),
        (64, 2),
        (56, 2),
        (1, 2),
        (0, 2),
        (0, 2),
        (0, 2),
    ] {
        put(&mut program, value, bytes);
    }
    // One segment, to read and to execute: offset, two addresses, two lengths, alignment.
    for (value, bytes) in [(1, 4), (5, 4), (0, 8), (BASE, 8), (BASE, 8), (end, 8), (end, 8), (P, 8)]
    {
        put(&mut program, value, bytes);
    }
    program.extend_from_slice(&code);
    program.resize(PAGE, 0);
    program
}

const STATUS_AT: usize = HEADERS + 1;

/// A program that has been run is stored to, again and again, and each run is of what was stored
/// last. The kernel keeps small programs from one run to the next.
#[guest_test]
fn m4_a_program_is_changed_by_mapping() -> Outcome {
    let file = File::sparse("changed", 0)?;
    sys::write_all(file.fd, &small_program(7)).named("write")?;
    let path = into_program(file)?;
    for _ in 0..3 {
        check_eq!(run(&path, &[b"small"])?, Some(7), "status of the program as written");
    }
    for status in 20..30 {
        let fd = os::open(&path).named("open")?;
        let map = Buffer::of_file(fd, PAGE)?;
        sys::close(fd).named("close")?;
        // Linux runs no program that anybody has mapped to be written.
        Child::start("writer", move || {
            map.store(STATUS_AT, status);
            map.leak();
            Ok(())
        })?
        .join()?;
        check_eq!(run(&path, &[b"small"])?, Some(status.into()), "status after a store");
    }
    sys::unlink(path.as_bytes()).named("unlink")
}

/// The first line of a script is stored to: another interpreter runs.
#[guest_test]
fn m4_a_script_is_changed_by_mapping() -> Outcome {
    let directory = proof::kit::directory();
    let names = ["a", "b"].map(|name| format!("{directory}/{name}"));
    for (name, status) in names.iter().zip([11, 12]) {
        let file = File::sparse(&name[directory.len() + 1..], 0)?;
        sys::write_all(file.fd, &small_program(status)).named("write")?;
        let path = into_program(file)?;
        sys::rename(path.as_bytes(), name.as_bytes()).named("rename")?;
    }
    let line = format!("#!{}\n", names[0]);
    let file = File::sparse("script", 0)?;
    sys::write_all(file.fd, line.as_bytes()).named("write")?;
    let script = into_program(file)?;
    check_eq!(run(&script, &[b"script"])?, Some(11), "status of the first interpreter");
    let fd = os::open(&script).named("open")?;
    let map = Buffer::of_file(fd, PAGE)?;
    sys::close(fd).named("close")?;
    map.store(line.len() - 2, b'b');
    drop(map);
    check_eq!(run(&script, &[b"script"])?, Some(12), "status of the second interpreter");
    [&names[0], &names[1], &script]
        .iter()
        .try_for_each(|name| sys::unlink(name.as_bytes()).named("unlink"))
}
