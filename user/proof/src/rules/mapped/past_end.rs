//! M3: an access past the end of the file is SIGBUS, and EFAULT in a system call.

use super::compare::{P, SIGBUS, bytes_of, expect_both, expect_file, map_anew};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use foundation::mutant::Mutant;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, ZEROS, pattern, signal_of, within};
use proof::{check, check_eq, guest_test, lazy, os};
use user::prelude::*;
use user::sys::abi;

/// Kinds of mappings that are loaded from: protection and flags.
const KINDS: [(&str, u32, u32); 4] = [
    ("shared", os::READ_WRITE, abi::MAP_SHARED),
    ("shared, to read", abi::PROT_READ, abi::MAP_SHARED),
    ("private", os::READ_WRITE, abi::MAP_PRIVATE),
    ("private, to read", abi::PROT_READ, abi::MAP_PRIVATE),
];

/// A page that lies wholly behind the end of a file is SIGBUS, for a load and for a store, in every
/// kind of mapping. The last page is zeros behind the end.
#[guest_test]
fn m3_pages_behind_the_end() -> Outcome {
    for size in [0, 1, 100, P - 1, P] {
        for (kind, protection, flags) in KINDS {
            let what = format!("{kind}, {size} bytes");
            let file = File::make("short", 1, size)?;
            let map = Buffer::map(file.fd, 0, 3 * PAGE, protection, flags).named("mmap")?;
            let inside = size.div_ceil(P) as usize * PAGE;
            for at in [inside, inside + 5, 2 * PAGE - 1, 3 * PAGE - 1] {
                check_eq!(signal_of(|| _ = map.load(at))?, SIGBUS, "{what}: load at {at}");
                if protection == os::READ_WRITE {
                    check_eq!(signal_of(|| map.store(at, 1))?, SIGBUS, "{what}: store at {at}");
                }
            }
            map.check(0, size as usize, pattern(1, 0))?;
            map.check(size as usize, inside - size as usize, ZEROS)?;
            check_eq!(sys::fstat(file.fd).named("fstat")?.st_size, size as i64, "{what}: size");
            // A mapping that begins behind the end.
            let behind = Buffer::map(file.fd, 8 * P, PAGE, protection, flags).named("mmap")?;
            check_eq!(signal_of(|| _ = behind.load(0))?, SIGBUS, "{what}: far behind");
        }
    }
    Ok(())
}

/// How a file becomes shorter.
type Shorten = fn(&File, u64) -> Outcome;

const WAYS: [(&str, Shorten); 4] = [
    ("ftruncate", |file, size| {
        sys::ftruncate(file.fd, ByteCount(size)).named("ftruncate").map(drop)
    }),
    ("truncate", |file, size| {
        sys::truncate(file.path.as_bytes(), ByteCount(size)).named("truncate")
    }),
    ("another process", |file, size| {
        Child::start("truncate", || {
            sys::truncate(file.path.as_bytes(), ByteCount(size)).named("truncate")
        })?
        .join()
    }),
    ("O_TRUNC", |file, size| {
        let flags = abi::O_RDWR | abi::O_TRUNC;
        let fd = sys::open(file.path.as_bytes(), flags, 0).named("open")?;
        sys::ftruncate(fd, ByteCount(size)).named("ftruncate")?;
        sys::close(fd).named("close")
    }),
];

/// A file becomes shorter while it is mapped: pages that were loaded or stored to are SIGBUS like
/// any other, in all mappings. When it is longer again they are zeros, and can be stored to.
#[guest_test]
fn m3_truncated_while_mapped() -> Outcome {
    for (way, shorten) in WAYS {
        for size in [0, 100, PAGE, PAGE + 100] {
            within(format!("{way} to {size}"), truncated(shorten, size))?;
        }
    }
    Ok(())
}

fn truncated(shorten: Shorten, size: usize) -> Outcome {
    let file = File::make("truncated", 2, 8 * P)?;
    let map = map_anew(&file, 8 * PAGE)?;
    let reader =
        Buffer::map(file.fd, 0, 8 * PAGE, abi::PROT_READ, abi::MAP_SHARED).named("mmap")?;
    (0..6).for_each(|page| _ = reader.load(page * PAGE));
    (0..8).step_by(2).for_each(|page| map.store(page * PAGE + 3, 0xcc));
    shorten(&file, size as u64)?;
    let inside = size.next_multiple_of(PAGE);
    for page in inside / PAGE..8 {
        for map in [&map, &reader] {
            check_eq!(signal_of(|| _ = map.load(page * PAGE))?, SIGBUS, "load from page {page}");
        }
        check_eq!(signal_of(|| map.store(page * PAGE, 1))?, SIGBUS, "store to page {page}");
    }
    let is_kept = sys::fstat(file.fd).named("fstat")?.st_size == size as i64;
    check!(is_kept, "a store behind the end has made the file longer");
    sys::ftruncate(file.fd, ByteCount(8 * P)).named("ftruncate")?;
    let mut expected = vec![0; 8 * PAGE];
    // O_TRUNC leaves nothing.
    if reader.load(0) != 0 {
        expected[..size].copy_from_slice(&bytes_of(2, size));
        (0..8).step_by(2).map(|page| page * PAGE + 3).for_each(|at| {
            if at < size {
                expected[at] = 0xcc;
            }
        });
    }
    expect_both(&file, &map, &expected)?;
    map.store(7 * PAGE, 9);
    expected[7 * PAGE] = 9;
    check_eq!(reader.load(7 * PAGE), 9, "a store after that, by the other mapping");
    expect_file(&file, &expected)
}

/// How a file becomes longer, to at least 3 pages.
type Extend = fn(&File) -> Outcome;

const EXTENSIONS: [(&str, Extend); 5] = [
    ("ftruncate", |file| sys::ftruncate(file.fd, ByteCount(3 * P)).named("ftruncate").map(drop)),
    ("ftruncate by little", |file| {
        sys::ftruncate(file.fd, ByteCount(700)).named("ftruncate")?;
        sys::ftruncate(file.fd, ByteCount(3 * P)).named("ftruncate").map(drop)
    }),
    ("write far behind", |file| file.overwrite_bytes(0, 2 * P, PAGE)),
    ("fallocate", |file| {
        let given = [file.fd.argument(), 0, 0, 3 * PAGE];
        os::raw(abi::__NR_fallocate, &given).named("fallocate").map(drop)
    }),
    ("append", |file| {
        let flags = abi::O_WRONLY | abi::O_APPEND;
        let fd = sys::open(file.path.as_bytes(), flags, 0).named("open")?;
        sys::write_all(fd, &[0; 3 * PAGE - 200]).named("append")?;
        sys::close(fd).named("close")
    }),
];

/// What is stored to the last page behind the end of the file never reaches the file, written back
/// or not. When the file becomes longer, these bytes are zeros.
#[guest_test(mutants: &[Mutant::WriteBackExtends])]
fn m3_stores_behind_the_end_of_the_last_page() -> Outcome {
    for (way, extend) in EXTENSIONS {
        for is_synced in [true, false] {
            let file = File::make("last", 3, 200)?;
            let map = map_anew(&file, 3 * PAGE)?;
            (150..PAGE).step_by(50).for_each(|at| map.store(at, 0xee));
            let mut expected = bytes_of(3, 200);
            expected[150] = 0xee;
            expect_file(&file, &expected)?;
            if is_synced {
                map.sync().named("msync")?;
                expect_file(&file, &expected)?;
            }
            // And again, after the first are written back.
            map.store(500, 0xdd);
            extend(&file)?;
            expected.resize(3 * PAGE, 0);
            within(format!("{way}, synced {is_synced}"), expect_both(&file, &map, &expected))?;
            map.store(500, 1);
            map.store(2 * PAGE + 1, 2);
            (expected[500], expected[2 * PAGE + 1]) = (1, 2);
            within(way, expect_both(&file, &map, &expected))?;
        }
    }
    Ok(())
}

/// A system call whose argument or result is past the end of the file fails with EFAULT, and does
/// nothing. So it is after the file was truncated.
#[guest_test]
fn m3_system_calls() -> Outcome {
    let file = File::make("called", 4, 4 * P)?;
    let map = map_anew(&file, 8 * PAGE)?;
    (0..4).for_each(|page| map.store(page * PAGE, 1));
    let source = File::make("source", 5, 4 * P)?;
    for (what, at) in [("mapped longer", 5 * PAGE), ("truncated", 2 * PAGE)] {
        if what == "truncated" {
            sys::ftruncate(file.fd, ByteCount(2 * P)).named("ftruncate")?;
        }
        let at = map.at(at);
        let [from, to] = sys::pipe(abi::O_NONBLOCK).named("pipe")?;
        sys::write_all(to, b"bytes").named("write")?;
        let futex = [at, abi::FUTEX_WAIT as usize, 1, 0];
        let now = [abi::CLOCK_MONOTONIC as usize, at];
        let path = [abi::AT_FDCWD as usize, at, 0, 0];
        let calls: [(&str, Result<usize>); 9] = [
            ("read from a pipe", os::read(from, at, 5)),
            ("read from a file", os::pread(source.fd, at, PAGE, 0)),
            ("small read from a file", os::pread(source.fd, at, 5, 0)),
            ("write to a pipe", os::write(to, at, 5)),
            ("write to a file", os::pwrite(source.fd, at, PAGE, 0)),
            ("write to the file itself", os::pwrite(file.fd, at, 10, 0)),
            ("futex", os::raw(abi::__NR_futex, &futex)),
            ("clock_gettime", os::raw(abi::__NR_clock_gettime, &now)),
            ("openat", os::raw(abi::__NR_openat, &path)),
        ];
        for (call, result) in calls {
            check_eq!(result, Err(Errno::EFAULT), "{what}: {call}");
        }
        let mut found = [0; 10];
        check_eq!(sys::read(from, &mut found), Ok(5), "{what}: bytes left in the pipe");
        for fd in [from, to] {
            sys::close(fd).named("close")?;
        }
    }
    expect_file(&source, &bytes_of(5, 4 * PAGE))?;
    let mut expected = bytes_of(4, 2 * PAGE);
    (expected[0], expected[PAGE]) = (1, 1);
    expect_file(&file, &expected)
}

/// A transfer that begins before the end of the mapped file and reaches past its last page is
/// short, and what it moved is right.
#[guest_test]
fn m3_transfers_across_the_end() -> Outcome {
    const INSIDE: usize = 2 * PAGE - 30;
    let file = File::make("across", 6, 2 * P - 10)?;
    let map = map_anew(&file, 4 * PAGE)?;
    let target = File::sparse("target", 0)?;
    // Up to the page's end: the bytes behind the end of the file are zeros.
    check_eq!(os::pwrite(target.fd, map.at(INSIDE), PAGE, 0), Ok(30), "bytes written");
    let mut expected = bytes_of(6, 2 * PAGE - 10)[INSIDE..].to_vec();
    expected.resize(30, 0);
    expect_file(&target, &expected)?;
    let source = File::make("source", 7, 4 * P)?;
    check_eq!(os::pread(source.fd, map.at(INSIDE), PAGE, 0), Ok(30), "bytes read");
    let mut expected = bytes_of(6, 2 * PAGE - 10);
    expected[INSIDE..].copy_from_slice(&bytes_of(7, 20));
    expect_file(&file, &expected)
}

/// The descriptor of the file that the handler makes longer, and what the kernel reported to it.
static TO_EXTEND: AtomicI32 = AtomicI32::new(-1);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// The beginning of a `siginfo_t` of a fault.
#[repr(C)]
struct FaultInfo {
    signal: i32,
    error: i32,
    code: i32,
    padding: i32,
    address: u64,
}

extern "C" fn extend(_: i32, info: &FaultInfo, _: usize) {
    CODE.store(info.code, Ordering::SeqCst);
    ADDRESS.store(info.address, Ordering::SeqCst);
    let fd = Fd(TO_EXTEND.load(Ordering::SeqCst));
    let _ = sys::ftruncate(fd, ByteCount(4 * P));
}

/// The signal names the address. A handler may make the file longer: then the access succeeds.
#[guest_test]
fn m3_a_handler_extends_the_file() -> Outcome {
    const BUS_ADRERR: i32 = 2;
    // SAFETY: with SA_SIGINFO the kernel calls a handler with these three arguments.
    let handler = unsafe {
        core::mem::transmute::<extern "C" fn(i32, &FaultInfo, usize), sys::Handler>(extend)
    };
    for is_store in [false, true] {
        let file = File::make("extended", 8, 100)?;
        let map = map_anew(&file, 4 * PAGE)?;
        Child::start("child", || {
            TO_EXTEND.store(file.fd.0, Ordering::SeqCst);
            sys::signal_handle(abi::SIGBUS as i32, handler, abi::SA_SIGINFO).named("sigaction")?;
            let at = 2 * PAGE + 77;
            if is_store {
                map.store(at, 5);
            }
            check_eq!(map.load(at), if is_store { 5 } else { 0 }, "the byte after the signal");
            check_eq!(CODE.load(Ordering::SeqCst), BUS_ADRERR, "si_code");
            check_eq!(ADDRESS.load(Ordering::SeqCst), map.at(at) as u64, "si_addr");
            Ok(())
        })?
        .join()?;
        let mut expected = bytes_of(8, 100);
        expected.resize(4 * PAGE, 0);
        if is_store {
            expected[2 * PAGE + 77] = 5;
        }
        expect_file(&file, &expected)?;
    }
    Ok(())
}

/// A private mapping keeps the end that the file had at mmap(2), as it keeps the bytes. (On Linux
/// it ends where the file ends now.)
#[guest_test]
fn m3_private_mappings_keep_their_end() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let file = File::make("kept", 9, 3 * P)?;
    let map = Buffer::map(file.fd, 0, 5 * PAGE, os::READ_WRITE, abi::MAP_PRIVATE).named("mmap")?;
    map.load(0);
    sys::ftruncate(file.fd, ByteCount(100)).named("ftruncate")?;
    map.check(0, 3 * PAGE, pattern(9, 0))?;
    sys::ftruncate(file.fd, ByteCount(5 * P)).named("ftruncate")?;
    map.check(0, 3 * PAGE, pattern(9, 0))?;
    check_eq!(signal_of(|| _ = map.load(4 * PAGE))?, SIGBUS, "signal behind the end of then");
    Ok(())
}
