//! Tests of the file layer, with host processes and trees in memory.

mod devices;
mod disk;
mod namespace;
mod open_file;
mod pair;
mod pipe;
mod screen;
mod socket;
mod table;
mod unix;

use super::host::HostProcess as Process;
use super::*;
use crate::mem::{self, Account, Backing, Placement, Prot, Space, UserAddr, UserSlice};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::{ByteCount, Errno};

/// The address of a process's memory.
const BASE: u64 = 0x10_0000;
/// Its size in pages.
const PAGES: u64 = 128;

impl Process {
    /// A process with [`PAGES`] pages of zeros at [`BASE`].
    fn with_memory() -> Self {
        mem::host::init();
        let space = Space::new().unwrap();
        let prot = Prot::READ | Prot::WRITE;
        space
            .map(
                Placement::Fixed(UserAddr(BASE)),
                ByteCount(PAGES * 4096),
                prot,
                Backing::Anonymous,
                "",
            )
            .unwrap();
        Self::new(space)
    }

    fn server() -> Self {
        Self { is_server: true.into(), ..Self::with_memory() }
    }

    fn io(&self) -> Io<'_> {
        Io { space: &self.space, caller: Some(self), nonblocking: true }
    }

    /// A buffer of its memory.
    fn buffer(&self, at: u64, len: u64) -> UserBuffers {
        UserBuffers::one(UserSlice::new(UserAddr(BASE + at), ByteCount(len)).unwrap())
    }

    /// A buffer of its memory, filled with `bytes`.
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

    /// Reads up to `max` bytes from an object, without waiting.
    fn read(&self, object: &dyn FileObject, max: u64) -> Result<Vec<u8>, Errno> {
        let count = object.read(&self.io(), &mut self.buffer(0, max), FileOffset::ZERO)?;
        Ok(self.bytes(0, count.to_usize()))
    }

    fn write(&self, object: &dyn FileObject, bytes: &[u8]) -> Result<u64, Errno> {
        Ok(object.write(&self.io(), &mut self.filled(0x4_0000, bytes), WritePosition::End)?.bytes.0)
    }
}

/// A buffer in unmapped memory.
fn nowhere(len: u64) -> UserBuffers {
    UserBuffers::one(UserSlice::new(UserAddr(BASE + PAGES * 4096), ByteCount(len)).unwrap())
}
