//! The pages of a file, in a tree whose parts files share: a clone of any length shares a few
//! nodes, and pages only where it lies across them.
//!
//! A node has [`FANOUT`] children, the lowest ones pages. What is shared is never changed: who
//! changes a page copies the nodes on the way to it that others hold too, and only those (path
//! copying, as in any persistent tree). A page is shared if it, or a node above it, has more than
//! one owner.
//!
//! Invariants: no node is empty, but for the length of a call; `pages` of a node is the number of
//! pages below it; pages are given back to the [`Pages`] with the last node that has them, so a
//! tree has to be [cleared](Tree::clear), not dropped.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::ops::Range;

use foundation::Errno;

use super::page::{Needs, Page, Pages};

/// Children of a node.
const FANOUT: usize = 64;
const BITS: u32 = FANOUT.trailing_zeros();

/// Pages of a file by their numbers.
#[derive(Default)]
pub(super) struct Tree {
    root: Option<Rc<Node>>,
    /// Nodes on the way from the root to a page.
    height: u32,
}

struct Node {
    pages: u64,
    children: Children,
}

#[expect(
    clippy::large_enum_variant,
    reason = "most nodes are lowest ones, and one allocation each is enough"
)]
enum Children {
    Pages([Option<Page>; FANOUT]),
    /// Elsewhere, so that a small file is small.
    Nodes(Box<[Option<Rc<Node>>; FANOUT]>),
}

/// Pages that a node of a height covers.
fn span(height: u32) -> u64 {
    // Page numbers have fewer than 52 bits, so the greatest height is 9.
    1 << (BITS * height)
}

/// The child of a node of a height on the way to a page.
fn child_of(page: u64, height: u32) -> usize {
    (page >> (BITS * (height - 1))) as usize % FANOUT
}

/// The children that a range meets, of a node of a height whose first page is `base`.
fn met(range: &Range<u64>, base: u64, height: u32) -> Range<usize> {
    let each = span(height - 1);
    let first = range.start.saturating_sub(base) / each;
    let end = range.end.saturating_sub(base).div_ceil(each).min(FANOUT as u64);
    first.min(end) as usize..end as usize
}

impl Node {
    fn new(height: u32) -> Self {
        let children = if height == 1 {
            Children::Pages([const { None }; FANOUT])
        } else {
            Children::Nodes(Box::new([const { None }; FANOUT]))
        };
        Self { pages: 0, children }
    }

    /// The root of a tree that has become too low.
    fn above(child: Rc<Self>) -> Self {
        let pages = child.pages;
        let mut child = Some(child);
        Self { pages, children: Children::Nodes(Box::new(core::array::from_fn(|_| child.take()))) }
    }

    /// The same children once more.
    fn copy(&self, store: &mut Pages) -> Self {
        let children = match &self.children {
            Children::Pages(pages) => Children::Pages(core::array::from_fn(|index| {
                pages.get(index).and_then(Option::as_ref).map(|page| store.share(page))
            })),
            Children::Nodes(nodes) => Children::Nodes(nodes.clone()),
        };
        Self { pages: self.pages, children }
    }

    /// How many pages there are in a range.
    fn count(&self, range: &Range<u64>, base: u64, height: u32) -> u64 {
        if range.start <= base && base + span(height) <= range.end {
            return self.pages;
        }
        let met = met(range, base, height);
        match &self.children {
            Children::Pages(pages) => {
                pages.get(met).unwrap_or_default().iter().flatten().count() as u64
            }
            Children::Nodes(nodes) => {
                let below = |index: usize| {
                    let node = nodes.get(index).and_then(Option::as_ref);
                    node.map_or(0, |node| {
                        node.count(range, base + index as u64 * span(height - 1), height - 1)
                    })
                };
                met.map(below).sum()
            }
        }
    }

    /// The first page from `from` on that is there, or that is not.
    fn find(&self, from: u64, base: u64, height: u32, is_there: bool) -> Option<u64> {
        if is_there && self.pages == 0 || !is_there && self.pages == span(height) {
            return None;
        }
        let each = span(height - 1);
        (child_of(from.max(base), height)..FANOUT).find_map(|index| {
            let first = base + index as u64 * each;
            let absent = || (!is_there).then_some(first.max(from));
            match &self.children {
                Children::Pages(pages) => {
                    (pages.get(index).is_some_and(Option::is_some) == is_there).then_some(first)
                }
                Children::Nodes(nodes) => match nodes.get(index).and_then(Option::as_ref) {
                    Some(node) => node.find(from.max(first), first, height - 1, is_there),
                    None => absent(),
                },
            }
        })
    }

    /// Calls `look` for each page of a range that is there.
    fn for_each<'a>(
        &'a self,
        range: &Range<u64>,
        base: u64,
        height: u32,
        look: &mut impl FnMut(u64, &'a Page),
    ) {
        for index in met(range, base, height) {
            let first = base + index as u64 * span(height - 1);
            match &self.children {
                Children::Pages(pages) => {
                    if let Some(Some(page)) = pages.get(index) {
                        look(first, page);
                    }
                }
                Children::Nodes(nodes) => {
                    if let Some(Some(node)) = nodes.get(index) {
                        node.for_each(range, first, height - 1, look);
                    }
                }
            }
        }
    }
}

/// A node of one's own: copied if others have it too.
fn own<'a>(node: &'a mut Rc<Node>, store: &mut Pages) -> Result<&'a mut Node, Errno> {
    if Rc::strong_count(node) > 1 {
        *node = Rc::new(node.copy(store));
    }
    // Nobody makes weak references.
    Rc::get_mut(node).ok_or(Errno::EIO)
}

/// Gives a node back, and what only it has.
fn release(node: Rc<Node>, store: &mut Pages) {
    let Some(node) = Rc::into_inner(node) else { return };
    match node.children {
        Children::Pages(pages) => pages.into_iter().flatten().for_each(|page| store.release(page)),
        Children::Nodes(nodes) => nodes.into_iter().flatten().for_each(|node| release(node, store)),
    }
}

/// Takes the pages of a range out of a subtree, which goes itself when nothing is left of it. Says
/// how many those were.
fn remove(
    slot: &mut Option<Rc<Node>>,
    range: &Range<u64>,
    base: u64,
    height: u32,
    store: &mut Pages,
) -> Result<u64, Errno> {
    let Some(node) = slot else { return Ok(0) };
    let before = node.pages;
    let gone = node.count(range, base, height);
    if gone == before {
        if let Some(node) = slot.take() {
            release(node, store);
        }
        return Ok(gone);
    }
    if gone == 0 {
        return Ok(0);
    }
    let node = own(node, store)?;
    node.pages -= gone;
    for index in met(range, base, height) {
        match &mut node.children {
            Children::Pages(pages) => {
                if let Some(page) = pages.get_mut(index).and_then(Option::take) {
                    store.release(page);
                }
            }
            Children::Nodes(nodes) => {
                if let Some(slot) = nodes.get_mut(index) {
                    remove(slot, range, base + index as u64 * span(height - 1), height - 1, store)?;
                }
            }
        }
    }
    Ok(gone)
}

/// What goes into a tree.
enum Planted {
    Page(Page),
    /// A subtree of this height.
    Node(Rc<Node>, u32),
}

impl Planted {
    fn pages(&self) -> u64 {
        match self {
            Self::Page(_) => 1,
            Self::Node(node, _) => node.pages,
        }
    }

    fn height(&self) -> u32 {
        match self {
            Self::Page(_) => 0,
            Self::Node(_, height) => *height,
        }
    }
}

/// Puts something into a subtree where there is nothing; `first` is its first page.
fn plant(
    node: &mut Rc<Node>,
    height: u32,
    first: u64,
    planted: Planted,
    store: &mut Pages,
) -> Result<(), Errno> {
    let node = own(node, store)?;
    node.pages += planted.pages();
    let index = child_of(first, height);
    match (&mut node.children, planted) {
        (Children::Pages(pages), Planted::Page(page)) => {
            *pages.get_mut(index).ok_or(Errno::EIO)? = Some(page)
        }
        (Children::Nodes(nodes), Planted::Node(child, of)) if of + 1 == height => {
            *nodes.get_mut(index).ok_or(Errno::EIO)? = Some(child);
        }
        (Children::Nodes(nodes), planted) => {
            let child = nodes
                .get_mut(index)
                .ok_or(Errno::EIO)?
                .get_or_insert_with(|| Rc::new(Node::new(height - 1)));
            return plant(child, height - 1, first, planted, store);
        }
        (Children::Pages(_), Planted::Node(..)) => return Err(Errno::EIO),
    }
    Ok(())
}

impl Tree {
    /// Pages that there are.
    pub fn pages(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.pages)
    }

    /// Pages of a range that there are.
    pub fn count(&self, range: &Range<u64>) -> u64 {
        self.root.as_ref().map_or(0, |root| root.count(range, 0, self.height))
    }

    /// The root, if the page has a place below it.
    fn root_over(&self, page: u64) -> Option<&Rc<Node>> {
        self.root.as_ref().filter(|_| page < span(self.height))
    }

    /// A page, and whether others have a node above it too.
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

    /// The first page from `from` on that there is.
    pub fn next(&self, from: u64) -> Option<u64> {
        self.root_over(from)?.find(from, 0, self.height, true)
    }

    /// The first from `from` on that there is not.
    pub fn next_absent(&self, from: u64) -> u64 {
        self.root_over(from).map_or(from, |root| {
            root.find(from, 0, self.height, false).unwrap_or(span(self.height))
        })
    }

    /// Calls `look` for each page of a range that there is.
    pub fn for_each<'a>(&'a self, range: &Range<u64>, mut look: impl FnMut(u64, &'a Page)) {
        if let Some(root) = &self.root {
            root.for_each(range, 0, self.height, &mut look);
        }
    }

    /// What a change of a page takes from the store: a page if it is absent or shared, and memory
    /// unless it is there to be written to.
    pub fn write_needs(&self, page: u64, store: &Pages) -> Needs {
        self.find(page).map_or(Needs { pages: 1, places: 1 }, |(page, is_shared_above)| {
            store.change_needs(page, is_shared_above)
        })
    }

    /// A page to be changed: whoever else had its number has another node on the way to it now. The
    /// page itself may be shared still.
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

    /// Puts a page where there is none.
    pub fn insert(&mut self, number: u64, page: Page, store: &mut Pages) -> Result<(), Errno> {
        self.plant(number, Planted::Page(page), store)
    }

    fn plant(&mut self, first: u64, planted: Planted, store: &mut Pages) -> Result<(), Errno> {
        let wanted = (u64::BITS - first.leading_zeros()).div_ceil(BITS);
        let root = match (self.root.take(), planted) {
            (None, Planted::Node(node, height)) if wanted <= height => {
                (self.root, self.height) = (Some(node), height);
                return Ok(());
            }
            (root, planted) => {
                let wanted = wanted.max(planted.height() + 1);
                let mut root = root.unwrap_or_else(|| {
                    self.height = wanted;
                    Rc::new(Node::new(wanted))
                });
                while self.height < wanted {
                    self.height += 1;
                    root = Rc::new(Node::above(root));
                }
                plant(&mut root, self.height, first, planted, store)?;
                root
            }
        };
        self.root = Some(root);
        Ok(())
    }

    /// Takes the pages of a range out.
    pub fn remove(&mut self, range: &Range<u64>, store: &mut Pages) -> Result<(), Errno> {
        remove(&mut self.root, range, 0, self.height, store).map(drop)
    }

    /// The same pages once more: costs nothing, and what becomes of either does not touch the
    /// other.
    pub fn share(&self) -> Self {
        Self { root: self.root.clone(), height: self.height }
    }

    /// Gives everything back.
    pub fn clear(&mut self, store: &mut Pages) {
        if let Some(root) = self.root.take() {
            release(root, store);
        }
    }

    /// Replaces the pages from `to` on by those of a range of another tree; where that has none,
    /// there is none. Whole nodes change hands where both ranges begin at the same place of a node.
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
            return self.plant(landing, Planted::Node(Rc::clone(node), height), store);
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
    fn agrees_with_a_map_whatever_is_shared() {
        let mut store = Pages::new(1 << 20);
        let mut pairs = [Pair::default(), Pair::default(), Pair::default()];
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for step in 1..3000_u64 {
            let (one, other) = (below(3) as usize, below(3) as usize);
            // Near the borders of nodes, where the interesting things are.
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
    fn a_page_alone_needs_none_and_a_shared_one_does() {
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
