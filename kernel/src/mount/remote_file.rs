//! An open file of a server, as programs use it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::dirent::DirEntries;
use fsproto::{AllocateMode, Attr, AttrMask, Features, FileKind, Handle, MAX_PAYLOAD, Time};

use super::handles::HandleCharge;
use super::server::Mount;
use super::server_file::ServerFile;
use super::{kept, mutants, read, seek, write, write_pages};
use crate::file::mapped::Extent;
use crate::file::{
    DirectoryEntry, FileObject, FileType, Identity, Io, MappingSource, SetAttr, Stat, UserBuffers,
    Wanted, WriteOutcome, WritePosition,
};
use crate::mem::{Frame, KeptFile, Pager, Snapshot, Space};

/// Bytes of directory entries requested at once.
const DIRECTORY_BYTES: u32 = MAX_PAYLOAD as u32 / 16;

/// An open file of a server.
pub struct RemoteFile {
    file: ServerFile,
    kind: FileKind,
    /// Permission bits when it was opened.
    mode: u16,
}

impl RemoteFile {
    /// Takes ownership of a handle that an `Open` request returned.
    pub(super) fn new(
        mount: Arc<Mount>,
        handle: Handle,
        attr: &Attr,
        charge: HandleCharge,
    ) -> Self {
        let (kind, mode) = (attr.kind, Stat::from_attr(attr, mount.id()).mode);
        Self { file: ServerFile::new(mount, handle, attr, charge), kind, mode }
    }

    /// The file's handle on its server.
    pub(super) fn server_file(&self) -> &ServerFile {
        &self.file
    }
}

impl FileObject for RemoteFile {
    fn stat(&self) -> Result<Stat, Errno> {
        let ServerFile { mount, handle, .. } = &self.file;
        let (attr, _) = mount.session().call(&fsproto::GetAttr { handle: *handle }, &[])?;
        Ok(Stat::from_attr(&attr, mount.id()))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        if self.kind == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        read::read(&self.file, io, to, at)
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        write::write(&self.file, io, from, at)
    }

    fn is_lost(&self) -> bool {
        self.file.mount.session().is_gone()
    }

    fn identity(&self) -> Option<Identity> {
        (self.kind == FileKind::Regular).then(|| self.file.identity())
    }

    fn mapping_source(&self) -> Option<MappingSource> {
        let ServerFile { mount, handle, .. } = &self.file;
        let is_certain = mount.is_sole() || mutants::map_uncertain();
        let needs_lease = !is_certain;
        let pager = mount.session().clone() as Arc<dyn Pager>;
        let source = MappingSource { pager, handle: *handle, needs_lease };
        (is_certain || mount.features().contains(Features::LEASE)).then_some(source)
    }

    fn await_changes(&self) -> Result<(), Errno> {
        Ok(self.file.mount.read_ahead().await_changes(self.file.id)?)
    }

    fn lease(&self) -> Result<(), Errno> {
        let ServerFile { mount, handle, .. } = &self.file;
        mount.session().call(&fsproto::Lease { handle: *handle }, &[]).map(drop)
    }

    fn write_pages(
        &self,
        at: FileOffset,
        pages: &[Frame],
        length: ByteCount,
    ) -> Result<ByteCount, Errno> {
        write_pages::write_pages(&self.file, at, pages, length)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let request = fsproto::SetAttr {
            handle: self.file.handle,
            mask: change.mask,
            mode: change.mode.into(),
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: Time(change.atime.0),
            mtime: Time(change.mtime.0),
        };
        let ServerFile { mount, id, .. } = &self.file;
        if change.mask.contains(AttrMask::SIZE) && self.kind == FileKind::Regular {
            let send = || mount.send_change(*id, &request, &[]).map(drop);
            self.file.change(Extent::Resize(change.size), send)
        } else {
            mount.change(*id, &request, &[]).map(drop)
        }
    }

    fn sync(&self) -> Result<(), Errno> {
        self.file.ask(&fsproto::Sync { handle: self.file.handle }).map(drop)
    }

    fn allocate(
        &self,
        offset: FileOffset,
        length: ByteCount,
        mode: AllocateMode,
    ) -> Result<(), Errno> {
        let request = fsproto::Allocate { handle: self.file.handle, offset, length, mode };
        let ServerFile { mount, id, .. } = &self.file;
        let extent = match mode {
            AllocateMode::Extend => {
                Extent::Extend(offset.saturating_add(length) - FileOffset::ZERO)
            }
            AllocateMode::PunchHole => Extent::Bytes(offset, length),
            // No byte changes.
            AllocateMode::KeepSize => return mount.change(*id, &request, &[]).map(drop),
        };
        self.file.change(extent, || mount.send_change(*id, &request, &[]).map(drop))
    }

    fn find(
        &self,
        from: FileOffset,
        size: ByteCount,
        wanted: Wanted,
    ) -> Result<Option<FileOffset>, Errno> {
        seek::find(&self.file, from, size, wanted)
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
                fsproto::ReadDir { handle: self.file.handle, cookie, length: DIRECTORY_BYTES };
            let (_, payload) = self.file.ask(&request)?;
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
        let (_, payload) = self.file.ask(&fsproto::ReadLink { handle: self.file.handle })?;
        payload.to_vec()
    }

    fn type_and_mode(&self) -> Result<(FileType, u16), Errno> {
        Ok((self.kind.into(), self.mode))
    }

    fn kept(&self, space: &Arc<Space>) -> Result<Option<KeptFile>, Errno> {
        if self.kind == FileKind::Regular { kept::kept(&self.file, space) } else { Ok(None) }
    }

    fn snapshot(
        &self,
        space: &Arc<Space>,
        offset: FileOffset,
        length: ByteCount,
    ) -> Result<Option<Arc<Snapshot>>, Errno> {
        read::snapshot(&self.file, space, offset, length)
    }
}
