//! The swap file: a file without a name, on a server that stores it outside the machine's memory
//! (Q3).
//!
//! The kernel creates the file, so that no other process can open it. The server must be marked
//! (F8), because the memory that it needs to reply must never be swapped out. When the server ends,
//! the pages that it kept are lost, and another server can be attached.

use alloc::sync::Arc;
use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::{
    Allocate, AllocateMode, Features, GetStatFs, Handle, OpenFlags, Read, Write, WriteFlags,
};

use super::Session;
use super::local::Incoming;
use super::server::handshake;
use crate::file::socket::{Endpoint, Message, Receiver, Sender};
use crate::mem::{Frame, frame, swap};

const PAGE: u64 = PAGE_BYTES as u64;
/// The swap file's largest size as a multiple of the machine's memory. Its table takes 4 bytes of
/// memory for each page.
const MAX_SHARE: usize = 16;

/// The open swap file.
struct SwapFile {
    session: Arc<Session>,
    handle: Handle,
}

/// The incoming side of the connection.
struct SwapIncoming(Incoming);

impl Receiver for SwapIncoming {
    fn message(&self, message: Message, sender: Sender) {
        self.0.message(message, sender);
    }

    fn closed(&self) {
        // First the requests under way fail, so that the frames of writes stay.
        self.0.closed();
        swap::notice_loss();
    }
}

/// Opens a session with the server at the other end, and swaps to it from then on. EPERM where the
/// server is not marked, EBUSY where there is a swap file already.
pub fn attach(endpoint: Arc<Endpoint>) -> Result<(), Errno> {
    let session = Arc::new(Session::new(endpoint.clone()));
    endpoint.attach(Arc::new(SwapIncoming(Incoming(Arc::downgrade(&session)))))?;
    let (features, _) = handshake(&session)?;
    if !session.peer_is_marked() {
        return Err(Errno::EPERM);
    }
    if !features.contains(Features::SPARSE | Features::OPEN_UNLINKED) {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::UNNAMED;
    let (opened, _) =
        session.call(&fsproto::Open { dir: Handle::ROOT, flags, mode: 0o600 }, &[b""])?;
    let (figures, _) = session.call(&GetStatFs {}, &[])?;
    let most = frame::stats().total.saturating_mul(MAX_SHARE).min(u32::MAX as usize);
    let slots = u32::try_from(figures.blocks_free).unwrap_or(u32::MAX).min(most as u32);
    log::info!("swap: {} MiB", (u64::from(slots) * PAGE) >> 20);
    swap::attach(Arc::new(SwapFile { session, handle: opened.handle }), slots)
}

impl swap::SwapDevice for SwapFile {
    fn write(&self, first: u32, frames: &[Frame], transfer: swap::Transfer) {
        let request = Write {
            handle: self.handle,
            offset: FileOffset(u64::from(first) * PAGE),
            flags: WriteFlags::empty(),
            data_bytes: (frames.len() * PAGE_BYTES) as u32,
        };
        self.session.transfer(&request, frames, transfer);
    }

    fn read(&self, first: u32, pages: usize, transfer: swap::Transfer) {
        let request = Read {
            handle: self.handle,
            offset: u64::from(first) * PAGE,
            length: (pages * PAGE_BYTES) as u32,
        };
        self.session.transfer(&request, &[], transfer);
    }

    fn punch(&self, slots: Range<usize>, transfer: swap::Transfer) {
        let (offset, length) = (slots.start as u64 * PAGE, slots.len() as u64 * PAGE);
        self.session.transfer(
            &Allocate {
                handle: self.handle,
                offset: FileOffset(offset),
                length: ByteCount(length),
                mode: AllocateMode::PunchHole,
            },
            &[],
            transfer,
        );
    }

    fn is_gone(&self) -> bool {
        self.session.is_gone()
    }
}
