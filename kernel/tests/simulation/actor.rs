//! An actor: carries out its steps one by one, and checks each result. An error must have an
//! excuse: a failure of the base server or of swap, a shortage of frames, a connection that was
//! lost, or the end of the process.

use std::rc::Rc;

use foundation::{ByteCount, Errno};
use kernel::mem::{Backing, FaultError, Move, Placement, Prot, UserAddr, mmu};

use crate::interference::{self, Act};
use crate::memory::Memory;
use crate::model::Line;
use crate::sched::{self, yield_now};
use crate::script::{Op, PAGE, Piece, WINDOW, WINDOW_PAGES};
use crate::trace::trace;
use crate::world::{self, Opened, Process};
use crate::{environment, shortage, swap_file, wire};

/// Memories of one actor, at most: its own, and those of its children.
const MAX_MEMORIES: usize = 3;

/// A program, or one of its threads.
pub struct Actor {
    pub index: usize,
    pub process: Rc<Process>,
    pub memories: Vec<Memory>,
    /// The number of the current step.
    pub step: u64,
    /// Failures of the base server and of swap, and shortages, when the step began.
    failures: [u64; 3],
}

/// Failures of the base server, failures of swap, and shortages so far.
fn failures() -> [u64; 3] {
    [wire::failures(), swap_file::failures(), shortage::count()]
}

/// Carries out all steps of an actor, then releases everything.
pub fn run(index: usize, steps: Vec<Op>) {
    let mut actor = Actor::new(index);
    for op in steps {
        actor.begin_step(&op);
        actor.carry_out(op);
        yield_now();
        if wire::looks() {
            actor.look_around();
        }
    }
    actor.finish();
}

impl Actor {
    fn new(index: usize) -> Self {
        let mut actor = Self {
            index,
            process: world::process_of(index),
            memories: Vec::new(),
            step: 0,
            failures: [0; 3],
        };
        actor.begin();
        actor
    }

    /// Gives the process a window of zeros.
    fn begin(&mut self) {
        sched::set_killed(self.index, false);
        self.memories = vec![Memory::new(self.process.space.clone(), self.index)];
        self.map(0, 0, WINDOW_PAGES);
    }

    fn begin_step(&mut self, op: &Op) {
        if self.process.killed.get() {
            self.memories.clear();
            self.process = world::process_of(self.index);
            self.begin();
        }
        self.step = world::begin_step(self.index);
        self.failures = failures();
        world::note_failures(self.index, self.failures[0]);
        trace!("actor {}: {op:?}", self.index);
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Read { memory, file, at, pieces } => self.read(memory, file, at, &pieces),
            Op::Write { memory, file, at, pieces } => self.write(memory, file, at, &pieces),
            Op::Load { memory, at, stride } => self.load(memory, at, stride),
            Op::Store { memory, at, stride, value } => self.store(memory, at, stride, value),
            Op::Fill { memory, at, value } => self.fill(memory, at, value),
            Op::Fork { memory } => self.fork(memory),
            Op::Exit { memory } => self.exit(memory),
            Op::Map { memory, page, pages } => self.map(memory, page, pages),
            Op::Unmap { memory, page, pages } => self.unmap(memory, page, pages),
            Op::Discard { memory, page, pages } => self.discard(memory, page, pages),
            Op::Protect { memory, page, pages, permissions } => {
                self.protect(memory, page, pages, permissions)
            }
            Op::Remap { memory, page, pages, to, new_pages } => {
                self.remap(memory, (page, pages), (to, new_pages))
            }
            Op::Hold { memory, pages, value } => self.hold(memory, pages, value),
            Op::Release { memory } => self.release(memory),
            Op::StoreShared { memory, stride, value } => self.store_shared(memory, stride, value),
            Op::LoadShared { memory, stride } => self.load_shared(memory, stride),
            op => self.carry_out_on_mappings(op),
        }
    }

    /// Looks at attributes, as a step of its own.
    fn look_around(&mut self) {
        if !self.process.killed.get() {
            (self.step, self.failures) = (world::begin_step(self.index), failures());
            self.look();
        }
    }

    /// Whether the process was killed: then the result of the step does not count.
    pub fn is_killed(&self) -> bool {
        self.process.killed.get()
    }

    /// Whether an error is excused: by a failure of the base server or of swap, a shortage of
    /// frames, or a lost connection.
    pub fn has_excuse(&self, line: Option<Line>) -> bool {
        self.failures != failures()
            || self.is_short()
            || swap_file::has_lost()
            || line.is_some_and(|line| !wire::is_up(line))
    }

    /// Whether a read of the swap file has failed in this step.
    pub fn swap_failed(&self) -> bool {
        self.failures[1] != swap_file::failures()
    }

    /// Whether there is or was a shortage of frames in this step.
    pub fn is_short(&self) -> bool {
        let [.., shortages] = self.failures;
        shortage::excuses(shortages)
    }

    pub fn memory(&mut self, number: usize) -> &mut Memory {
        let count = self.memories.len();
        &mut self.memories[number % count]
    }

    pub fn file(&self, number: usize) -> Option<Rc<Opened>> {
        let files = self.process.files.borrow();
        files.get(number % files.len().max(1)).cloned()
    }

    fn load(&mut self, memory: usize, Piece(start, length): Piece, stride: usize) {
        // Sometimes another thread maps zeros over the first page while that is being fetched.
        if sched::choose(8) == 7 {
            let memory = self.memory(memory);
            let (space, address) = (memory.space.clone(), memory.address(start));
            interference::arm(self.step, space, address, Act::Replace);
        }
        for at in (start..start + length).step_by(stride) {
            self.access(memory, at, None);
            yield_now();
        }
    }

    fn store(&mut self, memory: usize, Piece(start, length): Piece, stride: usize, value: u8) {
        for at in (start..start + length).step_by(stride) {
            self.access(memory, at, Some(value.wrapping_add(at as u8)));
            yield_now();
        }
    }

    /// Loads a byte and compares it with the oracle, or stores one.
    fn access(&mut self, memory: usize, at: usize, value: Option<u8>) {
        let (me, [failed, swap_failed, _]) = (self.index, self.failures);
        let Memory { space, .. } = self.memory(memory);
        let (space, address) = (space.clone(), self.memory(memory).address(at));
        let needed = if value.is_some() { Prot::WRITE } else { Prot::READ };
        let done = match value {
            Some(value) => mmu::store(&space, address, value).map(|()| value),
            None => mmu::load(&space, address),
        };
        let is_replaced = value.is_none() && interference::is_done(self.step);
        if self.is_killed() {
            return;
        }
        if is_replaced {
            trace!("actor {me}: page {} was replaced meanwhile", at / PAGE);
            self.memory(memory).mapped(at / PAGE, 1);
        }
        let [failed, swap_failed] =
            [failed != wire::failures(), swap_failed != swap_file::failures()];
        let is_short = self.is_short();
        let memory = self.memory(memory);
        let page = memory.pages[at / PAGE];
        let allowed = page.is_mapped && page.permissions.contains(needed);
        match (done, value) {
            (Ok(stored), Some(_)) => {
                assert!(allowed, "actor {me}: a store to byte {at} was allowed");
                memory.stored(at, stored);
            }
            (Ok(loaded), None) => {
                assert!(allowed, "actor {me}: a load of byte {at} was allowed");
                assert_eq!(
                    loaded,
                    memory.bytes[at],
                    "actor {me}: byte {at} (page {}) of its memory",
                    at / PAGE
                );
            }
            (Err(FaultError::Segv), _) => {
                assert!(!allowed, "actor {me}: SIGSEGV at byte {at} (page {}): {page:?}", at / PAGE)
            }
            (Err(FaultError::Bus), _) => {
                let excuse = page.may_be_lost()
                    || (failed && page.from.is_some())
                    || swap_failed
                    || swap_file::has_lost();
                assert!(
                    excuse,
                    "F5: actor {me}: SIGBUS at byte {at} (page {}): {page:?}",
                    at / PAGE
                );
                let start = UserAddr(address.0 - address.0 % PAGE as u64);
                // A page that failed to come for one thread may have come for another since.
                let is_away =
                    swap_failed || space.residency(start, ByteCount::of_len(PAGE)) == Ok(vec![0]);
                assert!(is_away, "F6: actor {me}: SIGBUS at byte {at}, which is resident");
            }
            // A real program would be killed (Q4); for this one nothing has changed.
            (Err(FaultError::OutOfMemory), _) => {
                assert!(is_short, "Q4: actor {me}: no memory for byte {at}")
            }
            (Err(error), _) => panic!("actor {me}: {error:?} at byte {at}"),
        }
    }

    /// Whether a change of regions failed for want of memory, which leaves everything as it was, or
    /// because the process was killed.
    pub fn was_refused<T>(&self, done: &Result<T, Errno>) -> bool {
        done.is_err() && (self.is_killed() || self.is_short())
    }

    fn map(&mut self, memory: usize, page: usize, pages: usize) {
        let window = self.memory(memory);
        let at = Placement::Fixed(window.address(page * PAGE));
        let (bytes, permissions) = (ByteCount::of_len(pages * PAGE), Prot::READ | Prot::WRITE);
        let done = window.space.map(at, bytes, permissions, Backing::Anonymous, "");
        if !self.was_refused(&done) {
            done.expect("space for a buffer");
            self.memory(memory).mapped(page, pages);
        }
    }

    fn unmap(&mut self, memory: usize, page: usize, pages: usize) {
        let window = self.memory(memory);
        let start = window.address(page * PAGE);
        let done = window.space.unmap(start, ByteCount::of_len(pages * PAGE));
        if !self.was_refused(&done) {
            done.expect("A4: unmapping never fails");
            self.memory(memory).unmapped(page, pages);
        }
    }

    fn discard(&mut self, memory: usize, page: usize, pages: usize) {
        let window = self.memory(memory);
        let start = window.address(page * PAGE);
        let done = window.space.discard(start, ByteCount::of_len(pages * PAGE));
        if self.was_refused(&done) {
            return;
        }
        let memory = self.memory(memory);
        let is_mapped = memory.pages[page..page + pages].iter().all(|page| page.is_mapped);
        assert_eq!(done, if is_mapped { Ok(()) } else { Err(Errno::ENOMEM) }, "result of madvise");
        if is_mapped {
            memory.zeroed(page, pages);
        }
    }

    fn protect(&mut self, memory: usize, page: usize, pages: usize, permissions: u32) {
        let permissions = Prot::from_bits_truncate(permissions);
        let window = self.memory(memory);
        let start = window.address(page * PAGE);
        let done = window.space.protect(start, ByteCount::of_len(pages * PAGE), permissions);
        if self.was_refused(&done) {
            return;
        }
        let memory = self.memory(memory);
        let is_mapped = memory.pages[page..page + pages].iter().all(|page| page.is_mapped);
        assert_eq!(
            done,
            if is_mapped { Ok(()) } else { Err(Errno::ENOMEM) },
            "A4: result of mprotect"
        );
        if is_mapped {
            memory.pages[page..page + pages]
                .iter_mut()
                .for_each(|page| page.permissions = permissions);
        }
    }

    fn remap(
        &mut self,
        memory: usize,
        (page, pages): (usize, usize),
        (to, new_pages): (usize, usize),
    ) {
        let apart = to + new_pages <= page || page + pages <= to;
        if to + new_pages > WINDOW_PAGES || !apart {
            return;
        }
        let window = self.memory(memory);
        let bytes = |pages: usize| ByteCount::of_len(pages * PAGE);
        let target = Move::To(window.address(to * PAGE));
        let done =
            window.space.remap(window.address(page * PAGE), bytes(pages), bytes(new_pages), target);
        if done != Err(Errno::EFAULT) && self.was_refused(&done) {
            return;
        }
        let memory = self.memory(memory);
        let first = memory.pages[page];
        let is_one = memory.pages[page..page + pages]
            .iter()
            .all(|page| page.is_mapped && page.permissions == first.permissions);
        if is_one {
            assert_eq!(done, Ok(memory.address(to * PAGE)), "A4: result of mremap");
            memory.moved(page, pages, to, new_pages);
        } else {
            assert_eq!(done, Err(Errno::EFAULT), "A4: result of mremap");
        }
    }

    fn fork(&mut self, memory: usize) {
        if self.memories.len() < MAX_MEMORIES {
            match self.memory(memory).fork() {
                Some(child) => self.memories.push(child),
                None => assert!(
                    self.is_killed() || self.is_short(),
                    "A1: actor {}: no memory for a child",
                    self.index
                ),
            }
        }
    }

    fn exit(&mut self, memory: usize) {
        let number = memory % self.memories.len();
        if number > 0 {
            self.memories.remove(number);
        }
    }

    /// Loads all memory once more, then releases it.
    fn finish(mut self) {
        self.begin_step(&Op::List);
        shortage::end();
        for memory in 0..self.memories.len() {
            self.load(memory, Piece(0, WINDOW), PAGE / 2 - 1);
            self.load_shared(memory, 1);
            self.release(memory);
        }
        self.unmap_files();
        self.memories.clear();
    }
}

/// The actor that is not a program: carries out the events of the environment.
pub fn run_environment(index: usize, steps: Vec<Op>) {
    for op in steps {
        trace!("environment: {op:?}");
        world::begin_step(index);
        environment::carry_out(op);
        yield_now();
    }
}
