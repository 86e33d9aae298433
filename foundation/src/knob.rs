//! Policies that can be changed at run time (E1), by name, through `/proc/sys/lazy/*`.
//!
//! The list is here, below everything, so that each layer can read the policies it follows. This
//! module knows none of those layers: the owner of a [`Button`] registers the button's action at
//! start.

use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

/// A policy: a number with a name and an upper bound.
#[derive(Debug)]
pub struct Knob {
    name: &'static str,
    value: AtomicU64,
    max: u64,
}

impl Knob {
    const fn new(name: &'static str, value: u64, max: u64) -> Self {
        Self { name, value: AtomicU64::new(value), max }
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes the value. Fails for one above the bound.
    pub fn set(&self, value: u64) -> Result<(), OutOfBounds> {
        if value > self.max {
            return Err(OutOfBounds);
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// An action with a name: it runs each time 1 is written, and always reads as 0.
#[derive(Debug)]
pub struct Button {
    name: &'static str,
    action: Once<fn()>,
}

impl Button {
    const fn new(name: &'static str) -> Self {
        Self { name, action: Once::new() }
    }

    /// Sets the action, once. Until then the button does nothing.
    pub fn register(&self, action: fn()) {
        self.action.call_once(|| action);
    }

    fn press(&self) {
        if let Some(action) = self.action.get() {
            action();
        }
    }
}

/// The value is above the knob's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

/// What a file of `/proc/sys/lazy` controls.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// A policy.
    Knob(&'static Knob),
    /// An action.
    Button(&'static Button),
}

impl Control {
    /// The file's name in `/proc/sys/lazy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knob(knob) => knob.name,
            Self::Button(button) => button.name,
        }
    }

    /// What the file reads as.
    pub fn get(self) -> u64 {
        match self {
            Self::Knob(knob) => knob.get(),
            Self::Button(_) => 0,
        }
    }

    /// What a write of `value` does: changes the policy, or runs the action for 1 and nothing for
    /// 0. Fails for a value above the bound.
    pub fn set(self, value: u64) -> Result<(), OutOfBounds> {
        match (self, value) {
            (Self::Knob(knob), _) => knob.set(value),
            (Self::Button(_), 0) => Ok(()),
            (Self::Button(button), 1) => {
                button.press();
                Ok(())
            }
            (Self::Button(_), _) => Err(OutOfBounds),
        }
    }
}

/// 1: read(2) maps where it can. 0: it copies.
pub static LAZY: Knob = Knob::new("lazy", 1, 1);
/// Whole pages that a read must cover to be lazy. Programs that read less at once mostly use all of
/// it, and a snapshot, a fetch and a close cost more than one copy. `cargo xtask foreign --profit`
/// shows it: below 16, md5sum, ripgrep and tar take up to 30 % longer than eagerly.
pub static MIN_LAZY_PAGES: Knob = Knob::new("min_lazy_pages", 16, 1 << 20);
/// A read of at most so many whole pages copies where the one before was mostly touched (the
/// kernel's `mem/space/short_reads.rs`). 0: only `min_lazy_pages` counts. `cargo xtask bench
/// neverworse` shows that 32 pages and more do not gain by it, unless the buffer does not begin at
/// a page: then it is all that one message can bring.
pub static COPY_TOUCHED: Knob = Knob::new("copy_touched", 31, MAX_FAULT_AROUND);
/// Windows of so many pages and more are composed of pages of the file where a page of the buffer
/// has bytes of two (the kernel's `mem/space/compose.rs`). In smaller ones, which the server
/// composes, the second file page that each page needs is too large a part of what is fetched.
pub static COMPOSE_PAGES: Knob = Knob::new("compose_pages", 16, MAX_FAULT_AROUND);
/// Bytes of a read-ahead snapshot, for small sequential reads. 0 turns read-ahead off.
pub static READ_AHEAD: Knob = Knob::new("read_ahead", 4 << 20, 1 << 30);
/// Whole pages that a small sequential read must cover to be associated with the snapshot of
/// read-ahead, where its buffer follows the one before in memory (R11). 0: it copies. `cargo xtask
/// bench coalesce` shows that fewer do not pay.
pub static COALESCE_PAGES: Knob = Knob::new("coalesce_pages", 4, 1 << 20);
/// Whole pages that a write must cover to make them clean (W8), unless some of them are sent as
/// references. A smaller buffer is soon filled again.
pub static MIN_CLEAN_PAGES: Knob = Knob::new("min_clean_pages", 512, 1 << 20);
/// Pages that a fault fetches in one message, itself included, at least. How many more it fetches
/// is learned (the kernel's `mem/window.rs`).
pub static FAULT_AROUND: Knob = Knob::new("fault_around", 1, MAX_FAULT_AROUND);
/// Pages that a fault fetches in one message if the access is a store, at least.
pub static STORE_AROUND: Knob = Knob::new("store_around", 1, MAX_FAULT_AROUND);
/// Pages that a fault fetches in one message, at most, unless one of the two above is larger.
pub static FAULT_AROUND_MAX: Knob =
    Knob::new("fault_around_max", MAX_FAULT_AROUND, MAX_FAULT_AROUND);
/// A region of at most so many pages is fetched whole by the first load: the other pages together
/// cost less than a second message.
pub static FAULT_WHOLE: Knob = Knob::new("fault_whole", 32, MAX_FAULT_AROUND);
/// Pages that are read back from the swap file at once, at most.
pub static SWAP_AROUND: Knob = Knob::new("swap_around", 8, MAX_FAULT_AROUND);
/// Regions of an address space, at most (Linux's `vm.max_map_count`). It bounds the kernel memory
/// that a program can consume by splitting regions.
pub static MAX_REGIONS: Knob = Knob::new("max_regions", 65530, 1 << 20);
/// Live snapshots, at most, over all mounts together. Beyond that, reads copy and writes make
/// nothing clean.
pub static MAX_SNAPSHOTS: Knob = Knob::new("max_snapshots", 65536, 1 << 24);
/// Pages of the swap file in use, at most.
pub static SWAP_PAGES: Knob = Knob::new("swap_pages", 1 << 32, 1 << 32);
/// Frees the clean frames that only the frame cache holds.
pub static DROP_CACHES: Button = Button::new("drop_caches");
/// `st_blksize` of regular files, in bytes: programs that size their buffers by it read this much
/// at once. With 1 MiB, GNU's cat and cp would take half the instructions, but cmp 12 % more lazily
/// than eagerly; docs/src/cost.md has the figures.
pub static BLOCK_BYTES: Knob = Knob::new("block_bytes", 64 << 10, 1 << 24);

/// Pages that the payload of one message holds, and one fetch brings at most.
pub const MAX_FAULT_AROUND: u64 = 64;

/// All knobs and buttons.
pub static ALL: [Control; 17] = [
    Control::Knob(&LAZY),
    Control::Knob(&READ_AHEAD),
    Control::Knob(&MIN_LAZY_PAGES),
    Control::Knob(&COPY_TOUCHED),
    Control::Knob(&COMPOSE_PAGES),
    Control::Knob(&COALESCE_PAGES),
    Control::Knob(&MIN_CLEAN_PAGES),
    Control::Knob(&FAULT_AROUND),
    Control::Knob(&STORE_AROUND),
    Control::Knob(&FAULT_AROUND_MAX),
    Control::Knob(&FAULT_WHOLE),
    Control::Knob(&SWAP_AROUND),
    Control::Knob(&MAX_REGIONS),
    Control::Knob(&MAX_SNAPSHOTS),
    Control::Knob(&BLOCK_BYTES),
    Control::Button(&DROP_CACHES),
    Control::Knob(&SWAP_PAGES),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_keep_their_bound_and_buttons_act() {
        static TEST: Button = Button::new("test");
        static PRESSED: AtomicU64 = AtomicU64::new(0);
        let test = Control::Button(&TEST);
        assert_eq!(test.set(1), Ok(()), "nothing is registered");
        TEST.register(|| {
            PRESSED.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!([0, 1, 2].map(|value| test.set(value)), [Ok(()), Ok(()), Err(OutOfBounds)]);
        assert_eq!((PRESSED.load(Ordering::Relaxed), test.get()), (1, 0));
        static KNOB: Knob = Knob::new("knob", 3, 8);
        assert_eq!((KNOB.set(9), KNOB.get()), (Err(OutOfBounds), 3));
        assert_eq!((KNOB.set(8), KNOB.get()), (Ok(()), 8));
    }
}
