//! Programs are loaded into an empty space: from a file, by the same read that programs use, from
//! what is kept of a small file, or from memory.
//!
//! On a mount with snapshots the pages of a large program are lazy, and later writes to the file do
//! not change them (A6). Those of a small one are shared copy-on-write with what is kept of its
//! file, which is forgotten before the file changes.
#![forbid(unsafe_code)]

use super::elf::{Program, Segment};
use crate::file::{FileObject, Io, UserBuffers};
use crate::mem::{
    Backing, Frame, KeptFile, PAGE_BYTES, Placement, Prot, Space, UserAddr, UserSlice, fallible,
};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// The file of a program.
pub(super) enum Image<'a> {
    /// An open file.
    File(&'a Arc<dyn FileObject>),
    /// What is kept of a file, and the open file.
    Kept(&'a KeptFile, &'a Arc<dyn FileObject>),
    /// Memory: a member of the ramdisk, before there is a root file system.
    Memory(&'a [u8]),
}

impl<'a> Image<'a> {
    /// A file, of which something may be kept.
    pub fn of(file: &'a Arc<dyn FileObject>, kept: Option<&'a KeptFile>) -> Self {
        kept.map_or(Self::File(file), |kept| Self::Kept(kept, file))
    }

    /// Fills `to` from `offset` on; ENOEXEC where the file is too short.
    fn read_to(&self, space: &Arc<Space>, to: UserSlice, offset: FileOffset) -> Result<(), Errno> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset.0).map_err(|_| Errno::ENOEXEC)?;
                let part = bytes
                    .get(start..)
                    .and_then(|rest| rest.get(..to.len()))
                    .ok_or(Errno::ENOEXEC)?;
                Ok(space.copy_out_all(to, part)?)
            }
            Self::File(file) | Self::Kept(_, file) => {
                let io = Io { space, caller: None, nonblocking: false };
                let mut buffers = UserBuffers::one(to);
                let mut done = ByteCount::ZERO;
                while done < ByteCount::of_len(to.len()) {
                    match file.read(&io, &mut buffers, offset + done)? {
                        ByteCount::ZERO => return Err(Errno::ENOEXEC),
                        count => done += count,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Loads a program into an empty space.
pub(super) fn load(space: &Arc<Space>, program: &Program, image: &Image<'_>) -> Result<(), Errno> {
    if let Image::Kept(kept, _) = image
        && is_kept_whole(program, kept)
    {
        return program.segments.iter().try_for_each(|segment| map_kept(space, segment, kept));
    }
    let mut mapped_end = 0;
    for segment in &program.segments {
        let (first, end) = segment.pages();
        // Neighbours may share a page, which then gets the permissions of both.
        let first_new = first.max(mapped_end);
        if first_new < end {
            let placement = Placement::FixedNoReplace(UserAddr(first_new));
            space.map(
                placement,
                ByteCount(end - first_new),
                Prot::READ | Prot::WRITE,
                Backing::Anonymous,
                "",
            )?;
            mapped_end = end;
        }
    }
    for segment in &program.segments {
        if segment.file_bytes > 0 {
            image.read_to(
                space,
                UserSlice::new(UserAddr(segment.start), ByteCount(segment.file_bytes))?,
                segment.offset,
            )?;
        }
    }
    for (index, segment) in program.segments.iter().enumerate() {
        let (first, end) = segment.pages();
        let previous = index.checked_sub(1).and_then(|index| program.segments.get(index));
        let shared = previous.filter(|previous| previous.pages().1 > first);
        let own_first = shared.map_or(first, |previous| previous.pages().1);
        if own_first < end {
            space.protect(UserAddr(own_first), ByteCount(end - own_first), permissions(segment))?;
        }
        if let Some(previous) = shared {
            space.protect(
                UserAddr(first),
                ByteCount(own_first - first),
                permissions(previous) | permissions(segment),
            )?;
        }
    }
    Ok(())
}

/// The pages of a segment that are pages of its file, and those behind them: where the zeros begin
/// in the middle of a page, this one is not the file's.
fn split(segment: &Segment) -> (u64, u64, u64) {
    let (first, end) = segment.pages();
    let file_end = segment.start + segment.file_bytes;
    let page = PAGE_BYTES as u64;
    let has_zeros = segment.memory_bytes > segment.file_bytes;
    let own = if has_zeros { file_end / page * page } else { file_end.next_multiple_of(page) };
    (first, own.max(first), end)
}

/// The frames of a segment's pages from an address on, which is one of a page.
fn frames_at<'a>(
    segment: &Segment,
    kept: &'a KeptFile,
    (from, to): (u64, u64),
) -> Option<&'a [Frame]> {
    let page = PAGE_BYTES as u64;
    let offset = (segment.offset.0 + from).checked_sub(segment.start)?;
    kept.frames((offset / page) as usize, ((to - from) / page) as usize)
}

/// Whether all segments can be mapped from what is kept: they lie in the file, share no page, and
/// where bytes of the file and zeros are in one page, the program can store to it.
fn is_kept_whole(program: &Program, kept: &KeptFile) -> bool {
    let mut last_end = 0;
    program.segments.iter().all(|segment| {
        let (first, own, end) = split(segment);
        let is_apart = first >= last_end;
        last_end = end;
        let file_end = (segment.start + segment.file_bytes).next_multiple_of(PAGE_BYTES as u64);
        let is_there =
            segment.file_bytes == 0 || frames_at(segment, kept, (first, file_end)).is_some();
        is_apart && is_there && (own >= file_end || segment.writable)
    })
}

/// Maps a segment with its final permissions.
fn map_kept(space: &Arc<Space>, segment: &Segment, kept: &KeptFile) -> Result<(), Errno> {
    let (first, own, end) = split(segment);
    let prot = permissions(segment);
    let place = |address| Placement::FixedNoReplace(UserAddr(address));
    if first < own {
        let frames = frames_at(segment, kept, (first, own)).ok_or(Errno::ENOEXEC)?;
        space.map_frames(place(first), prot, fallible::collect(frames.iter().cloned())?)?;
    }
    if own < end {
        space.map(place(own), ByteCount(end - own), prot, Backing::Anonymous, "")?;
    }
    let file_end = segment.start + segment.file_bytes;
    let start = own.max(segment.start);
    if start < file_end {
        let frames = frames_at(segment, kept, (own, own + PAGE_BYTES as u64));
        let frame = frames.and_then(<[Frame]>::first).ok_or(Errno::ENOEXEC)?;
        let part = (start - own) as usize..(file_end - own) as usize;
        let bytes = frame.bytes().get(part).ok_or(Errno::ENOEXEC)?;
        space.copy_out_all(
            UserSlice::new(UserAddr(start), ByteCount::of_len(bytes.len()))?,
            bytes,
        )?;
    }
    Ok(())
}

fn permissions(segment: &Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.readable);
    prot.set(Prot::WRITE, segment.writable);
    prot.set(Prot::EXECUTE, segment.executable);
    prot
}
