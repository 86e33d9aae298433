//! The oracle of mapped files: what requests of readers and of write-back must be.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::Errno;
use fsproto::{AllocateMode, AttrMask, Handle, Header, Request};

use crate::model::{Exchange, Model};
use crate::script::PAGE;

/// Pages of mapped files that were written back so far.
pub static PAGES_WRITTEN: AtomicU64 = AtomicU64::new(0);

impl Model {
    /// M4: a reader sees what was stored before it began.
    pub(super) fn check_seen(
        &self,
        exchange: &Exchange<'_>,
        handle: Handle,
        offset: u64,
        length: usize,
    ) {
        let file = self.file_of(handle);
        let seen = offset as usize..offset as usize + length;
        let missing = self.stores.missing(file, seen, self.bytes_of(file), exchange.step);
        assert_eq!(missing, None, "M4: a reader misses a byte that was stored to file {file}");
    }

    /// M2: write-back changes nothing that was not stored, and never the file's length.
    pub(super) fn wrote_back(
        &self,
        exchange: &Exchange<'_>,
        file: usize,
        offset: usize,
        written: &[u8],
    ) {
        // What was stored is forgotten with the connection.
        if !exchange.is_up {
            return;
        }
        PAGES_WRITTEN.fetch_add(written.len().div_ceil(PAGE) as u64, Ordering::Relaxed);
        let server = self.bytes_of(file);
        assert!(
            offset + written.len() <= server.len(),
            "M2: write-back of {} bytes at {offset} extends file {file} of {} bytes",
            written.len(),
            server.len()
        );
        let foreign = self.stores.foreign(file, offset, written, server);
        assert_eq!(
            foreign, None,
            "M2: write-back changes a byte of file {file} that nobody stored"
        );
    }

    /// M2: a server that is well has space for what is written back.
    pub(super) fn check_write_back(&self, exchange: &Exchange<'_>) {
        let Request::Write(write) = exchange.request else { return };
        let Ok((header, _)) = Header::decode(exchange.reply.0) else { return };
        assert!(
            !self.is_mapping(write.handle) || header.result() != Err(Errno::ENOSPC),
            "M2: write-back of file {} finds no space at {}",
            self.file_of(write.handle),
            write.offset.0
        );
    }

    /// The bytes that a change other than a write replaces, after which the file has `size` bytes.
    pub(super) fn replaced_by(&self, request: &Request, size: usize) -> Range<usize> {
        match request {
            Request::SetAttr(set) if set.mask.contains(AttrMask::SIZE) => size..usize::MAX,
            Request::Allocate(change) if change.mode == AllocateMode::PunchHole => {
                let start = change.offset.0 as usize;
                start..start.saturating_add(change.length.to_usize())
            }
            _ => 0..0,
        }
    }

    /// The file with an id, if it is known.
    pub fn file_by_id(&self, id: u64) -> Option<usize> {
        self.ids().position(|other| other == id)
    }

    /// The size of a file, and the byte that programs see there, where that is known.
    pub fn mapped(&self, file: usize, byte: usize) -> (usize, Option<u8>) {
        let server = self.bytes_of(file);
        (server.len(), self.stores.value(file, byte, server))
    }

    /// The first byte of a range of a file that was stored before a step, and that the server has
    /// not.
    pub fn unwritten(&self, file: usize, bytes: Range<usize>, before: u64) -> Option<usize> {
        self.stores.missing(file, bytes, self.bytes_of(file), before)
    }
}
