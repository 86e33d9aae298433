//! The pages of a file, in a tree whose nodes files can share: a clone of any length shares a few
//! nodes, and single pages only where its range does not match a node.
//!
//! A node has [`FANOUT`] children; those of the lowest nodes are pages. Shared nodes are never
//! changed: a change of a page copies the shared nodes on the path to it, and only those (path
//! copying, as in any persistent tree). A page is shared if it or a node above it has more than one
//! owner.
//!
//! Invariants: no node is empty, except during a call; `pages` of a node is the number of pages
//! below it; pages are released to the [`Pages`] with the last node that contains them, so a tree
//! must be [cleared](Tree::clear), not dropped.

use alloc::rc::Rc;
use core::ops::Range;

use foundation::Errno;

use super::entries::Entry;
use super::node::{
    BITS, CHILDREN_BYTES, Children, FANOUT, Inserted, MAX_HEIGHT, NODE_BYTES, Node, allocate,
    child_of, insert_at, met, own, release, remove, span,
};
use super::page::{Needs, Page, Pages};

/// The pages of a file by page number.
#[derive(Default)]
pub(super) struct Tree {
    root: Option<Rc<Node>>,
    /// Number of nodes on the path from the root to a page.
    height: u32,
}

impl Tree {
    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.pages)
    }

    /// Bytes of memory that the nodes of so many adjacent pages take at most.
    pub fn bytes_for(pages: u64) -> u64 {
        let lowest = pages.div_ceil(FANOUT as u64) + 1;
        // A node above has as many children; and there are the paths to both ends.
        let above = lowest / (FANOUT as u64 - 1) + 2 * MAX_HEIGHT;
        lowest * NODE_BYTES + above * (NODE_BYTES + CHILDREN_BYTES)
    }

    /// Number of pages in a range.
    pub fn count(&self, range: &Range<u64>) -> u64 {
        self.root.as_ref().map_or(0, |root| root.count(range, 0, self.height))
    }

    /// The root, if it covers the page.
    fn root_over(&self, page: u64) -> Option<&Rc<Node>> {
        self.root.as_ref().filter(|_| page < span(self.height))
    }

    /// A page, and whether a node above it is shared.
    fn find(&self, page: u64) -> Option<(&Page, bool)> {
        let mut node = self.root_over(page)?;
        let mut is_shared_above = false;
        for height in (1..=self.height).rev() {
            is_shared_above |= Rc::strong_count(node) > 1;
            let index = child_of(page, height);
            match &node.children {
                Children::Nodes(nodes) => node = nodes.get(index)?.as_ref()?,
                Children::Pages(pages) => {
                    return Some((pages.get(index)?.as_ref()?, is_shared_above));
                }
            }
        }
        None
    }

    /// A page.
    pub fn get(&self, page: u64) -> Option<&Page> {
        let mut node = self.root_over(page)?;
        for height in (1..=self.height).rev() {
            let index = child_of(page, height);
            match &node.children {
                Children::Nodes(nodes) => node = nodes.get(index)?.as_ref()?,
                Children::Pages(pages) => return pages.get(index)?.as_ref(),
            }
        }
        None
    }

    /// The first page present from `from` on.
    pub fn next(&self, from: u64) -> Option<u64> {
        self.root_over(from)?.find(from, 0, self.height, true)
    }

    /// The first page absent from `from` on.
    pub fn next_absent(&self, from: u64) -> u64 {
        self.root_over(from).map_or(from, |root| {
            root.find(from, 0, self.height, false).unwrap_or(span(self.height))
        })
    }

    /// Calls `look` for each page in a range.
    pub fn for_each<'a>(&'a self, range: &Range<u64>, mut look: impl FnMut(u64, &'a Page)) {
        if range.end.wrapping_sub(range.start) == 1 {
            if let Some(page) = self.get(range.start) {
                look(range.start, page);
            }
        } else if let Some(root) = &self.root {
            root.for_each(range, 0, self.height, &mut look);
        }
    }

    /// What a change of a page takes from the page store: a page if it is absent or shared, and
    /// memory unless it can be written in place.
    pub fn write_needs(&self, page: u64, store: &Pages) -> Needs {
        self.find(page).map_or(Needs { pages: 1, places: 1 }, |(page, is_shared_above)| {
            store.change_needs(page, is_shared_above)
        })
    }

    /// Whether the bytes of a page can change with no more space than it takes.
    pub fn has_own_storage(&self, page: u64, store: &Pages) -> bool {
        self.find(page).is_some_and(|(page, is_shared_above)| {
            !is_shared_above && store.entries.get(page.entry()).is_some_and(Entry::is_own)
        })
    }

    /// A page, for changing it: shared nodes on the path to it are copied. The page itself may
    /// still be shared.
    pub fn get_mut(&mut self, page: u64, store: &mut Pages) -> Result<Option<&mut Page>, Errno> {
        if self.get(page).is_none() {
            return Ok(None);
        }
        let mut height = self.height;
        let Some(mut node) = self.root.as_mut() else { return Ok(None) };
        loop {
            let index = child_of(page, height);
            match &mut own(node, store)?.children {
                Children::Pages(pages) => return Ok(pages.get_mut(index).and_then(Option::as_mut)),
                Children::Nodes(nodes) => {
                    node = nodes.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EIO)?
                }
            }
            height -= 1;
        }
    }

    /// Inserts a page where none is present.
    pub fn insert(&mut self, number: u64, page: Page, store: &mut Pages) -> Result<(), Errno> {
        self.insert_at(number, Inserted::Page(page), store)
    }

    fn insert_at(
        &mut self,
        first: u64,
        inserted: Inserted,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        let wanted = (u64::BITS - first.leading_zeros()).div_ceil(BITS);
        let root = match (self.root.take(), inserted) {
            (None, Inserted::Node(node, height)) if wanted <= height => {
                (self.root, self.height) = (Some(node), height);
                return Ok(());
            }
            (root, inserted) => {
                let wanted = wanted.max(inserted.height() + 1);
                let mut root = root.unwrap_or_else(|| {
                    self.height = wanted;
                    allocate(Node::new(wanted), store)
                });
                while self.height < wanted {
                    self.height += 1;
                    root = allocate(Node::above(root), store);
                }
                insert_at(&mut root, self.height, first, inserted, store)?;
                root
            }
        };
        self.root = Some(root);
        Ok(())
    }

    /// Whether a change of the range may copy nodes, since some on the paths to its ends are
    /// shared.
    pub fn copies_nodes(&self, range: &Range<u64>) -> bool {
        [range.start, range.end.saturating_sub(1)].into_iter().any(|page| {
            let Some(mut node) = self.root_over(page) else { return false };
            for height in (1..=self.height).rev() {
                if Rc::strong_count(node) > 1 {
                    return true;
                }
                let Children::Nodes(nodes) = &node.children else { return false };
                match nodes.get(child_of(page, height)).and_then(Option::as_ref) {
                    Some(child) => node = child,
                    None => return false,
                }
            }
            false
        })
    }

    /// Removes the pages of a range.
    pub fn remove(&mut self, range: &Range<u64>, store: &mut Pages) -> Result<(), Errno> {
        remove(&mut self.root, range, 0, self.height, store).map(drop)
    }

    /// A tree with the same pages. Later changes of either do not affect the other.
    pub fn share(&self) -> Self {
        Self { root: self.root.clone(), height: self.height }
    }

    /// Releases all pages.
    pub fn clear(&mut self, store: &mut Pages) {
        if let Some(root) = self.root.take() {
            release(root, store);
        }
    }

    /// Replaces the pages from `to` on by those of a range of another tree, including absent ones.
    /// Whole nodes are shared where both ranges have the same position within a node.
    pub fn graft(
        &mut self,
        to: u64,
        source: &Self,
        from: &Range<u64>,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        self.remove(&(to..to + (from.end - from.start)), store)?;
        match &source.root {
            Some(root) => self.graft_node(root, source.height, 0, to, from, store),
            None => Ok(()),
        }
    }

    /// Bytes of memory that the nodes of a [graft](Self::graft) take at most, or more than `most`.
    pub fn graft_bytes(&self, to: u64, from: &Range<u64>, most: u64) -> u64 {
        // What is not shared as a whole goes to at most two nodes of each height; and the paths to
        // both ends may have to be made or copied.
        let each = 2 * (NODE_BYTES + CHILDREN_BYTES);
        let mut nodes = MAX_HEIGHT;
        if let Some(root) = &self.root {
            root.count_split(0, self.height, to, from, &mut nodes, most / each);
        }
        nodes.saturating_mul(each)
    }

    fn graft_node(
        &mut self,
        node: &Rc<Node>,
        height: u32,
        base: u64,
        to: u64,
        from: &Range<u64>,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        let inside = node.count(from, base, height);
        if inside == 0 {
            return Ok(());
        }
        let landing = (base + to)
            .checked_sub(from.start)
            .filter(|landing| landing.is_multiple_of(span(height)));
        if let Some(landing) = landing.filter(|&landing| {
            inside == node.pages && self.count(&(landing..landing + span(height))) == 0
        }) {
            return self.insert_at(landing, Inserted::Node(Rc::clone(node), height), store);
        }
        for index in met(from, base, height) {
            let first = base + index as u64 * span(height - 1);
            match &node.children {
                Children::Pages(pages) => {
                    if let Some(Some(page)) = pages.get(index) {
                        let page = store.share(page);
                        self.insert(first + to - from.start, page, store)?;
                    }
                }
                Children::Nodes(nodes) => {
                    if let Some(Some(child)) = nodes.get(index) {
                        self.graft_node(child, height - 1, first, to, from, store)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    /// A tree beside a map that says what it should hold: each page has its own number in its first
    /// bytes.
    #[derive(Default)]
    struct Pair {
        tree: Tree,
        map: BTreeMap<u64, u64>,
    }

    impl Pair {
        fn check(&self, store: &Pages) {
            let mut found = BTreeMap::new();
            let mark = |page: &Page| {
                u64::from_le_bytes(store.bytes(page).unwrap()[..8].try_into().unwrap())
            };
            self.tree.for_each(&(0..1 << 40), |number, page| {
                assert_eq!(found.insert(number, mark(page)), None)
            });
            assert_eq!(found, self.map);
            assert_eq!(self.tree.pages(), self.map.len() as u64);
            assert!(self.map.keys().all(|&page| self.tree.get(page).is_some()));
            let mut walked = Vec::new();
            let mut at = 0;
            while let Some(page) = self.tree.next(at) {
                walked.extend(page..self.tree.next_absent(page));
                at = self.tree.next_absent(page);
            }
            assert_eq!(walked, self.map.keys().copied().collect::<Vec<_>>());
        }

        fn put(&mut self, number: u64, mark: u64, store: &mut Pages) {
            if self.tree.get(number).is_none() {
                let page = store.allocate().unwrap();
                self.tree.insert(number, page, store).unwrap();
            }
            let page = self.tree.get_mut(number, store).unwrap().unwrap();
            store.writable(page).unwrap()[..8].copy_from_slice(&mark.to_le_bytes());
            self.map.insert(number, mark);
        }
    }

    #[test]
    fn shared_trees_agree_with_a_map() {
        let mut store = Pages::new(1 << 20);
        let mut pairs = [Pair::default(), Pair::default(), Pair::default()];
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for step in 1..3000_u64 {
            let (one, other) = (below(3) as usize, below(3) as usize);
            // Near the boundaries of nodes, where most cases differ.
            let mut place = || [0, 64, 4096, 8192][below(4) as usize] + below(200) * below(2);
            let (from, to) = (place(), place());
            let length = [1, 64, 100, 4096, 10_000][below(5) as usize];
            match below(4) {
                0 => (to..to + length.min(70))
                    .for_each(|page| pairs[one].put(page, step, &mut store)),
                1 => {
                    pairs[one].tree.remove(&(from..from + length), &mut store).unwrap();
                    pairs[one].map.retain(|page, _| !(from..from + length).contains(page));
                }
                _ => {
                    let (mut shared, taken) = (pairs[one].tree.share(), pairs[one].map.clone());
                    pairs[other]
                        .tree
                        .graft(to, &shared, &(from..from + length), &mut store)
                        .unwrap();
                    pairs[other].map.retain(|page, _| !(to..to + length).contains(page));
                    pairs[other].map.extend(
                        taken
                            .range(from..from + length)
                            .map(|(page, mark)| (page - from + to, *mark)),
                    );
                    shared.clear(&mut store);
                }
            }
            if step % 16 == 0 {
                pairs.iter().for_each(|pair| pair.check(&store));
            }
        }
        pairs.iter_mut().for_each(|pair| pair.tree.clear(&mut store));
        assert_eq!(store.used, 0, "pages that nobody gave back");
    }

    #[test]
    fn only_a_shared_page_needs_another_one() {
        let mut store = Pages::new(10_000);
        let mut pair = Pair::default();
        (0..5000).for_each(|page| pair.put(page, page, &mut store));
        let needs = |pair: &Pair, page, store: &Pages| {
            let Needs { pages, places } = pair.tree.write_needs(page, store);
            assert_eq!(pages, places, "all that is there is in memory");
            pages
        };
        assert_eq!((needs(&pair, 17, &store), needs(&pair, 5000, &store)), (0, 1));
        let mut shared = pair.tree.share();
        assert_eq!((needs(&pair, 17, &store), store.used), (1, 5000));
        pair.put(17, 1, &mut store);
        assert_eq!((needs(&pair, 17, &store), needs(&pair, 18, &store), store.used), (0, 1, 5001));
        shared.clear(&mut store);
        assert_eq!((needs(&pair, 18, &store), store.used), (0, 5000));
        pair.tree.clear(&mut store);
        assert_eq!(store.used, 0);
    }
}
