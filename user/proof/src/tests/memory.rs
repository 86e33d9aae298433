//! The address space: mmap, munmap, mprotect, brk.

use proof::guest_test;
use proof::kit::{Outcome, content, file, in_child, signal_of};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

const ANONYMOUS: u32 = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS;
const READ_WRITE: u32 = abi::PROT_READ | abi::PROT_WRITE;

fn map(address: usize, len_bytes: usize, protection: u32, flags: u32) -> Result<*mut u8> {
    // SAFETY: tests use MAP_FIXED only on their own mappings.
    unsafe { sys::mmap(address, len_bytes, protection, flags, Fd::NONE, FileOffset::ZERO) }
}

fn unmap(start: *mut u8, len_bytes: usize) -> Result<()> {
    // SAFETY: tests unmap only their own mappings and do not use them any more.
    unsafe { sys::unmap(start, len_bytes) }
}

fn peek(address: *const u8) -> u8 {
    // SAFETY: tests load from their own mappings; elsewhere the signal is the test's subject.
    unsafe { address.read_volatile() }
}

fn poke(address: *mut u8, value: u8) {
    // SAFETY: as above.
    unsafe { address.write_volatile(value) }
}

const SEGV: Option<i32> = Some(abi::SIGSEGV as i32);

#[guest_test]
fn memory_anonymous() -> Outcome {
    let mut pages = ok!(Pages::new(1 << 20));
    check!(pages.iter().all(|byte| *byte == 0));
    pages.fill(0xaa);
    check!(pages.iter().all(|byte| *byte == 0xaa));
    let start = pages.as_mut_ptr();
    check_eq!(start as usize % PAGE_BYTES, 0);
    drop(pages);
    check_eq!(signal_of(|| _ = peek(start))?, SEGV);
    // Memory that is mapped again is zero.
    for _ in 0..50 {
        let mut pages = ok!(Pages::new(64 << 10));
        check!(pages.iter().all(|byte| *byte == 0));
        pages.fill(0x55);
    }
    Ok(())
}

/// Reserves far more than the machine's memory and touches some pages of it.
#[guest_test]
fn memory_huge_reservation() -> Outcome {
    const LEN: usize = 1 << 40;
    let flags = ANONYMOUS | abi::MAP_NORESERVE;
    let start = ok!(map(0, LEN, READ_WRITE, flags));
    for page in 0..100 {
        let address = start.wrapping_add(page * (LEN / 100) + page);
        check_eq!(peek(address), 0);
        poke(address, page as u8);
    }
    for page in 0..100 {
        check_eq!(peek(start.wrapping_add(page * (LEN / 100) + page)), page as u8);
    }
    ok!(unmap(start, LEN));
    check_eq!(map(0, 1 << 47, READ_WRITE, flags), Err(Errno::ENOMEM));
    Ok(())
}

#[guest_test]
fn memory_fixed() -> Outcome {
    let start = ok!(map(0, 8 * PAGE_BYTES, READ_WRITE, ANONYMOUS));
    poke(start, 1);
    poke(start.wrapping_add(3 * PAGE_BYTES), 3);
    let inside = start as usize + 2 * PAGE_BYTES;
    check_eq!(
        map(inside, 2 * PAGE_BYTES, READ_WRITE, ANONYMOUS | abi::MAP_FIXED),
        Ok(inside as *mut u8)
    );
    check_eq!(peek(start.wrapping_add(3 * PAGE_BYTES)), 0);
    check_eq!(peek(start), 1);
    check_eq!(
        map(inside, PAGE_BYTES, READ_WRITE, ANONYMOUS | abi::MAP_FIXED_NOREPLACE),
        Err(Errno::EEXIST)
    );
    check_eq!(
        map(inside + 1, PAGE_BYTES, READ_WRITE, ANONYMOUS | abi::MAP_FIXED),
        Err(Errno::EINVAL)
    );
    // A hint is not binding.
    let other = ok!(map(inside, PAGE_BYTES, READ_WRITE, ANONYMOUS));
    check!(other as usize != inside);
    Ok(())
}

#[guest_test]
fn memory_protection() -> Outcome {
    let start = ok!(map(0, 4 * PAGE_BYTES, READ_WRITE, ANONYMOUS));
    let second = start.wrapping_add(PAGE_BYTES);
    poke(second, 42);
    let protect = |protection| {
        // SAFETY: the mapping is this test's own.
        unsafe { sys::mprotect(second, PAGE_BYTES, protection) }
    };
    ok!(protect(abi::PROT_READ));
    check_eq!(peek(second), 42);
    check_eq!(signal_of(|| poke(second, 1))?, SEGV);
    poke(start, 1);
    poke(second.wrapping_add(PAGE_BYTES), 1);
    ok!(protect(abi::PROT_NONE));
    check_eq!(signal_of(|| _ = peek(second))?, SEGV);
    // A system call fails in the same place.
    let fd = file(b"f", b"data")?;
    // SAFETY: the kernel refuses to touch the range.
    let buffer = unsafe { core::slice::from_raw_parts_mut(second, 4) };
    check_eq!(sys::read(fd, buffer), Err(Errno::EFAULT));
    ok!(protect(READ_WRITE));
    check_eq!(peek(second), 42);
    // Data is not executable.
    poke(second, 0xc3);
    let run = signal_of(|| {
        // SAFETY: the processor refuses to run it, and the child dies.
        unsafe { core::mem::transmute::<*mut u8, extern "C" fn()>(second)() }
    })?;
    check_eq!(run, SEGV);
    Ok(())
}

#[guest_test]
fn memory_holes_punched() -> Outcome {
    let start = ok!(map(0, 16 * PAGE_BYTES, READ_WRITE, ANONYMOUS));
    let page = |index: usize| start.wrapping_add(index * PAGE_BYTES);
    for index in 0..16 {
        poke(page(index), index as u8);
    }
    for index in [0, 5, 6, 15] {
        ok!(unmap(page(index), PAGE_BYTES));
    }
    for index in (0..16).filter(|index| ![0, 5, 6, 15].contains(index)) {
        check_eq!(peek(page(index)), index as u8);
    }
    for index in [0, 5, 6, 15] {
        check_eq!(signal_of(|| _ = peek(page(index)))?, SEGV);
    }
    // Unmapping what is partly or wholly unmapped is not an error.
    ok!(unmap(page(0), 16 * PAGE_BYTES));
    ok!(unmap(page(0), 16 * PAGE_BYTES));
    check_eq!(signal_of(|| _ = peek(page(3)))?, SEGV);
    Ok(())
}

#[guest_test]
fn memory_brk() -> Outcome {
    // SAFETY: in a child, which needs nothing on this heap any more.
    let status = in_child(|| unsafe {
        let start = sys::brk(0);
        let grown = sys::brk(start + 100_001);
        if grown != start + 100_001 {
            return 1;
        }
        let bytes = core::slice::from_raw_parts_mut(start as *mut u8, 100_001);
        if bytes.iter().any(|byte| *byte != 0) {
            return 2;
        }
        bytes.fill(9);
        if sys::brk(start) != start || sys::brk(start + 50_000) != start + 50_000 {
            return 3;
        }
        // Released and extended again, the memory is zero, except for the page that contained the
        // end.
        let behind = start.next_multiple_of(PAGE_BYTES);
        if peek((behind + PAGE_BYTES) as *const u8) != 0 {
            return 4;
        }
        // A request that cannot be met changes nothing.
        i32::from(sys::brk(usize::MAX) != start + 50_000) * 5
    })?;
    check_eq!(status.exit_code(), Some(0));
    Ok(())
}

#[guest_test]
fn memory_file_private() -> Outcome {
    let mut bytes = vec![0; 10_000];
    proof::random::fill(4, 0, &mut bytes);
    let fd = file(b"f", &bytes)?;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    let start =
        ok!(unsafe { sys::mmap(0, 10_000, READ_WRITE, abi::MAP_PRIVATE, fd, FileOffset::ZERO) });
    ok!(sys::close(fd));
    for index in [0, 4095, 4096, 9_999] {
        check_eq!(peek(start.wrapping_add(index)), bytes[index]);
    }
    // After the end of the file the last page is zero.
    check_eq!(peek(start.wrapping_add(10_001)), 0);
    poke(start, !bytes[0]);
    check_eq!(proof::kit::content(b"f")?[0], bytes[0]);
    ok!(unmap(start, 10_000));
    let fd = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    // SAFETY: as above.
    let second = ok!(unsafe {
        sys::mmap(
            0,
            PAGE_BYTES,
            abi::PROT_READ,
            abi::MAP_PRIVATE,
            fd,
            FileOffset(PAGE_BYTES as u64),
        )
    });
    check_eq!(peek(second), bytes[PAGE_BYTES]);
    Ok(())
}

fn map_shared(fd: Fd, len_bytes: usize, offset: u64) -> Result<*mut u8> {
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    unsafe { sys::mmap(0, len_bytes, READ_WRITE, abi::MAP_SHARED, fd, FileOffset(offset)) }
}

/// A shared mapping and the file are coherent: stores are visible to reads, and writes to loads,
/// through any descriptor.
#[guest_test]
fn memory_file_shared() -> Outcome {
    let mut bytes = vec![0; 3 * PAGE_BYTES + 100];
    proof::random::fill(5, 0, &mut bytes);
    let fd = file(b"f", &bytes)?;
    let other = ok!(sys::open(b"f", abi::O_RDWR, 0));
    let start = ok!(map_shared(fd, 4 * PAGE_BYTES, 0));
    let second = ok!(map_shared(other, PAGE_BYTES, 2 * PAGE_BYTES as u64));
    check_eq!(peek(start.wrapping_add(4097)), bytes[4097]);
    // Stores are visible to read(2), the other mapping, and a private one.
    poke(start.wrapping_add(10), 0xaa);
    poke(start.wrapping_add(2 * PAGE_BYTES + 1), 0xbb);
    let mut byte = [0];
    check_eq!(sys::pread(other, &mut byte, FileOffset(10)), Ok(1));
    check_eq!(byte, [0xaa]);
    check_eq!(peek(second.wrapping_add(1)), 0xbb);
    check_eq!(content(b"f")?[2 * PAGE_BYTES + 1], 0xbb);
    // A write is visible in the mapping, which keeps its own stores to the same page.
    poke(start.wrapping_add(20), 0xcc);
    check_eq!(sys::pwrite(other, b"written", FileOffset(30)), Ok(7));
    check_eq!(
        (peek(start.wrapping_add(20)), peek(start.wrapping_add(30)), peek(start.wrapping_add(36))),
        (0xcc, b'w', b'n')
    );
    // The file is truncated: bytes past its end are zero when it grows again.
    check_eq!(sys::ftruncate(fd, ByteCount(PAGE_BYTES as u64 + 5)), Ok(0));
    check_eq!(sys::ftruncate(fd, ByteCount(2 * PAGE_BYTES as u64)), Ok(0));
    check_eq!(
        (peek(start.wrapping_add(PAGE_BYTES + 4)), peek(start.wrapping_add(PAGE_BYTES + 5))),
        (bytes[PAGE_BYTES + 4], 0)
    );
    // The mapping outlives its descriptors, and unmapping it writes it back.
    ok!(sys::close(fd));
    ok!(sys::close(other));
    poke(start.wrapping_add(PAGE_BYTES), 0xdd);
    ok!(unmap(start, 4 * PAGE_BYTES));
    ok!(unmap(second, PAGE_BYTES));
    let found = content(b"f")?;
    check_eq!(
        (found.len(), found[10], found[20], found[PAGE_BYTES]),
        (2 * PAGE_BYTES, 0xaa, 0xcc, 0xdd)
    );
    // A file opened read-only cannot be mapped shared and writable.
    let reader = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    check_eq!(map_shared(reader, PAGE_BYTES, 0), Err(Errno::EACCES));
    Ok(())
}

/// Processes that map the same file share memory, related or not. Stores of a killed process are
/// not lost.
#[guest_test]
fn memory_file_shared_by_processes() -> Outcome {
    let fd = file(b"f", &[0; 2 * PAGE_BYTES])?;
    let start = ok!(map_shared(fd, 2 * PAGE_BYTES, 0));
    let status = in_child(|| {
        poke(start, 1);
        let Ok(fd) = sys::open(b"f", abi::O_RDWR, 0) else { return 1 };
        let Ok(own) = map_shared(fd, PAGE_BYTES, PAGE_BYTES as u64) else { return 2 };
        poke(own, 2);
        let _ = sys::kill(sys::getpid(), abi::SIGKILL as i32);
        3
    })?;
    check_eq!(status.signal(), Some(abi::SIGKILL as i32));
    check_eq!((peek(start), peek(start.wrapping_add(PAGE_BYTES))), (1, 2));
    ok!(unmap(start, 2 * PAGE_BYTES));
    let found = content(b"f")?;
    check_eq!((found[0], found[PAGE_BYTES]), (1, 2));
    Ok(())
}

/// Uses several hundred KiB of stack.
#[guest_test]
fn memory_stack_grows() -> Outcome {
    #[inline(never)]
    fn deep(level: u32) -> u64 {
        let space = core::hint::black_box([u64::from(level); 512]);
        if level == 0 { 0 } else { space[level as usize % 512] + deep(level - 1) }
    }
    check_eq!(deep(200), 200 * 201 / 2);
    Ok(())
}
