//! Sockets with names, and what is sent beside bytes.

use super::*;
use crate::file::control::{Carried, Name, Passage};
use crate::file::socket::{Parcel, Receive, Socket, SocketKind};

fn socket(process: &Process, kind: SocketKind) -> Arc<Socket> {
    Socket::new(kind, process.account()).unwrap()
}

fn name(text: &[u8]) -> Name {
    Name::new(&[b"\0", text].concat()).unwrap()
}

#[test]
fn a_backlog_is_limited() {
    let process = Process::with_memory();
    let listener = socket(&process, SocketKind::Stream);
    listener.bind(name(b"host backlog"), None).unwrap();
    listener.listen(1, 7).unwrap();
    let connect = || {
        let client = socket(&process, SocketKind::Stream);
        client.connect(&process.io(), listener.clone(), 8).map(|()| client)
    };
    let (first, second) = (connect().unwrap(), connect().unwrap());
    assert_eq!(connect().err(), Some(Errno::EAGAIN));
    assert_eq!(first.peer_credentials().map(|by| by.pid), Some(7));
    let accepted = listener.accept(&process.io()).unwrap();
    assert_eq!(accepted.peer_credentials().map(|by| by.pid), Some(8));
    assert!(connect().is_ok());
    process.write(&*first, b"hello").unwrap();
    assert_eq!(process.read(&*accepted, 9), Ok(b"hello".to_vec()));
    let before = process.account().total_bytes();
    drop(listener);
    assert!(process.account().total_bytes() < before, "what was not accepted is freed");
    assert_eq!(process.read(&*second, 9), Err(Errno::ECONNRESET));
}

#[test]
fn a_name_is_free_once_its_socket_is_gone() {
    let process = Process::with_memory();
    let (one, other) = (socket(&process, SocketKind::Stream), socket(&process, SocketKind::Stream));
    one.bind(name(b"host name"), None).unwrap();
    assert_eq!(other.bind(name(b"host name"), None), Err(Errno::EADDRINUSE));
    assert_eq!(one.bind(name(b"another"), None), Err(Errno::EINVAL));
    // Each kind has its own.
    socket(&process, SocketKind::Datagram).bind(name(b"host name"), None).unwrap();
    drop(one);
    other.bind(name(b"host name"), None).unwrap();
    let third = socket(&process, SocketKind::Stream);
    assert_eq!(third.bind(name(b"another"), None), Ok(()), "a failed bind leaves no name");
}

/// A socket in a queue holds none, and what holds one is not put into a queue.
#[test]
fn sockets_in_queues_make_no_cycles() {
    let [a, b, c] = [(); 3].map(|()| Arc::<Carried>::default());
    assert!(Passage::begin(&a, &a).is_err());
    let held = Passage::begin(&a, &b).unwrap();
    assert!(Passage::begin(&b, &a).is_err(), "a cycle");
    assert!(Passage::begin(&c, &a).is_err(), "below one that is held");
    assert!(Passage::begin(&b, &c).is_err(), "above one that is held");
    let again = Passage::begin(&a, &c).unwrap();
    drop(held);
    assert!(Passage::begin(&b, &a).is_err());
    drop(again);
    assert!(Passage::begin(&b, &a).is_ok());
    // A listener is not put where it could come to hold itself.
    a.is_pending.store(true, Ordering::Relaxed);
    b.listens.store(true, Ordering::Relaxed);
    assert!(Passage::begin(&b, &a).is_err());
    assert!(Passage::begin(&c, &a).is_ok());
}

/// Files are charged to their sender until they are received, and there is a limit.
#[test]
fn files_in_messages_are_counted() {
    let process = Process::with_memory();
    let account = process.account();
    for kind in [SocketKind::Stream, SocketKind::Datagram, SocketKind::Packet] {
        let (one, other) = Socket::pair(kind, 1, account).unwrap();
        let (end, _) = crate::file::pipe::pipe();
        let file = OpenFile::nameless(end, Status::READ, account).unwrap();
        let send = |files: usize| {
            let parcel = Parcel { files: vec![file.clone(); files], ..Parcel::default() };
            one.send(&process.io(), &mut process.filled(0, b"x"), parcel)
        };
        let before = account.total_bytes();
        assert_eq!(send(254), Err(Errno::EINVAL));
        assert_eq!(send(2), Ok(ByteCount(1)));
        assert!(account.total_bytes() > before + 2 * 64);
        assert_eq!(Arc::strong_count(&file), 3);
        let received =
            other.receive(&process.io(), &mut process.buffer(0, 9), Receive::default()).unwrap();
        assert_eq!(received.control.unwrap().files.len(), 2);
        assert_eq!(Arc::strong_count(&file), 1);
        let limit = crate::mem::limits::MAX_FILES as usize;
        let sent = (0..).map_while(|_| send(253).ok()).count();
        assert!(sent <= limit / 253, "{sent}");
        drop(other);
        assert_eq!(Arc::strong_count(&file), 1);
    }
}

/// Credentials come with the bytes of their sender only.
#[test]
fn a_stream_keeps_senders_apart() {
    let process = Process::with_memory();
    let (one, other) = Socket::pair(SocketKind::Stream, 1, process.account()).unwrap();
    let receive = || {
        let mut to = process.buffer(0, 100);
        let received = other.receive(&process.io(), &mut to, Receive::default()).unwrap();
        let by = received.control.and_then(|control| control.credentials);
        (received.copied.0, by.map(|by| by.pid))
    };
    process.write(&*one, b"plain").unwrap();
    other.label().wants_credentials.store(true, Ordering::Relaxed);
    process.write(&*one, b"own").unwrap();
    process.write(&*one, b"own again").unwrap();
    let stated = crate::file::control::Credentials { pid: 99, uid: 0, gid: 0 };
    let parcel = Parcel { credentials: Some(stated), ..Parcel::default() };
    one.send(&process.io(), &mut process.filled(0, b"other"), parcel).unwrap();
    assert_eq!([receive(), receive(), receive()], [(5, None), (12, Some(10)), (5, Some(99))]);
}
