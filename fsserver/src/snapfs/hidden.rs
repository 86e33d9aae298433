//! What is kept on a base that cannot keep a file without a name: it gets a name in a folder that
//! no client sees.
//!
//! Only a base without [`Features::OPEN_UNLINKED`] needs this. There a file that loses its last
//! name while it is open, or while a snapshot needs it, is moved to the folder, and the stores lie
//! in it too. The folder is made when it is needed and removed when it is empty. What a crash has
//! left in it is removed at the start.
//!
//! Nobody sees it: the name is absent to every request, not listed, and not counted.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use foundation::Errno;
use fsproto::dirent::DirEntries;
use fsproto::{
    Close, FileId, FileKind, Handle, MakeDir, Open, OpenFlags, Path, ReadDir, Remove, Rename,
    RenameFlags, Stat, Writer,
};

use super::Snapfs;
use crate::connection::Connection;
use crate::server::{Clock, Walk};

/// The folder's name, in the root directory.
const FOLDER: &[u8] = b".sloth-kept";

/// Bytes of entries asked for at once when the folder is cleared.
const LIST_BYTES: u32 = 4096;

/// The folder, on a base that needs one.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// It is on the base. The base may have refused to open it then, or to remove it when it was
    /// empty.
    is_there: bool,
    /// Open while it is in use.
    folder: Option<Handle>,
    /// Files in it.
    count: usize,
    last: u64,
}

/// The name of a file in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HiddenName(u64);

impl HiddenName {
    fn text(self) -> String {
        format!("{:x}", self.0)
    }
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Whether the folder is there.
    pub(super) fn has_folder(&self) -> bool {
        self.hidden.as_ref().is_some_and(|hidden| hidden.is_there)
    }

    /// Files that there are on the base for the wrapper's own sake: the folder, but not what is in
    /// it.
    pub(super) fn folders(&self) -> u64 {
        u64::from(self.has_folder())
    }

    /// Removes what an earlier wrapper has left.
    pub(super) fn clear_folder(&mut self) -> Result<(), Errno> {
        let request = Open {
            dir: Handle::ROOT,
            flags: OpenFlags::READ | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW,
            mode: 0,
        };
        let dir = match self.base.walk(&request, &[FOLDER]) {
            Err(Errno::ENOENT) => return Ok(()),
            walk => walk?.reply.handle,
        };
        let mut space = vec![0; LIST_BYTES as usize];
        loop {
            // From the start each time, since what was listed is gone.
            let (_, length) = self.base.fetch(
                &ReadDir { handle: dir, cookie: 0, length: LIST_BYTES },
                &[],
                &mut space,
            )?;
            if length == 0 {
                break;
            }
            for entry in DirEntries::new(space.get(..length).unwrap_or_default()) {
                let name = entry.map_err(|_| Errno::EPROTO)?.name;
                self.base.walk(&Remove { dir, flags: OpenFlags::empty() }, &[name])?;
            }
        }
        self.base.request(&Close { handle: dir }, &[])?;
        self.base
            .walk(&Remove { dir: Handle::ROOT, flags: OpenFlags::DIRECTORY }, &[FOLDER])
            .map(drop)
    }

    /// The folder and a free name in it; the folder is made if it is not there.
    fn new_name(&mut self) -> Result<(Handle, HiddenName), Errno> {
        let hidden = self.hidden.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        let folder = match hidden.folder {
            Some(folder) => folder,
            None => {
                if !hidden.is_there {
                    self.base.walk(&MakeDir { dir: Handle::ROOT, mode: 0o700 }, &[FOLDER])?;
                    hidden.is_there = true;
                }
                let flags = OpenFlags::READ | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW;
                let folder = self
                    .base
                    .walk(&Open { dir: Handle::ROOT, flags, mode: 0 }, &[FOLDER])?
                    .reply
                    .handle;
                hidden.folder = Some(folder);
                folder
            }
        };
        hidden.last += 1;
        hidden.count += 1;
        Ok((folder, HiddenName(hidden.last)))
    }

    /// The name is not used any more, or never was: the file is removed if it is there, and the
    /// folder with the last of them.
    pub(super) fn drop_name(&mut self, name: HiddenName) {
        let Some((hidden, folder)) =
            self.hidden.as_mut().and_then(|hidden| hidden.folder.map(|folder| (hidden, folder)))
        else {
            return;
        };
        hidden.count -= 1;
        let is_empty = hidden.count == 0;
        // What cannot be removed now is found and removed by the next wrapper.
        let _ = self
            .base
            .walk(&Remove { dir: folder, flags: OpenFlags::empty() }, &[name.text().as_bytes()]);
        if is_empty {
            hidden.folder = None;
            let _ = self.base.request(&Close { handle: folder }, &[]);
            hidden.is_there = self
                .base
                .walk(&Remove { dir: Handle::ROOT, flags: OpenFlags::DIRECTORY }, &[FOLDER])
                .is_err();
        }
    }

    /// A new file to keep things in, which nobody sees.
    pub(super) fn open_hidden(&mut self) -> Result<(Handle, Option<HiddenName>), Errno> {
        let mut flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let (dir, name) = if self.hidden.is_some() {
            flags |= OpenFlags::EXCLUSIVE;
            let (dir, name) = self.new_name()?;
            (dir, Some(name))
        } else {
            flags |= OpenFlags::UNNAMED;
            (Handle::ROOT, None)
        };
        let path = name.map_or(String::new(), HiddenName::text);
        match self.base.walk(&Open { dir, flags, mode: 0o600 }, &[path.as_bytes()]) {
            Ok(walk) if walk.reply.handle != Handle::NONE => Ok((walk.reply.handle, name)),
            outcome => {
                name.into_iter().for_each(|name| self.drop_name(name));
                Err(outcome.err().unwrap_or(Errno::EPROTO))
            }
        }
    }

    /// Before a file's name is taken away: if it is the last one of a file that is needed still,
    /// the file is moved to the folder, and it is told as what it is then. Nothing to do on a base
    /// that keeps what is open.
    pub(super) fn keep(
        &mut self,
        dir: Handle,
        path: Path<'_>,
    ) -> Result<Option<(FileId, HiddenName)>, Errno> {
        if self.hidden.is_none() {
            return Ok(None);
        }
        let walk = self.base.walk(&Stat { dir, flags: OpenFlags::NO_FOLLOW }, &[path.bytes()])?;
        let attr = walk.reply.attr;
        if walk.is_link()
            || attr.links != 1
            || attr.kind != FileKind::Regular
            || !self.files.contains_key(&attr.id)
        {
            return Ok(None);
        }
        let (folder, name) = self.new_name()?;
        let text = name.text();
        let request = Rename {
            old_dir: dir,
            new_dir: folder,
            old_bytes: path.bytes().len() as u32,
            flags: RenameFlags::NO_REPLACE,
        };
        if let Err(error) = self.base.walk(&request, &[path.bytes(), text.as_bytes()]) {
            self.drop_name(name);
            return Err(error);
        }
        if let Some(file) = self.files.get_mut(&attr.id) {
            (file.kept, file.attr) = (Some(name), None);
        }
        Ok(Some((attr.id, name)))
    }

    /// What was about to take the name failed: the file is moved back.
    pub(super) fn give_back(&mut self, kept: (FileId, HiddenName), dir: Handle, path: Path<'_>) {
        let Some(folder) = self.hidden.as_ref().and_then(|hidden| hidden.folder) else { return };
        let text = kept.1.text();
        let request = Rename {
            old_dir: folder,
            new_dir: dir,
            old_bytes: text.len() as u32,
            flags: RenameFlags::NO_REPLACE,
        };
        if self.base.walk(&request, &[text.as_bytes(), path.bytes()]).is_ok() {
            if let Some(file) = self.files.get_mut(&kept.0) {
                (file.kept, file.attr) = (None, None);
            }
            self.drop_name(kept.1);
        }
    }

    /// A removal where the file has to be kept: nothing is left to be done then.
    pub(super) fn remove_by_keeping(
        &mut self,
        dir: Handle,
        path: Path<'_>,
    ) -> Result<Option<Walk>, Errno> {
        let Some((id, _)) = self.keep(dir, path)? else { return Ok(None) };
        let attr = self.base_attr(id)?;
        Ok(Some(Walk::done(Handle::NONE, self.shown(attr))))
    }

    /// ENOENT for the folder and what is in it.
    pub(super) fn check_visible(&self, dir: Handle, path: Path<'_>) -> Result<(), Errno> {
        let first = path.components().next().map(|component| component.name);
        if self.hidden.is_some() && first == Some(FOLDER) && self.is_root(dir) {
            Err(Errno::ENOENT)
        } else {
            Ok(())
        }
    }

    /// Entries without the folder's, as many as fit into `length` bytes: EINVAL if that is none.
    /// Nothing if it was the only one, and the cookie to go on with.
    pub(super) fn without_folder(list: &[u8], length: usize) -> Result<(Vec<u8>, u64), Errno> {
        let mut space = vec![0; length];
        let mut writer = Writer::new(&mut space);
        let mut cookie = 0;
        for entry in DirEntries::new(list) {
            let entry = entry.map_err(|_| Errno::EPROTO)?;
            if entry.name != FOLDER && entry.encode(&mut writer).is_err() {
                if writer.used() == 0 {
                    return Err(Errno::EINVAL);
                }
                break;
            }
            cookie = entry.next;
        }
        let used = writer.used();
        space.truncate(used);
        Ok((space, cookie))
    }
}
