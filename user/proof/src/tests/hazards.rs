//! What ordinary programs do with buffers and files, where a lazy read must stay invisible. On
//! Linux, whose reads copy, all of it is trivial.

use proof::guest_test;
use proof::kit::{Outcome, content, file, in_child, raw};
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

const BYTES: usize = 48 * PAGE_BYTES + 321;

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    proof::random::fill(seed, 0, &mut bytes);
    bytes
}

/// A file, and a buffer into which all of it was read.
fn read_whole(seed: u64) -> Outcome<(Fd, Vec<u8>)> {
    let fd = file(b"f", &pattern(seed, BYTES))?;
    let mut buffer = vec![0xee; BYTES];
    check_eq!(sys::read(fd, &mut buffer), Ok(BYTES));
    Ok((fd, buffer))
}

/// Parent and child keep what was read before the fork, even if the file changes. Neither sees the
/// other's stores.
#[guest_test]
fn hazard_fork_with_pages_outstanding() -> Outcome {
    let (fd, mut buffer) = read_whole(1)?;
    let wanted = pattern(1, BYTES);
    let status = in_child(|| {
        let changed = sys::pwrite(fd, &pattern(2, BYTES), FileOffset::ZERO) == Ok(BYTES);
        buffer[5 * PAGE_BYTES] ^= 0xff;
        let mut expected = pattern(1, BYTES);
        expected[5 * PAGE_BYTES] ^= 0xff;
        // The same once more, in a grandchild.
        let grandchild = in_child(|| i32::from(buffer != expected));
        let is_right = changed
            && buffer == expected
            && grandchild.is_ok_and(|status| status.exit_code() == Some(0));
        i32::from(!is_right)
    })?;
    check_eq!(status.exit_code(), Some(0));
    check!(buffer == wanted);
    check!(content(b"f")? == pattern(2, BYTES));
    Ok(())
}

/// A buffer outlives the descriptor, the name, and the file.
#[guest_test]
fn hazard_close_with_pages_outstanding() -> Outcome {
    let (fd, buffer) = read_whole(3)?;
    ok!(sys::close(fd));
    file(b"g", &pattern(4, BYTES))?;
    ok!(sys::rename(b"g", b"f"));
    ok!(sys::unlink(b"f"));
    file(b"f", &pattern(5, BYTES))?;
    check!(buffer == pattern(3, BYTES));
    Ok(())
}

extern "C" fn deep(_: i32) {
    let mut space = [0u8; 3 * PAGE_BYTES];
    space.fill(core::hint::black_box(0x5a));
    core::hint::black_box(&space);
}

/// Reads into the stack, and touches half of it or nothing.
#[inline(never)]
fn read_on_stack(fd: Fd, wanted: &[u8], looks: bool) -> Outcome {
    let mut buffer = [0u8; 12 * PAGE_BYTES];
    let length = buffer.len();
    check_eq!(sys::pread(fd, &mut buffer, FileOffset(100)), Ok(length));
    // The handler's frame lies below and overwrites what was there.
    ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
    if looks {
        check!(buffer[..6 * PAGE_BYTES] == wanted[100..100 + 6 * PAGE_BYTES]);
        ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
        check!(buffer[6 * PAGE_BYTES..] == wanted[100 + 6 * PAGE_BYTES..100 + length]);
    }
    core::hint::black_box(&buffer);
    Ok(())
}

/// Dead buffers on the stack whose pages are still outstanding are overwritten by signal frames and
/// calls.
#[guest_test]
fn hazard_stack_buffers_under_signal_frames() -> Outcome {
    let wanted = pattern(6, BYTES);
    let fd = file(b"f", &wanted)?;
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, deep, 0));
    for round in 0..8 {
        read_on_stack(fd, &wanted, round % 2 == 1)?;
        ok!(sys::kill(sys::getpid(), abi::SIGUSR1 as i32));
        deep(0);
    }
    Ok(())
}

/// As in musl's fread: the buffer without its last byte, then the library's own buffer of 1 KiB.
#[guest_test]
fn hazard_readv_odd_pieces() -> Outcome {
    let wanted = pattern(7, BYTES);
    let fd = file(b"f", &wanted)?;
    let (mut first, mut second) = (vec![0xee; BYTES], vec![0xee; 1024]);
    for (round, length) in
        [1, 2, 4095, 4096, 4097, 8191, 3 * PAGE_BYTES, 20_001, 40 * PAGE_BYTES + 17]
            .into_iter()
            .enumerate()
    {
        let at = round * 1003;
        ok!(sys::lseek(fd, at as i64, abi::SEEK_SET));
        first.fill(0xee);
        second.fill(0xee);
        let pieces =
            [first.as_mut_ptr() as usize, length - 1, second.as_mut_ptr() as usize, second.len()];
        check_eq!(
            raw(abi::__NR_readv, &[fd.argument(), pieces.as_ptr() as usize, 2]),
            Ok(length - 1 + 1024)
        );
        // The file changes before any page is touched.
        check_eq!(sys::pwrite(fd, &vec![round as u8; BYTES], FileOffset::ZERO), Ok(BYTES));
        check!(first[..length - 1] == wanted[at..at + length - 1]);
        check!(first[length - 1..].iter().all(|&byte| byte == 0xee));
        check!(second[..] == wanted[at + length - 1..at + length - 1 + 1024]);
        check_eq!(sys::pwrite(fd, &wanted, FileOffset::ZERO), Ok(BYTES));
    }
    Ok(())
}

/// Writes a buffer to its own file at a shifted offset: the result must be as if it had been
/// copied.
#[guest_test]
fn hazard_shifted_onto_its_source() -> Outcome {
    for shift in [0usize, 1, 100, 1000, 4095, 4096, 4097, 10_000, 100_000] {
        let (fd, buffer) = read_whole(shift as u64)?;
        let mut model = pattern(shift as u64, BYTES);
        model.resize(BYTES + shift, 0);
        model[shift..].copy_from_slice(&pattern(shift as u64, BYTES));
        check_eq!(sys::pwrite(fd, &buffer, FileOffset(shift as u64)), Ok(BYTES));
        check!(content(b"f")? == model);
        check!(buffer == pattern(shift as u64, BYTES));
        // The same for a part of it, shifted downwards.
        check_eq!(sys::pwrite(fd, &buffer[shift..], FileOffset::ZERO), Ok(BYTES - shift));
        model[..BYTES - shift].copy_from_slice(&pattern(shift as u64, BYTES)[shift..]);
        check!(content(b"f")? == model);
        ok!(sys::close(fd));
    }
    Ok(())
}

/// As in writefile('f', readfile('f')): truncates the file, then writes the buffer.
#[guest_test]
fn hazard_written_back_whole() -> Outcome {
    let (fd, buffer) = read_whole(8)?;
    ok!(sys::close(fd));
    let fd = ok!(sys::open(b"f", abi::O_WRONLY | abi::O_CREAT | abi::O_TRUNC, 0o644));
    ok!(sys::write_all(fd, &buffer));
    check!(content(b"f")? == pattern(8, BYTES));
    check!(buffer == pattern(8, BYTES));
    Ok(())
}
