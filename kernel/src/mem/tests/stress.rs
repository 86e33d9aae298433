//! Random operations on several address spaces, checked against byte arrays. A failure prints its
//! seed; set `SEED` to repeat it.

use super::*;
use std::{cell::RefCell, panic, rc::Rc, thread};

/// Pages of each space that operations use.
const PAGES: u64 = 40;
/// The first file with holes.
const FILE: u64 = HOLEY_FILES;

#[derive(Clone)]
enum Bytes {
    Private(Vec<u8>),
    Shared(Rc<RefCell<Vec<u8>>>),
}

impl Bytes {
    fn zeros() -> Self {
        Self::Private(vec![0; PAGE_BYTES])
    }

    fn get<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Private(bytes) => look(bytes),
            Self::Shared(bytes) => look(&bytes.borrow()),
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut [u8])) {
        match self {
            Self::Private(bytes) => change(bytes),
            Self::Shared(bytes) => change(&mut bytes.borrow_mut()),
        }
    }
}

/// The expected state of a page: permissions and bytes, or not mapped.
type ModelPage = Option<(Prot, Bytes)>;

struct Pair {
    space: Arc<Space>,
    model: Vec<ModelPage>,
}

struct World {
    random: fastrand::Rng,
    pager: Arc<TestPager>,
    pairs: Vec<Pair>,
}

impl World {
    fn range(&mut self) -> (u64, u64) {
        let start = self.random.u64(0..PAGES);
        (start, self.random.u64(1..=(PAGES - start).min(12)))
    }

    fn prot(&mut self) -> Prot {
        match self.random.u8(0..8) {
            0 => Prot::empty(),
            1 | 2 => Prot::READ,
            _ => RW,
        }
    }

    /// Any bytes of the window, up to some pages.
    fn slice(&mut self) -> UserSlice {
        let start = self.random.u64(0..PAGES * PAGE);
        let len =
            if self.random.bool() { self.random.u64(1..300) } else { self.random.u64(1..4 * PAGE) };
        slice(UserAddr(BASE.0 + start), len.min(PAGES * PAGE - start))
    }

    fn step(&mut self, pair: &mut Pair) {
        *lock(&self.pager.answers) = if self.random.u8(0..8) == 0 {
            Answers::Errors(self.random.u32(1..3))
        } else {
            Answers::Now
        };
        match self.random.u8(0..20) {
            0 => self.map(pair),
            1 => self.unmap(pair),
            2 | 3 => self.protect(pair),
            4..=7 => self.associate(pair),
            8..=11 => self.copy_out(pair),
            12 | 13 => self.copy_in(pair),
            14 | 15 => self.store(pair),
            16 => self.remap(pair),
            17 => self.discard(pair),
            18 => self.lend(pair),
            _ => drop(cache::evict(self.random.usize(1..100))),
        }
    }

    fn map(&mut self, pair: &mut Pair) {
        let (start, pages) = self.range();
        let (prot, shared) = (self.prot(), self.random.u8(0..3) == 0);
        let backing = if shared {
            Backing::Shared { memory: SharedMemory::new(&Account::new()), first: 5 }
        } else {
            Backing::Anonymous
        };
        pair.space
            .map(Placement::Fixed(at(start)), PageCount(pages).bytes(), prot, backing, "")
            .unwrap();
        for page in &mut pair.model[start as usize..(start + pages) as usize] {
            let zeros = vec![0; PAGE_BYTES];
            *page = Some((
                prot,
                if shared {
                    Bytes::Shared(Rc::new(RefCell::new(zeros)))
                } else {
                    Bytes::Private(zeros)
                },
            ));
        }
    }

    fn unmap(&mut self, pair: &mut Pair) {
        let (start, pages) = self.range();
        pair.space.unmap(at(start), PageCount(pages).bytes()).unwrap();
        pair.model[start as usize..(start + pages) as usize].fill(None);
    }

    fn protect(&mut self, pair: &mut Pair) {
        let (start, pages) = self.range();
        let prot = self.prot();
        let model = &mut pair.model[start as usize..(start + pages) as usize];
        let expected = if model.iter().all(Option::is_some) { Ok(()) } else { Err(Errno::ENOMEM) };
        assert_eq!(pair.space.protect(at(start), PageCount(pages).bytes(), prot), expected);
        if expected.is_ok() {
            model.iter_mut().flatten().for_each(|page| page.0 = prot);
        }
    }

    fn associate(&mut self, pair: &mut Pair) {
        let (start, pages) = self.range();
        let (file, version) = (FILE + self.random.u64(0..2), self.random.u64(1..3));
        let shift = if self.random.bool() { 0 } else { self.random.u64(1..PAGE) };
        let (file_offset, skip) = (self.random.u64(0..20) * PAGE + shift, self.random.u64(0..4));
        let snapshot = self.pager.sparse(file, version, file_offset, pages + skip);
        let done = associate(&pair.space, at(start), pages, &snapshot, skip * PAGE).unwrap();
        let lazy = |page: &&ModelPage| match page {
            Some((prot, Bytes::Private(_))) => prot.contains(Prot::WRITE),
            _ => false,
        };
        let model = &mut pair.model[start as usize..(start + pages) as usize];
        assert_eq!(done, model.iter().take_while(lazy).count() as u64);
        for (index, page) in model.iter_mut().take(done as usize).enumerate() {
            let first = file_offset + (skip + index as u64) * PAGE;
            page.as_mut().unwrap().1 = Bytes::Private(
                (first..first + PAGE).map(|at| byte_of(file, version, at)).collect(),
            );
        }
    }

    fn copy_out(&mut self, pair: &mut Pair) {
        let to = self.slice();
        let bytes: Vec<u8> = (0..to.len()).map(|_| self.random.u8(..)).collect();
        let expected = reach(pair, to, |prot| prot.contains(Prot::WRITE));
        let done = if self.random.u8(0..4) == 0 {
            Ok(pair.space.try_copy_out(to, &bytes))
        } else {
            pair.space.copy_out(to, &bytes)
        };
        let done = done.unwrap_or_else(|error| {
            assert_eq!((error, expected), (FaultError::Segv, 0));
            0
        });
        assert!(done <= expected);
        let mut left = &bytes[..done];
        for piece in to.take(done).by_page() {
            let (index, inside) = place(piece);
            let (part, rest) = left.split_at(piece.len());
            pair.model[index]
                .as_mut()
                .unwrap()
                .1
                .set(|page| page[inside..inside + piece.len()].copy_from_slice(part));
            left = rest;
        }
    }

    fn copy_in(&mut self, pair: &mut Pair) {
        let from = self.slice();
        let mut bytes = vec![0; from.len()];
        let expected = reach(pair, from, |prot| !prot.is_empty());
        let done = pair.space.copy_in_prefix(from, &mut bytes).unwrap_or(0);
        assert_eq!(done, expected);
        let mut left = &bytes[..done];
        for piece in from.take(done).by_page() {
            let (index, inside) = place(piece);
            let (part, rest) = left.split_at(piece.len());
            pair.model[index]
                .as_ref()
                .unwrap()
                .1
                .get(|page| assert_eq!(page[inside..inside + piece.len()], *part, "page {index}"));
            left = rest;
        }
    }

    fn store(&mut self, pair: &mut Pair) {
        let (page, inside, value) =
            (self.random.u64(0..PAGES), self.random.u64(0..PAGE), self.random.u8(..));
        let model = pair.model[page as usize].as_mut();
        let allowed = model.as_ref().is_some_and(|(prot, _)| prot.contains(Prot::WRITE));
        assert_eq!(
            mmu::store(&pair.space, UserAddr(at(page).0 + inside), value),
            if allowed { Ok(()) } else { Err(FaultError::Segv) }
        );
        if allowed {
            model.unwrap().1.set(|bytes| bytes[inside as usize] = value);
        }
    }

    fn remap(&mut self, pair: &mut Pair) {
        let (from, to) = (self.range(), self.range());
        let (old, new) =
            (from.0 as usize..(from.0 + from.1) as usize, to.0 as usize..(to.0 + to.1) as usize);
        let kind = |page: &ModelPage| {
            page.as_ref().map(|(prot, bytes)| (*prot, matches!(bytes, Bytes::Shared(_))))
        };
        let first = kind(&pair.model[old.start]);
        // Growing shared memory, and shared memory of several mappings, have tests of their own.
        let simple = first.is_some_and(|(_, shared)| !shared || from.1 >= to.1)
            && pair.model[old.clone()].iter().all(|page| kind(page) == first);
        if !simple || old.start < new.end && new.start < old.end {
            return;
        }
        pair.space.remap(at(from.0), pages(from.1), pages(to.1), Move::To(at(to.0))).unwrap();
        let mut moved: Vec<ModelPage> = pair.model[old.clone()].to_vec();
        pair.model[old].fill(None);
        moved.resize(new.len(), first.map(|(prot, _)| (prot, Bytes::zeros())));
        pair.model[new].clone_from_slice(&moved);
    }

    fn discard(&mut self, pair: &mut Pair) {
        let (start, pages) = self.range();
        let model = &mut pair.model[start as usize..(start + pages) as usize];
        let mapped = model.iter().all(Option::is_some);
        assert_eq!(pair.space.discard(at(start), PageCount(pages).bytes()).is_ok(), mapped);
        for page in model.iter_mut().flatten().filter(|_| mapped) {
            if let Bytes::Private(bytes) = &mut page.1 {
                bytes.fill(0);
            }
        }
    }

    /// Lends frames from one place to another, as a socket does.
    fn lend(&mut self, pair: &mut Pair) {
        let ((from, pages), to) = (self.range(), self.random.u64(0..PAGES));
        let pages = pages.min(PAGES - to);
        let readable = pair.model[from as usize..]
            .iter()
            .take_while(|page| page.as_ref().is_some_and(|(prot, _)| !prot.is_empty()))
            .count() as u64;
        let Ok(frames) = pair.space.lend(PageRange::new(at(from).page(), PageCount(pages))) else {
            assert!(readable < pages);
            return;
        };
        let copies = pair.model[from as usize..][..pages as usize].to_vec();
        let done = pair.space.accept(at(to).page(), frames).unwrap_or_default().to_usize();
        for (index, copy) in copies.into_iter().take(done).enumerate() {
            let bytes = copy.unwrap().1.get(<[u8]>::to_vec);
            pair.model[to as usize + index].as_mut().unwrap().1 = Bytes::Private(bytes);
        }
    }

    fn check(&mut self, pair: &Pair) {
        *lock(&self.pager.answers) = Answers::Now;
        for (index, page) in pair.model.iter().enumerate() {
            let address = at(index as u64);
            for inside in [0, 1, self.random.u64(0..PAGE), PAGE - 1] {
                let expected = match page {
                    Some((prot, bytes)) if !prot.is_empty() => {
                        Ok(bytes.get(|bytes| bytes[inside as usize]))
                    }
                    _ => Err(FaultError::Segv),
                };
                assert_eq!(
                    mmu::load(&pair.space, UserAddr(address.0 + inside)),
                    expected,
                    "page {index}, byte {inside}"
                );
            }
        }
        check_invariants(&pair.space);
    }
}

fn place(piece: UserSlice) -> (usize, usize) {
    ((piece.addr().page() - BASE.page()).to_usize(), piece.addr().offset_in_page())
}

/// Number of bytes from the start of a slice that lie in pages with suitable permissions.
fn reach(pair: &Pair, slice: UserSlice, suitable: impl Fn(Prot) -> bool) -> usize {
    let reached = slice.by_page().take_while(|&piece| {
        pair.model[place(piece).0].as_ref().is_some_and(|(prot, _)| suitable(*prot))
    });
    reached.map(UserSlice::len).sum()
}

/// Checks the invariants between regions and page tables.
fn check_invariants(space: &Space) {
    space.with(|state| {
        let mut end = Page(0);
        for (range, region) in state.regions.iter() {
            assert!(range.start >= end && !region.pages.is_zero());
            end = range.end;
            let lazy = matches!(region.backing, Backing::Snapshot { .. });
            assert_eq!(lazy, !region.associated.is_zero());
            if lazy {
                assert_eq!(region.associated, region.pages - state.table.count_private(range));
            }
            let mut resident = 0;
            state.table.for_each(range, |_, entry| {
                resident += 1;
                let writable = entry.has(page_table::EntryFlags::WRITE);
                assert!(!writable || region.prot.contains(Prot::WRITE));
                assert!(
                    !writable
                        || !entry.is_shared()
                        || matches!(region.backing, Backing::Shared { .. }),
                    "a shared frame is writable"
                );
            });
            assert!(region.touched || resident == 0);
        }
    });
}

fn run(seed: u64) {
    let pager = TestPager::new(Answers::Now);
    let first =
        Pair { space: space_of(PAGES), model: vec![Some((RW, Bytes::zeros())); PAGES as usize] };
    let mut world = World { random: fastrand::Rng::with_seed(seed), pager, pairs: vec![first] };
    for step in 0..600 {
        let index = world.random.usize(0..world.pairs.len());
        let mut pair = world.pairs.swap_remove(index);
        world.step(&mut pair);
        match world.random.u8(0..40) {
            0 if world.pairs.len() < 3 => world.pairs.push(Pair {
                space: pair.space.fork().unwrap().into_space(),
                model: pair.model.clone(),
            }),
            1 if !world.pairs.is_empty() => continue,
            _ => {}
        }
        if step % 20 == 0 {
            world.check(&pair);
        }
        world.pairs.push(pair);
    }
    for pair in core::mem::take(&mut world.pairs) {
        world.check(&pair);
    }
}

#[test]
fn random_operations_keep_every_byte_and_leak_nothing() {
    let _alone = host::exclusive();
    cache::evict(usize::MAX);
    let (before, live) = (frame::stats(), counter::GLOBAL.get(Counter::SnapshotsLive));
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..60).collect(),
    };
    for seed in seeds {
        if let Err(failure) = panic::catch_unwind(|| run(seed)) {
            eprintln!("SEED={seed}");
            panic::resume_unwind(failure);
        }
        cache::evict(usize::MAX);
        assert_eq!(frame::stats(), before, "SEED={seed}");
        assert_eq!(counter::GLOBAL.get(Counter::SnapshotsLive), live, "SEED={seed}");
    }
}

#[test]
fn random_operations_in_little_memory() {
    let _alone = host::exclusive();
    cache::evict(usize::MAX);
    let wanted = frame::stats().free - frame::reserve_below(Claim::Program) - 350;
    let _hoard: Vec<Frame> = (0..wanted).map(|_| Frame::zeroed().unwrap()).collect();
    (1000..1020).for_each(run);
}

const THREADS: u64 = 4;

/// One thread's operations on those pages of a shared space whose number is `me` modulo
/// [`THREADS`], so that adjacent pages belong to different threads.
fn race(me: u64, space: &Arc<Space>, pager: &Arc<TestPager>) {
    let mut random = fastrand::Rng::with_seed(me);
    let mut model: Vec<Vec<u8>> = vec![vec![0; PAGE_BYTES]; (PAGES / THREADS) as usize];
    for _ in 0..400 {
        let index = random.usize(0..model.len());
        let page = index as u64 * THREADS + me;
        let bytes = &mut model[index];
        match random.u8(0..10) {
            0..=3 => {
                let (version, offset) = (random.u64(1..3), random.u64(0..8) * 1024);
                let snapshot = pager.sparse(FILE, version, offset, 3);
                assert_eq!(associate(space, at(page), 1, &snapshot, PAGE), Ok(1));
                *bytes = (offset + PAGE..offset + 2 * PAGE)
                    .map(|at| byte_of(FILE, version, at))
                    .collect();
            }
            4 => {
                let inside = random.usize(0..PAGE_BYTES);
                store_stubbornly(space, UserAddr(at(page).0 + inside as u64), 7);
                bytes[inside] = 7;
            }
            5 => {
                space.unmap(at(page), pages(1)).unwrap();
                space
                    .map(Placement::FixedNoReplace(at(page)), pages(1), RW, Backing::Anonymous, "")
                    .unwrap();
                bytes.fill(0);
            }
            6 => {
                let child = space.fork().unwrap();
                let inside = random.usize(0..PAGE_BYTES);
                assert_eq!(
                    load_stubbornly(&child, UserAddr(at(page).0 + inside as u64)),
                    bytes[inside]
                );
            }
            7 => drop(cache::evict(10)),
            _ => {
                let inside = random.usize(0..PAGE_BYTES);
                assert_eq!(
                    load_stubbornly(space, UserAddr(at(page).0 + inside as u64)),
                    bytes[inside],
                    "page {page}, byte {inside}"
                );
            }
        }
    }
}

/// Loads, and tries again where the page-in failed.
fn load_stubbornly(space: &Space, address: UserAddr) -> u8 {
    loop {
        match mmu::load(space, address) {
            Err(FaultError::Bus) => {}
            other => return other.unwrap(),
        }
    }
}

fn store_stubbornly(space: &Space, address: UserAddr, value: u8) {
    while let Err(error) = mmu::store(space, address, value) {
        assert_eq!(error, FaultError::Bus);
    }
}

#[test]
fn threads_of_one_space_race_and_answers_come_late_out_of_order_and_failed() {
    let _alone = host::exclusive();
    cache::evict(usize::MAX);
    let before = frame::stats();
    let (space, pager) = (space_of(PAGES), TestPager::new(Answers::Later));
    thread::scope(|scope| {
        let racers: Vec<_> = (0..THREADS)
            .map(|me| {
                scope.spawn({
                    let (space, pager) = (&space, &pager);
                    move || race(me, space, pager)
                })
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(9);
        while racers.iter().any(|racer| !racer.is_finished()) {
            let fetch = {
                let mut waiting = lock(&pager.waiting);
                let count = waiting.len();
                (count > 0).then(|| waiting.swap_remove(random.usize(0..count)))
            };
            match fetch {
                Some(fetch) if random.u8(0..6) == 0 => fetch.complete(Err(Errno::EIO)),
                Some(fetch) => TestPager::answer(&fetch),
                None => thread::yield_now(),
            }
        }
    });
    check_invariants(&space);
    let (made, closed) = (pager.made.load(Ordering::Relaxed), pager.closed());
    drop(space);
    lock(&pager.waiting).clear();
    cache::evict(usize::MAX);
    assert_eq!(frame::stats(), before);
    assert!(closed as u64 <= made && pager.closed() as u64 == made);
}
