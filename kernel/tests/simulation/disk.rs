//! The device to which `memfs` writes what exceeds its memory. It fails when the fault plan says
//! so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::Errno;
use fsserver::BlockDevice;

use crate::faults::FaultPlan;
use crate::script::PAGE;

/// Blocks read from all devices so far.
pub static BLOCKS_READ: AtomicU64 = AtomicU64::new(0);

/// Holds the blocks that were written, by number.
pub struct Disk {
    blocks: u64,
    written: HashMap<u64, Vec<u8>>,
    faults: Rc<RefCell<FaultPlan>>,
}

impl Disk {
    /// An empty device.
    pub fn new(blocks: u64, faults: Rc<RefCell<FaultPlan>>) -> Self {
        Self { blocks, written: HashMap::new(), faults }
    }

    fn check_fault(&self) -> Result<(), Errno> {
        if self.faults.borrow_mut().take_transfer_fault() { Err(Errno::EIO) } else { Ok(()) }
    }
}

impl BlockDevice for Disk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.check_fault()?;
        for (block, part) in (first..).zip(into.chunks_exact_mut(PAGE)) {
            part.copy_from_slice(self.written.get(&block).ok_or(Errno::EIO)?);
        }
        BLOCKS_READ.fetch_add((into.len() / PAGE) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), Errno> {
        self.check_fault()?;
        assert!(
            first + (from.len() / PAGE) as u64 <= self.blocks,
            "a write past the end of the device"
        );
        self.written.extend((first..).zip(from.chunks_exact(PAGE).map(<[u8]>::to_vec)));
        Ok(())
    }
}
