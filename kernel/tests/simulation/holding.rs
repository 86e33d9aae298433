//! Steps of programs that hold memory: pages that they filled and look at much later, and memory
//! that all processes of a machine share.

use std::sync::Arc;

use foundation::{ByteCount, Errno};
use kernel::mem::{
    Account, Backing, FaultError, Placement, Prot, SharedMemory, Space, UserAddr, mmu,
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

    /// Compares what is held with what was stored, and unmaps it.
    pub fn release(&mut self, memory: usize) {
        let start = self.held_start();
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
            FaultError::Segv | FaultError::Killed => false,
        };
        assert!(is_excused, "actor {}: {error:?} at page {page}", self.index);
    }
}
