//! Named pipes.

use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, polled, raw};
use user::prelude::*;
use user::sys::abi;
use user::sys::ioctl;

const IN: u32 = abi::POLLIN;
const HUP: u32 = abi::POLLHUP;
const NONBLOCKING: u32 = abi::O_NONBLOCK;

fn make(name: &[u8]) -> Outcome {
    let path = name.iter().copied().chain([0]).collect::<Vec<u8>>();
    ok!(raw(abi::__NR_mknod, &[path.as_ptr() as usize, (abi::S_IFIFO | 0o640) as usize, 0]));
    Ok(())
}

#[guest_test]
fn fifo_names() -> Outcome {
    make(b"pipe")?;
    let stat = ok!(sys::stat(b"pipe"));
    check_eq!((stat.st_mode, stat.st_size, stat.st_nlink), (abi::S_IFIFO | 0o640, 0, 1));
    check_eq!(
        raw(abi::__NR_mknod, &[c"pipe".as_ptr() as usize, abi::S_IFIFO as usize, 0]),
        Err(Errno::EEXIST)
    );
    ok!(sys::link(b"pipe", b"other"));
    ok!(sys::rename(b"other", b"moved"));
    check_eq!(ok!(sys::lstat(b"moved")).st_ino, stat.st_ino);
    let mut names = ok!(user::fs::list(b"."));
    names.sort();
    check_eq!(names, [b"moved".to_vec(), b"pipe".to_vec()]);
    check_eq!(sys::mkdir(b"pipe", 0o755), Err(Errno::EEXIST));
    check_eq!(sys::open(b"pipe/x", abi::O_RDONLY, 0), Err(Errno::ENOTDIR));
    check_eq!(sys::open(b"pipe", abi::O_RDONLY | abi::O_DIRECTORY, 0), Err(Errno::ENOTDIR));
    check_eq!(sys::truncate(b"pipe", ByteCount(5)), Err(Errno::EINVAL));
    ok!(sys::chmod(b"pipe", 0o600));
    // Both names lead to the same pipe, which outlives them.
    let one = ok!(sys::open(b"pipe", abi::O_RDWR | NONBLOCKING, 0));
    let other = ok!(sys::open(b"moved", abi::O_RDWR | abi::O_TRUNC | NONBLOCKING, 0));
    ok!(sys::unlink(b"pipe"));
    ok!(sys::unlink(b"moved"));
    check_eq!(sys::write(one, b"through"), Ok(7));
    let mut found = [0; 8];
    check_eq!(sys::read(other, &mut found), Ok(7));
    check_eq!(ok!(sys::fstat(other)).st_mode, abi::S_IFIFO | 0o600);
    check_eq!(sys::lseek(one, 0, abi::SEEK_SET), Err(Errno::ESPIPE));
    // O_PATH opens only a name: it neither opens the pipe nor waits.
    make(b"pipe")?;
    ok!(sys::open(b"pipe", abi::O_PATH, 0));
    Ok(())
}

#[guest_test]
fn fifo_waits_for_the_other_side() -> Outcome {
    make(b"pipe")?;
    for reads in [true, false] {
        let (own, others) =
            if reads { (abi::O_RDONLY, abi::O_WRONLY) } else { (abi::O_WRONLY, abi::O_RDONLY) };
        // The first opener waits for the other side, even if that closes at once.
        let other = checking_child(|| {
            ok!(sys::close(ok!(sys::open(b"pipe", others, 0))));
            Ok(())
        })?;
        ok!(sys::close(ok!(sys::open(b"pipe", own, 0))));
        expect_success(other)?;
    }
    // An interrupted wait leaves no opener behind.
    let waiting = child(|| i32::from(sys::open(b"pipe", abi::O_WRONLY, 0).is_ok()))?;
    ok!(sys::kill(waiting, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(waiting)).signal(), Some(abi::SIGKILL as i32));
    let alone = ok!(sys::open(b"pipe", abi::O_RDONLY | NONBLOCKING, 0));
    check_eq!(sys::read(alone, &mut [0]), Ok(0));
    Ok(())
}

#[guest_test]
fn fifo_without_waiting() -> Outcome {
    make(b"pipe")?;
    check_eq!(sys::open(b"pipe", abi::O_WRONLY | NONBLOCKING, 0), Err(Errno::ENXIO));
    let reader = ok!(sys::open(b"pipe", abi::O_RDONLY | NONBLOCKING, 0));
    // Without a writer so far, a read returns 0, but poll reports no hang-up.
    check_eq!((sys::read(reader, &mut [0]), polled(reader, IN)?), (Ok(0), 0));
    let writer = ok!(sys::open(b"pipe", abi::O_WRONLY | NONBLOCKING, 0));
    check_eq!((sys::read(reader, &mut [0]), polled(reader, IN)?), (Err(Errno::EAGAIN), 0));
    check_eq!(sys::write(writer, b"ab"), Ok(2));
    check_eq!((polled(reader, IN)?, sys::ioctl_number(reader, ioctl::FIONREAD)), (IN, Ok(2)));
    ok!(sys::close(writer));
    check_eq!(polled(reader, IN)?, IN | HUP);
    let mut found = [0; 4];
    check_eq!(sys::read(reader, &mut found), Ok(2));
    check_eq!((sys::read(reader, &mut found), polled(reader, IN)?), (Ok(0), HUP));
    // A new writer opens the pipe.
    let writer = ok!(sys::open(b"pipe", abi::O_WRONLY, 0));
    check_eq!(polled(reader, IN)?, 0);
    ok!(sys::close(reader));
    ok!(sys::signal_ignore(abi::SIGPIPE as i32));
    check_eq!(sys::write(writer, b"x"), Err(Errno::EPIPE));
    Ok(())
}

#[guest_test]
fn fifo_bytes() -> Outcome {
    const BYTES: usize = 300_000;
    make(b"pipe")?;
    let writer = checking_child(|| {
        let pipe = ok!(sys::open(b"pipe", abi::O_WRONLY, 0));
        ok!(sys::write_all(pipe, &vec![b'x'; BYTES]));
        Ok(())
    })?;
    let pipe = ok!(sys::open(b"pipe", abi::O_RDONLY, 0));
    let mut found = vec![0; BYTES + 1];
    check_eq!(sys::read_full(pipe, &mut found), Ok(BYTES));
    check!(found[..BYTES].iter().all(|byte| *byte == b'x'));
    expect_success(writer)?;
    ok!(sys::close(pipe));
    // Unread bytes are lost when the last descriptor is closed.
    let both = ok!(sys::open(b"pipe", abi::O_RDWR, 0));
    check_eq!(sys::write(both, b"lost"), Ok(4));
    ok!(sys::close(both));
    let reader = ok!(sys::open(b"pipe", abi::O_RDONLY | NONBLOCKING, 0));
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    Ok(())
}
