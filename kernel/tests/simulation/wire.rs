//! The wire between the mount and the servers: messages lie on it until the seed says that they arrive. Requests arrive in order, as on a socket; replies
//! are reordered among each other.
//!
//! The servers run on a host thread of their own, since they are not made to be moved between threads; it works only while the wire waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, Weak};

use fsproto::{HEAD_BYTES, Head, Request};
use kernel::file::socket::{Message, Sender};
use kernel::mount::{Carrier, Session};

use crate::baton;
use crate::model::{Model, Served};
use crate::servers;

type Bytes = ([u8; HEAD_BYTES], Vec<u8>);

/// The wire.
pub struct Wire {
    lying: Mutex<Lying>,
    model: Mutex<Model>,
    served: Mutex<HashMap<u64, Vec<Served>>>,
    session: OnceLock<Weak<Session>>,
    requests: SyncSender<Bytes>,
    replies: Mutex<Receiver<Bytes>>,
    /// Show every request: `SLOTH_TRACE=1`.
    trace: bool,
}

#[derive(Default)]
struct Lying {
    requests: VecDeque<(u64, Bytes)>,
    replies: Vec<Bytes>,
}

impl Wire {
    /// A wire to fresh servers with room for so many pages of file bytes.
    pub fn new(capacity_pages: u64) -> Self {
        let (requests, incoming) = sync_channel::<Bytes>(1);
        let (outgoing, replies) = sync_channel::<Bytes>(1);
        std::thread::spawn(move || servers::run(capacity_pages, &incoming, &outgoing));
        Self {
            lying: Mutex::default(),
            model: Mutex::default(),
            served: Mutex::default(),
            session: OnceLock::new(),
            requests,
            replies: Mutex::new(replies),
            trace: std::env::var_os("SLOTH_TRACE").is_some(),
        }
    }

    /// Says where replies go.
    pub fn connect(&self, session: Weak<Session>) {
        assert!(self.session.set(session).is_ok(), "connected once");
    }

    /// What the requests of the running actor saw and did since it asked last.
    pub fn served(&self) -> Vec<Served> {
        self.served.lock().unwrap().remove(&baton::me()).unwrap_or_default()
    }

    fn serve(&self, actor: u64, (head, payload): Bytes) {
        let (fields, mut reader) = Head::decode(&head).expect("the mount's requests are well-formed");
        let request = Request::decode(fields.op, &mut reader).expect("the mount's requests are well-formed");
        self.requests.send((head, payload.clone())).expect("the servers run");
        let reply = self.replies.lock().unwrap().recv().expect("the servers answer every request");
        if self.trace {
            let status = Head::decode(&reply.0).map(|(head, _)| head.status);
            println!("actor {actor}: {request:?} ({} bytes) -> status {status:?}, {:?}", payload.len(), reply.1.len());
        }
        if let Some(served) = self.model.lock().unwrap().handled(&request, &payload, (&reply.0, &reply.1)) {
            self.served.lock().unwrap().entry(actor).or_default().push(served);
        }
        self.lying.lock().unwrap().replies.push(reply);
    }
}

impl Carrier for Wire {
    fn send(&self, message: Message) -> Result<(), fsproto::Errno> {
        let mut bytes = message.inline;
        for (index, frame) in message.frames.iter().enumerate() {
            let length = (message.frames_bytes - index * 4096).min(4096);
            bytes.extend_from_slice(&frame.bytes()[..length]);
        }
        let payload = bytes.split_off(HEAD_BYTES);
        let head = bytes.try_into().expect("a head in front");
        self.lying.lock().unwrap().requests.push_back((baton::me(), (head, payload)));
        Ok(())
    }
}

impl baton::World for Wire {
    fn is_busy(&self) -> bool {
        let lying = self.lying.lock().unwrap();
        !lying.requests.is_empty() || !lying.replies.is_empty()
    }

    fn step(&self, draw: u64) {
        let mut lying = self.lying.lock().unwrap();
        let request_first = lying.replies.is_empty() || (draw & 1 == 0 && !lying.requests.is_empty());
        if request_first {
            let (actor, request) = lying.requests.pop_front().expect("busy");
            drop(lying);
            self.serve(actor, request);
        } else {
            let index = (draw >> 1) as usize % lying.replies.len();
            let (head, payload) = lying.replies.swap_remove(index);
            drop(lying);
            let mut inline = head.to_vec();
            inline.extend_from_slice(&payload);
            let session = self.session.get().and_then(Weak::upgrade);
            if let Some(session) = session {
                session.message(Message { inline, ..Message::default() }, Sender::Server);
            }
        }
    }
}

impl Wire {
    /// Lets everything arrive that still lies on the wire.
    pub fn drain(&self) {
        use baton::World;
        while self.is_busy() {
            self.step(0);
        }
    }

    /// Every handle and snapshot was given back.
    pub fn assert_all_closed(&self) {
        assert_eq!(self.model.lock().unwrap().open_handles(), 0, "C10: handles that nobody closed");
    }
}
