//! The messages of FUSE that the server understands, as in Linux's `uapi/linux/fuse.h` (7.31).
//!
//! All numbers are little-endian on this machine, and each has its natural alignment.

use foundation::Errno;

/// Bytes of a request's header: length, operation, id, node, user, group, process, and 4 unused.
pub const HEADER_BYTES: usize = 40;
/// Bytes of the fields of a read or a write: handle, offset, size, flags, lock owner, flags, and 4
/// unused. A write's data follows.
pub const TRANSFER_BYTES: usize = 40;
/// Bytes of the fields of a creation: flags, mode, mask, flags. The name follows.
pub const CREATE_BYTES: usize = 16;

/// What a request asks for.
pub mod operation {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const UNLINK: u32 = 10;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const CREATE: u32 = 35;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
}

/// The version that the server speaks.
pub const VERSION: [u32; 2] = [7, 31];

/// Flags of the first exchange: several reads at once, writes of more than a page, the kernel keeps
/// changes and writes them later, requests of up to `max_pages`.
pub const ASYNC_READ: u32 = 1;
pub const BIG_WRITES: u32 = 1 << 5;
pub const WRITEBACK_CACHE: u32 = 1 << 16;
pub const MAX_PAGES: u32 = 1 << 22;

/// The flag of an open file whose reads and writes pass the page cache by.
pub const DIRECT_IO: u32 = 1;

/// The bit of a change of attributes that says that there is a new size, and where it is.
pub const CHANGES_SIZE: u32 = 1 << 3;
pub const NEW_SIZE_AT: usize = HEADER_BYTES + 16;

/// The kinds of files, with permissions.
pub const FOLDER_MODE: u32 = 0o40_755;
pub const FILE_MODE: u32 = 0o100_600;

/// The number at an offset of a request; 0 beyond its end.
pub fn u32_at(request: &[u8], offset: usize) -> u32 {
    let bytes = request.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The same for eight bytes.
pub fn u64_at(request: &[u8], offset: usize) -> u64 {
    let bytes = request.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The name at an offset of a request, without the zero behind it.
pub fn name_at(request: &[u8], offset: usize) -> &[u8] {
    let rest = request.get(offset..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Bytes of a reply's header: length, error, id.
const REPLY_HEADER_BYTES: usize = 16;

/// A reply in the making, without the bytes of a file.
pub struct Reply {
    bytes: [u8; 192],
    len: usize,
}

impl Reply {
    /// An empty reply to the request of this id.
    pub fn new(id: u64) -> Self {
        let mut reply = Self { bytes: [0; 192], len: REPLY_HEADER_BYTES };
        reply.bytes[8..16].copy_from_slice(&id.to_le_bytes());
        reply
    }

    /// Appends a number.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes[self.len..self.len + 4].copy_from_slice(&value.to_le_bytes());
        self.len += 4;
        self
    }

    /// Appends a number of eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes[self.len..self.len + 8].copy_from_slice(&value.to_le_bytes());
        self.len += 8;
        self
    }

    /// The reply becomes an error.
    pub fn fail(&mut self, error: Errno) {
        self.len = REPLY_HEADER_BYTES;
        self.bytes[4..8].copy_from_slice(&(-i32::from(error.0)).to_le_bytes());
    }

    /// The bytes, when so many bytes of a file follow.
    pub fn finish(&mut self, data_bytes: usize) -> &[u8] {
        let length = (self.len + data_bytes) as u32;
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        &self.bytes[..self.len]
    }

    /// Appends how long the kernel may keep attributes, and the attributes.
    pub fn attributes(&mut self, valid_s: u64, node: u64, size: u64, mode: u32) -> &mut Self {
        self.u64(valid_s).u64(0);
        self.raw_attributes(node, size, mode)
    }

    /// Appends a name's node, how long the kernel may keep name and attributes, and these.
    pub fn entry(&mut self, valid_s: u64, node: u64, size: u64, mode: u32) -> &mut Self {
        self.u64(node).u64(0).u64(valid_s).u64(valid_s).u64(0);
        self.raw_attributes(node, size, mode)
    }

    fn raw_attributes(&mut self, node: u64, size: u64, mode: u32) -> &mut Self {
        // Node, size, blocks, three times, their nanoseconds.
        self.u64(node).u64(size).u64(size.div_ceil(512)).u64(0).u64(0).u64(0).u64(0).u32(0);
        // Mode, links, user, group, device, block size, flags.
        self.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0)
    }

    /// Appends an open file.
    pub fn opened(&mut self, flags: u32) -> &mut Self {
        self.u64(0).u32(flags).u32(0)
    }
}
