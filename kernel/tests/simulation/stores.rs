//! The oracle of mapped files: what programs have stored to them, beside what the server has.
//!
//! A store takes effect at once, and a change by a request when the server handles it. So a file
//! is, for programs, what the server has with the stores since that it may not have yet. Such a
//! store is known by its byte until a change replaces it; once it was written back, it says what
//! the server has.

use std::collections::BTreeMap;
use std::ops::Range;

/// A byte that a program stored.
#[derive(Clone, Copy)]
struct Stored {
    /// Nothing where it is not known: a system call stored there, and others at the same time.
    value: Option<u8>,
    /// The last step that had begun.
    step: u64,
}

/// Bytes that a system call reads or stores for a while.
struct Busy {
    step: u64,
    file: usize,
    bytes: Range<usize>,
    /// Something else changed some of them meanwhile.
    is_disturbed: bool,
}

/// The stores to all files, by file and byte.
#[derive(Default)]
pub struct Stores {
    bytes: BTreeMap<(usize, usize), Stored>,
    busy: Vec<Busy>,
}

impl Stores {
    /// A program has stored a byte.
    pub fn store(&mut self, file: usize, byte: usize, value: u8, step: u64) {
        self.disturb(file, &(byte..byte + 1));
        self.bytes.insert((file, byte), Stored { value: Some(value), step });
    }

    /// Some bytes are what the server has now.
    pub fn replaced(&mut self, file: usize, bytes: Range<usize>) {
        self.disturb(file, &bytes);
        let keys = self.keys(file, &bytes);
        for key in keys {
            self.bytes.remove(&key);
        }
    }

    /// What was stored and not written is lost with the connection to the server.
    pub fn lost(&mut self) {
        self.bytes.clear();
        self.busy.iter_mut().for_each(|busy| busy.is_disturbed = true);
    }

    fn keys(
        &self,
        file: usize,
        bytes: &Range<usize>,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let range = (file, bytes.start)..(file, bytes.end.max(bytes.start));
        let keys: Vec<_> = self.bytes.range(range).map(|(&key, _)| key).collect();
        keys.into_iter()
    }

    fn disturb(&mut self, file: usize, bytes: &Range<usize>) {
        let meets = |busy: &&mut Busy| {
            busy.file == file && busy.bytes.start < bytes.end && bytes.start < busy.bytes.end
        };
        self.busy.iter_mut().filter(meets).for_each(|busy| busy.is_disturbed = true);
    }

    /// A system call of a step begins to use some bytes.
    pub fn begin(&mut self, step: u64, file: usize, bytes: Range<usize>) {
        self.disturb(file, &bytes);
        let is_disturbed = self.is_busy(file, &bytes);
        self.busy.push(Busy { step, file, bytes, is_disturbed });
    }

    /// It has ended. Returns whether nobody else changed any of the bytes.
    pub fn end(&mut self, step: u64) -> bool {
        let ended = self.busy.iter().position(|busy| busy.step == step);
        ended.is_some_and(|at| !self.busy.swap_remove(at).is_disturbed)
    }

    fn is_busy(&self, file: usize, bytes: &Range<usize>) -> bool {
        self.busy.iter().any(|busy| {
            busy.file == file && busy.bytes.start < bytes.end && bytes.start < busy.bytes.end
        })
    }

    /// What was stored to some bytes is not known.
    pub fn unknown(&mut self, file: usize, bytes: Range<usize>, step: u64) {
        self.disturb(file, &bytes);
        for byte in bytes {
            self.bytes.insert((file, byte), Stored { value: None, step });
        }
    }

    /// The byte of a file for programs, where it is known. `server` is what the server has.
    pub fn value(&self, file: usize, byte: usize, server: &[u8]) -> Option<u8> {
        if self.is_busy(file, &(byte..byte + 1)) {
            return None;
        }
        match self.bytes.get(&(file, byte)) {
            Some(stored) => stored.value,
            None => server.get(byte).copied(),
        }
    }

    /// The first byte of a range that was stored before a step, and is another one on the server.
    pub fn missing(
        &self,
        file: usize,
        bytes: Range<usize>,
        server: &[u8],
        before: u64,
    ) -> Option<usize> {
        let range = (file, bytes.start)..(file, bytes.end.min(server.len()).max(bytes.start));
        let mut stored = self.bytes.range(range);
        let is_missing = |&(&(_, byte), stored): &(&(usize, usize), &Stored)| {
            stored.value.is_some_and(|value| value != server[byte])
                && stored.step < before
                && !self.is_busy(file, &(byte..byte + 1))
        };
        stored.find(is_missing).map(|(&(_, byte), _)| byte)
    }

    /// The first byte of `written` that is neither what the server has nor was stored: write-back
    /// at `offset` puts it there.
    pub fn foreign(
        &self,
        file: usize,
        offset: usize,
        written: &[u8],
        server: &[u8],
    ) -> Option<usize> {
        (offset..offset + written.len()).find(|&byte| {
            server.get(byte) != Some(&written[byte - offset])
                && !self.bytes.contains_key(&(file, byte))
                && !self.is_busy(file, &(byte..byte + 1))
        })
    }
}
