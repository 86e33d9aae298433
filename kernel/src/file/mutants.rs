//! Wrong code for testing the tests of the file layer.
//!
//! No `cfg` here: host tests enable the feature of `foundation` only. Without it, no mutant is ever
//! active, and the compiler removes the code.

use super::ring::Ring;
use super::{FileObject, Io, UserBuffers};
use crate::sync::{SleepLock, rank};
use alloc::vec::Vec;
use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset};

/// R2: reads at the position without holding the position's lock.
#[inline(always)]
pub(super) fn no_position_lock(
    position: &SleepLock<FileOffset, rank::Position>,
    object: &dyn FileObject,
    io: &Io<'_>,
    to: &mut UserBuffers,
) -> Option<Result<ByteCount, Errno>> {
    let read = || {
        let at = *position.lock()?;
        let count = object.read(io, to, at)?;
        *position.lock()? = at.saturating_add(count);
        Ok(count)
    };
    active(Mutant::NoPositionLock).then(read)
}

/// R2: the step of the position is the number of bytes requested.
#[inline(always)]
pub(super) fn step(requested: ByteCount, count: ByteCount) -> ByteCount {
    if active(Mutant::OffsetByRequest) { requested } else { count }
}

/// F4: bytes leave the pipe before they are delivered.
#[inline(always)]
pub(super) fn consume_early() -> bool {
    active(Mutant::ConsumeEarly)
}

/// Q4: the number of messages is not limited, and an empty one costs nothing.
#[inline(always)]
pub(super) fn free_messages() -> bool {
    active(Mutant::FreeMessages)
}

/// Q4: an end of file takes no space.
#[inline(always)]
pub(super) fn free_end_of_file() -> bool {
    active(Mutant::FreeEndOfFile)
}

/// X2: programs can send on an endpoint that the kernel has attached.
#[inline(always)]
pub(super) fn open_transport() -> bool {
    active(Mutant::OpenCarrier)
}

/// F4: takes bytes out of a pipe, then delivers them.
pub(super) fn read_pipe_early(
    ring: &Ring,
    io: &Io<'_>,
    to: &mut UserBuffers,
    available: usize,
) -> Result<ByteCount, Errno> {
    let count = available.min(to.remaining().to_usize());
    let bytes: Vec<u8> = ring.state.lock().bytes.drain(..count).collect();
    ring.changed.notify();
    Ok(ByteCount::of_len(to.put(io.space, &bytes)?))
}

/// F4: a message that was handed over is lost where a signal ends the wait.
#[inline(always)]
pub(super) fn drop_handed() -> bool {
    active(Mutant::DropHanded)
}

/// A message is handed over before those in the queue.
#[inline(always)]
pub(super) fn overtake() -> bool {
    active(Mutant::Overtake)
}

/// F4: a message is handed to a thread that was killed.
#[inline(always)]
pub(super) fn hand_to_killed() -> bool {
    active(Mutant::HandToKilled)
}

foundation::mutant_switches! {
    pub(super),
    /// M2: stores to the page in which a file ends are lost when it is resized.
    lose_partial: LosePartial;
    /// M2: a page that the server did not take counts as written.
    refused_is_written: RefusedIsWritten;
    /// M2: write-back extends a file to whole pages.
    write_back_extends: WriteBackExtends;
    /// M2: stored pages of a server that is gone are lost without a message.
    lose_silently: LoseSilently;
    /// M4: a reader does not see what was stored to a mapped file.
    read_past_stores: ReadPastStores;
    /// M2: no space is reserved for a page that is stored to.
    reserve_nothing: ReserveNothing;
}
