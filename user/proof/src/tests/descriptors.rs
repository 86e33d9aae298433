//! Descriptor tables, pipes, socket pairs.

use proof::guest_test;
use proof::kit::{Outcome, child, file, in_child, raw};
use user::prelude::*;
use user::sys::{abi, net};

#[guest_test]
fn descriptor_numbers() -> Outcome {
    let first = file(b"f", b"x")?;
    let second = ok!(sys::dup(first));
    check_eq!(second, Fd(first.0 + 1));
    ok!(sys::close(first));
    check_eq!(sys::dup(second), Ok(first));
    check_eq!(sys::dup2(second, Fd(50)), Ok(Fd(50)));
    check_eq!(sys::dup2(Fd(50), Fd(50)), Ok(Fd(50)));
    check_eq!(sys::read(Fd(50), &mut [0]), Ok(1));
    check_eq!(sys::fcntl(Fd(50), abi::F_DUPFD, 60), Ok(60));
    check_eq!(sys::close(Fd(60)), Ok(()));
    check_eq!(sys::close(Fd(60)), Err(Errno::EBADF));
    check_eq!(sys::dup2(Fd(60), Fd(61)), Err(Errno::EBADF));
    check_eq!(sys::dup2(Fd(50), Fd::NONE), Err(Errno::EBADF));
    check_eq!(raw(abi::__NR_dup3, &[50, 50, 0]), Err(Errno::EINVAL));
    check_eq!(
        sys::fcntl(Fd(50), abi::F_GETFL, 0).map(|flags| flags as u32 & abi::O_ACCMODE),
        Ok(abi::O_RDWR)
    );
    Ok(())
}

#[guest_test]
fn descriptor_close_on_exec() -> Outcome {
    let fd = ok!(sys::open(b"/dev/null", abi::O_RDONLY | abi::O_CLOEXEC, 0));
    check_eq!(sys::fcntl(fd, abi::F_GETFD, 0), Ok(1));
    let copy = ok!(sys::dup(fd));
    check_eq!(sys::fcntl(copy, abi::F_GETFD, 0), Ok(0));
    let [reader, writer] = ok!(sys::pipe(abi::O_CLOEXEC));
    // The program must not inherit the write end: the reader sees the end while it still runs.
    let sleeper = child(|| {
        let error = sys::execve(b"/bin/sleep", &[b"sleep", b"100"], &[]);
        complain("tests", b"/bin/sleep", error)
    })?;
    ok!(sys::close(writer));
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    ok!(sys::kill(sleeper, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(sleeper)).signal(), Some(9));
    Ok(())
}

#[guest_test]
fn pipe_bytes_and_ends() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"abcdef"), Ok(6));
    let mut bytes = [0; 4];
    check_eq!(sys::read(reader, &mut bytes), Ok(4));
    check_eq!(&bytes, b"abcd");
    check_eq!(sys::read(reader, &mut bytes), Ok(2));
    check_eq!(sys::write(reader, b"x"), Err(Errno::EBADF));
    check_eq!(sys::read(writer, &mut bytes), Err(Errno::EBADF));
    check_eq!(sys::lseek(reader, 0, abi::SEEK_SET), Err(Errno::ESPIPE));
    check_eq!(sys::pread(reader, &mut bytes, FileOffset::ZERO), Err(Errno::ESPIPE));
    check!(user::fs::is_kind(ok!(sys::fstat(reader)).st_mode, abi::S_IFIFO));
    check_eq!(sys::write(writer, b"yz"), Ok(2));
    ok!(sys::close(writer));
    check_eq!(sys::read(reader, &mut bytes), Ok(2));
    check_eq!(sys::read(reader, &mut bytes), Ok(0));
    Ok(())
}

/// Sends 1 MiB through a pipe, which holds far less, so both ends must block.
#[guest_test]
fn pipe_blocks() -> Outcome {
    const LEN: usize = 1 << 20;
    let [reader, writer] = ok!(sys::pipe(0));
    let source = child(|| {
        let mut bytes = vec![0; LEN];
        proof::random::fill(3, 0, &mut bytes);
        let _ = sys::close(reader);
        i32::from(sys::write(writer, &bytes) != Ok(LEN))
    })?;
    ok!(sys::close(writer));
    let (mut bytes, mut expected) = (vec![0; LEN + 1], vec![0; LEN]);
    proof::random::fill(3, 0, &mut expected);
    check_eq!(sys::read_full(reader, &mut bytes), Ok(LEN));
    check!(bytes[..LEN] == expected);
    check_eq!(ok!(sys::wait_for(source)).exit_code(), Some(0));
    Ok(())
}

#[guest_test]
fn pipe_nonblocking() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(abi::O_NONBLOCK));
    check_eq!(sys::read(reader, &mut [0]), Err(Errno::EAGAIN));
    let mut written = 0;
    let error = loop {
        match sys::write(writer, &[5; 3000]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
        check!(written < 1 << 24);
    };
    check_eq!(error, Errno::EAGAIN);
    let mut bytes = vec![0; written + 1];
    check_eq!(sys::read_full(reader, &mut bytes).err(), Some(Errno::EAGAIN));
    check!(written >= 4096 && bytes[..written].iter().all(|byte| *byte == 5));
    Ok(())
}

#[guest_test]
fn socket_keeps_boundaries() -> Outcome {
    let [one, two] = ok!(sys::socketpair(net::SOCK_SEQPACKET));
    check_eq!(sys::write(one, b"first"), Ok(5));
    check_eq!(sys::write(one, b"second message"), Ok(14));
    let mut bytes = [b'.'; 32];
    check_eq!(sys::read(two, &mut bytes), Ok(5));
    check_eq!(&bytes[..6], b"first.");
    // The rest of a truncated message is lost, but not the next message.
    check_eq!(sys::read(two, &mut bytes[..6]), Ok(6));
    check_eq!(&bytes[..6], b"second");
    check_eq!(sys::write(two, b"back"), Ok(4));
    check_eq!(sys::read(one, &mut bytes), Ok(4));
    let status = in_child(|| i32::from(sys::write(two, b"from the child") != Ok(14)))?;
    check_eq!(status.exit_code(), Some(0));
    check_eq!(sys::read(one, &mut bytes), Ok(14));
    ok!(sys::signal_ignore(abi::SIGPIPE as i32));
    ok!(sys::close(two));
    check_eq!(sys::read(one, &mut bytes), Ok(0));
    check_eq!(sys::write(one, b"x"), Err(Errno::EPIPE));
    Ok(())
}

/// Sends messages as large as the file servers', between two processes.
#[guest_test]
fn socket_large_messages() -> Outcome {
    const LEN: usize = 64 << 10;
    let [one, two] = ok!(sys::socketpair(net::SOCK_SEQPACKET));
    let echo = child(|| {
        let _ = sys::close(one);
        let mut bytes = vec![0; LEN];
        while let Ok(count @ 1..) = sys::read(two, &mut bytes) {
            if sys::write(two, &bytes[..count]) != Ok(count) {
                return 1;
            }
        }
        0
    })?;
    ok!(sys::close(two));
    let (mut sent, mut back) =
        (user::pages::Pages::new(LEN).map_err(|error| format!("{error}"))?, vec![0; LEN]);
    for (round, len) in [LEN, 1, 4096, 4097, 33_333, LEN].into_iter().enumerate() {
        proof::random::fill(round as u64, 0, &mut sent[..len]);
        check_eq!(sys::write(one, &sent[..len]), Ok(len));
        check_eq!(sys::read(one, &mut back), Ok(len));
        check!(back[..len] == sent[..len]);
    }
    ok!(sys::close(one));
    check_eq!(ok!(sys::wait_for(echo)).exit_code(), Some(0));
    Ok(())
}

/// recv(2).
fn receive(socket: Fd, buffer: &mut [u8], flags: u32) -> Result<usize> {
    raw(
        abi::__NR_recvfrom,
        &[socket.argument(), buffer.as_mut_ptr() as usize, buffer.len(), flags as usize, 0, 0],
    )
}

/// MSG_PEEK leaves the message in place; MSG_DONTWAIT does not block.
#[guest_test]
fn socket_peek() -> Outcome {
    for kind in [net::SOCK_STREAM, net::SOCK_SEQPACKET] {
        let [one, other] = ok!(sys::socketpair(kind));
        let mut bytes = [0; 8];
        check_eq!(receive(one, &mut bytes, net::MSG_DONTWAIT), Err(Errno::EAGAIN));
        check_eq!(receive(one, &mut bytes, net::MSG_DONTWAIT | net::MSG_PEEK), Err(Errno::EAGAIN));
        check_eq!(sys::ioctl_number(one, sys::ioctl::FIONREAD), Ok(0));
        check_eq!(sys::write(other, b"abc"), Ok(3));
        check_eq!(sys::ioctl_number(one, sys::ioctl::FIONREAD), Ok(3));
        check_eq!(receive(one, &mut bytes[..2], net::MSG_PEEK), Ok(2));
        check_eq!(receive(one, &mut bytes, net::MSG_PEEK), Ok(3));
        check_eq!(&bytes[..3], b"abc");
        check_eq!(receive(one, &mut bytes, net::MSG_DONTWAIT), Ok(3));
        check_eq!(&bytes[..3], b"abc");
        // A large message, in whole pages.
        let large: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
        let writer = child(|| i32::from(sys::write_all(other, &large).is_err()))?;
        let mut first = [0; 4096];
        check_eq!(receive(one, &mut first, net::MSG_PEEK), Ok(4096));
        check!(first == large[..4096]);
        let mut found = vec![0; large.len()];
        check_eq!(sys::read_full(one, &mut found), Ok(large.len()));
        check!(found == large);
        check_eq!(ok!(sys::wait_for(writer)).exit_code(), Some(0));
        ok!(sys::close(other));
        check_eq!(receive(one, &mut bytes, net::MSG_PEEK), Ok(0));
    }
    Ok(())
}
