//! What the plugin wrote, and the stacks of names that are made of it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::names::{Names, Program};

/// A block of instructions.
pub struct Block {
    /// Address of the first one.
    pub address: u64,
    /// Bytes of each.
    pub sizes: Vec<u64>,
    /// All their bytes.
    pub code: Vec<u8>,
}

impl Block {
    /// The addresses of its instructions.
    pub fn instructions(&self) -> impl Iterator<Item = u64> {
        self.sizes.iter().scan(self.address, |next, size| {
            let address = *next;
            *next += size;
            Some(address)
        })
    }
}

/// A call: the node that calls and the block that it calls from, both 0 if nothing does, and the
/// block that is called.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    site: u32,
    entry: u32,
}

/// The lines of the plugin's file (see `profiler/src/calls.rs`).
#[derive(Default)]
pub struct Stacks {
    blocks: HashMap<u32, Block>,
    nodes: HashMap<u32, Node>,
    counts: Vec<(u32, u32, u64)>,
}

impl Stacks {
    /// Adds a line.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["block", number, address, sizes, code] => {
                let digit = |it: char| it.to_digit(16).map(u64::from).context("no digit");
                let block = Block {
                    address: u64::from_str_radix(address, 16)?,
                    sizes: sizes.chars().map(digit).collect::<Result<_>>()?,
                    code: bytes(code)?,
                };
                self.blocks.insert(number.parse()?, block);
            }
            ["node", number, parent, site, entry] => {
                let node =
                    Node { parent: parent.parse()?, site: site.parse()?, entry: entry.parse()? };
                self.nodes.insert(number.parse()?, node);
            }
            ["count", node, block, count] => {
                self.counts.push((node.parse()?, block.parse()?, count.parse()?));
            }
            _ => bail!("an unknown line"),
        }
        Ok(())
    }

    /// Instructions by stack, sorted.
    pub fn resolve(&self, names: &mut Names) -> Vec<(String, u64)> {
        let mut callers = HashMap::new();
        let mut sums = HashMap::<String, u64>::new();
        for &(node, block, count) in &self.counts {
            let Some(block) = self.blocks.get(&block) else { continue };
            let program = names.program(block);
            let stack = self.callers(node, names, &mut callers).of(program, names);
            for address in block.instructions() {
                let mut stack = stack.clone();
                stack.extend(names.functions(program, address));
                stack.dedup();
                *sums.entry(stack.join(";")).or_default() += count;
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort();
        sums
    }

    /// The functions that lead to a node.
    fn callers(&self, node: u32, names: &mut Names, known: &mut HashMap<u32, Callers>) -> Callers {
        if let Some(callers) = known.get(&node) {
            return callers.clone();
        }
        let Some(&Node { parent, site, entry }) = self.nodes.get(&node) else {
            return Callers::default();
        };
        let mut callers = self.callers(parent, names, known);
        let caller = if site == 0 { self.blocks.get(&entry) } else { self.blocks.get(&site) };
        if let Some(block) = caller {
            let program = names.program(block);
            callers.enter(program, names);
            if site != 0
                && let Some(address) = block.instructions().last()
            {
                callers.stack.extend(names.functions(program, address));
            }
        }
        known.insert(node, callers.clone());
        callers
    }
}

/// A stack, and the program that its last function belongs to.
#[derive(Clone, Default)]
struct Callers {
    program: Option<Program>,
    stack: Vec<String>,
}

impl Callers {
    /// The next function belongs to this program. If it is another one, the kernel was entered, or
    /// left: by exec, where what was before has ended.
    fn enter(&mut self, program: Program, names: &Names) {
        if self.program == Some(program) {
            return;
        }
        if program != Program::Kernel {
            self.stack.clear();
        }
        self.stack.push(names.name(program));
        self.program = Some(program);
    }

    /// The stack for instructions of this program.
    fn of(mut self, program: Program, names: &Names) -> Vec<String> {
        self.enter(program, names);
        self.stack
    }
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_plugin_are_read() {
        let mut stacks = Stacks::default();
        for line in ["block 1 ffff8000 12 909090", "node 1 0 0 1", "count 1 1 7"] {
            stacks.add(line).unwrap();
        }
        let block = &stacks.blocks[&1];
        assert_eq!(block.instructions().collect::<Vec<_>>(), [0xffff_8000, 0xffff_8001]);
        assert_eq!(block.code, [0x90; 3]);
        assert_eq!(stacks.counts, [(1, 1, 7)]);
        for bad in ["", "block 1", "count 1 x 7", "block 1 zz 1 90", "node 1 0 0"] {
            assert!(stacks.add(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stack_begins_again_where_another_program_does() {
        let names = Names::empty();
        let mut callers = Callers::default();
        callers.enter(Program::User(None), &names);
        callers.stack.push("main".to_owned());
        callers.enter(Program::Kernel, &names);
        assert_eq!(callers.stack, ["?", "main", "kernel"]);
        callers.enter(Program::User(None), &names);
        assert_eq!(callers.stack, ["?"]);
    }
}
