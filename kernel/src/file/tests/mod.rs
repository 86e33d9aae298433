//! Tests of `file` with processes and trees of their own.

mod devices;
mod namespace;
mod open_file;
mod pair;
mod pipe;
mod socket;
mod table;

use super::*;
use crate::mem::{self, Backing, Placement, Prot, Space, UserAddr, UserSlice};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::{ByteCount, Errno};

/// Where a test's process has memory.
const BASE: u64 = 0x10_0000;
const PAGES: u64 = 128;

/// A process that tests are.
struct Process {
    space: Arc<Space>,
    files: Mutex<FdTable, rank::Descriptors>,
    context: Mutex<FileContext, rank::FileContext>,
    server: bool,
}

impl Process {
    fn new() -> Self {
        mem::host::init();
        let space = Space::new().unwrap();
        let rights = Prot::READ | Prot::WRITE;
        space
            .map(
                Placement::Fixed(UserAddr(BASE)),
                ByteCount(PAGES * 4096),
                rights,
                Backing::Anonymous,
                "",
            )
            .unwrap();
        Self { space, files: Mutex::default(), context: Mutex::default(), server: false }
    }

    fn server() -> Self {
        Self { server: true, ..Self::new() }
    }

    fn io(&self) -> Io<'_> {
        Io { space: &self.space, caller: Some(self), nonblocking: true }
    }

    /// A buffer of its memory.
    fn buffer(&self, at: u64, len: u64) -> UserBuffers {
        UserBuffers::one(UserSlice::new(UserAddr(BASE + at), ByteCount(len)).unwrap())
    }

    /// A buffer of its memory that holds these bytes.
    fn filled(&self, at: u64, bytes: &[u8]) -> UserBuffers {
        let slice = UserSlice::new(UserAddr(BASE + at), ByteCount::of_len(bytes.len())).unwrap();
        self.space.copy_out_all(slice, bytes).unwrap();
        UserBuffers::one(slice)
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.space
            .copy_in(
                UserSlice::new(UserAddr(BASE + at), ByteCount(len as u64)).unwrap(),
                &mut bytes,
            )
            .unwrap();
        bytes
    }

    /// Reads what an object has for it.
    fn read(&self, object: &dyn FileObject, max: u64) -> Result<Vec<u8>, Errno> {
        let count = object.read(&self.io(), &mut self.buffer(0, max), FileOffset::ZERO)?;
        Ok(self.bytes(0, count.to_usize()))
    }

    fn write(&self, object: &dyn FileObject, bytes: &[u8]) -> Result<u64, Errno> {
        Ok(object.write(&self.io(), &mut self.filled(0x4_0000, bytes), WritePosition::End)?.bytes.0)
    }
}

impl Caller for Process {
    fn space(&self) -> &Arc<Space> {
        &self.space
    }
    fn files(&self) -> &Mutex<FdTable, rank::Descriptors> {
        &self.files
    }
    fn context(&self) -> &Mutex<FileContext, rank::FileContext> {
        &self.context
    }
    fn pid(&self) -> u32 {
        10
    }
    fn pgid(&self) -> u32 {
        10
    }
    fn sid(&self) -> u32 {
        10
    }
    fn is_server(&self) -> bool {
        self.server
    }
    fn is_masked(&self, _: u8) -> bool {
        false
    }
    fn raise(&self, _: u8) {}
}

/// An address at which nothing is mapped.
fn nowhere(len: u64) -> UserBuffers {
    UserBuffers::one(UserSlice::new(UserAddr(BASE + PAGES * 4096), ByteCount(len)).unwrap())
}
