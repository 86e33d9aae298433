//! Invalid arguments: the right error, nothing lost, no other process affected.

use proof::guest_test;
use proof::kit::{Outcome, child, content, file, raw};
use proof::omitted;
use user::prelude::*;
use user::sys::abi;

/// Invalid pointers: null, near null, below and above the boundary of user space, non-canonical, in
/// the kernel, the last address.
const NOWHERE: [usize; 8] = [
    0,
    8,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x8000_0000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8000_0000,
    usize::MAX - 7,
];

/// Calls `number` with each of [`NOWHERE`] as argument `position`; all must fail with EFAULT.
fn all_fault(number: u32, arguments: &[usize], position: usize) -> Outcome {
    for pointer in NOWHERE {
        let mut arguments = arguments.to_vec();
        arguments[position] = pointer;
        let result = raw(number, &arguments);
        if result != Err(Errno::EFAULT) {
            return Err(format!("call {number} with {arguments:#x?}: {result:?}, not EFAULT"));
        }
    }
    Ok(())
}

#[guest_test]
fn hostile_numbers() -> Outcome {
    for number in [511, 600, 1000, 0x7fff_ffff, u32::MAX] {
        check_eq!(raw(number, &[1, 2, 3, 4, 5, 6]), Err(Errno::ENOSYS));
    }
    let bad: [usize; 4] = [999, 0x7fff_ffff, usize::MAX, 1 << 31];
    for fd in bad {
        let buffer = [0usize; 64];
        let buffer = buffer.as_ptr() as usize;
        for number in [
            abi::__NR_read,
            abi::__NR_write,
            abi::__NR_pread64,
            abi::__NR_pwrite64,
            abi::__NR_fstat,
            abi::__NR_getdents64,
            abi::__NR_ioctl,
            abi::__NR_readv,
            abi::__NR_writev,
        ] {
            check_eq!((number, raw(number, &[fd, buffer, 1, 0])), (number, Err(Errno::EBADF)));
        }
        for number in [
            abi::__NR_close,
            abi::__NR_dup,
            abi::__NR_lseek,
            abi::__NR_fsync,
            abi::__NR_ftruncate,
            abi::__NR_fcntl,
        ] {
            check_eq!((number, raw(number, &[fd, 0, 0])), (number, Err(Errno::EBADF)));
        }
    }
    Ok(())
}

#[guest_test]
fn hostile_read_write() -> Outcome {
    let fd = file(b"f", b"untouched")?;
    let number = fd.argument();
    all_fault(abi::__NR_read, &[number, 0, 5], 1)?;
    all_fault(abi::__NR_write, &[number, 0, 5], 1)?;
    all_fault(abi::__NR_pread64, &[number, 0, 5, 0], 1)?;
    all_fault(abi::__NR_pwrite64, &[number, 0, 5, 0], 1)?;
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(0));
    check_eq!(content(b"f")?, b"untouched");
    let mut byte = [0];
    let start = byte.as_mut_ptr() as usize;
    check_eq!(raw(abi::__NR_read, &[number, start, usize::MAX]), Err(Errno::EFAULT));
    check_eq!(raw(abi::__NR_write, &[number, start, usize::MAX]), Err(Errno::EFAULT));
    for count in [0, 1] {
        check_eq!(raw(abi::__NR_pread64, &[number, start, count, 1 << 63]), Err(Errno::EINVAL));
    }
    check_eq!(raw(abi::__NR_write, &[number, 0, 0]), Ok(0));
    // At the end of the file nothing is copied, so a bad user pointer does not matter; a kernel
    // pointer does.
    ok!(sys::lseek(fd, 9, abi::SEEK_SET));
    check_eq!(raw(abi::__NR_read, &[number, 8, 100]), Ok(0));
    check_eq!(raw(abi::__NR_read, &[number, 0xffff_8000_0000_0000, 100]), Err(Errno::EFAULT));
    // Bytes of a pipe that cannot be delivered are not lost.
    let [reader, writer] = ok!(sys::pipe(0));
    ok!(sys::write_all(writer, b"keep"));
    all_fault(abi::__NR_read, &[reader.argument(), 0, 4], 1)?;
    let mut kept = [0; 4];
    check_eq!(sys::read(reader, &mut kept), Ok(4));
    check_eq!(&kept, b"keep");
    for whence in [5, 99, u32::MAX] {
        check_eq!(sys::lseek(fd, 0, whence), Err(Errno::EINVAL));
    }
    check_eq!(sys::ftruncate(fd, ByteCount(u64::MAX)), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn hostile_vectors() -> Outcome {
    let fd = file(b"f", b"untouched")?.argument();
    let mut byte = [0u8; 8];
    let start = byte.as_mut_ptr() as usize;
    for number in [abi::__NR_readv, abi::__NR_writev] {
        all_fault(number, &[fd, 0, 1], 1)?;
        let one = [start, 1];
        let list = one.as_ptr() as usize;
        for count in [1025, usize::MAX, 1 << 31] {
            check_eq!(raw(number, &[fd, list, count]), Err(Errno::EINVAL));
        }
        let negative = [start, usize::MAX];
        check_eq!(raw(number, &[fd, negative.as_ptr() as usize, 1]), Err(Errno::EINVAL));
        let bad = [8usize, 4];
        check_eq!(raw(number, &[fd, bad.as_ptr() as usize, 1]), Err(Errno::EFAULT));
    }
    // The part before the bad one is transferred.
    let half = [start, 3, 8, 4];
    check_eq!(raw(abi::__NR_readv, &[fd, half.as_ptr() as usize, 2]), Ok(3));
    check_eq!(&byte[..4], b"unt\0");
    check_eq!(content(b"f")?, b"untouched");
    Ok(())
}

#[guest_test]
fn hostile_paths() -> Outcome {
    ok!(sys::close(file(b"f", b"")?));
    let here = abi::AT_FDCWD as usize;
    all_fault(abi::__NR_openat, &[here, 0, 0, 0], 1)?;
    for number in [
        abi::__NR_open,
        abi::__NR_stat,
        abi::__NR_lstat,
        abi::__NR_access,
        abi::__NR_mkdir,
        abi::__NR_rmdir,
        abi::__NR_unlink,
        abi::__NR_chdir,
        abi::__NR_truncate,
        abi::__NR_chmod,
        abi::__NR_readlink,
    ] {
        // Valid values for the other arguments, so that the path is the first error.
        all_fault(number, &[0, 0, 64], 0)?;
    }
    let good = c"f".as_ptr() as usize;
    for number in [abi::__NR_rename, abi::__NR_link, abi::__NR_symlink] {
        all_fault(number, &[0, good], 0)?;
        all_fault(number, &[good, 0], 1)?;
    }
    let long_name = vec![b'n'; 256];
    check_eq!(sys::open(&long_name, abi::O_RDONLY, 0), Err(Errno::ENAMETOOLONG));
    check_eq!(sys::mkdir(&long_name, 0o755), Err(Errno::ENAMETOOLONG));
    check_eq!(sys::open(&long_name[..255], abi::O_RDONLY, 0), Err(Errno::ENOENT));
    let long_path = b"./".repeat(3000);
    check_eq!(sys::stat(&long_path).map(drop), Err(Errno::ENAMETOOLONG));
    check_eq!(sys::stat(&long_path[..4000]).map(drop), Ok(()));
    for number in [abi::__NR_stat, abi::__NR_unlink, abi::__NR_mkdir, abi::__NR_chdir] {
        let mut space = [0usize; 64];
        check_eq!(
            raw(number, &[c"".as_ptr() as usize, space.as_mut_ptr() as usize]),
            Err(Errno::ENOENT)
        );
    }
    // A path that ends at the end of mapped memory, without its zero byte.
    let mut pages = ok!(user::pages::Pages::new(8192));
    // SAFETY: the second page is not used again.
    ok!(unsafe { sys::unmap(pages.as_mut_ptr().wrapping_add(4096), 4096) });
    // SAFETY: the byte lies in the first page.
    let edge = unsafe {
        let edge = pages.as_mut_ptr().add(4095);
        edge.write(b'f');
        edge
    };
    check_eq!(raw(abi::__NR_open, &[edge as usize, 0]), Err(Errno::EFAULT));
    core::mem::forget(pages);
    Ok(())
}

#[guest_test]
fn hostile_structures() -> Outcome {
    let fd = file(b"f", b"x")?.argument();
    all_fault(abi::__NR_fstat, &[fd, 0], 1)?;
    let good = c"f".as_ptr() as usize;
    all_fault(abi::__NR_stat, &[good, 0], 1)?;
    all_fault(abi::__NR_pipe2, &[0, 0], 0)?;
    all_fault(abi::__NR_uname, &[0], 0)?;
    all_fault(abi::__NR_sysinfo, &[0], 0)?;
    all_fault(abi::__NR_getrandom, &[0, 16, 0], 0)?;
    all_fault(abi::__NR_nanosleep, &[0, 0], 0)?;
    all_fault(abi::__NR_clock_gettime, &[1, 0], 1)?;
    all_fault(abi::__NR_getcwd, &[0, 4096], 0)?;
    let directory = ok!(sys::open(b".", abi::O_RDONLY, 0)).argument();
    all_fault(abi::__NR_getdents64, &[directory, 0, 4096], 1)?;
    for pointer in NOWHERE.into_iter().skip(1) {
        check_eq!(raw(abi::__NR_rt_sigaction, &[10, pointer, 0, 8]), Err(Errno::EFAULT));
        check_eq!(raw(abi::__NR_rt_sigaction, &[10, 0, pointer, 8]), Err(Errno::EFAULT));
        check_eq!(raw(abi::__NR_rt_sigprocmask, &[0, pointer, 0, 8]), Err(Errno::EFAULT));
    }
    check_eq!(raw(abi::__NR_rt_sigaction, &[10, 0, 0, 7]), Err(Errno::EINVAL));
    check_eq!(
        raw(abi::__NR_rt_sigprocmask, &[99, [0usize; 1].as_ptr() as usize, 0, 8]),
        Err(Errno::EINVAL)
    );
    let mut space = [0u8; 64];
    let space = space.as_mut_ptr() as usize;
    check_eq!(raw(abi::__NR_getdents64, &[directory, space, 5]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_getdents64, &[fd, space, 64]), Err(Errno::ENOTDIR));
    check_eq!(raw(abi::__NR_getcwd, &[space, 1]), Err(Errno::ERANGE));
    check_eq!(raw(abi::__NR_pipe2, &[space, 1]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_clock_gettime, &[999, space]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_ioctl, &[fd, 0x5401, space]), Err(Errno::ENOTTY));
    check_eq!(raw(abi::__NR_fcntl, &[fd, 9999, 0]), Err(Errno::EINVAL));
    for time in [[0, 1_000_000_000], [0, usize::MAX], [usize::MAX, 0]] {
        check_eq!(raw(abi::__NR_nanosleep, &[time.as_ptr() as usize, 0]), Err(Errno::EINVAL));
    }
    all_fault(abi::__NR_socketpair, &[1, 5, 0, 0], 3)?;
    check_eq!(raw(abi::__NR_socketpair, &[99, 5, 0, space]), Err(Errno::EAFNOSUPPORT));
    Ok(())
}

#[guest_test]
fn hostile_memory() -> Outcome {
    let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS) as usize;
    let map = |address: usize, len_bytes: usize, flags: usize, fd: usize, offset: usize| {
        raw(abi::__NR_mmap, &[address, len_bytes, 3, flags, fd, offset])
    };
    let none = usize::MAX;
    check_eq!(map(0, 0, flags, none, 0), Err(Errno::EINVAL));
    check_eq!(map(0, usize::MAX, flags, none, 0), Err(Errno::ENOMEM));
    check_eq!(map(0, usize::MAX - 4095, flags, none, 0), Err(Errno::ENOMEM));
    check_eq!(map(0, 4096, abi::MAP_ANONYMOUS as usize, none, 0), Err(Errno::EINVAL));
    check_eq!(map(0, 4096, abi::MAP_PRIVATE as usize, 999, 0), Err(Errno::EBADF));
    check_eq!(map(0, 4096, abi::MAP_PRIVATE as usize, 999, 1), Err(Errno::EINVAL));
    let fixed = flags | abi::MAP_FIXED as usize;
    check_eq!(map(0x7fff_ffff_f000, 8192, fixed, none, 0), Err(Errno::ENOMEM));
    check_eq!(map(0xffff_8000_0000_0000, 4096, fixed, none, 0), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_munmap, &[1, 4096]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_munmap, &[4096, 0]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_munmap, &[0xffff_8000_0000_0000, 4096]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_munmap, &[4096, usize::MAX - 4095]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_mprotect, &[1, 4096, 1]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_mprotect, &[0x1000, 4096, 1]), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_mprotect, &[0x1000, usize::MAX - 4095, 1]), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_arch_prctl, &[0x9999, 0]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_arch_prctl, &[0x1002, 0xffff_8000_0000_0000]), Err(Errno::EPERM));
    Ok(())
}

#[guest_test]
fn hostile_processes() -> Outcome {
    check_eq!(sys::kill(0x3fff_ffff, 0), Err(Errno::ESRCH));
    for signal in [65, -1, i32::MAX] {
        check_eq!(sys::kill(sys::getpid(), signal), Err(Errno::EINVAL));
    }
    check_eq!(sys::wait(0x3fff_ffff, 0), Err(Errno::ECHILD));
    let sleeper = child(|| 0)?;
    // A child whose status cannot be delivered is reaped nevertheless, as on Linux.
    check_eq!(
        raw(abi::__NR_wait4, &[sleeper as usize, 0xffff_8000_0000_0000, 0, 0]),
        Err(Errno::EFAULT)
    );
    check_eq!(raw(abi::__NR_wait4, &[sleeper as usize, 0, 0, 0]), Err(Errno::ECHILD));
    all_fault(abi::__NR_execve, &[0, 0, 0], 0)?;
    let path = c"/bin/true".as_ptr() as usize;
    for pointer in NOWHERE.into_iter().skip(1) {
        check_eq!(raw(abi::__NR_execve, &[path, pointer, 0]), Err(Errno::EFAULT));
        check_eq!(raw(abi::__NR_execve, &[path, 0, pointer]), Err(Errno::EFAULT));
        let list = [path, pointer, 0];
        check_eq!(raw(abi::__NR_execve, &[path, list.as_ptr() as usize, 0]), Err(Errno::EFAULT));
    }
    check_eq!(raw(abi::__NR_setpgid, &[0, usize::MAX]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_futex, &[1, 0, 0, 0]), Err(Errno::EINVAL));
    Ok(())
}

/// More calls that are not made at random, because they change the child's mappings.
const ALSO_OMITTED: [u32; 4] =
    [abi::__NR_munmap, abi::__NR_mprotect, abi::__NR_mmap, abi::__NR_mremap];

/// Makes random calls with random arguments in a child. The kernel must survive, and the child may
/// end only by a signal.
#[guest_test]
fn hostile_everything() -> Outcome {
    let nonsense: [usize; 16] = [
        0,
        1,
        2,
        3,
        4095,
        4096,
        1 << 20,
        0x7fff_ffff,
        0xffff_ffff,
        0x7fff_ffff_f000,
        1 << 47,
        1 << 63,
        0xffff_8000_0000_0000,
        0xffff_ffff_8000_0000,
        usize::MAX - 4095,
        usize::MAX,
    ];
    // On Linux most of these calls have effects. There only those with descriptors and pointers are
    // made.
    let numbers: Vec<u32> = if omitted::is_ours() {
        omitted::numbers(450, &ALSO_OMITTED)
    } else {
        vec![
            abi::__NR_read,
            abi::__NR_pread64,
            abi::__NR_readv,
            abi::__NR_fstat,
            abi::__NR_lseek,
            abi::__NR_getdents64,
        ]
    };
    for round in 0..8u64 {
        let worker = child(|| {
            let null = sys::open(b"/dev/null", abi::O_RDWR, 0).unwrap_or(Fd::NONE);
            for fd in 0..3 {
                let _ = sys::dup2(null, Fd(fd));
            }
            let _ = sys::setsid();
            let mut random = proof::random::Random::new(round);
            for number in &numbers {
                let mut arguments = [0; 6];
                for argument in &mut arguments {
                    *argument = nonsense[random.below(16) as usize];
                }
                // A sleep of many years is not an error.
                if [
                    abi::__NR_nanosleep,
                    abi::__NR_clock_nanosleep,
                    abi::__NR_futex,
                    abi::__NR_wait4,
                ]
                .contains(number)
                {
                    arguments[2] = 1 << 63;
                    arguments[0] = 1 << 63;
                }
                let _ = raw(*number, &arguments);
            }
            0
        })?;
        ok!(sys::wait_for(worker));
    }
    check_eq!(proof::kit::in_child(|| 9)?.exit_code(), Some(9));
    Ok(())
}
