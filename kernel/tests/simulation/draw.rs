//! Scripts from a seed. Each seed omits some kinds of steps and prefers others (swarm testing), so
//! that seeds differ in more than order.

use fastrand::Rng;
use fsproto::Features;

use crate::holding::SHARED_PAGES;
use crate::mapping::SLOTS;
use crate::script::{
    At, Failing, NAMES, Op, PAGE, Piece, Script, Seat, Setup, WINDOW, WINDOW_PAGES,
};

/// The approximate size of a file in bytes.
const FILE: u64 = 14 * PAGE as u64;
/// Steps of one run.
pub const STEPS: usize = 600;

/// A kind of step: its weight, and how its parameters are drawn.
type Kind = (u32, fn(&mut Rng) -> Op);

/// Steps of programs.
const PROGRAM: &[Kind] = &[
    (26, |rng| moving(rng, |memory, file, at, pieces| Op::Read { memory, file, at, pieces })),
    (14, |rng| moving(rng, |memory, file, at, pieces| Op::Write { memory, file, at, pieces })),
    (14, |rng| Op::Load { memory: memory(rng), at: piece(rng), stride: rng.usize(1..PAGE) }),
    (10, |rng| Op::Store {
        memory: memory(rng),
        at: piece(rng),
        stride: rng.usize(64..2 * PAGE),
        value: rng.u8(..),
    }),
    (8, |rng| Op::Fill { memory: memory(rng), at: piece(rng), value: rng.u8(..) }),
    (3, |rng| Op::Hold { memory: memory(rng), pages: rng.usize(1..100), value: rng.u8(..) }),
    (1, |rng| Op::Release { memory: memory(rng) }),
    (3, |rng| Op::StoreShared {
        memory: memory(rng),
        stride: rng.usize(1..SHARED_PAGES),
        value: rng.u8(..),
    }),
    (3, |rng| Op::LoadShared { memory: memory(rng), stride: rng.usize(1..SHARED_PAGES) }),
    (3, |rng| Op::Fork { memory: memory(rng) }),
    (2, |rng| Op::Exit { memory: memory(rng) }),
    (5, |rng| pages(rng, |memory, page, pages| Op::Map { memory, page, pages })),
    (1, |rng| pages(rng, |memory, page, pages| Op::Unmap { memory, page, pages })),
    (1, |rng| pages(rng, |memory, page, pages| Op::Discard { memory, page, pages })),
    (3, |rng| {
        let permissions = [3, 3, 1, 0][rng.usize(0..4)];
        pages(rng, |memory, page, pages| Op::Protect { memory, page, pages, permissions })
    }),
    (3, |rng| {
        let (to, new_pages) = (rng.usize(0..WINDOW_PAGES), rng.usize(1..=WINDOW_PAGES / 2));
        pages(rng, |memory, page, pages| Op::Remap {
            memory,
            page,
            pages,
            to,
            new_pages: if pages < 3 { pages } else { new_pages },
        })
    }),
    (5, |rng| Op::Open { name: name(rng), truncate: rng.u8(0..6) == 0, append: rng.u8(0..5) == 0 }),
    (2, |rng| Op::Close { file: file(rng) }),
    (2, |rng| Op::Seek { file: file(rng), to: offset(rng) }),
    (1, |rng| Op::Stat { file: file(rng) }),
    (3, |rng| Op::Truncate { file: file(rng), size: size(rng) }),
    (3, |rng| Op::Punch { file: file(rng), offset: offset(rng), length: offset(rng) + 1 }),
    (1, |rng| Op::Sync { file: file(rng) }),
    (2, |rng| Op::Remove { name: name(rng) }),
    (2, |rng| Op::Rename { old: name(rng), new: name(rng) }),
    (1, |_| Op::List),
    (8, |rng| Op::MapFile {
        slot: rng.usize(0..SLOTS),
        name: name(rng),
        page: [0, 0, 1, 5][rng.usize(0..4)],
        pages: rng.usize(2..=16),
        writable: rng.u8(0..4) > 0,
    }),
    (2, |rng| Op::UnmapFile { memory: memory(rng), slot: rng.usize(0..SLOTS) }),
    (14, |rng| Op::LoadFile {
        memory: memory(rng),
        slot: rng.usize(0..SLOTS),
        at: part(rng),
        stride: rng.usize(1..PAGE),
    }),
    (16, |rng| Op::StoreFile {
        memory: memory(rng),
        slot: rng.usize(0..SLOTS),
        at: part(rng),
        stride: rng.usize(64..2 * PAGE),
        value: rng.u8(..),
    }),
    (7, |rng| Op::SyncMapping { memory: memory(rng), slot: rng.usize(0..SLOTS) }),
    (4, |rng| {
        from_mapping(rng, |memory, slot, at, file, offset| Op::ReadToMapping {
            memory,
            slot,
            at,
            file,
            offset,
        })
    }),
    (4, |rng| {
        from_mapping(rng, |memory, slot, at, file, offset| Op::WriteFromMapping {
            memory,
            slot,
            at,
            file,
            offset,
        })
    }),
    (2, |rng| Op::Allocate {
        file: file(rng),
        offset: offset(rng),
        length: offset(rng) + 1,
        extends: rng.bool(),
    }),
];

/// Events that happen to programs.
const WORLD: &[Kind] = &[
    (10, |rng| Op::Evict { frames: rng.usize(1..30) }),
    (4, |_| Op::Evict { frames: usize::MAX }),
    (10, |rng| Op::Take { pages: rng.usize(1..40) }),
    (1, |rng| Op::FillSwap { is_full: rng.u8(0..3) == 0 }),
    (2, |rng| Op::FailSwap { times: [1, 2, 4, 10][rng.usize(0..4)] }),
    (1, |_| Op::LoseSwap),
    (3, |rng| Op::Shortage { frames: [0, 1, 5, 20, 80][rng.usize(0..5)] }),
    (3, |_| Op::Plenty),
    (2, |rng| Op::Kill { process: rng.usize(0..4) }),
    (2, |rng| Op::Disconnect { client: rng.usize(0..3) }),
    (1, |rng| Op::DisconnectBase { client: rng.usize(0..3) }),
    (4, |rng| {
        let which = [Failing::Reads, Failing::Changes, Failing::All][rng.usize(0..3)];
        Op::Fail {
            which,
            after: rng.u32(0..6),
            times: [1, 3, 10, 40][rng.usize(0..4)],
            full: rng.bool(),
        }
    }),
    (2, |rng| Op::Later { seconds: [1, 2, 40][rng.usize(0..3)] }),
];

/// The script of a seed.
pub fn script(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed);
    let mut setup = setup(&mut rng);
    setup.budget_pages = budget_pages(seed);
    (setup.fault_around_max, setup.fault_whole, setup.copy_touched) = policies(seed);
    setup.compose_pages = [1, 2, 16][Rng::with_seed(!seed ^ 0x10).usize(0..3)];
    setup.coalesce_pages = [0, 1, 1][Rng::with_seed(!seed ^ 0x11).usize(0..3)];
    if Rng::with_seed(seed.rotate_left(32)).u8(0..8) == 0 {
        setup.lacks |= Features::DIRECT.bits();
    }
    let mut looks = Rng::with_seed(!seed ^ 0x12);
    setup.looks = looks.bool();
    // Read-ahead is off there: what it answers is seen by no server of the simulation.
    setup.sole = setup.seats.iter().all(|seat| seat.client == 0) && looks.u8(0..4) > 0;
    // A quarter of all seeds has no faults, so that no error is excused.
    let calm = rng.u8(0..4) == 0;
    // Shortages of frames make everything slow.
    let ample = calm || rng.u8(0..4) > 0;
    let (program, world) = (weights(PROGRAM, &mut rng), weights(WORLD, &mut rng));
    let actors = setup.seats.len();
    // Every actor begins with a file that is not empty.
    let beginning = (0..actors).flat_map(|actor| {
        let whole = Piece(0, WINDOW);
        let fill = Op::Fill { memory: 0, at: whole, value: actor as u8 };
        let write = Op::Write { memory: 0, file: 0, at: At::Offset(0), pieces: vec![whole] };
        [Op::Open { name: actor % NAMES.len(), truncate: false, append: false }, fill, write]
            .map(|op| (actor, op))
    });
    let steps = (0..STEPS - 3 * actors).map(|_| {
        if rng.usize(0..5 * actors) == 0 {
            let op = draw(WORLD, &world, &mut rng);
            let troubles = matches!(
                op,
                Op::Kill { .. }
                    | Op::Disconnect { .. }
                    | Op::Fail { .. }
                    | Op::FailSwap { .. }
                    | Op::LoseSwap
            );
            let is_out_of_place = calm && troubles || ample && matches!(op, Op::Shortage { .. });
            (actors, if is_out_of_place { Op::Evict { frames: 1 } } else { op })
        } else {
            (rng.usize(0..actors), draw(PROGRAM, &program, &mut rng))
        }
    });
    let mut steps: Vec<(usize, Op)> = beginning.chain(steps).collect();
    if setup.budget_pages > 0 {
        let troubles = steps
            .iter_mut()
            .filter_map(|(_, op)| if let Op::Fail { which, .. } = op { Some(which) } else { None });
        troubles.step_by(2).for_each(|which| *which = Failing::Transfers);
    }
    if setup.looks {
        // Instead of the attributes of open files, which are looked at anyway.
        for (_, op) in &mut steps {
            if let Op::Stat { file } = *op {
                *op = Op::Chmod { file, mode: looks.u16(0..0o1000) };
            }
        }
    }
    Script { setup, steps }
}

/// Half of all seeds have a base server with almost no memory: it moves pages to and from its
/// device all the time. Drawn from a generator of its own, so that the other parameters do not
/// depend on it.
fn budget_pages(seed: u64) -> u64 {
    [0, 0, 0, 0, 2, 5, 12, 30][Rng::with_seed(!seed).usize(0..8)]
}

/// The largest window of a fault, which regions are fetched whole (in half of all seeds, faults
/// have to learn it), and which reads copy after one that was touched. Drawn apart for the same
/// reason.
fn policies(seed: u64) -> (u64, u64, u64) {
    let mut rng = Rng::with_seed(!seed ^ 0xf);
    let most = [1, 3, 8, 64, 64, 64][rng.usize(0..6)];
    (most, [0, 0, 7, 32][rng.usize(0..4)], [0, 0, 0, 4, 64][rng.usize(0..5)])
}

fn setup(rng: &mut Rng) -> Setup {
    let clients = [1, 1, 1, 2, 3][rng.usize(0..5)];
    let mut seats: Vec<Seat> =
        (0..clients).map(|client| Seat { client, process: client }).collect();
    for process in clients..rng.usize(clients..clients + 3) {
        seats.push(Seat { client: rng.usize(0..clients), process });
    }
    // Threads.
    for _ in 0..rng.usize(0..2) {
        seats.push(seats[rng.usize(0..seats.len())]);
    }
    let features =
        [Features::CLONE, Features::SPARSE, Features::OPEN_UNLINKED, Features::READ_RANGES];
    let lacks =
        features.into_iter().filter(|_| rng.u8(0..5) == 0).fold(Features::empty(), Features::union);
    Setup {
        seats,
        capacity_pages: [60, 110, 160, 100_000][rng.usize(0..4)],
        budget_pages: 0,
        fault_around: [1, 1, 4, 16][rng.usize(0..4)],
        fault_around_max: 64,
        fault_whole: 0,
        copy_touched: 0,
        coalesce_pages: 0,
        compose_pages: 16,
        min_lazy_pages: [1, 2, 2, 3][rng.usize(0..4)],
        lacks: lacks.bits(),
        overtaking: rng.u8(0..4) == 0,
        untrusted: rng.u8(0..5) == 0,
        sole: false,
        looks: false,
    }
}

/// The weight of a kind in one seed: frequent kinds are never omitted, rare ones may be.
fn swarm(weight: u32, draw: usize) -> u32 {
    let least = if weight < 5 { 0 } else { weight * 5 };
    [least, weight * 10, weight * 10, weight * 10, weight * 10, weight * 30][draw]
}

/// The weights of all kinds in one seed.
fn weights(kinds: &[Kind], rng: &mut Rng) -> Vec<u32> {
    kinds.iter().map(|(weight, _)| swarm(*weight, rng.usize(0..6))).collect()
}

fn draw(kinds: &[Kind], weights: &[u32], rng: &mut Rng) -> Op {
    let total: u32 = weights.iter().sum();
    let mut at = rng.u32(0..total.max(1));
    for ((_, make), weight) in kinds.iter().zip(weights) {
        if at < *weight {
            return make(rng);
        }
        at -= weight;
    }
    Op::List
}

/// Mostly the program's own memory, sometimes a child's.
fn memory(rng: &mut Rng) -> usize {
    [0, 0, 0, 1, 2][rng.usize(0..5)]
}

fn file(rng: &mut Rng) -> usize {
    rng.usize(0..4)
}

fn name(rng: &mut Rng) -> usize {
    rng.usize(0..NAMES.len())
}

/// Half of the time at a page boundary.
fn aligned(rng: &mut Rng, value: usize) -> usize {
    if rng.bool() { value / PAGE * PAGE } else { value }
}

/// Mostly near the beginning, where files have data.
fn offset(rng: &mut Rng) -> u64 {
    let most = if rng.u8(0..3) == 0 { FILE as usize } else { 4 * PAGE };
    let offset = rng.usize(0..most);
    aligned(rng, offset) as u64
}

fn size(rng: &mut Rng) -> u64 {
    let size = rng.usize(0..FILE as usize);
    aligned(rng, size) as u64
}

fn at(rng: &mut Rng) -> At {
    if rng.u8(0..4) == 0 { At::Position } else { At::Offset(offset(rng)) }
}

fn piece(rng: &mut Rng) -> Piece {
    let start = rng.usize(0..WINDOW);
    let start = aligned(rng, start);
    let most = if rng.u8(0..3) > 0 { WINDOW - start } else { (WINDOW - start).min(4 * PAGE) };
    let length = rng.usize(1..=most);
    Piece(
        start,
        if rng.bool() { length } else { length.next_multiple_of(PAGE).min(WINDOW - start) },
    )
}

fn pieces(rng: &mut Rng) -> Vec<Piece> {
    let count = if rng.u8(0..6) == 0 { rng.usize(2..5) } else { 1 };
    let mut pieces: Vec<Piece> = (0..count).map(|_| piece(rng)).collect();
    for piece in pieces.iter_mut().skip(1) {
        piece.1 = piece.1.min(3 * PAGE + 100);
    }
    pieces
}

/// Moves bytes between a file and memory. Sometimes file offsets equal offsets in the window, so
/// that bytes are written back to where they were read.
fn moving(rng: &mut Rng, make: impl FnOnce(usize, usize, At, Vec<Piece>) -> Op) -> Op {
    let (memory, file, pieces) = (memory(rng), file(rng), pieces(rng));
    let at = if rng.u8(0..4) == 0 { At::Offset(pieces[0].0 as u64) } else { at(rng) };
    make(memory, file, at, pieces)
}

/// A part of a mapping, mostly near its beginning.
fn part(rng: &mut Rng) -> Piece {
    let most = [(2, 1), (2, 12), (8, 1), (8, 12)][rng.usize(0..4)];
    let (start, length) = (rng.usize(0..most.0 * PAGE), rng.usize(1..most.1 * PAGE));
    Piece(aligned(rng, start), length)
}

/// Moves bytes between a file and one that is mapped.
fn from_mapping(rng: &mut Rng, make: impl FnOnce(usize, usize, Piece, usize, u64) -> Op) -> Op {
    let (memory, slot, at) = (memory(rng), rng.usize(0..SLOTS), part(rng));
    make(memory, slot, at, file(rng), offset(rng))
}

fn pages(rng: &mut Rng, make: impl FnOnce(usize, usize, usize) -> Op) -> Op {
    let page = rng.usize(0..WINDOW_PAGES);
    let pages = rng.usize(1..=(WINDOW_PAGES - page).min(8));
    make(memory(rng), page, pages)
}
