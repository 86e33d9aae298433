//! What is sent beside bytes: who sent them, and open files (`SCM_RIGHTS`).
//!
//! A queue that holds a socket keeps it open, and what is in that socket's queue with it. So that
//! no cycle of such references can be left behind, a socket in a queue holds no sockets itself
//! ([`Carried`]): Errno::ETOOMANYREFS refuses what would be deeper. Other files hold nothing.
//!
//! Lock: `CARRIED`, for the counts of all sockets.

use super::OpenFile;
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use foundation::Errno;

/// Open files in one message, at most (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 253;
/// Bytes of a socket's name, at most: `sun_path`.
pub const MAX_NAME: usize = 108;
/// Bytes that the control data of a message take, files apart.
const BYTES: usize = 384;
/// Bytes that a file in a message takes.
const FILE_BYTES: usize = 64;

/// The name of a socket: a path, or an abstract name, which begins with a zero byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    length: u8,
}

impl Name {
    /// The name of these bytes. EINVAL where they are too many, or none.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        let mut name = Self { bytes: [0; MAX_NAME], length: bytes.len() as u8 };
        name.bytes.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
        if bytes.is_empty() { Err(Errno::EINVAL) } else { Ok(name) }
    }

    /// Its bytes: those of a path without the zero that ends it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }

    /// Whether it is in no file system.
    pub fn is_abstract(&self) -> bool {
        self.bytes().first() == Some(&0)
    }
}

/// Who sent a message, as `struct ucred`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process number; 0 for none.
    pub pid: u32,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

impl Credentials {
    /// Of a sender that is not known: no process, and the overflow user and group.
    pub const UNKNOWN: Self = Self { pid: 0, uid: 65534, gid: 65534 };

    /// Of a process. There is one user.
    pub fn of_process(pid: u32) -> Self {
        Self { pid, uid: 0, gid: 0 }
    }
}

/// How a socket takes part in passing sockets.
#[derive(Debug, Default)]
pub struct Carried {
    /// Messages in queues that hold it.
    in_flight: AtomicUsize,
    /// Sockets that the messages in its queue hold.
    holds: AtomicUsize,
    /// It is in the queue of a listener.
    pub is_pending: AtomicBool,
    /// It listens, and so may hold sockets that are pending.
    pub listens: AtomicBool,
}

/// Held while counts are compared and changed.
static CARRIED: Mutex<(), rank::CarriedSockets> = Mutex::new(());

/// A socket that is in the queue of another one, until dropped.
#[derive(Debug)]
pub struct Passage {
    socket: Arc<Carried>,
    holder: Arc<Carried>,
}

impl Passage {
    /// Puts `socket` into the queue of `holder`. ETOOMANYREFS where the one holds sockets or the
    /// other is held, and where a cycle could come about by a listener.
    pub fn begin(socket: &Arc<Carried>, holder: &Arc<Carried>) -> Result<Self, Errno> {
        let _guard = CARRIED.lock();
        let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let is_deep = get(&socket.holds) > 0 || get(&holder.in_flight) > 0;
        let by_listener =
            socket.listens.load(Ordering::Relaxed) && holder.is_pending.load(Ordering::Relaxed);
        if Arc::ptr_eq(socket, holder) || is_deep || by_listener {
            return Err(Errno::ETOOMANYREFS);
        }
        socket.in_flight.fetch_add(1, Ordering::Relaxed);
        holder.holds.fetch_add(1, Ordering::Relaxed);
        Ok(Self { socket: socket.clone(), holder: holder.clone() })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let _guard = CARRIED.lock();
        self.socket.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.holder.holds.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file in a message.
pub struct CarriedFile {
    /// The file; what receives it installs it.
    pub file: Arc<OpenFile>,
    /// Of a socket: its place in the receiver's queue.
    pub passage: Option<Passage>,
}

/// The control data of one message.
pub struct Control {
    /// The name of the sending socket, if it has one and the receiver cannot know it otherwise.
    pub sender: Option<Name>,
    /// Who sent it, where one of the two asked for that (`SO_PASSCRED`, `SCM_CREDENTIALS`).
    pub credentials: Option<Credentials>,
    /// Open files.
    pub files: Vec<CarriedFile>,
    /// How many files count for the sender.
    in_flight: usize,
    /// `None` for a copy, which does not stay.
    charge: Option<Charge>,
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(charge) = &self.charge {
            charge.account().remove_in_flight(self.in_flight);
        }
    }
}

impl Control {
    /// Control data that `account` pays for while they are queued. ETOOMANYREFS where it has more
    /// files in messages than it may have open.
    pub fn new(
        sender: Option<Name>,
        credentials: Option<Credentials>,
        files: Vec<CarriedFile>,
        account: &Arc<Account>,
    ) -> Result<Self, Errno> {
        let bytes = BYTES + files.len() * FILE_BYTES;
        let charge = Charge::take(account, Kind::Messages, bytes)?;
        if !account.add_in_flight(files.len()) {
            return Err(Errno::ETOOMANYREFS);
        }
        let in_flight = files.len();
        Ok(Self { sender, credentials, files, in_flight, charge: Some(charge) })
    }

    /// A copy for a receiver that leaves the message in its queue.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let copies = self
            .files
            .iter()
            .map(|carried| CarriedFile { file: carried.file.clone(), passage: None });
        let files = fallible::collect(copies)?;
        Ok(Self {
            sender: self.sender,
            credentials: self.credentials,
            files,
            in_flight: 0,
            charge: None,
        })
    }

    /// Whether it says who sent a message, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.sender.is_none() && self.files.is_empty()
    }
}
