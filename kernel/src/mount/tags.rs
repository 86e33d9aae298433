//! The requests in flight of a session, by their tags.
//!
//! An array: a tag is the place of its request and, in the upper half, a number that counts on. So
//! a request is found in one step, and a late reply to an earlier one at the same place is not
//! taken for its reply until 65,536 requests later. Places are used again, the last one first.

use alloc::vec::Vec;

use fsproto::Tag;

use super::mutants;
use crate::mem::{OutOfMemory, fallible};

/// Requests at once, at most: so many places have a number.
const MAX_REQUESTS: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 16;
/// Places for which an empty table keeps its memory.
const KEPT_PLACES: usize = 16;

/// What is known of the requests in flight.
pub(super) struct Tags<T> {
    places: Vec<Place<T>>,
    /// The place that was vacated last.
    vacant: Option<usize>,
    count: usize,
    next_number: u16,
}

enum Place<T> {
    Taken(Tag, T),
    /// And the place that was vacated before it.
    Vacant(Option<usize>),
}

impl<T> Default for Tags<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: None, count: 0, next_number: 1 }
    }
}

impl<T> Tags<T> {
    /// Number of requests.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Makes a place for one more request, so that entering it does not fail.
    #[inline]
    pub fn prepare(&mut self) -> Result<(), OutOfMemory> {
        if self.vacant.is_some() { Ok(()) } else { self.add() }
    }

    /// Enters a request. Fails without memory for it, unless that was [prepared](Self::prepare).
    #[inline]
    pub fn insert(&mut self, request: T) -> Result<Tag, OutOfMemory> {
        self.prepare()?;
        let index = self.vacant.ok_or(OutOfMemory)?;
        let place = self.places.get_mut(index).ok_or(OutOfMemory)?;
        let Place::Vacant(before) = *place else { return Err(OutOfMemory) };
        let tag = Tag(u32::from(self.next_number) << PLACE_BITS | index as u32);
        *place = Place::Taken(tag, request);
        self.vacant = before;
        self.next_number = self.next_number.wrapping_add(1);
        self.count += 1;
        Ok(tag)
    }

    /// Adds a vacant place.
    #[cold]
    fn add(&mut self) -> Result<(), OutOfMemory> {
        let index = self.places.len();
        if index >= MAX_REQUESTS {
            return Err(OutOfMemory);
        }
        fallible::as_kernel(|| fallible::reserve(&mut self.places, 1))?;
        self.places.push(Place::Vacant(None));
        self.vacant = Some(index);
        Ok(())
    }

    fn place(&mut self, tag: Tag) -> Option<(usize, &mut Place<T>)> {
        let index = tag.0 as usize % MAX_REQUESTS;
        Some((index, self.places.get_mut(index)?))
    }

    /// The request with this tag.
    pub fn get_mut(&mut self, tag: Tag) -> Option<&mut T> {
        match self.place(tag)?.1 {
            Place::Taken(own, request) if *own == tag => Some(request),
            _ => None,
        }
    }

    /// Removes the request with this tag.
    #[inline]
    pub fn remove(&mut self, tag: Tag) -> Option<T> {
        let vacant = self.vacant;
        let (index, place) = self.place(tag)?;
        let is_its = |own: Tag| own == tag || mutants::forget_number();
        if !matches!(place, Place::Taken(own, _) if is_its(*own)) {
            return None;
        }
        let Place::Taken(_, request) = core::mem::replace(place, Place::Vacant(vacant)) else {
            return None;
        };
        self.vacant = Some(index);
        self.count -= 1;
        if self.count == 0 && self.places.capacity() > KEPT_PLACES {
            self.release();
        }
        Some(request)
    }

    /// Releases the memory of a time with many requests.
    #[cold]
    fn release(&mut self) {
        (self.places, self.vacant) = (Vec::new(), None);
    }

    /// Removes all requests.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        (self.vacant, self.count) = (None, 0);
        core::mem::take(&mut self.places).into_iter().filter_map(|place| match place {
            Place::Taken(_, request) => Some(request),
            Place::Vacant(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::host;
    use foundation::mutant::{Mutant, choose};
    use std::collections::BTreeMap;

    /// Against a map, with tags of earlier requests in between. Whether all replies find the
    /// right requests.
    fn tags_are_of_one_request() -> bool {
        let (mut tags, mut model) = (Tags::default(), BTreeMap::new());
        let (mut all, mut random) = (Vec::new(), 1_u64);
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = (random >> 33) as usize;
            // Many at one time, few at another.
            let most = if step % 4000 < 2000 { 3 } else { 60 };
            if drawn.is_multiple_of(2) && model.len() < most {
                let tag = tags.insert(step).unwrap();
                assert_eq!(model.insert(tag.0, step), None, "a tag in use");
                all.push(tag);
            } else if let Some(tag) = all.get(drawn % all.len().max(1)) {
                let (found, known) = (tags.get_mut(*tag).copied(), model.get(&tag.0).copied());
                if found != known || tags.remove(*tag) != model.remove(&tag.0) {
                    return false;
                }
            }
            assert_eq!(tags.len(), model.len());
        }
        assert!(all.len() > 1000, "the test tests something");
        let mut left: Vec<u32> = tags.take_all().collect();
        left.sort();
        let mut expected: Vec<u32> = model.into_values().collect();
        expected.sort();
        (left, tags.len()) == (expected, 0)
    }

    #[test]
    fn a_tag_is_of_one_request() {
        let _alone = host::exclusive();
        assert!(tags_are_of_one_request());
    }

    #[test]
    fn mutants_of_tags_are_noticed() {
        let _alone = host::exclusive();
        choose(Some(Mutant::ForgetNumber));
        let is_right = tags_are_of_one_request();
        choose(None);
        assert!(!is_right);
    }

    #[test]
    fn a_burst_leaves_no_memory() {
        let mut tags = Tags::default();
        let burst: Vec<_> = (0..1000).map(|number| tags.insert(number).unwrap()).collect();
        assert!(burst.iter().all(|&tag| tags.remove(tag).is_some()));
        assert_eq!(tags.places.capacity(), 0);
        assert_eq!(tags.remove(burst[0]), None);
        let tag = tags.insert(1).unwrap();
        assert!(!burst.contains(&tag), "the number counts on");
    }
}
