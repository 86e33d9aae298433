//! Tests of a heap of their own, with random requests.

use super::*;
use crate::mem::host::{self, failure};
use std::collections::BTreeMap;

/// A piece in use, and the byte that fills it.
struct Piece {
    start: *mut u8,
    layout: Layout,
    fill: u8,
}

impl Piece {
    fn new(heap: &KernelHeap, layout: Layout, fill: u8) -> Option<Self> {
        // SAFETY: no layout of these tests is empty.
        let start = unsafe { heap.alloc(layout) };
        if start.is_null() {
            return None;
        }
        assert_eq!(start as usize % layout.align(), 0, "{layout:?}");
        // SAFETY: the heap gave us this memory.
        unsafe { start.write_bytes(fill, layout.size()) };
        Some(Self { start, layout, fill })
    }

    fn free(self, heap: &KernelHeap) {
        // SAFETY: the piece is ours, and nobody has written to it but `new`.
        let bytes = unsafe { core::slice::from_raw_parts(self.start, self.layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == self.fill), "{:?} was overwritten", self.layout);
        // SAFETY: the piece came from this heap with this layout.
        unsafe { heap.dealloc(self.start, self.layout) };
    }
}

fn layout(random: &mut fastrand::Rng) -> Layout {
    let size = match random.u8(0..20) {
        0..12 => random.usize(1..=300),
        12..16 => random.usize(1..=PAGE_BYTES),
        16..19 => random.usize(1..=6 * PAGE_BYTES),
        _ => random.usize(1..=80 * PAGE_BYTES),
    };
    let align = 1 << if random.u8(0..4) == 0 { random.u32(0..=12) } else { random.u32(0..=4) };
    Layout::from_size_align(size, align).unwrap()
}

/// Frames that a heap without pieces may hold: those of its notes of free places.
const FRAMES_OF_NOTES: usize = 2;

#[test]
fn pieces_do_not_overlap_and_frames_return() {
    let _alone = host::exclusive();
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (heap, before) = (KernelHeap::new(), frame::stats().free);
        let mut pieces: Vec<Piece> = Vec::new();
        let most = random.usize(1..400);
        for step in 0..3000 {
            if pieces.len() < most && random.u8(0..9) < if step < 1500 { 5 } else { 4 } {
                pieces.extend(Piece::new(&heap, layout(&mut random), random.u8(..)));
            } else if !pieces.is_empty() {
                pieces.swap_remove(random.usize(..pieces.len())).free(&heap);
            }
            let wanted: usize = pieces.iter().map(|piece| piece.layout.size()).sum();
            assert!(heap.used_bytes() >= wanted, "seed {seed}, step {step}");
        }
        pieces.into_iter().for_each(|piece| piece.free(&heap));
        assert_eq!(heap.used_bytes(), 0, "seed {seed}");
        heap.shrink();
        let held = before - frame::stats().free;
        assert_eq!(held, heap.parts.lock().frames);
        assert!(held <= FRAMES_OF_NOTES, "seed {seed}: {held} frames did not return");
    }
}

#[test]
fn little_is_kept_without_a_shortage() {
    let _alone = host::exclusive();
    let (heap, before) = (KernelHeap::new(), frame::stats().free);
    let mut random = fastrand::Rng::with_seed(1);
    let pieces: Vec<_> =
        (0..3000).filter_map(|_| Piece::new(&heap, layout(&mut random), 1)).collect();
    assert!(before - frame::stats().free > 1000);
    pieces.into_iter().for_each(|piece| piece.free(&heap));
    let kept = before - frame::stats().free;
    assert!(kept <= 16 + span::PAGES + FRAMES_OF_NOTES, "{kept} frames");
}

#[test]
fn a_request_fails_whole() {
    let _alone = host::exclusive();
    let heap = KernelHeap::new();
    let mut random = fastrand::Rng::with_seed(2);
    let mut failed = BTreeMap::new();
    for _ in 0..200 {
        let layout = layout(&mut random);
        for claim in 0.. {
            let free = frame::stats().free;
            let (piece, claims) = failure::during(Some(claim), || Piece::new(&heap, layout, 7));
            if let Some(piece) = piece {
                assert!(claims <= claim);
                piece.free(&heap);
                break;
            }
            *failed.entry(layout.size() / PAGE_BYTES).or_insert(0) += 1;
            heap.shrink();
            assert!(free <= frame::stats().free + FRAMES_OF_NOTES, "{layout:?}, claim {claim}");
        }
        heap.shrink();
    }
    assert!(failed.len() > 5);
}

#[test]
fn an_attempt_leaves_the_reserve_alone() {
    let _alone = host::exclusive();
    let heap = KernelHeap::new();
    host::leave_to_programs(Some(8));
    let request = Layout::from_size_align(5 * PAGE_BYTES, 1).unwrap();
    let marked = |bytes| fallible::attempt(|| Piece::new(&heap, bytes, 1).ok_or(())).ok();
    let first = marked(request).expect("there are 8 frames");
    assert!(marked(request).is_none(), "there are 3 frames left");
    let kernels = Piece::new(&heap, request, 2).expect("the kernel may use the reserve");
    host::leave_to_programs(None);
    first.free(&heap);
    kernels.free(&heap);
}
