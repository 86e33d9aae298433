//! A map of values on the heap: a tree, and in front of it a small table of the values looked up
//! last, so that who looks up near keys over and over finds each in a few instructions.

use alloc::{boxed::Box, collections::BTreeMap};
use core::{
    cell::Cell,
    ops::{Bound, RangeInclusive},
    ptr::NonNull,
};

/// Places of the front table.
const FRONT: usize = 64;

/// A key of a [`FrontMap`].
pub trait FrontKey: Ord + Copy {
    /// Any function of the key that differs for keys which are looked up in turn.
    fn place(&self) -> usize;
}

/// A map; values are boxed.
pub struct FrontMap<K, V> {
    tree: BTreeMap<K, Owned<V>>,
    /// Each key has one place here. Every pointer is that of a value in the tree.
    front: [Place<K, V>; FRONT],
}

/// A key that was looked up last, and its value.
type Place<K, V> = Cell<Option<(K, NonNull<V>)>>;

/// A box, as a raw pointer, because the front table has it as well.
struct Owned<V>(NonNull<V>);

// SAFETY: as a `Box<V>`, which it is but for the pointers in the front table; these are used only
// through the map, by the rules of borrowing for all of it.
unsafe impl<V: Send> Send for Owned<V> {}
// SAFETY: as above.
unsafe impl<K: Send, V: Send> Send for FrontMap<K, V> {}

impl<V> Owned<V> {
    /// What `make` returns, made in its place.
    fn new(make: impl FnOnce() -> V) -> Self {
        let mut value = Box::new_uninit();
        value.write(make());
        // SAFETY: it was just written.
        Self(NonNull::from(Box::leak(unsafe { value.assume_init() })))
    }

    fn get(&self) -> &V {
        // SAFETY: lives until the drop, and nobody changes it while `self` is borrowed.
        unsafe { self.0.as_ref() }
    }

    fn get_mut(&mut self) -> &mut V {
        // SAFETY: lives until the drop, and nobody else looks at it while `self` is borrowed.
        unsafe { self.0.as_mut() }
    }
}

impl<V> Drop for Owned<V> {
    fn drop(&mut self) {
        // SAFETY: from a box, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<K: FrontKey, V> FrontMap<K, V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self { tree: BTreeMap::new(), front: [const { Cell::new(None) }; FRONT] }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    #[inline]
    fn place(&self, key: &K) -> &Place<K, V> {
        &self.front[key.place() % FRONT]
    }

    #[inline]
    fn find_in_front(&self, key: &K) -> Option<NonNull<V>> {
        self.place(key).get().filter(|(known, _)| known == key).map(|(_, value)| value)
    }

    #[inline]
    fn find(&self, key: &K) -> Option<NonNull<V>> {
        self.find_in_front(key).or_else(|| self.find_in_tree(key))
    }

    #[inline(never)]
    fn find_in_tree(&self, key: &K) -> Option<NonNull<V>> {
        let value = self.tree.get(key)?.0;
        self.place(key).set(Some((*key, value)));
        Some(value)
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        // SAFETY: a value of the tree, which does not change while `self` is borrowed.
        self.find(key).map(|value| unsafe { value.as_ref() })
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        // SAFETY: a value of the tree, which nobody else uses while `self` is borrowed.
        self.find(key).map(|mut value| unsafe { value.as_mut() })
    }

    /// The value of a key, which is made if there is none.
    pub fn get_or_make(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let mut value = match self.find_in_front(&key) {
            Some(value) => value,
            None => self.tree.entry(key).or_insert_with(|| Owned::new(make)).0,
        };
        self.place(&key).set(Some((key, value)));
        // SAFETY: a value of the tree, which nobody else uses while `self` is borrowed.
        unsafe { value.as_mut() }
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &K) {
        if self.find_in_front(key).is_some() {
            self.place(key).set(None);
        }
        self.tree.remove(key);
    }

    /// The next key after `key`, or the first one, and its value.
    pub fn next_after(&mut self, key: Option<K>) -> Option<(K, &mut V)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let (key, value) = self.tree.range_mut((from, Bound::Unbounded)).next()?;
        Some((*key, value.get_mut()))
    }

    /// The first key of a range that has a value, and that.
    pub fn first_of(&self, keys: &RangeInclusive<K>) -> Option<(K, &V)> {
        self.tree.range(keys.clone()).next().map(|(key, value)| (*key, value.get()))
    }

    /// All values by their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.tree.values().map(Owned::get)
    }

    /// All values by their keys, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.tree.values_mut().map(Owned::get_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap as Model;

    impl FrontKey for u64 {
        fn place(&self) -> usize {
            // Most share a place with others.
            *self as usize % 7
        }
    }

    #[test]
    fn the_front_table_has_only_what_the_tree_has() {
        let (mut map, mut model) = (FrontMap::new(), Model::new());
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..20_000_u64 {
            let key = random.u64(..60);
            match random.u32(..4) {
                0 => {
                    let made = *map.get_or_make(key, || step);
                    assert_eq!(made, *model.entry(key).or_insert(step));
                }
                1 => {
                    map.remove(&key);
                    model.remove(&key);
                }
                2 => {
                    let found = map.get_mut(&key);
                    assert_eq!(found.is_some(), model.contains_key(&key));
                    if let Some(value) = found {
                        *value = step;
                        model.insert(key, step);
                    }
                }
                _ => assert_eq!(map.get(&key), model.get(&key)),
            }
            assert_eq!(map.len(), model.len());
        }
        assert!(model.len() > 10 && map.values().eq(model.values()));
        let first = map.next_after(None).map(|(key, _)| key);
        let second = map.next_after(first).map(|(key, _)| key);
        assert!([first, second].into_iter().eq(model.keys().take(2).map(|&key| Some(key))));
        assert_eq!(
            map.first_of(&(20..=59)).map(|(key, _)| key),
            model.range(20..).next().map(|(&key, _)| key)
        );
    }
}
