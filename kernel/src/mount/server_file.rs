//! A file's handle on its server: what requests about an open file need.

use alloc::sync::Arc;

use foundation::{ByteCount, Errno};
use fsproto::{Attr, FileId, Handle, Operation};

use super::handles::HandleCharge;
use super::known::Touches;
use super::message::Payload;
use super::read_ahead::ReadPattern;
use super::{Mount, mutants};
use crate::file::Identity;
use crate::file::mapped::{self, Extent};

/// An open handle, closed on the server when this is dropped.
pub struct ServerFile {
    /// The server.
    pub mount: Arc<Mount>,
    /// The handle, by which requests name the open file.
    pub handle: Handle,
    /// The file's number on the server.
    pub id: FileId,
    /// Its length in bytes when it was opened.
    pub size: ByteCount,
    /// How the file has been read so far.
    pub pattern: ReadPattern,
    _charge: HandleCharge,
}

impl ServerFile {
    /// Takes ownership of a handle that an `Open` request returned.
    pub fn new(mount: Arc<Mount>, handle: Handle, attr: &Attr, charge: HandleCharge) -> Self {
        let (id, size) = (attr.id, attr.size);
        Self { mount, handle, id, size, pattern: ReadPattern::default(), _charge: charge }
    }

    /// The same for every object that is open on the file.
    pub(super) fn identity(&self) -> Identity {
        Identity { device: self.mount.id(), inode: self.id.0 }
    }

    /// Has a request sent that changes bytes or length of the file, in step with its mappings. The
    /// change is announced first: who maps the file from then on waits for it.
    pub(super) fn change<T>(
        &self,
        extent: Extent,
        send: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let _change = self.mount.read_ahead().begin_change(self.id)?;
        mapped::change(self.identity(), extent, send)
    }

    /// Sends a request that reads the file, which updates its access time at most.
    pub(super) fn ask<O: Operation>(&self, request: &O) -> Result<(O::Reply, Payload), Errno> {
        self.mount.session().call_touching(Touches::File(self.id), request, &[])
    }
}

impl Drop for ServerFile {
    fn drop(&mut self) {
        self.mount.read_ahead().forget(self.id, self.handle);
        if !mutants::leak_handle() {
            self.mount.session().close(self.handle);
        }
    }
}
