//! mremap(2) that leaves a mapping behind or makes a second one; execveat(2).

use proof::guest_test;
use proof::kit::{
    Buffer, Outcome, PAGE, byte, file, in_child, load, pattern, raw, signal_of, store,
};
use proof::os;
use user::prelude::*;
use user::sys::abi;

const MAY_MOVE: usize = abi::MREMAP_MAYMOVE as usize;
const STAYS: usize = abi::MREMAP_DONTUNMAP as usize;
const FIXED: usize = abi::MREMAP_FIXED as usize;

fn mremap(old: usize, old_length: usize, length: usize, flags: usize, new: usize) -> Result<usize> {
    raw(abi::__NR_mremap, &[old, old_length, length, flags, new])
}

/// The contents move, and the mapping stays without them.
#[guest_test]
fn move_of_contents() -> Outcome {
    const PAGES: usize = 5;
    let bytes = PAGES * PAGE;
    let old = Buffer::filled(bytes, pattern(3, 0))?;
    let new = ok!(mremap(old.at(0), bytes, bytes, MAY_MOVE | STAYS, 0));
    check!(new != old.at(0));
    for at in [0, PAGE + 1, bytes - 1] {
        check_eq!(load(new + at), byte(3, at as u64));
        check_eq!(old.load(at), 0);
    }
    old.store(0, 9);
    check_eq!((old.load(0), load(new)), (9, byte(3, 0)));
    // A part of it, to a given place.
    let place = ok!(os::mmap(0, 2 * PAGE, abi::PROT_NONE, abi::MAP_PRIVATE));
    let part = new + PAGE;
    check_eq!(mremap(part, PAGE, PAGE, MAY_MOVE | STAYS | FIXED, place), Ok(place));
    check_eq!((load(place), load(part)), (byte(3, PAGE as u64), 0));
    check_eq!(load(new + 2 * PAGE), byte(3, 2 * PAGE as u64));
    let segv = Some(abi::SIGSEGV as i32);
    check_eq!(signal_of(|| store(place + PAGE, 1))?, segv);
    for (flags, length) in [(STAYS, PAGE), (MAY_MOVE | STAYS, 2 * PAGE), (FIXED, PAGE), (8, PAGE)] {
        check_eq!(mremap(new, PAGE, length, flags, place), Err(Errno::EINVAL), "{flags}");
    }
    Ok(())
}

/// With an old size of 0, shared memory is mapped a second time.
#[guest_test]
fn move_of_nothing() -> Outcome {
    let shared = Buffer::shared(4 * PAGE)?;
    shared.store(PAGE, 5);
    let again = ok!(mremap(shared.at(PAGE), 0, 2 * PAGE, MAY_MOVE, 0));
    check_eq!(load(again), 5);
    store(again + PAGE, 6);
    check_eq!(shared.load(2 * PAGE), 6);
    ok!(os::munmap(again, 2 * PAGE));
    check_eq!(shared.load(PAGE), 5);
    let private = Buffer::new(PAGE)?;
    check_eq!(mremap(private.at(0), 0, PAGE, MAY_MOVE, 0), Err(Errno::EINVAL));
    let fd = file(b"again", &[7; PAGE])?;
    let mapped = Buffer::of_file(fd, PAGE)?;
    let again = ok!(mremap(mapped.at(0), 0, PAGE, MAY_MOVE, 0));
    store(again + 1, 8);
    check_eq!((load(again), mapped.load(1)), (7, 8));
    // A shared mapping keeps its contents when it stays behind.
    let moved = ok!(mremap(mapped.at(0), PAGE, PAGE, MAY_MOVE | STAYS, 0));
    check_eq!((load(moved + 1), mapped.load(1)), (8, 8));
    Ok(())
}

/// The status of a child that calls execveat(2) of a path below a directory.
fn run(dir: Fd, path: &[u8], flags: u32) -> Outcome<Option<i32>> {
    let arguments = [c"name".as_ptr() as usize, 0];
    let none = [0usize];
    let status = in_child(|| {
        let at = path.as_ptr() as usize;
        let vectors = [arguments.as_ptr() as usize, none.as_ptr() as usize];
        let given = [dir.argument(), at, vectors[0], vectors[1], flags as usize];
        100 + raw(abi::__NR_execveat, &given).err().map_or(0, |error| i32::from(error.0))
    })?;
    Ok(status.exit_code())
}

#[guest_test]
fn exec_at() -> Outcome {
    let failed = |error: Errno| Some(100 + i32::from(error.0));
    let bin = ok!(sys::open(b"/bin", abi::O_RDONLY, 0));
    check_eq!(run(bin, b"true\0", 0)?, Some(0));
    check_eq!(run(Fd(999), b"/bin/true\0", 0)?, Some(0));
    let program = ok!(sys::open(b"/bin/true", abi::O_RDONLY, 0));
    check_eq!(run(program, b"\0", abi::AT_EMPTY_PATH)?, Some(0));
    check_eq!(run(program, b"\0", 0)?, failed(Errno::ENOENT));
    check_eq!(run(program, b"true\0", 0)?, failed(Errno::ENOTDIR));
    check_eq!(run(Fd(999), b"true\0", 0)?, failed(Errno::EBADF));
    check_eq!(run(bin, b"true\0", 1)?, failed(Errno::EINVAL));
    check_eq!(run(bin, b"\0", abi::AT_EMPTY_PATH)?, failed(Errno::EACCES));
    ok!(sys::symlink(b"/bin/true", b"link"));
    let here = Fd::WORKING_DIRECTORY;
    check_eq!(run(here, b"link\0", 0)?, Some(0));
    check_eq!(run(here, b"link\0", abi::AT_SYMLINK_NOFOLLOW)?, failed(Errno::ELOOP));
    Ok(())
}
