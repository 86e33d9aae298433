//! The call tree, and which of its nodes runs.
//!
//! A thread is known by its stack in the kernel. Its frames are kept with the places of their
//! return addresses: a call or a return at a higher place ends all frames below. So a frame that
//! was left without a return (by exec, or by the end of a thread) goes with the next call.

use std::collections::HashMap;
use std::io::{self, Write};

/// Bytes of a thread's stack in the kernel. An unmapped page lies between two of them.
const KERNEL_STACK_BYTES: u64 = 32 << 10;
const PAGE_BYTES: u64 = 4096;
/// The first address of the kernel's half.
const KERNEL_START: u64 = 1 << 63;
/// The place of a frame that nothing returns from.
const BOTTOM: u64 = u64::MAX;
/// The node above all others, and the block that calls from nowhere.
const NONE: u32 = 0;

/// Instructions that are executed one after the other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// Address of the first.
    pub address: u64,
    /// Bytes of each.
    pub sizes: Vec<u8>,
    /// All their bytes.
    pub code: Vec<u8>,
}

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// It called a function, and put the return address here.
    Call(u64),
    /// It took a return address from here.
    Return(u64),
}

/// A call: which node calls, from which block, to which block.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    parent: u32,
    site: u32,
    entry: u32,
}

#[derive(Clone, Copy)]
struct Frame {
    /// Where the return address is.
    place: u64,
    node: u32,
}

#[derive(Default)]
struct Thread {
    /// The end of its stack in the kernel.
    top: u64,
    kernel: Vec<Frame>,
    user: Vec<Frame>,
    /// The node that entered the kernel.
    caller: u32,
}

/// What was executed so far.
#[derive(Default)]
pub struct Calls {
    /// Number 0 is no block.
    blocks: Vec<Block>,
    /// Their numbers: QEMU translates a block again where it had no space for all.
    known: HashMap<Block, u32>,
    nodes: Vec<Node>,
    numbers: HashMap<Node, u32>,
    threads: Vec<Thread>,
    current: usize,
    is_user: bool,
    node: u32,
    last: u32,
    transfer: Option<Transfer>,
    is_counting: bool,
    counts: HashMap<(u32, u32), u64>,
}

impl Calls {
    /// Adds a block. Returns its number, 1 at least.
    pub fn add(&mut self, block: Block) -> u32 {
        *self.known.entry(block).or_insert_with_key(|block| {
            self.blocks.push(block.clone());
            u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
        })
    }

    /// Counts from here on, or no more.
    pub fn count(&mut self, is_counting: bool) {
        self.is_counting = is_counting;
    }

    /// The block that is executed ends so.
    pub fn transfer(&mut self, transfer: Transfer) {
        self.transfer = Some(transfer);
    }

    /// A block begins.
    pub fn execute(&mut self, block: u32) {
        let address = self.blocks.get(block as usize - 1).map_or(0, |block| block.address);
        if address >= KERNEL_START {
            self.execute_kernel(block);
        } else {
            self.execute_user(block);
        }
        self.last = block;
        if self.is_counting {
            *self.counts.entry((self.node, block)).or_default() += 1;
        }
    }

    fn execute_kernel(&mut self, block: u32) {
        if self.is_user {
            self.is_user = false;
            self.transfer = None;
            let caller = self.thread().caller;
            self.node = self.child(caller, NONE, block);
            self.thread().kernel = vec![Frame { place: BOTTOM, node: self.node }];
        }
        let Some(transfer) = self.transfer.take() else { return };
        let (Transfer::Call(place) | Transfer::Return(place)) = transfer;
        self.current = self.find(place);
        let caller = self.thread().caller;
        unwind(&mut self.thread().kernel, place);
        if self.thread().kernel.is_empty() {
            let first = if matches!(transfer, Transfer::Call(_)) { self.last } else { block };
            let node = self.child(caller, NONE, first);
            self.thread().kernel.push(Frame { place: BOTTOM, node });
        }
        self.node = self.thread().kernel.last().map_or(NONE, |frame| frame.node);
        if matches!(transfer, Transfer::Call(_)) {
            self.node = self.child(self.node, self.last, block);
            let node = self.node;
            self.thread().kernel.push(Frame { place, node });
        }
    }

    fn execute_user(&mut self, block: u32) {
        if !self.is_user {
            self.is_user = true;
            self.transfer = None;
            self.require_user_frame(block);
        }
        match self.transfer.take() {
            None => {}
            Some(Transfer::Call(place)) => {
                let frames = &mut self.thread().user;
                let base = frames.first().copied();
                unwind(frames, place);
                if frames.is_empty() {
                    frames.extend(base);
                }
                let parent = frames.last().map_or(NONE, |frame| frame.node);
                let node = self.child(parent, self.last, block);
                self.thread().user.push(Frame { place, node });
            }
            Some(Transfer::Return(place)) => {
                unwind(&mut self.thread().user, place);
                self.require_user_frame(block);
            }
        }
        self.node = self.thread().user.last().map_or(NONE, |frame| frame.node);
        self.thread().caller = self.node;
    }

    fn require_user_frame(&mut self, block: u32) {
        if self.thread().user.is_empty() {
            let node = self.child(NONE, NONE, block);
            self.thread().user.push(Frame { place: BOTTOM, node });
        }
    }

    /// The running thread.
    fn thread(&mut self) -> &mut Thread {
        if self.threads.is_empty() {
            self.threads.push(Thread::default());
        }
        &mut self.threads[self.current]
    }

    /// The thread to whose kernel stack an address belongs.
    fn find(&mut self, place: u64) -> usize {
        let is_on = |thread: &Thread| {
            place < thread.top && place >= thread.top.saturating_sub(KERNEL_STACK_BYTES)
        };
        if self.threads.get(self.current).is_some_and(is_on) {
            return self.current;
        }
        if let Some(found) = self.threads.iter().position(is_on) {
            return found;
        }
        // The first accesses are near the end.
        let top = (place + PAGE_BYTES) & !(PAGE_BYTES - 1);
        self.threads.push(Thread { top, ..Thread::default() });
        self.threads.len() - 1
    }

    fn child(&mut self, parent: u32, site: u32, entry: u32) -> u32 {
        let node = Node { parent, site, entry };
        *self.numbers.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
        })
    }

    /// Writes all that was counted: `block NUMBER ADDRESS SIZES CODE`, `node NUMBER PARENT SITE
    /// ENTRY` and `count NODE BLOCK EXECUTIONS`. Numbers are decimal; addresses, sizes (one digit
    /// each) and code are hexadecimal.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        for (number, block) in (1..).zip(&self.blocks) {
            write!(to, "block {number} {:x} ", block.address)?;
            block.sizes.iter().try_for_each(|size| write!(to, "{size:x}"))?;
            write!(to, " ")?;
            block.code.iter().try_for_each(|byte| write!(to, "{byte:02x}"))?;
            writeln!(to)?;
        }
        for (number, Node { parent, site, entry }) in (1..).zip(&self.nodes) {
            writeln!(to, "node {number} {parent} {site} {entry}")?;
        }
        for ((node, block), count) in &self.counts {
            writeln!(to, "count {node} {block} {count}")?;
        }
        Ok(())
    }
}

/// Ends the frames whose return addresses are at or below a place.
fn unwind(frames: &mut Vec<Frame>, place: u64) {
    while frames.last().is_some_and(|frame| frame.place <= place) {
        frames.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 0xffff_8000_0000_0000;

    fn calls(addresses: &[u64]) -> Calls {
        let mut calls = Calls::default();
        for &address in addresses {
            calls.add(Block { address, sizes: vec![1], code: vec![0x90] });
        }
        calls.count(true);
        calls
    }

    /// The blocks that were entered by the calls which lead to the one that runs.
    fn stack(calls: &Calls) -> Vec<u32> {
        let mut stack = Vec::new();
        let mut node = calls.node;
        while node != NONE {
            let Node { parent, entry, .. } = calls.nodes[node as usize - 1];
            stack.insert(0, entry);
            node = parent;
        }
        stack
    }

    #[test]
    fn calls_and_returns_are_followed() {
        let mut calls = calls(&[0x1000, 0x2000, 0x3000, 0x1010]);
        calls.execute(1);
        assert_eq!(stack(&calls), [1]);
        calls.transfer(Transfer::Call(0x7ff0));
        calls.execute(2);
        calls.transfer(Transfer::Call(0x7fe0));
        calls.execute(3);
        assert_eq!(stack(&calls), [1, 2, 3]);
        // Past a frame that was left otherwise.
        calls.transfer(Transfer::Return(0x7ff0));
        calls.execute(4);
        assert_eq!(stack(&calls), [1]);
    }

    #[test]
    fn the_kernel_works_for_the_caller_and_switches_threads() {
        let mut calls = calls(&[0x1000, KERNEL, KERNEL + 0x100, 0x5000, KERNEL + 0x200]);
        let (one, other) = (KERNEL + 0x10_8000 - 8, KERNEL + 0x20_8000 - 8);
        calls.execute(1);
        calls.execute(2);
        calls.transfer(Transfer::Call(one));
        calls.execute(3);
        assert_eq!(stack(&calls), [2, 3], "the first entry shows which thread it is");
        // The other thread returns from its own wait, to its program.
        calls.transfer(Transfer::Return(other));
        calls.execute(5);
        calls.execute(4);
        assert_eq!(stack(&calls), [4]);
        calls.execute(2);
        assert_eq!(stack(&calls), [4, 2]);
        // Back to the first one.
        calls.transfer(Transfer::Return(one - 0x100));
        calls.execute(3);
        assert_eq!(stack(&calls), [2, 3]);
    }

    #[test]
    fn only_what_runs_between_marks_is_written() {
        let mut calls = calls(&[0x1000]);
        (0..3).for_each(|_| calls.execute(1));
        calls.count(false);
        calls.execute(1);
        let mut text = Vec::new();
        calls.write(&mut text).unwrap();
        assert_eq!(text, b"block 1 1000 1 90\nnode 1 0 0 1\ncount 1 1 3\n");
    }
}
