//! Policies that can be changed at run time (E1), by name, for `/proc/sys/lazy/*`.

use core::sync::atomic::{AtomicU64, Ordering};

/// A policy's value, with its name and its bounds.
#[derive(Debug)]
pub struct Knob {
    /// Name of its file in `/proc/sys/lazy`.
    pub name: &'static str,
    value: AtomicU64,
    max: u64,
    /// What is done each time it is set to something else than 0; it reads as 0 then.
    action: Option<fn()>,
}

impl Knob {
    const fn new(name: &'static str, value: u64, max: u64) -> Self {
        Self { name, value: AtomicU64::new(value), max, action: None }
    }

    const fn button(name: &'static str, action: fn()) -> Self {
        Self { action: Some(action), ..Self::new(name, 0, 1) }
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes the value; what is out of bounds is refused.
    pub fn set(&self, value: u64) -> Result<(), OutOfBounds> {
        if value > self.max {
            return Err(OutOfBounds);
        }
        match self.action {
            Some(action) if value != 0 => action(),
            _ => self.value.store(value, Ordering::Relaxed),
        }
        Ok(())
    }
}

/// A knob does not go that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

/// 1: read(2) maps where it can. 0: it copies.
pub static LAZY: Knob = Knob::new("lazy", 1, 1);
/// Reads that cover fewer whole pages than this are copied: programs that read so little at once
/// mostly look at all of it, and a snapshot, a fetch and a close cost more than one copy. `cargo
/// xtask foreign --profit` shows it: with less than 16, md5sum, ripgrep and tar take up to 30 %
/// longer than eagerly.
pub static MIN_LAZY_PAGES: Knob = Knob::new("min_lazy_pages", 16, 1 << 20);
/// Bytes that are taken at once for small reads in order; 0 leaves each of them a message.
pub static READ_AHEAD: Knob = Knob::new("read_ahead", 4 << 20, 1 << 30);
/// Writes of fewer whole pages than this do not make these clean (W8), unless some of them travel
/// as references: a small buffer is filled again soon.
pub static MIN_CLEAN_PAGES: Knob = Knob::new("min_clean_pages", 512, 1 << 20);
/// Pages that a fault brings in one message, itself included, while touches look random; a message
/// carries 64 at most.
pub static FAULT_AROUND: Knob = Knob::new("fault_around", 8, MAX_FAULT_AROUND);
/// The same for a store.
pub static STORE_AROUND: Knob = Knob::new("store_around", 1, MAX_FAULT_AROUND);
/// The same where pages are touched in order, or most of them: more at a time costs less then.
pub static FAULT_AROUND_MAX: Knob =
    Knob::new("fault_around_max", MAX_FAULT_AROUND, MAX_FAULT_AROUND);
/// Regions of an address space, at most (Linux's `vm.max_map_count`). It bounds the kernel memory
/// that a program can take by splitting.
pub static MAX_REGIONS: Knob = Knob::new("max_regions", 65530, 1 << 20);
/// Live snapshots of one mount, at most.
pub static MAX_SNAPSHOTS: Knob = Knob::new("max_snapshots", 65536, 1 << 24);

/// Pages of the swap file that may be in use, at most.
pub static SWAP_PAGES: Knob = Knob::new("swap_pages", 1 << 32, 1 << 32);

/// Set to 1: clean frames that only the cache holds are let go of.
pub static DROP_CACHES: Knob = Knob::button("drop_caches", super::cache::drop_all);

/// What regular files' `st_blksize` says: programs that size their buffers by it read this much at
/// once. With 1 MiB, GNU's cat and cp would take half the instructions, but cmp 12 % more lazily
/// than eagerly; the README has the figures.
pub static BLOCK_BYTES: Knob = Knob::new("block_bytes", 64 << 10, 1 << 24);

/// What a message's payload holds, in pages.
pub const MAX_FAULT_AROUND: u64 = (fsproto::MAX_PAYLOAD / foundation::PAGE_BYTES) as u64;

/// All knobs.
pub static ALL: [&Knob; 12] = [
    &LAZY,
    &READ_AHEAD,
    &MIN_LAZY_PAGES,
    &MIN_CLEAN_PAGES,
    &FAULT_AROUND,
    &STORE_AROUND,
    &FAULT_AROUND_MAX,
    &MAX_REGIONS,
    &MAX_SNAPSHOTS,
    &BLOCK_BYTES,
    &DROP_CACHES,
    &SWAP_PAGES,
];

/// The knob of a name.
pub fn by_name(name: &str) -> Option<&'static Knob> {
    ALL.into_iter().find(|knob| knob.name == name)
}
