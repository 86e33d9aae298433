//! The nodes of a [tree](super::tree) of pages, and what is done to a subtree.
//!
//! What a node takes of the memory is counted when it is allocated and when it is released.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::ops::Range;

use foundation::Errno;

use super::page::{Page, Pages};

/// Number of children of a node.
pub(super) const FANOUT: usize = 64;
pub(super) const BITS: u32 = FANOUT.trailing_zeros();

/// A node: its children, and the number of pages below it.
pub(super) struct Node {
    pub pages: u64,
    pub children: Children,
}

#[expect(
    clippy::large_enum_variant,
    reason = "most nodes are lowest ones, and one allocation each is enough"
)]
/// The children of a node.
pub(super) enum Children {
    Pages([Option<Page>; FANOUT]),
    /// In an allocation of their own, so that a small file is small.
    Nodes(Box<[Option<Rc<Node>>; FANOUT]>),
}

/// Bytes of memory that a node takes, with its counts and what the allocator adds.
pub(super) const NODE_BYTES: u64 = size_of::<Node>() as u64 + 32;

/// Bytes of memory that the children of a node above the lowest take.
pub(super) const CHILDREN_BYTES: u64 = size_of::<[Option<Rc<Node>>; FANOUT]>() as u64 + 16;

/// Maximum height of a tree: page numbers have fewer than 52 bits.
pub(super) const MAX_HEIGHT: u64 = 9;

/// Number of pages that a node of a height covers.
pub(super) fn span(height: u32) -> u64 {
    1 << (BITS * height)
}

/// Index of the child on the path to a page, in a node of a height.
pub(super) fn child_of(page: u64, height: u32) -> usize {
    (page >> (BITS * (height - 1))) as usize % FANOUT
}

/// Indices of the children that a range overlaps, in a node of a height whose first page is `base`.
pub(super) fn met(range: &Range<u64>, base: u64, height: u32) -> Range<usize> {
    let each = span(height - 1);
    let first = range.start.saturating_sub(base) / each;
    let end = range.end.saturating_sub(base).div_ceil(each).min(FANOUT as u64);
    first.min(end) as usize..end as usize
}

impl Node {
    /// A node of a height, without children.
    pub fn new(height: u32) -> Self {
        let children = if height == 1 {
            Children::Pages([const { None }; FANOUT])
        } else {
            Children::Nodes(Box::new([const { None }; FANOUT]))
        };
        Self { pages: 0, children }
    }

    /// Bytes of memory that the node takes.
    fn bytes(&self) -> u64 {
        match self.children {
            Children::Pages(_) => NODE_BYTES,
            Children::Nodes(_) => NODE_BYTES + CHILDREN_BYTES,
        }
    }

    /// A new root above the root of a tree that must become higher.
    pub fn above(child: Rc<Self>) -> Self {
        let pages = child.pages;
        let mut child = Some(child);
        Self { pages, children: Children::Nodes(Box::new(core::array::from_fn(|_| child.take()))) }
    }

    /// A copy of the node, which shares its children.
    fn copy(&self, store: &mut Pages) -> Self {
        let children = match &self.children {
            Children::Pages(pages) => Children::Pages(core::array::from_fn(|index| {
                pages.get(index).and_then(Option::as_ref).map(|page| store.share(page))
            })),
            Children::Nodes(nodes) => Children::Nodes(nodes.clone()),
        };
        Self { pages: self.pages, children }
    }

    /// Number of pages in a range.
    pub fn count(&self, range: &Range<u64>, base: u64, height: u32) -> u64 {
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

    /// Counts the nodes that a graft of a range to `to` cannot share as a whole, up to `most`.
    pub fn count_split(
        &self,
        base: u64,
        height: u32,
        to: u64,
        from: &Range<u64>,
        nodes: &mut u64,
        most: u64,
    ) {
        let is_aligned = |height| to.wrapping_sub(from.start).is_multiple_of(span(height));
        let is_whole = from.start <= base && base + span(height) <= from.end;
        if is_whole && is_aligned(height) || *nodes > most {
            return;
        }
        *nodes += 1;
        if let Children::Nodes(children) = &self.children {
            let met = met(from, base, height);
            // The children between the first and the last are met as a whole.
            let step = if is_aligned(height - 1) { met.len().saturating_sub(1).max(1) } else { 1 };
            for index in met.step_by(step) {
                if let Some(Some(child)) = children.get(index) {
                    let first = base + index as u64 * span(height - 1);
                    child.count_split(first, height - 1, to, from, nodes, most);
                }
            }
        }
    }

    /// The first page from `from` on that is present, or the first that is absent.
    pub fn find(&self, from: u64, base: u64, height: u32, is_present: bool) -> Option<u64> {
        if is_present && self.pages == 0 || !is_present && self.pages == span(height) {
            return None;
        }
        let each = span(height - 1);
        (child_of(from.max(base), height)..FANOUT).find_map(|index| {
            let first = base + index as u64 * each;
            let absent = || (!is_present).then_some(first.max(from));
            match &self.children {
                Children::Pages(pages) => {
                    (pages.get(index).is_some_and(Option::is_some) == is_present).then_some(first)
                }
                Children::Nodes(nodes) => match nodes.get(index).and_then(Option::as_ref) {
                    Some(node) => node.find(from.max(first), first, height - 1, is_present),
                    None => absent(),
                },
            }
        })
    }

    /// Calls `look` for each page in a range.
    pub fn for_each<'a>(
        &'a self,
        range: &Range<u64>,
        base: u64,
        height: u32,
        look: &mut impl FnMut(u64, &'a Page),
    ) {
        let children = met(range, base, height);
        let each = span(height - 1);
        let first = base + children.start as u64 * each;
        match &self.children {
            Children::Pages(pages) => {
                let pages = pages.get(children).unwrap_or_default().iter().zip(first..);
                pages.for_each(|(page, index)| page.iter().for_each(|page| look(index, page)));
            }
            Children::Nodes(nodes) => {
                let nodes = nodes.get(children).unwrap_or_default().iter();
                for (node, first) in nodes.zip((first..).step_by(each as usize)) {
                    if let Some(node) = node {
                        node.for_each(range, first, height - 1, look);
                    }
                }
            }
        }
    }
}

/// Allocates a node, for which the caller has made space.
pub(super) fn allocate(node: Node, store: &mut Pages) -> Rc<Node> {
    store.charge(node.bytes());
    Rc::new(node)
}

/// The node for changing it: copied first if it is shared.
pub(super) fn own<'a>(node: &'a mut Rc<Node>, store: &mut Pages) -> Result<&'a mut Node, Errno> {
    if Rc::strong_count(node) > 1 {
        let copy = node.copy(store);
        *node = allocate(copy, store);
    }
    // There are no weak references.
    Rc::get_mut(node).ok_or(Errno::EIO)
}

/// Releases a node, and its children if it was the last owner.
pub(super) fn release(node: Rc<Node>, store: &mut Pages) {
    let Some(node) = Rc::into_inner(node) else { return };
    store.refund(node.bytes());
    match node.children {
        Children::Pages(pages) => pages.into_iter().flatten().for_each(|page| store.release(page)),
        Children::Nodes(nodes) => nodes.into_iter().flatten().for_each(|node| release(node, store)),
    }
}

/// Removes the pages of a range from a subtree, and the subtree if it becomes empty. Returns the
/// number of pages removed.
pub(super) fn remove(
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
    debug_assert!(gone < node.pages, "an empty node stays in the tree");
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

/// What is inserted into a tree.
pub(super) enum Inserted {
    Page(Page),
    /// A subtree of this height.
    Node(Rc<Node>, u32),
}

impl Inserted {
    /// Number of pages in it.
    pub fn pages(&self) -> u64 {
        match self {
            Self::Page(_) => 1,
            Self::Node(node, _) => node.pages,
        }
    }

    /// Height of the subtree; 0 for a page.
    pub fn height(&self) -> u32 {
        match self {
            Self::Page(_) => 0,
            Self::Node(_, height) => *height,
        }
    }
}

/// Inserts into a subtree where nothing is present. `first` is the first page of what is inserted.
pub(super) fn insert_at(
    node: &mut Rc<Node>,
    height: u32,
    first: u64,
    inserted: Inserted,
    store: &mut Pages,
) -> Result<(), Errno> {
    let node = own(node, store)?;
    node.pages += inserted.pages();
    debug_assert!(node.pages <= span(height), "pages are inserted where pages are");
    let index = child_of(first, height);
    match (&mut node.children, inserted) {
        (Children::Pages(pages), Inserted::Page(page)) => {
            *pages.get_mut(index).ok_or(Errno::EIO)? = Some(page)
        }
        (Children::Nodes(nodes), Inserted::Node(child, of)) if of + 1 == height => {
            *nodes.get_mut(index).ok_or(Errno::EIO)? = Some(child);
        }
        (Children::Nodes(nodes), inserted) => {
            let child = nodes
                .get_mut(index)
                .ok_or(Errno::EIO)?
                .get_or_insert_with(|| allocate(Node::new(height - 1), store));
            return insert_at(child, height - 1, first, inserted, store);
        }
        (Children::Pages(_), Inserted::Node(..)) => return Err(Errno::EIO),
    }
    Ok(())
}
