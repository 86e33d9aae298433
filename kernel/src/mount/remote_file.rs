//! An open file of a server.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::Errno;
use foundation::mutant::{Mutant, active};
use fsproto::dirent::DirEntries;
use fsproto::{Attr, FileId, FileKind, Handle, MAX_PAYLOAD, Time};

use super::ahead::Order;
use super::{Mount, read, write};
use crate::file::{DirectoryEntry, FileObject, Io, SetAttr, Stat, UserBuffers, WriteAt, Written};
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

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: u64) -> Result<u64, Errno> {
        if self.kind == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        read::read(self, io, to, at)
    }

    fn write(&self, io: &Io<'_>, from: &mut UserBuffers, at: WriteAt) -> Result<Written, Errno> {
        write::write(self, io, from, at)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        (self.kind == FileKind::Regular).then_some((self.mount.id(), self.id.0))
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

    fn allocate(&self, offset: u64, length: u64, mode: u32) -> Result<(), Errno> {
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
        offset: u64,
        length: u64,
    ) -> Result<Option<Arc<Snapshot>>, Errno> {
        read::snapshot(self, space, offset, length)
    }
}
