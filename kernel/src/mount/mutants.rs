//! Wrong code for testing the tests of the protocol's client. Without the feature `mutants` every
//! predicate is constant false and every function does nothing.

use foundation::Errno;
use foundation::FileOffset;
use foundation::mutant::{Mutant, active};

use super::server_file::ServerFile;
use super::snapshot_reply::SnapshotReply;
use crate::file::{Io, UserBuffers};
use crate::mem::{SentPages, Snapshot, SnapshotSource, Space, UserSlice};

macro_rules! predicates {
    ($($(#[$doc:meta])* $name:ident = $mutant:ident;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub(super) fn $name() -> bool {
            active(Mutant::$mutant)
        })*
    };
}

predicates! {
    /// R1: read-ahead data is used although the file has changed.
    stale_ahead = StaleAhead;
    /// A6: a program is started from what was kept of its file before a change.
    run_old_program = RunOldProgram;
    /// X10: what is known of a path is kept although a request may change it.
    stat_never_stale = StatNeverStale;
    /// X10: an answer is kept although a request in flight may have changed what it says.
    stat_in_flight = StatInFlight;
    /// Q1: read-ahead snapshots keep the space that they reserve on the server.
    ahead_keeps_room = AheadKeepsRoom;
    /// R8: a refused snapshot is an error.
    no_fallback = NoFallback;
    /// F8: servers read lazily.
    lazy_server = LazyServer;
    /// Q4: the limit of snapshots is ignored.
    no_snapshot_limit = NoSnapshotLimit;
    /// R5: EFAULT is returned before the server was asked.
    early_fault = EarlyFault;
    /// F9: page-ins of an untrusted mount go to the base that it names.
    direct_untrusted = DirectUntrusted;
    /// R9: each buffer of a vector is read by itself.
    vector_per_buffer = VectorPerBuffer;
    /// R10: hole lists are never requested.
    ignore_holes = IgnoreHoles;
    /// Q6: who has many files of a server open leaves none to others.
    take_all_files = TakeAllFiles;
    /// X5: closed files stay open on the server.
    leak_handle = LeakHandle;
    /// C10: what waits to be closed is forgotten with the next request.
    forget_closes = ForgetCloses;
    /// X5: lengths in replies are not checked.
    believe_server = BelieveServer;
    /// W1: the buffers of a vector are sent as data.
    vector_by_bytes = VectorByBytes;
    /// W5: references are sent to servers that do not know the snapshot.
    foreign_reference = ForeignReference;
}

/// W4: references to other files of the server are sent as data.
#[inline(always)]
pub(super) fn copy_by_bytes(file: &ServerFile, snapshot: &Snapshot) -> bool {
    let is_own =
        matches!(snapshot.source, SnapshotSource::File { file: id, .. } if id == file.id.0);
    active(Mutant::CopyByBytes) && !is_own
}

/// R9: reads each buffer of a vector by itself.
pub(super) fn read_each_buffer(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<foundation::ByteCount, Errno> {
    let mut done = foundation::ByteCount::ZERO;
    while let Some(front) = to.front() {
        let count = super::read::read(file, io, &mut UserBuffers::one(front), offset + done)?;
        to.skip(count);
        done += count;
        if count < foundation::ByteCount::of_len(front.len()) {
            break;
        }
    }
    Ok(done)
}

/// R1: replaces the fragments by bytes of the live file.
#[inline]
pub(super) fn live_fragments(
    file: &ServerFile,
    offset: FileOffset,
    reply: &mut SnapshotReply,
) -> Result<(), Errno> {
    if !active(Mutant::LiveFragments) {
        return Ok(());
    }
    let tail_bytes = reply.trailing().len();
    let tail_at = offset.0 + reply.length.0 - tail_bytes as u64;
    let read = |offset, length: usize| {
        let request = fsproto::Read { handle: file.handle, offset, length: length as u32 };
        file.mount.session().call(&request, &[])?.1.to_vec()
    };
    let mut fragments = read(offset.0, reply.leading_bytes)?;
    fragments.extend(read(tail_at, tail_bytes)?);
    fragments.resize(reply.fragments.len(), 0);
    reply.fragments = fragments;
    Ok(())
}

/// R3: zeros the rest of the last page.
#[inline]
pub(super) fn zero_past_end(
    io: &Io<'_>,
    to: &mut UserBuffers,
    buffer: UserSlice,
    read: foundation::ByteCount,
) {
    const PAGE: u64 = foundation::PAGE_BYTES as u64;
    if active(Mutant::ZeroPastEnd) {
        let past_end = (PAGE - (buffer.addr().0 + read.0) % PAGE) % PAGE;
        to.put(io.space, &[0; PAGE as usize][..past_end as usize]).ok();
    }
}

/// W8: write-protects pages after the server has their bytes. Returns whether that failed.
#[inline]
pub(super) fn late_protect(sent: &mut [SentPages], space: &Space) -> bool {
    active(Mutant::LateProtect) && sent.iter_mut().any(|pages| pages.protect_late(space).is_err())
}

/// W8: the snapshot of a write's result is never closed.
#[inline(always)]
pub(super) fn leak_result_snapshot(snapshot: alloc::sync::Arc<Snapshot>) {
    if active(Mutant::LeakResultSnapshot) {
        core::mem::forget(snapshot);
    }
}

/// X5: a reply is of the request at its tag's place, whatever its number.
#[inline(always)]
pub(super) fn forget_number() -> bool {
    active(Mutant::ForgetNumber)
}

/// M6: files that others may change can be mapped.
#[inline(always)]
pub(super) fn map_uncertain() -> bool {
    active(Mutant::MapUncertain)
}
