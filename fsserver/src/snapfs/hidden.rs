//! Hidden names: on a base that cannot keep a file without a name, files that clients must not see
//! get names in a folder that is hidden from them.
//!
//! Only a base without [`Features::OPEN_UNLINKED`] needs this. A file that loses its last name
//! while it is open or a snapshot needs it is moved to the folder, and rescue files lie there too.
//! The folder is created when it is needed and removed when it is empty. What a crash has left in
//! it is removed when the wrapper starts.
//!
//! The folder is absent from every request on names, from listings and from counts.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use foundation::Errno;
use fsproto::dirent::DirEntries;
use fsproto::{
    Features, Handle, MakeDir, Open, OpenFlags, Path, ReadDir, Remove, Rename, RenameFlags, Writer,
};

use crate::buffer::zeros;
use crate::{Base, Connection};

/// The folder's name, in the root directory.
const FOLDER: &[u8] = b".sloth-kept";

/// Maximum size in bytes of one listing while the folder is cleared.
const LIST_BYTES: u32 = 4096;

/// The hidden folder and the names in it.
#[derive(Debug)]
pub(super) struct HiddenNames {
    /// Whether the base needs hidden names at all.
    is_needed: bool,
    /// Whether the folder exists on the base. It may exist without being open: the base may have
    /// refused to open it, or to remove it when it was empty.
    exists: bool,
    /// The folder's handle, while a name is in use.
    folder: Option<Handle>,
    /// Number of names in use.
    count: usize,
    /// The last name assigned.
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

impl HiddenNames {
    /// For this base. Removes what an earlier wrapper has left.
    pub fn new<C: Connection>(base: &mut Base<C>) -> Result<Self, Errno> {
        let is_needed = !base.features().contains(Features::OPEN_UNLINKED);
        if is_needed {
            clear_folder(base)?;
        }
        Ok(Self { is_needed, exists: false, folder: None, count: 0, last: 0 })
    }

    /// Whether the base deletes a file with its last name, even if it is open.
    pub fn are_needed(&self) -> bool {
        self.is_needed
    }

    /// Whether the folder exists on the base.
    pub fn has_folder(&self) -> bool {
        self.exists
    }

    /// Opens the folder, which is created if it does not exist, and assigns a name in it.
    fn new_name<C: Connection>(
        &mut self,
        base: &mut Base<C>,
    ) -> Result<(Handle, HiddenName), Errno> {
        if !self.is_needed {
            return Err(Errno::EOPNOTSUPP);
        }
        let folder = match self.folder {
            Some(folder) => folder,
            None => {
                if !self.exists {
                    base.walk(&MakeDir { dir: Handle::ROOT, mode: 0o700 }, &[FOLDER])?;
                    self.exists = true;
                }
                let folder = base.walk(&open_folder(), &[FOLDER])?.reply.handle;
                self.folder = Some(folder);
                folder
            }
        };
        self.last += 1;
        self.count += 1;
        Ok((folder, HiddenName(self.last)))
    }

    /// Releases a name: removes the file, if there is one, and the folder with the last name.
    pub fn drop_name<C: Connection>(&mut self, base: &mut Base<C>, name: HiddenName) {
        let Some(folder) = self.folder else { return };
        debug_assert!(self.count > 0, "a name is dropped twice");
        self.count -= 1;
        // What cannot be removed now is found and removed by the next wrapper.
        let flags = OpenFlags::empty();
        let _ = base.walk(&Remove { dir: folder, flags }, &[name.text().as_bytes()]);
        if self.count == 0 {
            self.folder = None;
            base.close(folder);
            self.exists = remove_folder(base).is_err();
        }
    }

    /// Creates a file that no client sees: without a name where the base can keep such files.
    pub fn create_file<C: Connection>(
        &mut self,
        base: &mut Base<C>,
    ) -> Result<(Handle, Option<HiddenName>), Errno> {
        let mut flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let (dir, name) = if self.is_needed {
            flags |= OpenFlags::EXCLUSIVE;
            let (dir, name) = self.new_name(base)?;
            (dir, Some(name))
        } else {
            flags |= OpenFlags::UNNAMED;
            (Handle::ROOT, None)
        };
        let path = name.map_or(String::new(), HiddenName::text);
        match base.walk(&Open { dir, flags, mode: 0o600 }, &[path.as_bytes()]) {
            Ok(walk) if walk.reply.handle != Handle::NONE => Ok((walk.reply.handle, name)),
            outcome => {
                if let Some(name) = name {
                    self.drop_name(base, name);
                }
                Err(outcome.err().unwrap_or(Errno::EPROTO))
            }
        }
    }

    /// Moves the file at `path` to the folder.
    pub fn move_in<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        dir: Handle,
        path: Path<'_>,
    ) -> Result<HiddenName, Errno> {
        let (folder, name) = self.new_name(base)?;
        let request = Rename {
            old_dir: dir,
            new_dir: folder,
            old_bytes: path.bytes().len() as u32,
            flags: RenameFlags::NO_REPLACE,
        };
        match base.walk(&request, &[path.bytes(), name.text().as_bytes()]) {
            Ok(_) => Ok(name),
            Err(error) => {
                self.drop_name(base, name);
                Err(error)
            }
        }
    }

    /// Moves a file of the folder back to `path`, and releases its name.
    pub fn move_out<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        name: HiddenName,
        dir: Handle,
        path: Path<'_>,
    ) -> Result<(), Errno> {
        let folder = self.folder.ok_or(Errno::EIO)?;
        let text = name.text();
        let request = Rename {
            old_dir: folder,
            new_dir: dir,
            old_bytes: text.len() as u32,
            flags: RenameFlags::NO_REPLACE,
        };
        base.walk(&request, &[text.as_bytes(), path.bytes()])?;
        self.drop_name(base, name);
        Ok(())
    }

    /// Whether a path from the root directory leads to the folder or into it.
    pub fn hides(&self, path: Path<'_>) -> bool {
        let first = || path.components().next().map(|component| component.name);
        self.is_needed && first() == Some(FOLDER)
    }
}

/// The request that opens the folder.
fn open_folder() -> Open {
    let flags = OpenFlags::READ | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW;
    Open { dir: Handle::ROOT, flags, mode: 0 }
}

fn remove_folder<C: Connection>(base: &mut Base<C>) -> Result<(), Errno> {
    let request = Remove { dir: Handle::ROOT, flags: OpenFlags::DIRECTORY };
    base.walk(&request, &[FOLDER]).map(drop)
}

/// Removes the folder with all that an earlier wrapper has left in it.
fn clear_folder<C: Connection>(base: &mut Base<C>) -> Result<(), Errno> {
    let dir = match base.walk(&open_folder(), &[FOLDER]) {
        Err(Errno::ENOENT) => return Ok(()),
        walk => walk?.reply.handle,
    };
    let mut space = vec![0; LIST_BYTES as usize];
    loop {
        // From the start each time, since what was listed has been removed.
        let request = ReadDir { handle: dir, cookie: 0, length: LIST_BYTES };
        let (_, length) = base.fetch(&request, &[], &mut space)?;
        if length == 0 {
            break;
        }
        for entry in DirEntries::new(space.get(..length).unwrap_or_default()) {
            let name = entry.map_err(|_| Errno::EPROTO)?.name;
            base.walk(&Remove { dir, flags: OpenFlags::empty() }, &[name])?;
        }
    }
    base.close(dir);
    remove_folder(base)
}

/// Copies the entries of a listing except the folder's, as many as fit into `length` bytes (EINVAL
/// if that is none). Returns them and the cookie to continue with. Empty if the folder was the only
/// entry.
pub(super) fn without_folder(list: &[u8], length: usize) -> Result<(Vec<u8>, u64), Errno> {
    let mut space = zeros(length)?;
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
