//! An open file of a server.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::dirent::DirEntries;
use fsproto::{AllocateMode, Attr, FileId, FileKind, Handle, MAX_PAYLOAD, Time};

use super::ahead::Order;
use super::{Mount, read, write};
use crate::file::{
    Allocation, DirectoryEntry, FileObject, Identity, Io, SetAttr, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use crate::mem::{Snapshot, Space};

/// A handle of a server, closed when this is dropped.
pub struct RemoteFile {
    mount: Arc<Mount>,
    handle: Handle,
    id: FileId,
    kind: FileKind,
    order: Order,
}

impl RemoteFile {
    /// Takes charge of a handle that an `Open` gave.
    pub fn new(mount: Arc<Mount>, handle: Handle, attr: &Attr) -> Self {
        Self { mount, handle, id: attr.id, kind: attr.kind, order: Order::default() }
    }

    /// Its server.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// Its handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// How it is read.
    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// The number of the file.
    pub fn id(&self) -> FileId {
        self.id
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.mount.ahead().forget(self.id, self.handle);
        if !active(Mutant::LeakHandle) {
            self.mount.session().close(self.handle);
        }
    }
}

impl FileObject for RemoteFile {
    fn stat(&self) -> Result<Stat, Errno> {
        let (attr, _) =
            self.mount.session().call(&fsproto::GetAttr { handle: self.handle }, &[])?;
        Ok(Stat::from_attr(&attr, self.mount.id()))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        if self.kind == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        read::read(self, io, to, at.0).map(ByteCount)
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        write::write(self, io, from, at)
    }

    fn identity(&self) -> Option<Identity> {
        (self.kind == FileKind::Regular)
            .then_some(Identity { device: self.mount.id(), inode: self.id.0 })
    }

    fn seekable(&self) -> bool {
        true
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let request = fsproto::SetAttr {
            handle: self.handle,
            mask: change.mask,
            mode: change.mode.into(),
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: Time(change.atime.0),
            mtime: Time(change.mtime.0),
        };
        self.mount.change(self.id, &request, &[]).map(drop)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.mount.session().call(&fsproto::Sync { handle: self.handle }, &[]).map(drop)
    }

    fn allocate(
        &self,
        offset: FileOffset,
        length: ByteCount,
        allocation: Allocation,
    ) -> Result<(), Errno> {
        let mode = match allocation {
            Allocation::Extend => AllocateMode::Extend,
            Allocation::KeepSize => AllocateMode::KeepSize,
            Allocation::PunchHole => AllocateMode::PunchHole,
        };
        let request = fsproto::Allocate { handle: self.handle, offset, length, mode };
        self.mount.change(self.id, &request, &[]).map(drop)
    }

    fn read_dir(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        if self.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut cookie = cookie;
        loop {
            let request =
                fsproto::ReadDir { handle: self.handle, cookie, length: MAX_PAYLOAD as u32 / 16 };
            let (_, payload) = self.mount.session().call(&request, &[])?;
            if payload.is_empty() {
                return Ok(());
            }
            for entry in DirEntries::new(&payload.to_vec()?) {
                let entry = entry.map_err(|_| Errno::EIO)?;
                cookie = entry.next;
                if !sink(entry.into()) {
                    return Ok(());
                }
            }
        }
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        let (_, payload) =
            self.mount.session().call(&fsproto::ReadLink { handle: self.handle }, &[])?;
        payload.to_vec()
    }

    fn snapshot(
        &self,
        space: &Arc<Space>,
        offset: FileOffset,
        length: ByteCount,
    ) -> Result<Option<Arc<Snapshot>>, Errno> {
        read::snapshot(self, space, offset.0, length.0)
    }
}
