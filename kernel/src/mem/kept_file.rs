//! Kept files: the contents of small programs, from one exec to the next.
//!
//! Owns frames, by the file whose contents they are. Does not know when a file changes: who keeps
//! one ([`mount`](crate::mount)) forgets it before the call that changes the file returns. Contents
//! can be read again, so all are dropped by `drop_caches`, and first of all where frames run out.
//!
//! Lock: `KEPT`, inside those of mounts. Nothing is called while it is held but the allocators.
#![forbid(unsafe_code)]

use super::{
    Claim, Frame, OutOfMemory, PAGE_BYTES, fallible,
    shrinker::{self, Stage},
};
use crate::sync::{Mutex, rank};
use alloc::vec::Vec;

/// The largest file that is kept, in bytes. Larger programs are read lazily.
pub const MAX_KEPT_BYTES: usize = 64 * PAGE_BYTES;
/// Files that are kept at once.
const MAX_FILES: usize = 16;

/// All contents of a file.
#[derive(Debug)]
pub struct KeptFile {
    /// Zeros follow the end of the file in the last one.
    frames: Vec<Frame>,
}

impl KeptFile {
    /// A file with these contents.
    pub fn new(contents: &[u8]) -> Result<Self, OutOfMemory> {
        let pages = contents.chunks(PAGE_BYTES);
        let mut frames = fallible::with_capacity(pages.len())?;
        for page in pages {
            frames.push(Frame::from_bytes(Claim::Program, page)?);
        }
        Ok(Self { frames })
    }

    /// The frames of `pages` pages from page `first` on; `None` where the file is shorter.
    pub fn frames(&self, first: usize, pages: usize) -> Option<&[Frame]> {
        self.frames.get(first..)?.get(..pages)
    }

    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { frames: fallible::collect(self.frames.iter().cloned())? })
    }
}

/// A file of a mount, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The mount's number.
    pub mount: u64,
    /// The file's number on its server.
    pub file: u64,
}

struct Kept {
    place: Place,
    /// Without frames after these were taken back.
    file: KeptFile,
    /// When it was used last, in uses of any.
    used: u64,
}

struct Table {
    files: [Option<Kept>; MAX_FILES],
    /// Uses so far.
    uses: u64,
}

static KEPT: Mutex<Table, rank::KeptFiles> =
    Mutex::new(Table { files: [const { None }; MAX_FILES], uses: 0 });

/// Registers what takes frames back.
pub(super) fn init() {
    shrinker::register(Stage::KeptFiles, shrink);
}

/// The contents of a file, if they are kept and there is memory for a list of the frames.
pub fn find(place: Place) -> Option<KeptFile> {
    let mut table = KEPT.lock();
    table.uses += 1;
    let uses = table.uses;
    let mut files = table.files.iter_mut().flatten();
    let kept = files.find(|kept| kept.place == place && !kept.file.frames.is_empty())?;
    kept.used = uses;
    kept.file.try_clone().ok()
}

/// Keeps the contents of a file, in place of the one that was not used for the longest time.
pub fn keep(place: Place, file: &KeptFile) -> Result<(), OutOfMemory> {
    let file = file.try_clone()?;
    let mut table = KEPT.lock();
    table.uses += 1;
    let used = table.uses;
    let is_same = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.place == place);
    let index = table.files.iter().position(is_same).or_else(|| {
        let by_use = |(_, kept): &(usize, &Option<Kept>)| kept.as_ref().map(|kept| kept.used);
        table.files.iter().enumerate().min_by_key(by_use).map(|(index, _)| index)
    });
    let slot = index.and_then(|index| table.files.get_mut(index));
    let old = slot.and_then(|slot| slot.replace(Kept { place, file, used }));
    drop(table);
    drop(old);
    Ok(())
}

/// Drops the contents of a file that changes; of all files of the mount without `file`.
pub fn forget(mount: u64, file: Option<u64>) {
    let is_stale =
        |place: &Place| place.mount == mount && file.is_none_or(|file| place.file == file);
    drop_some(is_stale);
}

/// Drops all contents.
pub(super) fn drop_all() {
    drop_some(|_| true);
}

fn drop_some(is_stale: impl Fn(&Place) -> bool) {
    let mut table = KEPT.lock();
    for slot in &mut table.files {
        drop(slot.take_if(|kept| is_stale(&kept.place)));
    }
}

/// Takes all frames back. May be called with any lock held.
fn shrink() -> usize {
    let Some(mut table) = KEPT.try_lock() else { return 0 };
    let mut freed = 0;
    for kept in table.files.iter_mut().flatten() {
        freed += kept.file.frames.iter().filter(|frame| !frame.is_shared()).count();
        // The list keeps its memory: the heap may be locked.
        kept.file.frames.clear();
    }
    freed
}

/// Calls `look` for each frame that is kept.
pub(super) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    KEPT.lock()
        .files
        .iter()
        .flatten()
        .for_each(|kept| kept.file.frames.iter().for_each(&mut *look));
}
