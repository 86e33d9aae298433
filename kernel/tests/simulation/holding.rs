//! Steps of programs that hold memory: pages that they filled and look at much later, and memory
//! that all processes of a machine share.

use std::sync::Arc;

use foundation::{ByteCount, Errno};
use kernel::mem::{
    Account, Backing, FaultError, Lock, Placement, Prot, SharedMemory, Space, UserAddr, UserSlice,
    mmu,
};

use crate::actor::Actor;
use crate::script::PAGE;
use crate::trace::trace;
use crate::{sched, swap_file, world};

/// Pages that the processes of a machine share.
pub const SHARED_PAGES: usize = 40;
const SHARED: u64 = 0x2000_0000;
const HELD: u64 = 0x4000_0000;
/// Distance of what the threads of a process hold.
const HELD_STRIDE: u64 = 0x100_0000;

/// The shared memory of a machine, and the first byte of each of its pages.
#[derive(Clone)]
pub struct Shared {
    memory: Arc<SharedMemory>,
    pub bytes: Vec<u8>,
}

impl Shared {
    /// Memory of zeros.
    pub fn new() -> Self {
        Self { memory: SharedMemory::new(&Account::new()), bytes: vec![0; SHARED_PAGES] }
    }

    /// Maps it for a process.
    pub fn map(&self, space: &Space) {
        let backing = Backing::Shared { memory: self.memory.clone(), first: 0 };
        map(space, SHARED, SHARED_PAGES, backing).expect("space for pages");
    }
}

fn map(space: &Space, start: u64, pages: usize, backing: Backing) -> Result<(), Errno> {
    let (at, bytes) = (Placement::Fixed(UserAddr(start)), ByteCount::of_len(pages * PAGE));
    space.map(at, bytes, Prot::READ | Prot::WRITE, backing, "").map(drop)
}

fn address(start: u64, page: usize) -> UserAddr {
    UserAddr(start + (page * PAGE) as u64)
}

impl Actor {
    /// Fills `pages` fresh pages, and holds them.
    pub fn hold(&mut self, memory: usize, pages: usize, value: u8) {
        self.release(memory);
        if self.is_killed() {
            return;
        }
        let start = self.held_start();
        let done = map(&self.memory(memory).space, start, pages, Backing::Anonymous);
        if self.was_refused(&done) {
            return;
        }
        done.expect("space for pages");
        self.memory(memory).held = vec![0; pages];
        // Some hold pages that are locked: see `release`.
        let lock = if value.is_multiple_of(4) { Lock::OnFault } else { Lock::Unlocked };
        let all = UserSlice::new(UserAddr(start), ByteCount::of_len(pages * PAGE));
        let locked = self.memory(memory).space.lock(all.expect("an address"), lock);
        assert!(locked.is_ok() || self.was_refused(&locked), "pages can be locked: {locked:?}");
        for page in 0..pages {
            let space = self.memory(memory).space.clone();
            let value = value.wrapping_add(page as u8);
            let done = mmu::store(&space, address(start, page), value);
            if self.is_killed() {
                return;
            }
            match done {
                Ok(()) => self.memory(memory).held[page] = value,
                Err(error) => self.excuse(error, page),
            }
        }
    }

    /// Compares what is held with what was stored, and unmaps it. What is locked is resident.
    pub fn release(&mut self, memory: usize) {
        let start = self.held_start();
        self.check_locked(memory);
        for page in 0..self.memory(memory).held.len() {
            let space = self.memory(memory).space.clone();
            let done = mmu::load(&space, address(start, page));
            if self.is_killed() {
                return;
            }
            match done {
                Ok(value) => {
                    let held = self.memory(memory).held[page];
                    assert_eq!(value, held, "actor {}: held page {page}", self.index);
                }
                Err(error) => self.excuse(error, page),
            }
        }
        let bytes = ByteCount::of_len(self.memory(memory).held.len() * PAGE);
        // What cannot be unmapped now is mapped over later.
        self.memory(memory).held.clear();
        if !bytes.is_zero() {
            let done = self.memory(memory).space.unmap(UserAddr(start), bytes);
            assert!(done.is_ok() || self.was_refused(&done), "A4: unmapping never fails");
        }
    }

    /// Asserts that of what is held and locked nothing was swapped out.
    fn check_locked(&mut self, memory: usize) {
        let (start, pages) = (UserAddr(self.held_start()), self.memory(memory).held.len());
        let space = self.memory(memory).space.clone();
        let bytes = ByteCount::of_len(pages * PAGE);
        let is_locked = UserSlice::new(start, bytes)
            .is_ok_and(|all| pages > 0 && space.check_unlocked(all) == Err(Errno::EINVAL));
        if is_locked && let Ok(resident) = space.residency(start, bytes) {
            let stored = &self.memory(memory).held;
            let missing = (0..pages).find(|&page| stored[page] != 0 && resident[page] == 0);
            assert_eq!(missing, None, "actor {}: a locked page is not resident", self.index);
        }
    }

    fn held_start(&self) -> u64 {
        HELD + self.index as u64 * HELD_STRIDE
    }

    /// Stores to every `stride`-th page of the machine's shared memory.
    pub fn store_shared(&mut self, memory: usize, stride: usize, value: u8) {
        let client = self.process.client;
        for page in (0..SHARED_PAGES).step_by(stride) {
            let (space, value) =
                (self.memory(memory).space.clone(), value.wrapping_add(page as u8));
            match mmu::store(&space, address(SHARED, page), value) {
                // Also by a process that was killed meanwhile: others see it.
                Ok(()) => world::shared(client, |shared| shared.bytes[page] = value),
                Err(_) if self.is_killed() => return,
                Err(error) => self.excuse(error, page),
            }
            sched::yield_now();
        }
    }

    /// Compares every `stride`-th page of the machine's shared memory with what was stored last.
    pub fn load_shared(&mut self, memory: usize, stride: usize) {
        let client = self.process.client;
        for page in (0..SHARED_PAGES).step_by(stride) {
            let space = self.memory(memory).space.clone();
            match mmu::load(&space, address(SHARED, page)) {
                Ok(value) => {
                    let stored = world::shared(client, |shared| shared.bytes[page]);
                    assert_eq!(value, stored, "actor {}: shared page {page}", self.index);
                }
                Err(_) if self.is_killed() => return,
                Err(error) => self.excuse(error, page),
            }
            sched::yield_now();
        }
    }

    /// An access to a page that no file backs failed.
    fn excuse(&self, error: FaultError, page: usize) {
        trace!("actor {}: {error:?} at page {page}", self.index);
        let is_excused = match error {
            FaultError::Bus => self.swap_failed() || swap_file::has_lost(),
            FaultError::OutOfMemory => self.is_short(),
            FaultError::Segv | FaultError::Denied | FaultError::Killed => false,
        };
        assert!(is_excused, "actor {}: {error:?} at page {page}", self.index);
    }
}
