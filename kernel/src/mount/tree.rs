//! A mounted server's tree of names.

use alloc::sync::Arc;

use foundation::Errno;
use fsproto::{AttrMask, FileId, FileKind, Handle, OpenFlags, RenameFlags};

use super::known::Touches;
use super::read_ahead::Changes;
use super::remote_file::RemoteFile;
use super::server::Mount;
use crate::file::{
    FileObject, FileSystem, FileSystemFigures, Identity, OpenHow, SetAttr, Stat, Walk, downcast,
    fifo, mapped, socket,
};

/// `f_type` of a mount: the letters "slth".
const MAGIC: u64 = 0x736c_7468;

/// A mounted server as a file system.
pub struct MountedTree(pub Arc<Mount>);

impl FileSystem for MountedTree {
    fn type_name(&self) -> &'static str {
        "sloth"
    }

    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        // A mapped file is truncated in a way that keeps its memory in step.
        let is_separate = how.flags.contains(OpenFlags::TRUNCATE) && mapped::has_files(self.0.id());
        let truncate = if is_separate { OpenFlags::TRUNCATE } else { OpenFlags::empty() };
        let flags = how.flags - truncate;
        let request = fsproto::Open { dir: Handle::ROOT, flags, mode: how.mode.into() };
        let truncates = flags.contains(OpenFlags::TRUNCATE);
        let read_ahead = self.0.read_ahead();
        let change =
            truncates.then(|| read_ahead.begin_path_change(Changes::Contents)).transpose()?;
        let charge = self.0.charge_handle()?;
        let changes = flags.intersects(OpenFlags::TRUNCATE | OpenFlags::CREATE);
        let touches = if changes { Touches::Anything } else { Touches::Nothing };
        let opened = match self.0.walk_touching(touches, &request, &[path])? {
            Walk::Done(walked) if walked.handle == Handle::NONE => return Err(Errno::EIO),
            Walk::Done(walked) => walked,
            Walk::Link { which, walked, target } => {
                change.into_iter().for_each(|change| change.was_of([FileId::NONE; 2]));
                return Ok(Walk::Link { which, walked, target });
            }
        };
        let (handle, attr) = (opened.handle, opened.attr);
        change.into_iter().for_each(|change| change.was_of([attr.id, FileId::NONE]));
        let file = Arc::new(RemoteFile::new(self.0.clone(), handle, &attr, charge));
        if is_separate && attr.kind == FileKind::Regular && !attr.size.is_zero() {
            file.set_attr(&SetAttr { mask: AttrMask::SIZE, ..SetAttr::default() })?;
        }
        let identity = Identity { device: self.0.id(), inode: attr.id.0 };
        Ok(Walk::Done(match attr.kind {
            FileKind::Pipe => fifo::Node::new(file, identity),
            FileKind::Socket => socket::Node::new(file, identity),
            _ => file,
        }))
    }

    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        Ok(self.0.stat(path, flags)?.map(|attr| Stat::from_attr(&attr, self.0.id())))
    }

    fn known_stat(&self, path: &[u8], flags: OpenFlags) -> Option<Result<Stat, Errno>> {
        self.0.known_stat(path, flags)
    }

    fn make_dir(&self, path: &[u8], mode: u16) -> Result<Walk<()>, Errno> {
        let request = fsproto::MakeDir { dir: Handle::ROOT, mode: mode.into() };
        Ok(self.0.walk(&request, &[path])?.map(drop))
    }

    fn remove(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<()>, Errno> {
        self.0.change_names(&fsproto::Remove { dir: Handle::ROOT, flags }, &[path])
    }

    fn rename(&self, old: &[u8], new: &[u8], flags: RenameFlags) -> Result<Walk<()>, Errno> {
        let request = fsproto::Rename {
            old_dir: Handle::ROOT,
            new_dir: Handle::ROOT,
            old_bytes: old.len() as u32,
            flags,
        };
        self.0.change_names(&request, &[old, new])
    }

    fn link(&self, existing: &Arc<dyn FileObject>, new: &[u8]) -> Result<Walk<()>, Errno> {
        let pipe = downcast::<fifo::Node>(existing);
        let existing = pipe.as_ref().map_or(existing, |pipe| pipe.file());
        let name = downcast::<socket::Node>(existing);
        let existing = name.as_ref().map_or(existing, |name| name.file());
        let object = downcast::<RemoteFile>(existing).ok_or(Errno::EXDEV)?;
        let file = object.server_file();
        if file.mount.id() != self.0.id() {
            return Err(Errno::EXDEV);
        }
        let _change = self.0.read_ahead().begin_change(file.id)?;
        let request = fsproto::Link { handle: file.handle, dir: Handle::ROOT };
        Ok(self.0.walk(&request, &[new])?.map(drop))
    }

    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<Walk<()>, Errno> {
        let request = fsproto::MakeSymlink { dir: Handle::ROOT, path_bytes: path.len() as u32 };
        Ok(self.0.walk(&request, &[path, target])?.map(drop))
    }

    fn figures(&self) -> Result<FileSystemFigures, Errno> {
        let session = self.0.session();
        let (figures, _) = session.call(&fsproto::GetStatFs {}, &[])?;
        let figures = FileSystemFigures {
            magic: MAGIC,
            blocks: figures.blocks,
            blocks_free: figures.blocks_free,
            files: figures.files,
            files_free: figures.files_free,
            bytes_rescued: figures.bytes_rescued.0,
            bytes_elided: figures.bytes_elided.0,
            bytes_cloned: figures.bytes_cloned.0,
            handles: [figures.handles, figures.base_handles],
            snapshots: [figures.snapshots, figures.pages_kept.0],
            requests: session.in_flight() as u64,
        };
        self.0.note_figures(figures);
        Ok(figures)
    }

    fn known_figures(&self) -> FileSystemFigures {
        self.0.known_figures()
    }

    fn device(&self) -> Option<u64> {
        Some(self.0.id())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.0.session().call(&fsproto::Sync { handle: Handle::ROOT }, &[]).map(drop)
    }
}
