//! The wires between machines and servers: messages stay on them until the order delivers them.
//! Requests arrive in order, as on a socket, or overtake each other, as behind a relay; replies are
//! reordered. When a wire is cut, the kernel notices at once and the servers later.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use foundation::Errno;
use fsproto::{Attr, HEADER_BYTES, Header, Op, Request, closes};
use fsserver::SessionId;
use kernel::file::socket::{Message, Sender};
use kernel::mem::{Claim, Frame};
use kernel::mount::{Session, Transport};

use crate::model::{Exchange, Line, Model, Place, Served};
use crate::placed;
use crate::script::{NAMES, PAGE, Setup};
use crate::servers::{Peer, Servers};
use crate::trace::trace;
use crate::{interference, ranks, sched, world};

type Bytes = ([u8; HEADER_BYTES], Vec<u8>);

/// One connection.
struct Wire {
    peer: Peer,
    session: Weak<Session>,
    server_side: SessionId,
    /// Each with the number of the step that sent it.
    requests: Vec<(u64, Bytes)>,
    replies: Vec<Message>,
    up: bool,
    /// The servers have noticed that it is down.
    closed: bool,
}

/// All connections, the servers, and the oracle of the files.
struct Network {
    wires: Vec<Wire>,
    servers: Servers,
    model: Model,
    served: HashMap<u64, Vec<Served>>,
    overtaking: bool,
    untrusted: bool,
    sole: bool,
    /// What the wrapper shows of each name after each request, the beginning first; nothing where
    /// nobody looks.
    shown: Vec<Shown>,
    /// Steps that open files to map them.
    mapping: HashSet<u64>,
    /// Requests to allocate storage that found no space so far.
    refused: u64,
}

/// Attributes of all [`NAMES`], or that there is no such file.
type Shown = [Result<Attr, Errno>; NAMES.len()];

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(|network| act(network.as_mut().expect("a run is under way")))
}

/// Starts new servers for a run.
pub fn begin(setup: &Setup) {
    let mut servers = Servers::new(setup);
    let mut model = Model::new(setup.untrusted);
    if let Some(id) = servers.file_in_store(placed::NAME.as_bytes()) {
        model.add_file(placed::NAME, id, placed::bytes());
    }
    let network = Network {
        wires: Vec::new(),
        servers,
        model,
        served: HashMap::new(),
        overtaking: setup.overtaking,
        untrusted: setup.untrusted,
        sole: setup.sole,
        shown: Vec::new(),
        mapping: HashSet::new(),
        refused: 0,
    };
    NETWORK.set(Some(network));
    if setup.looks {
        with(Network::show);
    }
}

/// Cuts all wires after a run that failed.
pub fn cut() {
    let lines = with(|network| network.wires.len());
    (0..lines).filter(|&line| is_up(line)).for_each(disconnect);
}

/// Cleans up after a run that failed.
pub fn abandon() {
    interference::abandon();
    drop(NETWORK.take());
}

/// A machine's end of a wire.
struct End(Line);

impl Transport for End {
    fn send(&self, message: Message) -> Result<(), Errno> {
        let (header, inline) =
            message.inline.split_first_chunk::<HEADER_BYTES>().expect("a header in front");
        let mut payload = inline.to_vec();
        let mut left = message.frames_bytes;
        for frame in &message.frames {
            payload.extend_from_slice(&frame.bytes()[..left.min(PAGE)]);
            left -= left.min(PAGE);
        }
        with(|network| {
            let wire = &mut network.wires[self.0];
            if wire.up {
                wire.requests.push((world::step_of(sched::me()), (*header, payload)));
            }
            if wire.up { Ok(()) } else { Err(Errno::EIO) }
        })
    }

    /// The server waits where no other request is on its way.
    fn hand_over(&self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> bool {
        with(|network| {
            let wire = &mut network.wires[self.0];
            let waits = wire.up && wire.requests.is_empty();
            if waits {
                wire.requests.push((world::step_of(sched::me()), (*header, payload.concat())));
            }
            waits
        })
    }
}

impl Network {
    /// Notes what the wrapper shows now.
    fn show(&mut self) {
        let shown = NAMES.map(|name| self.servers.shown(name.as_bytes()));
        if self.shown.last() != Some(&shown) {
            self.shown.push(shown);
        }
    }
}

/// Whether attributes are looked at.
pub fn looks() -> bool {
    with(|network| !network.shown.is_empty())
}

/// The present instant of the servers.
pub fn instant() -> usize {
    with(|network| network.shown.len().saturating_sub(1))
}

/// What the wrapper showed of a name at an instant, and at those since.
pub fn shown_since(begin: usize, name: usize) -> Vec<Result<Attr, Errno>> {
    with(|network| network.shown[begin..].iter().map(|shown| shown[name]).collect())
}

/// A new connection to the wrapper, and one to its base for page-ins (F9), which has the next
/// number.
pub fn connect() -> (Line, Arc<Session>) {
    // Who promises a client that it is the only one has noticed the end of the one before.
    let gone = |network: &mut Network| {
        let is_gone = |wire: &Wire| network.sole && !wire.up && !wire.closed;
        network.wires.iter().position(is_gone)
    };
    while let Some(line) = with(gone) {
        close(line);
    }
    with(|network| {
        let line = network.wires.len();
        let (own, base) = (Arc::new(End(line)), Arc::new(End(line + 1)));
        let direct = Arc::new(Session::new(base));
        let session = Arc::new(Session::with_direct(own, Some(direct.clone())));
        for (peer, session) in [(Peer::Wrapper, &session), (Peer::Base, &direct)] {
            let server_side = match peer {
                Peer::Wrapper => network.servers.open_session(),
                Peer::Base => network.servers.open_direct_session(),
            };
            network.wires.push(Wire {
                peer,
                session: Arc::downgrade(session),
                server_side,
                requests: Vec::new(),
                replies: Vec::new(),
                up: true,
                closed: false,
            });
        }
        (line, session)
    })
}

/// The connection to the base that belongs to one to the wrapper.
pub fn direct_of(line: Line) -> Line {
    line + 1
}

/// Whether a connection is up.
pub fn is_up(line: Line) -> bool {
    with(|network| network.wires[line].up)
}

/// Cuts a wire.
pub fn disconnect(line: Line) {
    let session = with(|network| {
        let wire = &mut network.wires[line];
        wire.up = false;
        wire.replies.clear();
        if wire.peer == Peer::Wrapper {
            network.model.stores.lost();
        }
        network.wires[line].session.upgrade()
    });
    if let Some(session) = session {
        session.closed();
    }
}

/// Takes what the requests of a step read and wrote.
pub fn served(step: u64) -> Vec<Served> {
    with(|network| network.served.remove(&step).unwrap_or_default())
}

/// A step opens files to map them.
pub fn maps(step: u64) {
    with(|network| _ = network.mapping.insert(step));
}

/// Requests to allocate storage that found no space so far.
pub fn refused() -> u64 {
    with(|network| network.refused)
}

/// Whether the only client knows that it is, and trusts the servers, so that it can map files (M6).
pub fn can_map() -> bool {
    with(|network| network.sole && !network.untrusted && network.servers.are_steady())
}

/// Looks at the oracle of the files.
pub fn model<T>(act: impl FnOnce(&mut Model) -> T) -> T {
    with(|network| act(&mut network.model))
}

/// Asserts that all files have what was stored to them (M2).
pub fn check_written() {
    model(|model| {
        for file in 0..model.ids().count() {
            let unwritten = model.unwritten(file, 0..usize::MAX, u64::MAX);
            assert_eq!(unwritten, None, "M2: a byte that was stored to file {file} is lost");
        }
    });
}

/// Nothing fails any more.
pub fn heal() {
    with(|network| network.servers.faults.borrow_mut().end());
}

/// Requests to the base server that failed so far.
pub fn failures() -> u64 {
    with(|network| network.servers.faults.borrow().failed)
}

/// Plans failures of requests to the base server.
pub fn plan_faults(order: impl FnOnce(&mut crate::faults::FaultPlan)) {
    with(|network| order(&mut network.servers.faults.borrow_mut()));
}

/// Calls `look` for each connection on which an event is pending.
pub fn busy_lines(look: impl FnMut(Line)) {
    with(|network| {
        let busy = |(_, wire): &(usize, &Wire)| {
            !wire.requests.is_empty() && (!wire.up || ranks::is_idle())
                || !wire.replies.is_empty()
                || (!wire.up && !wire.closed)
        };
        network.wires.iter().enumerate().filter(busy).map(|(line, _)| line).for_each(look);
    });
}

/// The CPU has nothing to do: what waits for a request is closed without one.
pub fn idle() {
    let all = with(|network| network.wires.iter().map(|wire| wire.session.clone()).collect());
    let all: Vec<Weak<Session>> = all;
    all.iter().filter_map(Weak::upgrade).for_each(|session| session.close_waiting());
}

/// Lets one event happen on a connection.
pub fn step(line: Line) {
    let (requests, replies, up, overtaking) = with(|network| {
        let wire = &network.wires[line];
        (wire.requests.len(), wire.replies.len(), wire.up, network.overtaking)
    });
    if !up {
        // Requests that were sent before the cut may arrive or be lost.
        return if requests > 0 && sched::choose(2) == 0 { serve(line, 0) } else { close(line) };
    }
    let could_serve = requests > 0 && ranks::is_idle();
    if could_serve && (replies == 0 || sched::choose(2) == 0) {
        if ranks::is_serving() {
            return ranks::assign(line);
        }
        let index = if overtaking { sched::choose(requests) } else { 0 };
        return serve(line, index);
    }
    let index = sched::choose(replies);
    let arrived = with(|network| {
        let wire = &mut network.wires[line];
        let reply = wire.replies.remove(index);
        wire.session.upgrade().map(|session| (session, reply))
    });
    if let Some((session, reply)) = arrived {
        deliver(&session, reply);
    }
}

/// A reply arrives: one of whole pages, with every second tag, from the memory of a server.
fn deliver(session: &Session, reply: Message) {
    let header = reply.inline.first_chunk::<HEADER_BYTES>().copied();
    let is_plain = reply.inline.len() == HEADER_BYTES && reply.frames_bytes > 0;
    let tag = header.and_then(|header| Some(Header::decode(&header).ok()?.0.tag.0));
    let Some(header) = header.filter(|_| is_plain && tag.is_some_and(|tag| tag % 2 == 0)) else {
        return session.message(reply, Sender::Server);
    };
    if let Err(frames) = ranks::hand_over(reply.frames, |lent| session.pages(&header, lent)) {
        session.message(Message { frames, ..reply }, Sender::Server);
    }
}

/// The file server's actor handles a request, unless the connection was lost.
pub fn serve_next(line: Line) {
    let (requests, overtaking) = with(|network| {
        let wire = &network.wires[line];
        (if wire.up { wire.requests.len() } else { 0 }, network.overtaking)
    });
    if requests > 0 {
        serve(line, if overtaking { sched::choose(requests) } else { 0 });
    }
}

/// As a socket brings it: what is small behind the header, whole pages as frames.
fn message(header: &[u8; HEADER_BYTES], payload: &[u8]) -> Message {
    let mut inline = header.to_vec();
    if payload.len() < PAGE {
        inline.extend_from_slice(payload);
        return Message { inline: inline.into(), ..Message::default() };
    }
    let frame =
        |page| Frame::from_bytes(Claim::FileServer, page).expect("F8: memory for a message");
    Message {
        inline: inline.into(),
        frames: payload.chunks(PAGE).map(frame).collect(),
        frames_bytes: payload.len(),
    }
}

/// The servers notice that a connection is lost.
fn close(line: Line) {
    trace!("line {line}: closed at the servers");
    with(|network| {
        let wire = &mut network.wires[line];
        wire.closed = true;
        wire.requests.clear();
        let (peer, server_side) = (wire.peer, wire.server_side);
        network.servers.close_session(peer, server_side);
        network.model.line_gone(line);
        if !network.shown.is_empty() {
            network.show();
        }
    });
}

/// The servers handle a request.
fn serve(line: Line, index: usize) {
    let (step, op) = with(|network| {
        let (step, (header, _)) = &network.wires[line].requests[index];
        (*step, Header::decode(header).ok().and_then(|(header, _)| Op::from_number(header.op)))
    });
    interference::strike(step, op);
    with(|network| {
        let Network { wires, servers, model, served, untrusted, mapping, refused, .. } = network;
        let wire = &mut wires[line];
        assert!(
            wire.peer == Peer::Wrapper || !*untrusted,
            "X3: a base that is not trusted is asked"
        );
        let (step, (header, payload)) = wire.requests.remove(index);
        let (fields, mut reader) =
            Header::decode(&header).expect("the mount's requests are well-formed");
        let request =
            Request::decode(fields.op, &mut reader).expect("the mount's requests are well-formed");
        let before = servers.faults.borrow().failed;
        let reply = servers.handle(wire.peer, wire.server_side, &header, &payload);
        let failed = servers.faults.borrow().failed - before;
        let status = Header::decode(&reply.0).map_or(0, |(header, _)| header.status);
        let faulted = if failed > 0 {
            format!(", {failed} failures of the base server")
        } else {
            String::new()
        };
        trace!(
            "line {line}: {request:?} ({} bytes, closes {}) -> status {status}, {} bytes{faulted}",
            payload.len(),
            fields.closes,
            reply.1.len()
        );
        let exchange = Exchange {
            line,
            request: &request,
            payload: &payload,
            reply: (&reply.0, &reply.1),
            faulted: failed > 0,
            step,
            maps: mapping.contains(&step),
            is_up: wire.up,
        };
        let is_full = status == Errno::ENOSPC.0;
        *refused += u64::from(is_full && matches!(request, Request::Allocate(_)));
        closes(&header).for_each(|handle| model.closed(handle));
        let outcome = model.handled(&exchange);
        if let Some(uncertain) = outcome.uncertain {
            let now = match &uncertain.place {
                Place::Handle(handle) => servers.read_open(wire.server_side, *handle),
                Place::Name(name) => servers.read_in_store(name).unwrap_or_default(),
            };
            model.settle(&uncertain, now);
        }
        if outcome.uncertain_names {
            model.settle_names(&NAMES, |name| servers.file_in_store(name));
        }
        if let Some(done) = outcome.served {
            served.entry(step).or_default().push(done);
        }
        if wire.up {
            wire.replies.push(message(&reply.0, &reply.1));
        }
        if !network.shown.is_empty() {
            network.show();
        }
    });
}

/// After a run: delivers all messages, and asserts that the servers hold nothing any more.
pub fn end() {
    loop {
        let mut busy = Vec::new();
        busy_lines(|line| busy.push(line));
        let Some(&line) = busy.first() else { break };
        step(line);
    }
    let Network { wires, mut servers, model, .. } = NETWORK.take().expect("a run is under way");
    assert_eq!(model.open_handles(), 0, "C10: handles that were not closed");
    for wire in wires.iter().filter(|wire| !wire.closed) {
        assert_eq!(wire.session.strong_count(), 0, "sessions that leaked");
        servers.close_session(wire.peer, wire.server_side);
    }
    servers.assert_empty();
}
