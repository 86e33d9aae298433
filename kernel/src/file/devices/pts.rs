//! `/dev/pts`: the pseudo-terminals, by number.

use super::Directory;
use crate::file::tty::{Tty, pair};
use crate::file::{DirectoryEntry, FileObject, FileType, Io, Stat, UserBuffers};
use alloc::format;
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// The pseudo-terminal of a name: a decimal number without leading zeros.
pub(super) fn find(name: &[u8]) -> Option<Arc<Tty>> {
    let number = core::str::from_utf8(name).ok()?.parse::<usize>().ok()?;
    if format!("{number}").as_bytes() == name { pair::find(number) } else { None }
}

/// The directory `/dev/pts`.
pub(super) struct Terminals {
    /// Its inode number in `/dev`.
    pub(super) inode: u64,
}

impl FileObject for Terminals {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat {
            file_type: FileType::Directory,
            mode: 0o755,
            links: 2,
            inode: self.inode,
            ..Stat::of_device()
        })
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        Directory.read(io, to, at)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read_dir(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        for (index, tty) in pair::all() {
            let next = index as u64 + 1;
            let name = format!("{index}");
            let entry = DirectoryEntry {
                inode: tty.stat().inode,
                next,
                file_type: FileType::CharacterDevice,
                name: name.as_bytes(),
            };
            if next > cookie && !sink(entry) {
                break;
            }
        }
        Ok(())
    }
}
