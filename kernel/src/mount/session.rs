//! Requests in flight on one connection to a file server.
//!
//! Owns the table of tags. A reply is processed in the context in which it arrives (for a local
//! server, the server's own write) and completes its request: a waiting thread, a fetch of pages or
//! a swap transfer. The server is not trusted: a reply that belongs to no request is dropped and
//! counted, and one that does not decode fails its request with EIO.
//!
//! Lock: `table`, never held while sending or completing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foundation::counter::{self, Counter};
use foundation::{Errno, PAGE_BYTES};
use fsproto::{
    Field, HEADER_BYTES, Handle, Header, HeaderFlags, Malformed, Op, Operation, Reader, Tag,
};

use super::direct;
use super::in_flight::{Call, Closes, InFlight, Owner, Table, opened, opens};
use super::known::Touches;
use super::message::{self, Payload};
use super::transfer::{self, TransferReply};
use crate::file::socket::{Message, Sender};
use crate::file::{Identity, mapped};
use crate::mem::{self, Claim, Frame, fallible, swap::Transfer};
use crate::sync::{Interrupt, Mutex, WaitQueue, rank};

/// Requests in flight at once, at most: limits the memory that a server can pin by never answering.
/// Callers beyond it wait, and can be killed.
const MAX_IN_FLIGHT: usize = 512;

/// Payloads of up to this many bytes are handed to a server that waits: names.
const MAX_HANDED: usize = PAGE_BYTES;

/// Sends messages to the server: a local socket, or the simulation's wire.
pub trait Transport: Send + Sync {
    /// Sends without waiting. On an error the message was not sent: the connection is closed, or
    /// there is no memory.
    fn send(&self, message: Message) -> Result<(), Errno>;

    /// Sends a small message if the server waits for it. False where it does not: then it has to be
    /// [sent](Self::send).
    fn hand_over(&self, _header: &[u8; HEADER_BYTES], _payload: &[&[u8]]) -> bool {
        false
    }
}

/// The header of a message.
fn header_of(message: &Message) -> Result<&[u8; HEADER_BYTES], Malformed> {
    message.inline.first_chunk().ok_or(Malformed)
}

/// Makes frames available for a message with so many bytes of payload. May wait for pages to be
/// swapped out. A small payload needs none.
fn make_room(payload_bytes: usize) -> Result<(), Errno> {
    match payload_bytes / PAGE_BYTES {
        0 => Ok(()),
        // And those that map a run of pages.
        pages => Ok(mem::make_room_beside(pages + 4, Claim::Program)?),
    }
}

fn count_sent(bytes: usize) {
    counter::count(Counter::MessagesSent, 1);
    counter::count(Counter::BytesSent, bytes as u64);
}

/// One connection to a server.
pub struct Session {
    transport: Arc<dyn Transport>,
    pub(super) table: Mutex<Table, rank::Session>,
    pub(super) space: WaitQueue,
    /// Replies that belonged to no request.
    pub stray_replies: AtomicU64,
    /// Whether a process that is not marked as a server has sent a message (F8).
    unmarked_peer: AtomicBool,
    /// A session with the server's base, which may be asked for pages first (F9).
    pub(super) direct: Option<Arc<Session>>,
    /// Whether the base may be asked.
    pub(super) asks_base: AtomicBool,
    pub(super) closes: Closes,
    /// The device number of the mount, once there is one.
    device: AtomicU64,
}

impl Session {
    /// A session on an open connection.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self::with_direct(transport, None)
    }

    /// A session with a wrapper, and a direct one with its base, which the mount may use (F9).
    pub fn with_direct(transport: Arc<dyn Transport>, direct: Option<Arc<Self>>) -> Self {
        Self {
            transport,
            table: Mutex::default(),
            space: WaitQueue::new(),
            stray_replies: AtomicU64::new(0),
            unmarked_peer: AtomicBool::new(false),
            direct,
            asks_base: AtomicBool::new(false),
            closes: Closes::default(),
            device: AtomicU64::new(0),
        }
    }

    /// Sends a request and waits for the fields and the payload of its reply. The caller must hold
    /// no lock that the server could need.
    ///
    /// EIO where the connection is closed or the reply is invalid; EINTR where the thread is being
    /// killed: a handle in a late reply is then closed.
    #[inline]
    pub fn call<O: Operation>(
        &self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<(O::Reply, Payload), Errno> {
        self.call_touching(Touches::by(O::OP), request, payload)
    }

    /// The same for a request of which more is known than its operation says.
    pub(super) fn call_touching<O: Operation>(
        &self,
        touches: Touches,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<(O::Reply, Payload), Errno> {
        let bytes = payload.iter().map(|part| part.len()).sum();
        self.call_sending::<O>(touches, |tag| {
            // Since the payload was gathered, others may have taken what was available then.
            make_room(bytes)?;
            self.send_request(request, tag, bytes, payload)
        })
    }

    /// The same with whole pages as payload. Their frames are lent to the server: nobody stores to
    /// them as long as anybody else refers to them.
    pub(super) fn call_with_pages<O: Operation>(
        &self,
        touches: Touches,
        request: &O,
        pages: &[Frame],
    ) -> Result<(O::Reply, Payload), Errno> {
        self.call_sending::<O>(touches, |tag| {
            let header = request.request(tag, pages.len() * PAGE_BYTES);
            self.send(message::pages_message(&header, pages)?)
        })
    }

    /// Enters a request, has it sent, and waits for its reply.
    #[inline]
    fn call_sending<O: Operation>(
        &self,
        touches: Touches,
        send: impl FnOnce(Tag) -> Result<(), Errno>,
    ) -> Result<(O::Reply, Payload), Errno> {
        let (tag, call) = self.begin(O::OP, touches, Interrupt::Killable)?;
        if let Err(error) = send(tag) {
            drop(self.table.lock().withdraw(tag));
            return Err(error);
        }
        let is_answered = || call.answer.lock().is_some().then_some(());
        if call.queue.wait_for_server(Interrupt::Killable, is_answered).is_err() {
            self.abandon(tag, O::OP, &call);
            return Err(Errno::EINTR);
        }
        let answer = call.answer.lock().take().unwrap_or(Err(Errno::EIO));
        // The request is no longer in the table, so nobody else has the call.
        self.table.lock().spare_call.get_or_insert(call);
        let answer = answer?;
        let (header, mut reader) =
            header_of(&answer).and_then(Header::decode).map_err(malformed)?;
        header.result()?;
        let fields = O::decode_reply(&mut reader).map_err(malformed)?;
        Ok((fields, Payload(answer)))
    }

    /// Sends a request without waiting.
    pub(super) fn send_for<O: Operation>(
        &self,
        request: &O,
        owner: impl FnOnce() -> Owner,
    ) -> Result<(), Errno> {
        self.send_touching(Touches::by(O::OP), request, owner)
    }

    /// The same for a request of which more is known than its operation says.
    pub(super) fn send_touching<O: Operation>(
        &self,
        touches: Touches,
        request: &O,
        owner: impl FnOnce() -> Owner,
    ) -> Result<(), Errno> {
        let tag = self.try_begin_with(O::OP, touches, |_| owner())?;
        let sent = self.send_request(request, tag, 0, &[]);
        sent.inspect_err(|_| drop(self.table.lock().withdraw(tag)))
    }

    /// Sends a request with `bytes` bytes of payload, and with it what waits to be closed.
    #[inline]
    fn send_request<O: Operation>(
        &self,
        request: &O,
        tag: Tag,
        bytes: usize,
        payload: &[&[u8]],
    ) -> Result<(), Errno> {
        let mut header = request.request(tag, bytes);
        let closing = if self.has_closes() { O::CLOSES } else { 0 };
        if closing == 0 {
            return self.post(&header, bytes, payload);
        }
        self.with_closes(&mut header, closing, |header| self.post(header, bytes, payload))
    }

    /// Sends a request of the swap file with `frames` as payload, without waiting. The reply
    /// completes the transfer.
    pub(super) fn transfer<O: Operation>(&self, request: &O, frames: &[Frame], transfer: Transfer) {
        let mut transfer = Some(transfer);
        let begun = self.try_begin(O::OP, || transfer.take().map_or(Owner::Nobody, Owner::Swap));
        let tag = match begun {
            Ok(tag) => tag,
            Err(error) => {
                return transfer.into_iter().for_each(|transfer| transfer.complete(Err(error)));
            }
        };
        let header = request.request(tag, frames.len() * foundation::PAGE_BYTES);
        let sent = fallible::as_kernel(|| {
            message::pages_message(&header, frames).and_then(|message| self.send(message))
        });
        if let Err(error) = sent {
            let refused = self.table.lock().withdraw(tag);
            refused.into_iter().for_each(|refused| refused.owner.fail(error));
        }
    }

    /// Processes a message of the server.
    pub fn message(&self, message: Message, sender: Sender) {
        if sender == Sender::Ordinary {
            self.unmarked_peer.store(true, Ordering::Relaxed);
        }
        counter::count(Counter::BytesReceived, message.len() as u64);
        fallible::as_kernel(|| {
            if self.process_reply(message).is_err() {
                self.stray_replies.fetch_add(1, Ordering::Relaxed);
            }
            self.close_too_many();
        });
        self.space.wake_all();
    }

    /// The connection was closed: completes all requests with EIO.
    pub fn closed(&self) {
        let orphans = {
            let mut table = self.table.lock();
            table.gone = true;
            table.known.forget_all();
            (table.unclosed, table.to_close) = (Vec::new(), 0);
            table.in_flight.take_all()
        };
        for orphan in orphans {
            orphan.owner.fail(Errno::EIO);
        }
        self.space.wake_all();
    }

    /// Whether all senders so far were marked as servers. A process without the mark could wait for
    /// a page that only itself can supply.
    pub fn peer_is_marked(&self) -> bool {
        !self.unmarked_peer.load(Ordering::Relaxed)
    }

    /// Unanswered requests.
    pub fn unanswered(&self) -> usize {
        self.table.lock().in_flight.len()
    }

    /// Unanswered requests, and handles that wait to be closed.
    pub fn in_flight(&self) -> usize {
        let table = self.table.lock();
        table.in_flight.len() + table.unclosed.len()
    }

    /// Whether the connection is closed.
    pub fn is_gone(&self) -> bool {
        self.table.lock().gone
    }

    /// Sends a message: straight to the server, if it waits for it.
    fn post(
        &self,
        header: &[u8; HEADER_BYTES],
        bytes: usize,
        payload: &[&[u8]],
    ) -> Result<(), Errno> {
        if bytes <= MAX_HANDED && self.transport.hand_over(header, payload) {
            count_sent(HEADER_BYTES + bytes);
            return Ok(());
        }
        self.send(message::message(header, payload)?)
    }

    fn send(&self, message: Message) -> Result<(), Errno> {
        count_sent(message.len());
        self.transport.send(message)
    }

    /// Enters the request of a thread in the table; waits for space.
    fn begin(&self, op: Op, touches: Touches, by: Interrupt) -> Result<(Tag, Arc<Call>), Errno> {
        let attempt = || {
            let mut call = None;
            let begun = self.try_begin_with(op, touches, |spare| {
                let spare = spare.take().unwrap_or_default();
                Owner::Thread(call.insert(spare).clone())
            });
            match begun {
                Err(Errno::EAGAIN) => None,
                begun => Some(begun.and_then(|tag| Ok((tag, call.ok_or(Errno::EIO)?)))),
            }
        };
        self.space.wait(by, attempt)?
    }

    fn try_begin(&self, op: Op, owner: impl FnOnce() -> Owner) -> Result<Tag, Errno> {
        self.try_begin_with(op, Touches::by(op), |_| owner())
    }

    /// Enters a request. `owner` is called only where nothing else can fail.
    fn try_begin_with(
        &self,
        op: Op,
        touches: Touches,
        owner: impl FnOnce(&mut Option<Arc<Call>>) -> Owner,
    ) -> Result<Tag, Errno> {
        let mut table = self.table.lock();
        if table.gone {
            return Err(Errno::EIO);
        }
        // The limit does not apply to page-ins: their number is limited by the faulting threads.
        if table.in_flight.len() >= MAX_IN_FLIGHT
            && !matches!(op, Op::Read | Op::ReadAt | Op::ListHoles)
        {
            return Err(Errno::EAGAIN);
        }
        table.in_flight.prepare()?;
        if opens(op) {
            // Closing a handle then needs no memory.
            let space = (table.to_close + 1).saturating_sub(table.unclosed.len());
            fallible::reserve(&mut table.unclosed, space)?;
            table.to_close += 1;
        }
        let owner = owner(&mut table.spare_call);
        let changes = table.known.begins(touches);
        Ok(table.in_flight.insert(InFlight { op, owner, changes })?)
    }

    /// The waiting thread is being killed. The handle that the request opens will be closed when
    /// the reply arrives.
    fn abandon(&self, tag: Tag, op: Op, call: &Call) {
        if let Some(request) = self.table.lock().in_flight.get_mut(tag) {
            request.owner = Owner::Nobody;
            return;
        }
        // The reply has arrived between the wake-up and now.
        let answer = call.answer.lock().take();
        if let Some(Ok(answer)) = answer
            && let Ok((header, reader)) = header_of(&answer).and_then(Header::decode)
            && header.result().is_ok()
        {
            // A malformed reply opened nothing.
            self.close_orphan(op, reader).ok();
        }
    }

    fn process_reply(&self, message: Message) -> Result<(), Malformed> {
        let (fields, reader) = Header::decode(header_of(&message)?)?;
        if !fields.flags.contains(HeaderFlags::REPLY) {
            return self.process_request(&fields, reader);
        }
        let request = self.table.lock().remove(fields.tag).ok_or(Malformed)?;
        let is_valid = fields.op == request.op as u16
            && message.len() == HEADER_BYTES + fields.payload_bytes as usize;
        let has_opened = is_valid
            && fields.result().is_ok()
            && opened(request.op, reader.clone()).is_ok_and(|handle| handle != Handle::NONE);
        if opens(request.op) && !has_opened {
            self.table.lock().forget_one();
        }
        match request.owner {
            Owner::Thread(call) => {
                *call.answer.lock() = Some(if is_valid { Ok(message) } else { Err(Errno::EIO) });
                call.queue.wake_all();
            }
            Owner::Pages { fetch, tries } => {
                self.receive_pages(fetch, tries, is_valid.then(|| fields.result()), message)
            }
            Owner::Direct(fetch) => {
                let status = if is_valid { fields.result() } else { Err(Errno::EIO) };
                direct::complete(&fetch, status.map(|()| message))
            }
            Owner::Holes { fetch, from } => self.receive_holes(
                fetch,
                from,
                (is_valid && fields.status == 0).then_some((reader, &message)),
            ),
            Owner::Swap(transfer) => {
                let header = *header_of(&message)?;
                let (_, reader) = Header::decode(&header)?;
                let reply = TransferReply { status: fields.result(), fields: reader, message };
                transfer::complete(transfer, is_valid.then_some(reply))
            }
            Owner::Nobody if is_valid && fields.result().is_ok() => {
                self.close_orphan(request.op, reader)?
            }
            Owner::Nobody => {}
        }
        if is_valid { Ok(()) } else { Err(Malformed) }
    }

    /// Processes a request of the server: the end of a lease. The reply is sent when nothing of the
    /// file is in memory any more.
    fn process_request(&self, fields: &Header, mut reader: Reader<'_>) -> Result<(), Malformed> {
        if fields.op != Op::Invalidate as u16 {
            return Err(Malformed);
        }
        let file = fsproto::Invalidate::get(&mut reader)?.file;
        let device = self.device.load(Ordering::Relaxed);
        let (transport, tag) = (self.transport.clone(), fields.tag);
        let is_valid = mapped::recall(Identity { device, inode: file.0 }, move || {
            let header = fsproto::Invalidate::reply(tag, &fsproto::Nothing {}, 0);
            // Without a connection, nobody waits for the reply.
            let _ = message::message(&header, &[]).and_then(|message| transport.send(message));
        });
        if is_valid { Ok(()) } else { Err(Malformed) }
    }

    /// The mount that uses this session, by the device number of its files.
    pub(super) fn set_device(&self, device: u64) {
        self.device.store(device, Ordering::Relaxed);
    }

    /// Closes the handle that a reply opened for a caller that no longer exists.
    fn close_orphan(&self, op: Op, reader: Reader<'_>) -> Result<(), Malformed> {
        let handle = opened(op, reader)?;
        if handle != Handle::NONE {
            self.close(handle);
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close_waiting();
    }
}

fn malformed(_: Malformed) -> Errno {
    Errno::EIO
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mem::host;
    use crate::sync::ThreadId;
    use fsproto::{Close, Field, GetStatFs, StatFs, Walked};
    use std::collections::VecDeque;
    use std::sync::mpsc;

    /// Keeps what was sent.
    #[derive(Default)]
    pub struct Wire(pub spin::Mutex<VecDeque<Message>>);

    impl Transport for Wire {
        fn send(&self, message: Message) -> Result<(), Errno> {
            self.0.lock().push_back(message);
            Ok(())
        }
    }

    pub fn answer<O: Operation>(session: &Session, tag: Tag, reply: &O::Reply) {
        let message = message::message(&O::reply(tag, reply, 0), &[]).unwrap();
        session.message(message, Sender::Server);
    }

    /// Answers the oldest message. Returns the handle that it closes, if it is a `Close`.
    fn answer_next(session: &Session, wire: &Wire) -> Option<Handle> {
        let message = wire.0.lock().pop_front().expect("a message was sent");
        let (header, mut fields) = Header::decode(header_of(&message).unwrap()).unwrap();
        if header.op == Op::GetStatFs as u16 {
            answer::<GetStatFs>(session, header.tag, &StatFs { blocks: 7, ..StatFs::default() });
            return None;
        }
        let handle = Close::get(&mut fields).unwrap().handle;
        answer::<Close>(session, header.tag, &fsproto::Nothing {});
        Some(handle)
    }

    /// A thread that asks for figures.
    fn ask(session: &Arc<Session>) -> (std::thread::JoinHandle<Result<u64, Errno>>, ThreadId) {
        let (session, (me, its)) = (session.clone(), mpsc::channel());
        let ask = move || {
            me.send(host::current()).unwrap();
            session.call(&GetStatFs {}, &[]).map(|(figures, _)| figures.blocks)
        };
        let thread = std::thread::spawn(ask);
        let id = its.recv().unwrap();
        (thread, id)
    }

    #[test]
    fn q4_requests_in_flight_are_bounded_and_none_is_lost() {
        const HANDLES: u64 = MAX_IN_FLIGHT as u64 + 88;
        let _alone = host::exclusive();
        let wire = Arc::<Wire>::default();
        let session = Arc::new(Session::new(wire.clone()));
        let handles = (2..2 + HANDLES).map(Handle);
        open(&session, HANDLES).for_each(|handle| session.close(handle));
        assert_eq!(wire.0.lock().len(), MAX_IN_FLIGHT);
        assert_eq!(session.in_flight() as u64, HANDLES, "a handle is forgotten");
        // A further request waits and can be killed; a page-in is sent.
        assert_eq!(session.try_begin(Op::GetStatFs, || Owner::Nobody), Err(Errno::EAGAIN));
        let page_in = session.try_begin(Op::Read, || Owner::Nobody).unwrap();
        let (killed, its) = ask(&session);
        let (patient, _) = ask(&session);
        host::kill(Some(its));
        assert_eq!(killed.join().unwrap(), Err(Errno::EINTR));
        host::kill(None);
        // Each answer makes way for the next: first what is to be closed, then who waits.
        let mut closed = Vec::new();
        while (closed.len() as u64) < HANDLES {
            closed.extend(answer_next(&session, &wire));
        }
        while !patient.is_finished() {
            if !wire.0.lock().is_empty() {
                assert_eq!(answer_next(&session, &wire), None);
            }
            std::thread::yield_now();
        }
        assert_eq!(patient.join().unwrap(), Ok(7));
        closed.sort();
        assert!(closed.into_iter().eq(handles), "each handle is closed once");
        drop(session.table.lock().withdraw(page_in));
        assert_eq!((session.in_flight(), session.table.lock().to_close), (0, 0));
    }

    /// A server recalls the lease of a file that is not mapped: it has its answer at once. Other
    /// requests of a server are dropped.
    #[test]
    fn m6_a_recall_is_answered() {
        let _alone = host::exclusive();
        let wire = Arc::<Wire>::default();
        let session = Session::new(wire.clone());
        let (tag, file) = (Tag(77), fsproto::FileId(5));
        let recall = fsproto::Invalidate { file }.request(tag, 0);
        session.message(message::message(&recall, &[]).unwrap(), Sender::Server);
        let answer = wire.0.lock().pop_front().expect("an answer");
        let (header, _) = Header::decode(header_of(&answer).unwrap()).unwrap();
        assert!(header.flags.contains(HeaderFlags::REPLY) && header.status == 0);
        assert_eq!((header.op, header.tag), (Op::Invalidate as u16, tag));
        let other = fsproto::Recall { handle: Handle(3) }.request(tag, 0);
        session.message(message::message(&other, &[]).unwrap(), Sender::Server);
        assert!(wire.0.lock().is_empty());
        assert_eq!(session.stray_replies.load(Ordering::Relaxed), 1);
    }

    /// Opens so many handles, from 2 on.
    pub fn open(session: &Session, count: u64) -> impl Iterator<Item = Handle> + use<> {
        let handles = (2..2 + count).map(Handle);
        for handle in handles.clone() {
            let call = Arc::<Call>::default();
            let tag = session.try_begin(Op::Open, || Owner::Thread(call.clone())).unwrap();
            answer::<fsproto::Open>(session, tag, &Walked { handle, ..Walked::default() });
        }
        handles
    }
}
