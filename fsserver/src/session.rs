//! The sessions of a dispatcher: what each client may do, what it holds, and how much of it.

use alloc::collections::BTreeMap;

use foundation::{Errno, SnapshotOffset};
use fsproto::{Features, Handle, Piece};

use crate::mutants;

/// Maximum number of open files of one session (ENFILE). It bounds the memory that a client can use
/// up by not closing them.
pub const MAX_OPEN_FILES: usize = 65_536;

/// Maximum number of snapshots of one session (EDQUOT, Q4). Beyond it the client reads by copying.
pub const MAX_SNAPSHOTS: usize = 16_384;

/// Limits on what one session may keep.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Handles of files, directories and links (ENFILE). The client learns it, so that it can
    /// divide them among its own clients.
    pub files: usize,
    /// Snapshots (EDQUOT).
    pub snapshots: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { files: MAX_OPEN_FILES, snapshots: MAX_SNAPSHOTS }
    }
}

/// What a handle of a client refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Snapshot,
}

/// What is known of a client.
#[derive(Default)]
pub(crate) struct Session {
    pub greeted: bool,
    /// It may only read what files held at a version (F9).
    pub is_direct: bool,
    pub features: Features,
    pub handles: BTreeMap<Handle, Kind>,
    pub snapshots: usize,
    pub limits: ClientLimits,
}

impl Session {
    /// EBADF unless the handle is this session's.
    pub fn check(&self, handle: Handle) -> Result<(), Errno> {
        if handle == Handle::ROOT || self.handles.contains_key(&handle) {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    /// ENFILE unless another file may be opened. (Snapshots count apart, so that neither takes what
    /// the other may have.)
    pub fn check_files(&self) -> Result<(), Errno> {
        let files = self.handles.len() - self.snapshots;
        if files < self.limits.files { Ok(()) } else { Err(Errno::ENFILE) }
    }

    /// EDQUOT unless another snapshot may be taken.
    pub fn check_snapshots(&self) -> Result<(), Errno> {
        let within = self.snapshots < self.limits.snapshots || mutants::no_snapshot_limit();
        if within { Ok(()) } else { Err(Errno::EDQUOT) }
    }

    /// Records a handle that a reply brings to the client.
    pub fn assign(&mut self, handle: Handle, kind: Kind) {
        if handle != Handle::NONE {
            self.snapshots += usize::from(kind == Kind::Snapshot);
            self.handles.insert(handle, kind);
        }
    }

    /// Forgets a handle. EBADF unless it is this session's.
    pub fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        let kind = self.handles.remove(&handle).ok_or(Errno::EBADF)?;
        self.snapshots -= usize::from(kind == Kind::Snapshot);
        Ok(())
    }
}

/// Checks a list of pieces: data pieces add up to `data_bytes`, references name snapshots of this
/// session.
pub(crate) fn check_pieces(
    session: &Session,
    pieces: &[Piece],
    data_bytes: usize,
) -> Result<(), Errno> {
    if pieces.is_empty() {
        return Ok(());
    }
    let mut data_left = data_bytes as u64;
    for piece in pieces {
        if piece.snapshot == Handle::NONE {
            data_left = data_left
                .checked_sub(piece.length.0)
                .filter(|_| piece.offset == SnapshotOffset(0))
                .ok_or(Errno::EPROTO)?;
        } else if session.handles.get(&piece.snapshot) != Some(&Kind::Snapshot) {
            return Err(Errno::EBADF);
        }
    }
    if data_left == 0 { Ok(()) } else { Err(Errno::EPROTO) }
}
