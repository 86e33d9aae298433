//! `/proc` as a file system, and its open files.

use super::node::Node;
use crate::file::{
    DirectoryEntry, FileObject, FileSystem, FileSystemFigures, FileType, Io, OpenHow, SetAttr,
    Stat, UserBuffers, Walk, WriteOutcome, WritePosition,
};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AttrMask, OpenFlags};

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;
/// Bytes written to a knob at once, at most.
const MAX_WRITE: usize = 256;

/// The file system of `/proc`.
pub struct ProcFileSystem;

/// Follows a path to its node, or to a link on the way.
fn walk(path: &[u8], flags: OpenFlags) -> Result<Walk<Node>, Errno> {
    let mut node = Node::Root;
    let mut walked = 0;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        node = node.child(name)?;
        walked += usize::from(walked > 0) + name.len();
        let last = walked == path.len();
        // A descriptor in the last place is opened as the object that it is, in `open`.
        let opened = matches!(node, Node::Descriptor(..)) || flags.contains(OpenFlags::NO_FOLLOW);
        if node.file_type() == FileType::Symlink && !(last && opened) {
            return Ok(Walk::Link { which: 0, walked, target: node.target()? });
        }
    }
    Ok(Walk::Done(node))
}

impl FileSystem for ProcFileSystem {
    fn type_name(&self) -> &'static str {
        "proc"
    }

    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        let flags = how.flags;
        let node = match walk(path, flags) {
            Ok(Walk::Done(node)) => node,
            Ok(Walk::Link { which, walked, target }) => {
                return Ok(Walk::Link { which, walked, target });
            }
            Err(Errno::ENOENT) if flags.contains(OpenFlags::CREATE) => return Err(Errno::EACCES),
            Err(error) => return Err(error),
        };
        if flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
            return Err(Errno::EEXIST);
        }
        if !flags.contains(OpenFlags::NO_FOLLOW)
            && let Some(object) = node.object()?
        {
            return Ok(Walk::Done(object));
        }
        match node.file_type() {
            FileType::Directory if flags.intersects(OpenFlags::WRITE | OpenFlags::CREATE) => {
                return Err(Errno::EISDIR);
            }
            FileType::Directory => {}
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            _ if flags.contains(OpenFlags::WRITE) && node.mode() & 0o200 == 0 => {
                return Err(Errno::EACCES);
            }
            _ => {}
        }
        Ok(Walk::Done(Arc::new(ProcFile { node, text: Mutex::new(Vec::new()) })))
    }

    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        let node = match walk(path, flags)? {
            Walk::Done(node) => node,
            Walk::Link { which, walked, target } => {
                return Ok(Walk::Link { which, walked, target });
            }
        };
        if !flags.contains(OpenFlags::NO_FOLLOW)
            && let Some(object) = node.object()?
        {
            return object.stat().map(Walk::Done);
        }
        if flags.contains(OpenFlags::DIRECTORY) && node.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(Walk::Done(node.stat()))
    }

    fn figures(&self) -> Result<FileSystemFigures, Errno> {
        Ok(FileSystemFigures { magic: MAGIC, ..FileSystemFigures::default() })
    }
}

/// An open file of `/proc`.
struct ProcFile {
    node: Node,
    /// The text as it was when it was last read from the start.
    text: Mutex<Vec<u8>, rank::ProcText>,
}

impl FileObject for ProcFile {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.node.stat())
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        let mut text = core::mem::take(&mut *self.text.lock());
        if at == FileOffset::ZERO || text.is_empty() {
            text = self.node.text()?;
        }
        let start = usize::try_from(at.0).unwrap_or(usize::MAX);
        let copied = to.put(io.space, text.get(start..).unwrap_or_default());
        *self.text.lock() = text;
        Ok(ByteCount::of_len(copied?))
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let mut text = [0; MAX_WRITE];
        if from.remaining() > ByteCount::of_len(MAX_WRITE) {
            return Err(Errno::EINVAL);
        }
        let taken = from.take(io.space, &mut text)?;
        self.node.set(text.get(..taken).unwrap_or_default())?;
        Ok(WriteOutcome::from_start(at.offset(), ByteCount::of_len(taken)))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        // Truncation comes with every `echo 1 > knob`, and means nothing here.
        if (change.mask - AttrMask::SIZE).is_empty() && self.node.mode() & 0o200 != 0 {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn read_dir(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        // Processes come last, under cookies made of their numbers, which stay valid while others
        // come and go.
        let cookie_of = |at: u64, node: &Node| match node {
            Node::Process(pid) => (1 << 32) + u64::from(*pid),
            Node::Descriptor(_, fd) => 1 + u64::from(fd.0.unsigned_abs()),
            _ => at + 1,
        };
        for (at, (name, node)) in (0..).zip(self.node.names()?) {
            let next = cookie_of(at, &node);
            if next <= cookie {
                continue;
            }
            if !sink(DirectoryEntry {
                inode: node.inode(),
                next,
                file_type: node.file_type(),
                name: name.as_bytes(),
            }) {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        self.node.target()
    }
}
