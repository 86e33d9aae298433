//! Descriptors and credentials in messages.

use super::{
    CLOSE_ON_EXEC, CONTROL_TRUNCATED, CREDENTIALS, DATAGRAM, DONT_WAIT, ETOOMANYREFS, Message,
    PACKET, PEEK, SCM_RIGHTS, STREAM, bind, connect, connection, control, descriptor_data, listen,
    option, receive, send, set_option, socket,
};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, file, polled, raw};
use user::prelude::*;
use user::sys::abi;

const PASS_CREDENTIALS: usize = 16;
const PEER_CREDENTIALS: usize = 17;

#[guest_test]
fn unix_descriptors() -> Outcome {
    for kind in [STREAM, DATAGRAM, PACKET] {
        let [one, other] = ok!(sys::socketpair(kind));
        let name = if kind == STREAM { b"a" } else { b"b" };
        let opened = file(name, b"content")?;
        check_eq!(Message::new(b"x", &descriptor_data(&[opened, opened])).send(one, 0), Ok(1));
        ok!(sys::close(opened));
        let child = checking_child(|| {
            let mut message = Message::new(&[0; 8], &[0; 64]);
            check_eq!(message.receive(other, CLOSE_ON_EXEC), Ok(1));
            check_eq!((message.flags(), message.control.len()), (CLOSE_ON_EXEC, 24));
            let [first, second] = message.descriptors()[..] else { return Err("two".into()) };
            let mut bytes = [0; 10];
            check_eq!(sys::pread(second, &mut bytes, FileOffset(0)), Ok(7));
            check_eq!(raw(abi::__NR_fcntl, &[first.argument(), 1, 0]), Ok(1));
            // Both are the same open file.
            ok!(sys::lseek(first, 3, abi::SEEK_SET));
            check_eq!(sys::lseek(second, 0, abi::SEEK_CUR), Ok(3));
            Ok(())
        })?;
        expect_success(child)?;
    }
    Ok(())
}

/// Bytes of a stream come with the descriptors with which they were sent, and not with others.
#[guest_test]
fn unix_descriptors_in_a_stream() -> Outcome {
    let [one, other] = ok!(sys::socketpair(STREAM));
    let [first, second] = ok!(sys::pipe(0));
    ok!(send(one, b"plain", 0));
    ok!(Message::new(b"first", &descriptor_data(&[first])).send(one, 0));
    ok!(Message::new(b"second", &descriptor_data(&[second, first])).send(one, 0));
    ok!(send(one, b"end", 0));
    let take = |flags| {
        let mut message = Message::new(&[0; 64], &[0; 64]);
        message.receive(other, flags).map(|_| (message.bytes.clone(), message.descriptors().len()))
    };
    // Plain bytes before them come along.
    check_eq!(take(PEEK), Ok((b"plainfirst".to_vec(), 1)));
    check_eq!(take(0), Ok((b"plainfirst".to_vec(), 1)));
    // A part of the bytes takes the descriptors; the rest comes with what follows.
    let mut part = Message::new(&[0; 2], &[0; 64]);
    check_eq!(part.receive(other, 0), Ok(2));
    check_eq!(part.descriptors().len(), 2);
    check_eq!(take(0), Ok((b"condend".to_vec(), 0)));
    // read(2) closes what it cannot deliver.
    let [reader, writer] = ok!(sys::pipe(0));
    ok!(Message::new(b"w", &descriptor_data(&[writer])).send(one, 0));
    ok!(sys::close(writer));
    check_eq!(polled(reader, abi::POLLIN)?, 0);
    check_eq!(receive(other, 0), Ok(b"w".to_vec()));
    check_eq!(polled(reader, abi::POLLIN)?, abi::POLLHUP);
    Ok(())
}

#[guest_test]
fn unix_descriptors_are_limited() -> Outcome {
    let [one, other] = ok!(sys::socketpair(DATAGRAM));
    let many = vec![one; 254];
    check_eq!(Message::new(b"x", &descriptor_data(&many)).send(one, 0), Err(Errno::EINVAL));
    let [reader, writer] = ok!(sys::pipe(0));
    let many = vec![reader; 253];
    check_eq!(Message::new(b"x", &descriptor_data(&many)).send(one, 0), Ok(1));
    // Space for two and a half.
    let mut message = Message::new(&[0; 8], &[0; 26]);
    check_eq!(message.receive(other, 0), Ok(1));
    check_eq!((message.flags(), message.descriptors().len()), (CONTROL_TRUNCATED, 2));
    // No space at all, and no descriptors left.
    for space in [0, 16] {
        ok!(Message::new(b"x", &descriptor_data(&[reader])).send(one, 0));
        let mut message = Message::new(&[0; 8], &vec![0; space]);
        check_eq!(message.receive(other, 0), Ok(1));
        check_eq!((message.flags(), message.control.len()), (CONTROL_TRUNCATED, 0));
    }
    ok!(Message::new(b"x", &descriptor_data(&[reader, writer, one])).send(one, 0));
    let lowest = ok!(sys::dup(one));
    ok!(sys::close(lowest));
    let limit = lowest.0 as u64 + 1;
    ok!(sys::set_limit(abi::RLIMIT_NOFILE, [limit, limit]));
    let mut message = Message::new(&[0; 8], &[0; 64]);
    check_eq!(message.receive(other, 0), Ok(1));
    check_eq!((message.flags(), message.descriptors()), (CONTROL_TRUNCATED, vec![lowest]));
    Ok(())
}

#[guest_test]
fn unix_bad_control_data() -> Outcome {
    let [one, other] = ok!(sys::socketpair(DATAGRAM));
    let sent = |control: &[u8]| Message::new(b"x", control).send(one, 0);
    check_eq!(sent(&descriptor_data(&[Fd(99)])), Err(Errno::EBADF));
    check_eq!(sent(&descriptor_data(&[one, Fd(-1)])), Err(Errno::EBADF));
    check_eq!(sent(&control(77, &[])), Err(Errno::EINVAL));
    let mut short = descriptor_data(&[one]);
    short[0] = 15;
    check_eq!(sent(&short), Err(Errno::EINVAL));
    short[0] = 200;
    check_eq!(sent(&short), Err(Errno::EINVAL));
    // Another level is not looked at; nor are fewer bytes than a header has.
    let mut other_level = control(77, &[1, 2, 3]);
    other_level[8] = 9;
    check_eq!(sent(&other_level), Ok(1));
    check_eq!(sent(&[1, 2, 3]), Ok(1));
    check_eq!(sent(&control(CREDENTIALS, &[0; 8])), Err(Errno::EINVAL));
    let mut message = Message::new(&[0; 8], &[0; 64]);
    check_eq!(message.receive(other, 0), Ok(1));
    check_eq!((message.flags(), message.control.len()), (0, 0));
    Ok(())
}

/// Descriptors that nobody receives are closed with the socket in whose queue they are.
#[guest_test]
fn unix_descriptors_in_flight() -> Outcome {
    for kind in [STREAM, DATAGRAM, PACKET] {
        let [one, other] = ok!(sys::socketpair(kind));
        let [reader, writer] = ok!(sys::pipe(0));
        ok!(Message::new(b"x", &descriptor_data(&[writer])).send(one, 0));
        ok!(sys::close(writer));
        check_eq!(polled(reader, abi::POLLIN)?, 0);
        ok!(sys::close(other));
        check_eq!(polled(reader, abi::POLLIN)?, abi::POLLHUP);
        // And with a connection that nobody accepts.
        if kind != DATAGRAM {
            let [reader, writer] = ok!(sys::pipe(0));
            let (listener, client) = (ok!(socket(kind)), ok!(socket(kind)));
            ok!(bind(listener, b"\0in flight"));
            ok!(listen(listener, 1));
            ok!(connect(client, b"\0in flight"));
            ok!(Message::new(b"x", &descriptor_data(&[writer])).send(client, 0));
            ok!(sys::close(writer));
            check_eq!(polled(reader, abi::POLLIN)?, 0);
            ok!(sys::close(listener));
            check_eq!(polled(reader, abi::POLLIN)?, abi::POLLHUP);
        }
    }
    Ok(())
}

/// Sockets are passed like other files: here a listening one, and a connection.
#[guest_test]
fn unix_passes_sockets() -> Outcome {
    let [one, other] = ok!(sys::socketpair(STREAM));
    let [listener, client, server] = connection(STREAM, b"passed")?;
    ok!(Message::new(b"x", &descriptor_data(&[listener, server])).send(one, 0));
    ok!(sys::close(listener));
    ok!(sys::close(server));
    ok!(send(client, b"question", 0));
    let waiting = ok!(socket(STREAM));
    ok!(connect(waiting, b"passed"));
    let child = checking_child(|| {
        let mut message = Message::new(&[0; 8], &[0; 64]);
        ok!(message.receive(other, 0));
        let [listener, server] = message.descriptors()[..] else { return Err("two".into()) };
        check_eq!(receive(server, 0), Ok(b"question".to_vec()));
        let accepted = ok!(super::accept(listener));
        check_eq!(send(accepted, b"accepted", 0), Ok(8));
        Ok(())
    })?;
    check_eq!(receive(waiting, 0), Ok(b"accepted".to_vec()));
    expect_success(child)
}

/// Sockets that only hold each other are freed, or never come about.
#[guest_test]
fn unix_descriptors_in_cycles() -> Outcome {
    for round in 0..3000 {
        let [one, other] = ok!(sys::socketpair(DATAGRAM));
        let sent = Message::new(b"x", &descriptor_data(&[other])).send(one, DONT_WAIT);
        let crossed = Message::new(b"x", &descriptor_data(&[one])).send(other, DONT_WAIT);
        check!(sent == Ok(1) || sent == Err(ETOOMANYREFS), "round {round}: {sent:?}");
        check!(crossed == Ok(1) || crossed == Err(ETOOMANYREFS), "round {round}: {crossed:?}");
        ok!(sys::close(one));
        ok!(sys::close(other));
    }
    Ok(())
}

fn fields(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|field| u32::from_le_bytes(field.try_into().unwrap())).collect()
}

#[guest_test]
fn unix_credentials() -> Outcome {
    let own = sys::getpid() as u32;
    let [uid, gid] = [abi::__NR_getuid, abi::__NR_getgid].map(|call| raw(call, &[]));
    let (uid, gid) = (ok!(uid) as u32, ok!(gid) as u32);
    for kind in [STREAM, DATAGRAM, PACKET] {
        let [one, other] = ok!(sys::socketpair(kind));
        check_eq!(
            option(one, PEER_CREDENTIALS).map(|bytes| fields(&bytes)),
            Ok(vec![own, uid, gid])
        );
        ok!(set_option(other, PASS_CREDENTIALS, &1u32.to_le_bytes()));
        check_eq!(option(other, PASS_CREDENTIALS), Ok(vec![1, 0, 0, 0]));
        let child = checking_child(|| {
            check_eq!(sys::write(one, b"from a child"), Ok(12));
            Ok(())
        })?;
        let mut message = Message::new(&[0; 64], &[0; 64]);
        check_eq!(message.receive(other, 0), Ok(12));
        let expected = vec![child as u32, uid, gid];
        let parts = message.parts();
        check_eq!(parts.len(), 1);
        check_eq!((parts[0].0, fields(&parts[0].1)), (CREDENTIALS, expected));
        check_eq!(message.control.len(), 32);
        expect_success(child)?;
        // Stated by the sender, with a descriptor.
        let stated: Vec<u8> = [own, uid, gid].iter().flat_map(|id| id.to_le_bytes()).collect();
        let [reader, _] = ok!(sys::pipe(0));
        let all = [control(CREDENTIALS, &stated), descriptor_data(&[reader])].concat();
        ok!(Message::new(b"x", &all).send(one, 0));
        let mut message = Message::new(&[0; 64], &[0; 64]);
        check_eq!(message.receive(other, 0), Ok(1));
        let kinds: Vec<u32> = message.parts().iter().map(|(kind, _)| *kind).collect();
        check_eq!(kinds, [CREDENTIALS, SCM_RIGHTS]);
        check_eq!(fields(&message.parts()[0].1), [own, uid, gid]);
        // Where there is no space.
        ok!(send(one, b"x", 0));
        let mut message = Message::new(&[0; 64], &[]);
        check_eq!(message.receive(other, 0), Ok(1));
        check_eq!(message.flags(), CONTROL_TRUNCATED);
    }
    let stated: Vec<u8> = [0x3fff_ffff, uid, gid].iter().flat_map(|id| id.to_le_bytes()).collect();
    let [one, _] = ok!(sys::socketpair(DATAGRAM));
    let sent = Message::new(b"x", &control(CREDENTIALS, &stated)).send(one, 0);
    check!(matches!(sent, Err(Errno::ESRCH | Errno::EPERM)), "{sent:?}");
    Ok(())
}

/// The peer is the process that connected, and the one that made the other socket listen.
#[guest_test]
fn unix_peer_credentials() -> Outcome {
    let listener = ok!(socket(STREAM));
    ok!(bind(listener, b"\0peer"));
    ok!(listen(listener, 1));
    let own = sys::getpid() as u32;
    let child = checking_child(|| {
        let client = ok!(socket(STREAM));
        let before = ok!(option(client, PEER_CREDENTIALS));
        check_eq!(fields(&before), [0, u32::MAX, u32::MAX]);
        ok!(connect(client, b"\0peer"));
        check_eq!(fields(&ok!(option(client, PEER_CREDENTIALS)))[0], own);
        check_eq!(receive(client, 0), Ok(b"done".to_vec()));
        Ok(())
    })?;
    let server = ok!(super::accept(listener));
    check_eq!(fields(&ok!(option(server, PEER_CREDENTIALS)))[0], child as u32);
    ok!(send(server, b"done", 0));
    expect_success(child)
}
