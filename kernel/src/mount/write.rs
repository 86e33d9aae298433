//! write(2) to a server's file: what still stands for bytes of the server's own snapshots travels as references, everything else as bytes.
//!
//! A message carries up to [`DATA_MAX`] bytes and any length of references, in the order of the buffer. The snapshots are held until the reply, so that
//! what a reference means cannot change, however the program's memory does. Where the server refuses references, the bytes travel, and its refusal of
//! these is the error that counts.

use alloc::vec::Vec;

use fsproto::{Errno, Features, MAX_PAYLOAD, MAX_PIECES, Piece, WriteFlags};

use super::remote_file::RemoteFile;
use crate::file::{Io, UserBuffers, WriteAt, Written};
use crate::mem::{Counter, PAGE_BYTES, Run};

/// Pieces of one message, at most.
const PIECES_MAX: usize = MAX_PIECES / 4;
/// Bytes of one message beside its list of pieces.
const DATA_MAX: u64 = (MAX_PAYLOAD - PIECES_MAX * Piece::BYTES) as u64;

/// Writes all of `from` that can be written. An error counts only where nothing was written before it.
pub fn write(file: &RemoteFile, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
    let mut done = Written::default();
    let mut at = at;
    while from.remaining() > 0 {
        match write_message(file, io, from, at) {
            Ok(written) => {
                done = Written { bytes: done.bytes + written.bytes, end: written.end };
                if written.bytes == 0 {
                    break;
                }
                // What follows an append follows it in the file only if nobody else appends: the server decides again.
                if at != WriteAt::End {
                    at = WriteAt::Offset(written.end);
                }
            }
            Err(error) if done.bytes == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn write_message(file: &RemoteFile, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
    if let Some(mut parcel) = references(file, io, from)? {
        let taken = parcel.pack(io, from)?;
        match send(file, at, &parcel, taken) {
            Err(Errno::EINTR) => return Err(Errno::EINTR),
            Err(_) => {}
            Ok(written) => {
                from.skip(written.bytes);
                io.space.counters.add(Counter::PagesReferenced, parcel.referenced / PAGE_BYTES as u64);
                io.space.counters.add(Counter::BytesWritten, parcel.data.len() as u64);
                return Ok(written);
            }
        }
    }
    let mut parcel = Parcel::default();
    let taken = parcel.pack_bytes(io, from, DATA_MAX)?;
    io.space.counters.add(Counter::BytesWritten, taken);
    send(file, at, &parcel, taken)
}

/// What the next bytes stand for, if some of them travel as references; `None` where all travel as bytes.
fn references(file: &RemoteFile, io: &Io<'_>, from: &UserBuffers) -> Result<Option<Parcel>, Errno> {
    let Some(slice) = from.only() else { return Ok(None) };
    let mount = file.mount();
    if !mount.features().contains(Features::WRITE_REFERENCES) || !mount.is_lazy() || !io.space.policy.lazy() {
        return Ok(None);
    }
    let runs = io.space.runs(slice, PIECES_MAX)?;
    let mine = |run: &Run| matches!(run, Run::Clean { snapshot, .. } if mount.is_pager_of(snapshot));
    Ok(runs.iter().any(mine).then_some(Parcel { runs, ..Parcel::default() }))
}

/// The payload of a write.
#[derive(Default)]
struct Parcel {
    /// What is to be packed; holds the snapshots that pieces refer to.
    runs: Vec<Run>,
    data: Vec<u8>,
    pieces: Vec<u8>,
    /// Bytes that travel as references.
    referenced: u64,
}

impl Parcel {
    /// Packs the runs, as far as one message goes and memory reaches. Returns how many bytes that are; they stay in `from`.
    fn pack(&mut self, io: &Io<'_>, from: &UserBuffers) -> Result<u64, Errno> {
        let Some(slice) = from.only() else { return Ok(0) };
        let mut done = 0;
        for run in core::mem::take(&mut self.runs) {
            let piece = match &run {
                Run::Clean { snapshot, offset, bytes } => {
                    self.referenced += bytes;
                    Piece { snapshot: snapshot.handle, offset: *offset, length: *bytes }
                }
                Run::Own { bytes } => {
                    let mut own = UserBuffers::one(slice.skip(done as usize).take(*bytes as usize));
                    let packed = match self.pack_bytes(io, &mut own, DATA_MAX - self.data.len() as u64) {
                        Err(error) if done == 0 => return Err(error),
                        packed => packed.unwrap_or(0),
                    };
                    Piece { length: packed, ..Piece::default() }
                }
            };
            if piece.length > 0 {
                self.pieces.extend_from_slice(&piece.to_bytes());
            }
            done += piece.length;
            let whole = piece.length == run.bytes();
            self.runs.push(run);
            if !whole {
                break;
            }
        }
        Ok(done)
    }

    /// Copies the next bytes, `max` at most, and says how many; an error only for none.
    fn pack_bytes(&mut self, io: &Io<'_>, from: &mut UserBuffers, max: u64) -> Result<u64, Errno> {
        let wanted = from.remaining().min(max) as usize;
        let start = self.data.len();
        self.data.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        self.data.resize(start + wanted, 0);
        let taken = if wanted == 0 { Ok(0) } else { from.take(io.space, self.data.get_mut(start..).unwrap_or_default()) };
        self.data.truncate(start + *taken.as_ref().unwrap_or(&0));
        taken.map(|taken| taken as u64)
    }
}

fn send(file: &RemoteFile, at: WriteAt, parcel: &Parcel, bytes: u64) -> Result<Written, Errno> {
    let (offset, flags) = match at {
        WriteAt::Offset(offset) => (offset, WriteFlags::empty()),
        WriteAt::End => (0, WriteFlags::APPEND),
    };
    let request = fsproto::Write { handle: file.handle(), offset, flags, data_bytes: parcel.data.len() as u32 };
    let (reply, _) = file.mount().session().call(&request, &[&parcel.data, &parcel.pieces])?;
    let end = reply.offset.checked_add(reply.length).filter(|_| reply.length <= bytes).ok_or(Errno::EIO)?;
    Ok(Written { bytes: reply.length, end })
}
