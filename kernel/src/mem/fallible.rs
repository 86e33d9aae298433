//! Allocations whose size or number is chosen from outside: they fail as an error to the requester
//! (Q8).
//!
//! Such code grows its collections by the functions of this module only. They mark the request, so
//! the heap serves it with frames that the requester may claim, and leaves the kernel's reserve to
//! the small allocations that cannot fail. The allocator of the host's tests rejects any request
//! above a page without the mark, and `host::failure` fails the marked ones.
#![forbid(unsafe_code)]

use super::OutOfMemory;
#[cfg(not(target_os = "none"))]
use super::host::failure;
use alloc::collections::{BinaryHeap, TryReserveError, VecDeque};
use alloc::{string::String, vec::Vec};
use core::fmt;
#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicBool, Ordering};

/// A collection with a capacity.
pub trait Growable {
    /// How many elements fit without an allocation.
    fn spare(&self) -> usize;
    /// Allocates for `more` elements, and for some after those.
    fn grow(&mut self, more: usize) -> Result<(), TryReserveError>;
    /// Allocates for `more` elements.
    fn grow_exact(&mut self, more: usize) -> Result<(), TryReserveError>;
}

macro_rules! growable {
    ($([$($parameter:ident $(: $bound:path)?)?] $collection:ty,)*) => {$(
        impl $(<$parameter $(: $bound)?>)? Growable for $collection {
            #[inline]
            fn spare(&self) -> usize {
                self.capacity() - self.len()
            }
            #[inline]
            fn grow(&mut self, more: usize) -> Result<(), TryReserveError> {
                self.try_reserve(more)
            }
            #[inline]
            fn grow_exact(&mut self, more: usize) -> Result<(), TryReserveError> {
                self.try_reserve_exact(more)
            }
        }
    )*};
}

growable! { [T] Vec<T>, [T] VecDeque<T>, [T: Ord] BinaryHeap<T>, [] String, }

/// Whether the allocation under way may fail. Kernel code is not preempted, so one mark serves all
/// threads.
#[cfg(target_os = "none")]
static MARK: AtomicBool = AtomicBool::new(false);

/// Runs `allocate`, all of whose allocations may fail.
#[inline]
pub fn attempt<T, E>(allocate: impl FnOnce() -> Result<T, E>) -> Result<T, OutOfMemory> {
    if super::failure::is_due() {
        return Err(OutOfMemory);
    }
    set_mark(true);
    let result = allocate();
    set_mark(false);
    result.map_err(|_| OutOfMemory)
}

#[inline]
fn set_mark(marked: bool) {
    #[cfg(target_os = "none")]
    MARK.store(marked, Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    failure::set_mark(marked);
}

/// Whether attempts are the kernel's own. The scope never waits, so one flag serves all threads.
#[cfg(target_os = "none")]
static KERNELS: AtomicBool = AtomicBool::new(false);

/// Runs `act`, whose attempts claim memory as the kernel itself: page-outs, and the delivery of
/// messages. `act` must not wait.
#[inline]
pub fn as_kernel<T>(act: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "none")]
    let outer = {
        let outer = KERNELS.load(Ordering::Relaxed);
        KERNELS.store(true, Ordering::Relaxed);
        outer
    };
    let result = act();
    #[cfg(target_os = "none")]
    KERNELS.store(outer, Ordering::Relaxed);
    result
}

/// Whether the allocation under way may fail for a shortage of the requester's.
#[inline]
pub(super) fn is_requesters() -> bool {
    #[cfg(target_os = "none")]
    return is_marked() && !KERNELS.load(Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    is_marked()
}

/// Whether the allocation under way may fail.
fn is_marked() -> bool {
    #[cfg(target_os = "none")]
    return MARK.load(Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    failure::is_marked()
}

/// Makes space for `more` elements, and for some after those.
#[inline]
pub fn reserve(collection: &mut impl Growable, more: usize) -> Result<(), OutOfMemory> {
    if collection.spare() >= more { Ok(()) } else { attempt(|| collection.grow(more)) }
}

/// Makes space for `more` elements.
#[inline]
pub fn reserve_exact(collection: &mut impl Growable, more: usize) -> Result<(), OutOfMemory> {
    if collection.spare() >= more { Ok(()) } else { attempt(|| collection.grow_exact(more)) }
}

/// Elements for which a list keeps its memory at any length.
const KEPT: usize = 32;

/// Releases memory of a list that has space for more than twice the `needed` elements. A list
/// that could not be moved stays as it is.
#[inline]
pub fn shrink<T>(vec: &mut Vec<T>, needed: usize) {
    if vec.capacity() > KEPT && vec.capacity() / 2 > needed {
        move_to_smaller(vec, needed);
    }
}

/// Returns the unused memory of a heap, as [`shrink`] does that of a list.
pub fn shrink_heap<T: Ord>(heap: &mut BinaryHeap<T>, needed: usize) {
    if heap.capacity() > KEPT && heap.capacity() / 2 > needed {
        let mut vec = core::mem::take(heap).into_vec();
        move_to_smaller(&mut vec, needed);
        *heap = vec.into();
    }
}

#[cold]
fn move_to_smaller<T>(vec: &mut Vec<T>, needed: usize) {
    let needed = needed.max(vec.len());
    if let Ok(mut smaller) = with_capacity(needed + needed / 2) {
        smaller.append(vec);
        *vec = smaller;
    }
}

/// An empty vector with space for `capacity` elements.
#[inline]
pub fn with_capacity<T>(capacity: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = Vec::new();
    reserve_exact(&mut vec, capacity)?;
    Ok(vec)
}

/// Adds an element at the end.
#[inline]
pub fn push<T>(vec: &mut Vec<T>, element: T) -> Result<(), OutOfMemory> {
    reserve(vec, 1)?;
    vec.push(element);
    Ok(())
}

/// Adds copies of `elements` at the end.
#[inline]
pub fn extend<T: Clone>(vec: &mut Vec<T>, elements: &[T]) -> Result<(), OutOfMemory> {
    reserve(vec, elements.len())?;
    vec.extend_from_slice(elements);
    Ok(())
}

/// A copy of `elements`.
#[inline]
pub fn to_vec<T: Clone>(elements: &[T]) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_capacity(elements.len())?;
    vec.extend_from_slice(elements);
    Ok(vec)
}

/// `count` copies of `element`.
#[inline]
pub fn filled<T: Clone>(element: T, count: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_capacity(count)?;
    vec.resize(count, element);
    Ok(vec)
}

/// All elements that an iterator returns.
pub fn collect<T>(elements: impl Iterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_capacity(elements.size_hint().0)?;
    for element in elements {
        push(&mut vec, element)?;
    }
    Ok(vec)
}

/// Text that is written with `write!`, whose error is that memory is short.
#[derive(Default)]
pub struct Text(pub Vec<u8>);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        extend(&mut self.0, text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_memory_for_what_it_may_need() {
        let mut list = with_capacity::<u64>(4096).unwrap();
        list.extend(0..500);
        shrink(&mut list, 2048);
        assert_eq!(list.capacity(), 4096);
        shrink(&mut list, 600);
        assert_eq!(list.capacity(), 900);
        assert!(list.iter().copied().eq(0..500));
        list.clear();
        shrink(&mut list, 0);
        assert_eq!(list.capacity(), 0);
    }

    #[test]
    fn a_list_stays_where_there_is_no_memory_for_another() {
        let mut list = with_capacity::<u64>(4096).unwrap();
        list.push(1);
        failure::during(Some(0), || shrink(&mut list, 1));
        assert_eq!((list.capacity(), list.as_slice()), (4096, &[1][..]));
    }
}
