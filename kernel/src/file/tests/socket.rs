//! Socket pairs.

use super::*;
use crate::file::socket::{
    Arrival, Channel, Endpoint, MAX_MESSAGE, Message, Receiver, Sender, ShutDown, Socket,
    SocketKind, packet_pair,
};
use crate::mem::host::failure;
use foundation::mutant::{Mutant, choose};

#[test]
fn packets_keep_their_boundaries() {
    let process = Process::with_memory();
    let (one, other) = packet_pair();
    for packet in [&b"first"[..], b"", b"second"] {
        assert_eq!(process.write(&*one, packet), Ok(packet.len() as u64));
    }
    assert_eq!(process.read(&*other, 3), Ok(b"fir".to_vec()), "the rest of a packet is lost");
    assert_eq!(process.read(&*other, 100), Ok(vec![]));
    assert_eq!(process.read(&*other, 100), Ok(b"second".to_vec()));
    assert_eq!(process.read(&*other, 100), Err(Errno::EAGAIN));
    drop(one);
    assert_eq!(process.read(&*other, 100), Ok(vec![]));
    assert_eq!(process.write(&*other, b"x"), Err(Errno::EPIPE));
}

#[test]
fn large_packets_are_sent_in_frames_and_arrive_complete() {
    let process = Process::with_memory();
    let (one, other) = packet_pair();
    let bytes: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
    assert_eq!(process.write(&*one, &bytes), Ok(100_000));
    assert_eq!(process.read(&*other, 200_000), Ok(bytes));
    let too_long = UserBuffers::one(
        UserSlice::new(UserAddr(BASE), ByteCount(MAX_MESSAGE as u64 + 1)).unwrap(),
    );
    let mut too_long = too_long;
    assert_eq!(
        one.write(&process.io(), &mut too_long, WritePosition::End).err(),
        Some(Errno::EMSGSIZE)
    );
}

/// F4: packets that cannot be delivered are not consumed.
#[test]
fn f4_a_bad_buffer_leaves_the_packet() {
    let process = Process::with_memory();
    let (one, other) = packet_pair();
    process.write(&*one, b"precious").unwrap();
    assert_eq!(other.read(&process.io(), &mut nowhere(8), FileOffset::ZERO), Err(Errno::EFAULT));
    assert_eq!(process.read(&*other, 100), Ok(b"precious".to_vec()));
}

/// F4: packets that several threads could not receive are all there again, though others were sent
/// meanwhile and there is no memory.
#[test]
fn f4_several_receivers_put_back_what_they_took() {
    let channel = Channel::default();
    let send = |byte: u8| {
        let mut message = Message { inline: [byte].into(), ..Message::default() };
        assert!(channel.send(&mut message, Sender::Ordinary, None).is_ok());
    };
    let receive = || match channel.receive(true, None) {
        Ok(Arrival::Queued(queued)) => queued,
        _ => panic!("a message is in the queue"),
    };
    for taken in 1..40 {
        (0..40).for_each(send);
        let held: Vec<_> = (0..taken).map(|_| receive()).collect();
        // As many as there is space for.
        (40..80).for_each(send);
        // The last one that was taken first: then all are in order.
        let back = || held.into_iter().rev().for_each(|queued| channel.unreceive(queued));
        assert_eq!(failure::during(Some(0), back).1, 0, "claims of memory");
        for byte in 0..80 {
            assert_eq!(*receive().message().inline, [byte], "after {taken} were taken");
            channel.delivered();
        }
    }
    // What is put back where nobody can receive is dropped.
    send(1);
    let held = receive();
    channel.refuse();
    channel.unreceive(held);
    assert!(matches!(channel.receive(true, None), Ok(Arrival::End)));
}

/// Where a process receives: the first bytes of a page.
fn place(process: &Process, page: u64) -> UserSlice {
    let slice = UserSlice::new(UserAddr(BASE + page * 4096), ByteCount(100)).unwrap();
    // Mapped for stores, as a buffer that was used before.
    process.space.copy_out_all(slice, &[0xee; 100]).unwrap();
    slice
}

fn queue(channel: &Channel, bytes: &[u8]) {
    let mut message = Message { inline: bytes.into(), ..Message::default() };
    assert!(channel.send(&mut message, Sender::Ordinary, None).is_ok());
}

#[test]
fn a_thread_that_waits_gets_a_small_message_where_it_wants_it() {
    let _alone = crate::mem::host::exclusive();
    let process = Process::with_memory();
    let (channel, to) = (Arc::new(Channel::default()), place(&process, 3));
    let space = process.space.clone();
    let waiting = channel.clone();
    let thread = std::thread::spawn(move || waiting.receive(false, Some((&space, to))));
    while !channel.hand_over(b"header", &[b", ", b"name"]) {
        std::thread::yield_now();
    }
    assert!(matches!(thread.join().unwrap(), Ok(Arrival::Handed(12))));
    assert_eq!(process.bytes(3 * 4096, 13), b"header, name\xee");
}

#[test]
fn what_cannot_be_handed_over_is_queued() {
    let _alone = crate::mem::host::exclusive();
    let process = Process::with_memory();
    let channel = Channel::default();
    let to = place(&process, 3);
    assert!(!channel.hand_over(b"nobody waits", &[]));
    channel.begin_wait((&process.space, to));
    assert!(!channel.hand_over(&[1; 101], &[]), "too long");
    assert!(!channel.hand_over(b"", &[]), "an empty one");
    assert!(channel.hand_over(&[2; 100], &[]));
    assert!(!channel.hand_over(b"the second one", &[]));
    assert!(matches!(channel.end_wait(), Ok(Arrival::Handed(100))));
    assert_eq!(process.bytes(3 * 4096, 100), [2; 100]);
    // Memory that is not mapped for stores.
    let unmapped = UserSlice::new(UserAddr(BASE + 9 * 4096), ByteCount(100)).unwrap();
    channel.begin_wait((&process.space, unmapped));
    assert!(!channel.hand_over(b"a fault", &[]));
    channel.begin_wait((&process.space, to));
    channel.refuse();
    assert!(!channel.hand_over(b"nobody can receive", &[]));
}

/// F4: what was handed over before a signal came is not lost; and packets keep their order.
fn hands_over_in_order() -> bool {
    let process = Process::with_memory();
    let channel = Channel::default();
    channel.begin_wait((&process.space, place(&process, 3)));
    let handed = channel.hand_over(b"one", &[]);
    let kept = matches!(channel.end_wait(), Ok(Arrival::Handed(3)));
    queue(&channel, b"two");
    channel.begin_wait((&process.space, place(&process, 3)));
    handed && kept && !channel.hand_over(b"three", &[])
}

#[test]
fn f4_a_message_that_was_handed_over_is_received() {
    let _alone = crate::mem::host::exclusive();
    assert!(hands_over_in_order());
}

/// F4: no message is handed over after a signal to one that waits.
fn hands_nothing_to_the_killed() -> bool {
    let process = Process::with_memory();
    let channel = Channel::default();
    channel.begin_wait((&process.space, place(&process, 3)));
    crate::mem::host::kill(Some(crate::mem::host::current()));
    let handed = channel.hand_over(b"one", &[]);
    crate::mem::host::kill(None);
    !handed && channel.end_wait().is_err()
}

#[test]
fn f4_a_message_is_not_handed_to_the_killed() {
    let _alone = crate::mem::host::exclusive();
    assert!(hands_nothing_to_the_killed());
}

#[test]
fn mutants_of_hand_over_are_noticed() {
    let _alone = crate::mem::host::exclusive();
    for wrong in [Mutant::DropHanded, Mutant::Overtake, Mutant::HandToKilled] {
        choose(Some(wrong));
        let is_right = hands_over_in_order() && hands_nothing_to_the_killed();
        choose(None);
        assert!(!is_right, "{wrong:?}");
    }
}

#[derive(Default)]
struct Kernel {
    heard: spin::Mutex<Vec<(Vec<u8>, Sender)>>,
    closed: AtomicU32,
}

impl Receiver for Kernel {
    fn message(&self, message: Message, sender: Sender) {
        self.heard.lock().push((message.parts().collect::<Vec<_>>().concat(), sender));
    }
    fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

fn taken(endpoint: &Endpoint) -> Arc<Kernel> {
    let kernel = Arc::new(Kernel::default());
    endpoint.attach(kernel.clone()).unwrap();
    kernel
}

#[test]
fn an_attached_kernel_receives_messages_at_once_with_their_sender() {
    let (program, server) = (Process::with_memory(), Process::server());
    let (mine, theirs) = packet_pair();
    let kernel = taken(&mine);
    program.write(&*theirs, b"hello").unwrap();
    server.write(&*theirs, &[7; 5000]).unwrap();
    let heard = kernel.heard.lock().clone();
    assert_eq!(heard, [(b"hello".to_vec(), Sender::Ordinary), (vec![7; 5000], Sender::Server)]);
    assert_eq!(mine.attach(kernel.clone()), Err(Errno::EBUSY));
    assert_eq!(program.read(&*mine, 10), Err(Errno::EBUSY), "a taken end is the kernel's alone");
    drop(theirs);
    assert_eq!(kernel.closed.load(Ordering::Relaxed), 1);
    assert_eq!(mine.send(Message::default()), Err(Errno::EPIPE));
}

#[test]
fn a_header_is_inline_and_its_payload_in_frames() {
    let server = Process::server();
    let (mine, theirs) = packet_pair();
    struct Shape(spin::Mutex<Option<(usize, usize, usize)>>);
    impl Receiver for Shape {
        fn message(&self, message: Message, _: Sender) {
            *self.0.lock() =
                Some((message.inline.len(), message.frames.len(), message.frames_bytes));
        }
        fn closed(&self) {}
    }
    let shape = Arc::new(Shape(spin::Mutex::new(None)));
    mine.attach(shape.clone()).unwrap();
    let slices = [(BASE, 128), (BASE + 0x1000, 8192 + 10)]
        .map(|(start, len)| UserSlice::new(UserAddr(start), ByteCount(len)).unwrap());
    let mut from = UserBuffers::many(&slices).unwrap();
    theirs.write(&server.io(), &mut from, WritePosition::End).unwrap();
    assert_eq!(*shape.0.lock(), Some((128, 3, 8202)));
}

#[test]
fn the_kernel_sends_without_waiting() {
    let server = Process::server();
    let (mine, theirs) = packet_pair();
    taken(&mine);
    for _ in 0..64 {
        mine.send(Message { inline: vec![1; 128 + 4000].into(), ..Message::default() }).unwrap();
    }
    for _ in 0..64 {
        assert_eq!(server.read(&*theirs, 8192).unwrap().len(), 128 + 4000);
    }
}

#[test]
fn senders_wait_for_space() {
    let process = Process::with_memory();
    let (one, other) = packet_pair();
    let packet = vec![0; 0x4_0000];
    let sent = (0..100).take_while(|_| process.write(&*one, &packet).is_ok()).count();
    assert!((2..20).contains(&sent), "{sent} packets were queued");
    assert_eq!(process.write(&*one, &packet), Err(Errno::EAGAIN));
    process.read(&*other, 1).unwrap();
    assert_eq!(process.write(&*one, &packet), Ok(0x4_0000));
}

#[test]
fn streams_are_bidirectional_and_end_separately() {
    let process = Process::with_memory();
    let (one, other) = Socket::pair(SocketKind::Stream, 1, &process.space.account).unwrap();
    process.write(&*one, b"ping").unwrap();
    process.write(&*other, b"pong").unwrap();
    assert_eq!(process.read(&*other, 2), Ok(b"pi".to_vec()));
    assert_eq!(process.read(&*other, 100), Ok(b"ng".to_vec()));
    one.shut_down(ShutDown::Writing);
    assert_eq!(process.read(&*other, 100), Ok(vec![]));
    assert_eq!(process.write(&*one, b"x"), Err(Errno::EPIPE));
    assert_eq!(process.read(&*one, 100), Ok(b"pong".to_vec()));
}
