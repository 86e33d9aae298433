//! Names of sockets: the table of those that are bound, and nodes in file systems.
//!
//! The server keeps the node's name; the table says which socket is bound to it. A bound socket
//! keeps the server's file open, so that no other file gets its number.

use super::object::{Socket, SocketKind};
use crate::file::control::Name;
use crate::file::{FileObject, Identity, SetAttr, Stat};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::Errno;

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A node of a file system.
    Node(Identity),
    /// An abstract name. Each kind of socket has its own.
    Abstract(Name, SocketKind),
}

/// All bound sockets.
static BOUND: Mutex<Vec<(Key, Weak<Socket>)>, rank::BoundSockets> = Mutex::new(Vec::new());
/// The abstract name that is chosen next, of [`AUTOMATIC`].
static NEXT: AtomicU32 = AtomicU32::new(1);
/// Abstract names that the kernel chooses: five hexadecimal digits.
const AUTOMATIC: u32 = 1 << 20;

/// Enters a socket. EADDRINUSE where another one has the name.
pub(super) fn enter(key: Key, socket: &Arc<Socket>) -> Result<(), Errno> {
    let mut bound = BOUND.lock();
    if bound.iter().any(|(other, _)| *other == key) {
        return Err(Errno::EADDRINUSE);
    }
    Ok(fallible::push(&mut bound, (key, Arc::downgrade(socket)))?)
}

/// Enters a socket by an abstract name that nobody has. ENOSPC where all are taken.
pub(super) fn enter_automatic(socket: &Arc<Socket>) -> Result<Name, Errno> {
    for _ in 0..AUTOMATIC {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % AUTOMATIC;
        let mut bytes = [0; 6];
        for (index, byte) in bytes.iter_mut().skip(1).enumerate() {
            let digit = number >> (16 - 4 * index) & 0xf;
            *byte = char::from_digit(digit, 16).map_or(0, |digit| digit as u8);
        }
        let name = Name::new(&bytes)?;
        match enter(Key::Abstract(name, socket.kind()), socket) {
            Err(Errno::EADDRINUSE) => {}
            entered => return entered.map(|()| name),
        }
    }
    Err(Errno::ENOSPC)
}

/// Removes a name.
pub(super) fn leave(key: Key) {
    let mut bound = BOUND.lock();
    let place = bound.iter().position(|(other, _)| *other == key);
    let left = place.map(|place| bound.swap_remove(place));
    if bound.is_empty() {
        *bound = Vec::new();
    }
    drop(bound);
    drop(left);
}

/// The socket of a name. ECONNREFUSED where no socket has it.
pub fn find(key: Key) -> Result<Arc<Socket>, Errno> {
    let bound = BOUND.lock();
    let entry = bound.iter().find(|(other, _)| *other == key);
    let socket = entry.and_then(|(_, socket)| socket.upgrade());
    drop(bound);
    socket.ok_or(Errno::ECONNREFUSED)
}

/// A node that was found by its path. It has attributes only: a socket is reached by connect(2).
pub struct Node {
    file: Arc<dyn FileObject>,
    key: Identity,
}

impl Node {
    /// The node of a server's file.
    pub fn new(file: Arc<dyn FileObject>, key: Identity) -> Arc<Self> {
        Arc::new(Self { file, key })
    }

    /// The server's file.
    pub fn file(&self) -> &Arc<dyn FileObject> {
        &self.file
    }

    /// What the node's name refers to.
    pub fn key(&self) -> Key {
        Key::Node(self.key)
    }
}

impl FileObject for Node {
    fn stat(&self) -> Result<Stat, Errno> {
        self.file.stat()
    }
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.file.set_attr(change)
    }
}
