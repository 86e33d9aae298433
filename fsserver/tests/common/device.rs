//! A block device in memory that counts transfers and can be made to fail.

use std::cell::RefCell;
use std::rc::Rc;

use foundation::{Errno, PAGE_BYTES};
use fsserver::BlockDevice;

/// One request to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Read,
    Write,
}

/// The device; clones refer to the same one.
#[derive(Clone)]
pub struct Device(Rc<RefCell<State>>);

struct State {
    bytes: Vec<u8>,
    /// Number of blocks read and written so far.
    reads: u64,
    writes: u64,
    fail: Box<dyn FnMut(Transfer) -> bool>,
}

impl Device {
    /// A device with arbitrary contents.
    pub fn new(blocks: u64) -> Self {
        let bytes = vec![0xdd; blocks as usize * PAGE_BYTES];
        Self(Rc::new(RefCell::new(State { bytes, reads: 0, writes: 0, fail: Box::new(|_| false) })))
    }

    pub fn reads(&self) -> u64 {
        self.0.borrow().reads
    }

    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// Sets the function that decides whether a transfer fails.
    pub fn fail_by(&self, fail: impl FnMut(Transfer) -> bool + 'static) {
        self.0.borrow_mut().fail = Box::new(fail);
    }

    pub fn fail_reads(&self, fails: bool) {
        self.fail_by(move |transfer| fails && transfer == Transfer::Read);
    }

    pub fn fail_writes(&self, fails: bool) {
        self.fail_by(move |transfer| fails && transfer == Transfer::Write);
    }

    /// The byte range of a transfer.
    fn meet(
        &self,
        transfer: Transfer,
        first: u64,
        length: usize,
    ) -> Result<std::ops::Range<usize>, Errno> {
        let mut state = self.0.borrow_mut();
        let start = first as usize * PAGE_BYTES;
        if (state.fail)(transfer) || start + length > state.bytes.len() {
            return Err(Errno::EIO);
        }
        Ok(start..start + length)
    }
}

impl BlockDevice for Device {
    fn blocks(&self) -> u64 {
        (self.0.borrow().bytes.len() / PAGE_BYTES) as u64
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), Errno> {
        let range = self.meet(Transfer::Read, first, into.len())?;
        let mut state = self.0.borrow_mut();
        into.copy_from_slice(&state.bytes[range]);
        state.reads += (into.len() / PAGE_BYTES) as u64;
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), Errno> {
        let range = match self.meet(Transfer::Write, first, from.len()) {
            Ok(range) => range,
            Err(error) => {
                // A part may have been written all the same.
                let start = first as usize * PAGE_BYTES;
                let half = from.len() / 2;
                self.0.borrow_mut().bytes[start..start + half].fill(0xbb);
                return Err(error);
            }
        };
        let mut state = self.0.borrow_mut();
        state.bytes[range].copy_from_slice(from);
        state.writes += (from.len() / PAGE_BYTES) as u64;
        Ok(())
    }
}
