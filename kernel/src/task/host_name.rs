//! The names of the machine: sethostname(2), setdomainname(2), uname(2).
#![forbid(unsafe_code)]

use crate::sync::{Mutex, rank};

/// Upper bound for the bytes of a name, as on Linux.
pub const MAX_BYTES: usize = 64;

/// A host or domain name, which need not be text.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Name {
    const fn new(name: &[u8]) -> Self {
        let mut bytes = [0; MAX_BYTES];
        let mut length = 0;
        while length < name.len() && length < MAX_BYTES {
            bytes[length] = name[length];
            length += 1;
        }
        Self { bytes, length }
    }

    /// The bytes, without a terminator.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A name that all processes share.
pub struct SharedName(Mutex<Name, rank::HostName>);

/// The host's name.
pub static HOST: SharedName = SharedName(Mutex::new(Name::new(b"sloth")));
/// The domain's name.
pub static DOMAIN: SharedName = SharedName(Mutex::new(Name::new(b"(none)")));

impl SharedName {
    /// The name at this moment.
    pub fn get(&self) -> Name {
        *self.0.lock()
    }

    /// Changes the name, of which [`MAX_BYTES`] bytes are kept.
    pub fn set(&self, name: &[u8]) {
        *self.0.lock() = Name::new(name);
    }
}
