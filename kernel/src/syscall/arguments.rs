//! Decoding of arguments that many calls share: descriptors, paths, buffers.

use crate::file::{
    Caller, Descriptor, Fd, FileObject, FileSystem, OnExec, OpenFile, OpenHow, Stat, UserBuffers,
    namespace,
};
use crate::mem::limits::Resource;
use crate::mem::{UserAddr, UserSlice, fallible};
pub(super) use crate::task::word;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::OpenFlags;
use linux_raw_sys::general as linux;

/// Upper bound for the entries of a vector (`IOV_MAX`).
const MAX_VECTORS: u64 = 1024;
/// Size of a `struct iovec`, in bytes.
pub const VECTOR_BYTES: usize = 16;
/// Entries that are copied from the program in one step.
const VECTORS_AT_ONCE: usize = 8;

/// Bytes of a path that is looked up without an allocation, at most.
const SHORT_PATH: usize = 160;

/// The open file of a descriptor; EBADF if there is none.
pub fn open_file(current: &dyn Caller, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    current.open_file(fd)
}

/// Installs an open file at the lowest free descriptor, and returns that.
pub fn install(current: &dyn Caller, file: Arc<OpenFile>, on_exec: OnExec) -> Result<u64, Errno> {
    let descriptor = Descriptor { file, on_exec };
    // On failure the file is dropped after the lock is released.
    let spare = descriptor.clone();
    let fd = current.files().lock().insert(descriptor, 0..limit(current));
    drop(spare);
    Ok(fd?.result())
}

/// One more than the largest descriptor that the caller may open.
pub fn limit(current: &dyn Caller) -> usize {
    current.account().limits.get(Resource::Files) as usize
}

/// Checks a file offset: EINVAL if it is negative.
pub fn position(offset: i64) -> Result<FileOffset, Errno> {
    u64::try_from(offset).map(FileOffset).map_err(|_| Errno::EINVAL)
}

/// One buffer, as an unchecked user range.
pub fn buffers(address: UserAddr, length: ByteCount) -> Result<UserBuffers, Errno> {
    Ok(UserBuffers::one(UserSlice::new(address, length)?))
}

/// The buffers of a `struct iovec` array, which is copied once (X4).
pub fn vectors(current: &dyn Caller, address: UserAddr, count: u64) -> Result<UserBuffers, Errno> {
    if count > MAX_VECTORS {
        return Err(Errno::EINVAL);
    }
    let mut rest = UserSlice::new(address, ByteCount(count * VECTOR_BYTES as u64))?;
    let mut buffers = UserBuffers::none();
    while !rest.is_empty() {
        let mut bytes = [0; VECTORS_AT_ONCE * VECTOR_BYTES];
        let part = rest.take(bytes.len());
        let bytes = bytes.get_mut(..part.len()).unwrap_or_default();
        current.space().copy_in(part, bytes)?;
        for entry in bytes.chunks_exact(VECTOR_BYTES) {
            let (base, length) = (word(entry, 0), word(entry, 8));
            if i64::try_from(length).is_err() {
                return Err(Errno::EINVAL);
            }
            buffers.push(UserSlice::new(UserAddr(base), ByteCount(length))?)?;
        }
        rest = rest.skip(part.len());
    }
    Ok(buffers)
}

/// A little-endian 32-bit word within bytes; 0 past their end.
pub fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&half| u32::from_le_bytes(half))
}

/// Copies a path from the caller's memory. It may be empty; resolution gives ENOENT for an empty
/// path.
pub fn path(current: &dyn Caller, address: UserAddr) -> Result<Vec<u8>, Errno> {
    current.space().read_string(address, namespace::MAX_PATH + 1)?.ok_or(Errno::ENAMETOOLONG)
}

/// The canonical path of the directory at which a path and a directory descriptor start.
pub fn base(current: &dyn Caller, dir: Fd, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.first() == Some(&b'/') {
        return Ok(b"/".to_vec());
    }
    if dir == Fd::WORKING_DIRECTORY {
        return Ok(fallible::to_vec(&current.context().lock().directory)?);
    }
    let file = open_file(current, dir)?;
    // Objects without a name are not directories.
    if path.is_empty() || file.path().is_empty() || !file.is_directory()? {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::ENOTDIR });
    }
    Ok(fallible::to_vec(file.path())?)
}

/// An object and its path.
pub struct Found {
    /// The object at the path.
    pub object: Arc<dyn FileObject>,
    /// Its file system; `None` for an object without a name.
    pub filesystem: Option<Arc<dyn FileSystem>>,
    /// Its canonical path.
    pub path: Vec<u8>,
}

/// Opens an object by directory descriptor and path.
pub fn open_at(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    flags: OpenFlags,
) -> Result<Found, Errno> {
    let path = path(current, address)?;
    let (object, place) =
        namespace::root().open(&base(current, dir, &path)?, &path, OpenHow { flags, mode: 0 })?;
    Ok(Found { object, filesystem: Some(place.filesystem), path: place.path })
}

/// The same for calls with `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW`: an empty path refers to the
/// descriptor itself.
pub fn found_at(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    flags: u32,
) -> Result<Found, Errno> {
    if flags & linux::AT_EMPTY_PATH != 0 && path(current, address)?.is_empty() {
        if dir == Fd::WORKING_DIRECTORY {
            let directory = base(current, dir, b".")?;
            let how = OpenHow { flags: OpenFlags::empty(), mode: 0 };
            let (object, place) = namespace::root().open(&directory, b".", how)?;
            return Ok(Found { object, filesystem: Some(place.filesystem), path: place.path });
        }
        let file = open_file(current, dir)?;
        return Ok(Found {
            object: file.object().clone(),
            filesystem: file.filesystem().cloned(),
            path: file.path().to_vec(),
        });
    }
    open_at(current, dir, address, no_follow(flags))
}

/// The attributes for such calls.
pub fn stat_at(
    current: &dyn Caller,
    dir: Fd,
    address: UserAddr,
    flags: u32,
) -> Result<Stat, Errno> {
    let mut space = [0; SHORT_PATH];
    let path = match current.space().short_string(address, &mut space) {
        Some(short) => {
            if let Some(known) = known_stat(current, dir, short, no_follow(flags)) {
                return known;
            }
            fallible::to_vec(short)?
        }
        None => path(current, address)?,
    };
    if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        if dir != Fd::WORKING_DIRECTORY {
            return open_file(current, dir)?.object().stat();
        }
        return Ok(namespace::root().stat(&base(current, dir, b".")?, b".", OpenFlags::empty())?.0);
    }
    Ok(namespace::root().stat(&base(current, dir, &path)?, &path, no_follow(flags))?.0)
}

/// The attributes at a path, or that there is nothing, if that is known without a walk.
#[inline]
fn known_stat(
    current: &dyn Caller,
    dir: Fd,
    path: &[u8],
    flags: OpenFlags,
) -> Option<Result<Stat, Errno>> {
    if path.first() == Some(&b'/') {
        return namespace::root().known_stat(b"/", path, flags);
    }
    if dir != Fd::WORKING_DIRECTORY {
        return None;
    }
    let context = current.context().lock();
    namespace::root().known_stat(&context.directory, path, flags)
}

fn no_follow(flags: u32) -> OpenFlags {
    if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { OpenFlags::NO_FOLLOW } else { OpenFlags::empty() }
}

/// EINVAL if `flags` contains any that are not in `known`.
pub fn only(flags: u32, known: u32) -> Result<(), Errno> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Copies all of `bytes` to the caller's memory: all or EFAULT. Returns 0, the result of many
/// calls.
pub fn store(current: &dyn Caller, address: UserAddr, bytes: &[u8]) -> Result<u64, Errno> {
    current
        .space()
        .copy_out_all(UserSlice::new(address, ByteCount::of_len(bytes.len()))?, bytes)?;
    Ok(0)
}

/// Fills `bytes` from the caller's memory: all or EFAULT.
pub fn load(current: &dyn Caller, address: UserAddr, bytes: &mut [u8]) -> Result<(), Errno> {
    Ok(current.space().copy_in(UserSlice::new(address, ByteCount::of_len(bytes.len()))?, bytes)?)
}
