//! The device on which `memfs` keeps what does not fit into its memory. It fails when the trouble
//! beneath says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::Errno;
use fsserver::BlockDevice;

use crate::script::PAGE;
use crate::trouble::Trouble;

/// Blocks that came back from all devices so far.
pub static BLOCKS_READ: AtomicU64 = AtomicU64::new(0);

/// Blocks that were written once, by their numbers.
pub struct Disk {
    blocks: u64,
    written: HashMap<u64, Vec<u8>>,
    trouble: Rc<RefCell<Trouble>>,
}

impl Disk {
    /// An empty one.
    pub fn new(blocks: u64, trouble: Rc<RefCell<Trouble>>) -> Self {
        Self { blocks, written: HashMap::new(), trouble }
    }

    fn meet_trouble(&self) -> Result<(), Errno> {
        if self.trouble.borrow_mut().meets_transfer() { Err(Errno::EIO) } else { Ok(()) }
    }
}

impl BlockDevice for Disk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.meet_trouble()?;
        for (block, part) in (first..).zip(into.chunks_exact_mut(PAGE)) {
            part.copy_from_slice(self.written.get(&block).ok_or(Errno::EIO)?);
        }
        BLOCKS_READ.fetch_add((into.len() / PAGE) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), Errno> {
        self.meet_trouble()?;
        assert!(
            first + (from.len() / PAGE) as u64 <= self.blocks,
            "a write past the end of the device"
        );
        self.written.extend((first..).zip(from.chunks_exact(PAGE).map(<[u8]>::to_vec)));
        Ok(())
    }
}
