//! The relay: a process between a client of the file protocol and its server that forwards every
//! message unchanged and counts it.
//!
//! Client and server can check their own counters against its [`Tally`]. One process serves both
//! directions. It receives a message only when the other side has space for it, so it never blocks
//! while it holds a message, and neither side can block the other through it. A page-aligned
//! payload is forwarded without a copy. A message shorter than a header is dropped.

use crate::pages::Pages;
use crate::prelude::*;
use crate::transport::{self, SocketTransport};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use fsproto::{HEADER_BYTES, Header, HeaderFlags, Op, Operation, Request, Snapshot, Write, closes};
use fsserver::Transport;
use sys::abi;

/// The maximum length of a payload: what a packet can hold, which is more than the protocol allows.
const MAX_BYTES: usize = 512 << 10;

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Out = 0,
    /// From the server to the client.
    Back = 1,
}

/// One message being forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// Its direction.
    pub way: Way,
    /// Its header, encoded.
    pub header: &'a [u8; HEADER_BYTES],
    /// Everything after the header.
    pub payload: &'a [u8],
}

impl Passing<'_> {
    /// The message's length in bytes, header included.
    pub fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.payload.len()) as u64
    }

    /// The operation, if the header is valid and the number known.
    pub fn op(&self) -> Option<Op> {
        Header::decode(self.header).ok().and_then(|(header, _)| Op::from_number(header.op))
    }

    /// The file data among them, in bytes: the data of a write, the reply to a read, the fragments
    /// of a snapshot. Names, lists and attributes do not count.
    pub fn data_bytes(&self) -> u64 {
        let Ok((header, mut fields)) = Header::decode(self.header) else { return 0 };
        let data_bytes = match (Op::from_number(header.op), self.way) {
            (Some(Op::Write), Way::Out) => match Request::decode(header.op, &mut fields) {
                Ok(Request::Write(Write { data_bytes, .. })) => u64::from(data_bytes),
                _ => 0,
            },
            _ if header.status != 0 => 0,
            (Some(Op::Read | Op::ReadAt | Op::ReadRanges), Way::Back) => self.payload.len() as u64,
            (Some(Op::Snapshot), Way::Back) => Snapshot::decode_reply(&mut fields)
                .map_or(0, |reply| {
                    u64::from(reply.leading_bytes) + u64::from(reply.trailing_bytes)
                }),
            _ => 0,
        };
        data_bytes.min(self.payload.len() as u64)
    }
}

impl fmt::Display for Passing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.way == Way::Out { ">" } else { "<" };
        match Header::decode(self.header) {
            Ok((header, _)) => {
                let Header { tag, status, .. } = header;
                let (bytes, data) = (self.bytes(), self.data_bytes());
                match self.op() {
                    Some(op) => write!(f, "{arrow} {} {op:?}", tag.0)?,
                    None => write!(f, "{arrow} {} operation {}", tag.0, header.op)?,
                }
                write!(f, " {bytes} bytes, {data} of files")?;
                if status == 0 { Ok(()) } else { write!(f, ", error {status}") }
            }
            Err(_) => write!(f, "{arrow} no header, {} bytes", self.bytes()),
        }
    }
}

/// The number of operations that can be counted: numbers are below this.
const OPS: usize = 64;

/// What was forwarded. It consists of atomic words only, so that processes can share it.
#[repr(C)]
pub struct Tally {
    /// By operation and [`Way`]: messages, bytes, bytes of file data.
    passed: [[[AtomicU64; 3]; 2]; OPS],
    /// Successful replies, by operation; of `Close` also the handles that requests closed besides.
    granted: [AtomicU64; OPS],
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// All counts are zero.
    pub const fn new() -> Self {
        Self {
            passed: [const { [const { [const { AtomicU64::new(0) }; 3] }; 2] }; OPS],
            granted: [const { AtomicU64::new(0) }; OPS],
        }
    }

    /// Counts a message. One without a known operation counts as operation 0.
    pub fn count(&self, passing: &Passing<'_>) {
        let op = passing.op().map_or(0, |op| op as usize);
        let add = |counter: Option<&AtomicU64>, amount: u64| {
            if let Some(counter) = counter {
                counter.fetch_add(amount, Ordering::SeqCst);
            }
        };
        let of_op = self.passed.get(op).and_then(|ways| ways.get(passing.way as usize));
        if passing.way == Way::Out {
            add(self.granted.get(Op::Close as usize), closes(passing.header).count() as u64);
        }
        for (index, amount) in [1, passing.bytes(), passing.data_bytes()].into_iter().enumerate() {
            add(of_op.and_then(|figures| figures.get(index)), amount);
        }
        let granted =
            |header: &Header| header.flags.contains(HeaderFlags::REPLY) && header.status == 0;
        if passing.way == Way::Back
            && Header::decode(passing.header).is_ok_and(|(header, _)| granted(&header))
        {
            add(self.granted.get(op), 1);
        }
    }

    fn figure(&self, op: usize, way: Way, index: usize) -> u64 {
        let figures = self.passed.get(op).and_then(|ways| ways.get(way as usize));
        figures
            .and_then(|figures| figures.get(index))
            .map_or(0, |figure| figure.load(Ordering::SeqCst))
    }

    fn sum(&self, way: Way, index: usize) -> u64 {
        (0..OPS).map(|op| self.figure(op, way, index)).sum()
    }

    /// Messages of one operation in one direction.
    pub fn messages_of(&self, op: Op, way: Way) -> u64 {
        self.figure(op as usize, way, 0)
    }

    /// Successful replies to one operation, and handles that requests closed besides.
    pub fn granted(&self, op: Op) -> u64 {
        self.granted.get(op as usize).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// Bytes of file data in messages of one operation.
    pub fn data_bytes_of(&self, op: Op, way: Way) -> u64 {
        self.figure(op as usize, way, 2)
    }

    /// Bytes of messages of one operation, headers included.
    pub fn bytes_of(&self, op: Op, way: Way) -> u64 {
        self.figure(op as usize, way, 1)
    }

    /// All messages in one direction.
    pub fn messages(&self, way: Way) -> u64 {
        self.sum(way, 0)
    }

    /// All bytes in one direction, headers included.
    pub fn bytes(&self, way: Way) -> u64 {
        self.sum(way, 1)
    }

    /// All bytes of file data in one direction.
    pub fn data_bytes(&self, way: Way) -> u64 {
        self.sum(way, 2)
    }
}

/// A table: one line for each operation that has occurred, and a total.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>9}{:>12}{:>12}{:>9}{:>12}{:>12}",
            "operation", "requests", "bytes", "of files", "replies", "bytes", "of files"
        )?;
        let ways = [Way::Out, Way::Back];
        let mut row = |name: &str, figures: &dyn Fn(Way, usize) -> u64| {
            let [out, back] = ways.map(|way| [0, 1, 2].map(|index| figures(way, index)));
            writeln!(
                f,
                "{name:<12}{:>9}{:>12}{:>12}{:>9}{:>12}{:>12}",
                out[0], out[1], out[2], back[0], back[1], back[2]
            )
        };
        for op in 0..OPS {
            if ways.iter().any(|way| self.figure(op, *way, 0) > 0) {
                let name = Op::from_number(op as u16)
                    .map_or_else(|| "unknown".into(), |op| format!("{op:?}"));
                row(&name, &|way, index| self.figure(op, way, index))?;
            }
        }
        row("all", &|way, index| self.sum(way, index))
    }
}

/// Forwards messages until one side has closed its end. Calls `pass` with each message before it is
/// forwarded, and `interrupted` after each signal. The signals in `blocked` are blocked while it
/// waits; a caller that blocks the others before loses none of them.
pub fn run(
    client: Fd,
    server: Fd,
    blocked: u64,
    mut pass: impl FnMut(&Passing<'_>),
    mut interrupted: impl FnMut(),
) -> Result<()> {
    let mut payload = Pages::new(MAX_BYTES)?;
    let mut header = [0; HEADER_BYTES];
    let ways = [(Way::Out, client, server), (Way::Back, server, client)];
    // Whether a message waits to be received, by direction. It is received when the other side has
    // space.
    let mut waiting = [false; 2];
    loop {
        let entries = |index: usize| {
            let (_, from, to) = ways[index];
            let (fd, events) =
                if waiting[index] { (to, abi::POLLOUT) } else { (from, abi::POLLIN) };
            abi::pollfd { fd: fd.0, events: events as i16, revents: 0 }
        };
        let mut entries = [entries(0), entries(1)];
        match sys::poll(&mut entries, blocked) {
            Err(Errno::EINTR) => {
                interrupted();
                continue;
            }
            result => drop(result?),
        }
        for (((way, from, to), waiting), entry) in ways.into_iter().zip(&mut waiting).zip(entries) {
            if entry.revents == 0 {
                continue;
            }
            *waiting = !*waiting;
            if *waiting {
                continue;
            }
            let Some(length) = SocketTransport::new(from).receive(&mut header, &mut payload) else {
                return Ok(());
            };
            let payload = payload.get(..length).unwrap_or_default();
            pass(&Passing { way, header: &header, payload });
            // A message that was received must be passed on.
            if transport::patiently(|| SocketTransport::new(to).send(&header, &[payload])).is_err()
            {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fsproto::{Handle, Nothing, Read, Snapshotted, Tag, Written};

    #[test]
    fn file_data_is_counted_separately() {
        let tally = Tally::new();
        let count = |way, header: [u8; HEADER_BYTES], payload: &[u8]| {
            tally.count(&Passing { way, header: &header, payload })
        };
        let write = Write { handle: Handle(1), data_bytes: 10, ..Write::default() };
        // Ten bytes of data, and a piece of 24.
        count(Way::Out, write.request(Tag(1), 34), &[7; 34]);
        count(Way::Back, Write::reply(Tag(1), &Written::default(), 0), &[]);
        count(Way::Back, Read::reply(Tag(2), &Nothing {}, 100), &[7; 100]);
        let taken = Snapshotted { leading_bytes: 3, trailing_bytes: 4, ..Snapshotted::default() };
        count(Way::Back, Snapshot::reply(Tag(3), &taken, 7 + 16), &[7; 23]);
        count(
            Way::Back,
            fsproto::error_reply(Op::Read as u16, Tag(4), foundation::Errno::EIO),
            &[],
        );
        assert_eq!([tally.messages(Way::Out), tally.messages(Way::Back)], [1, 4]);
        assert_eq!([tally.data_bytes(Way::Out), tally.data_bytes(Way::Back)], [10, 107]);
        assert_eq!(tally.bytes(Way::Back), 4 * 128 + 100 + 23);
        assert_eq!((tally.granted(Op::Read), tally.messages_of(Op::Read, Way::Back)), (1, 2));
        assert!(format!("{tally}").contains("Snapshot"));
    }

    #[test]
    fn malformed_messages_are_counted() {
        let tally = Tally::new();
        tally.count(&Passing { way: Way::Back, header: &[0xff; HEADER_BYTES], payload: &[1; 9] });
        assert_eq!((tally.messages(Way::Back), tally.data_bytes(Way::Back)), (1, 0));
    }
}
