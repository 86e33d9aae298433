//! Leases: where others may change a file, its pages are in memory only as long as the server has
//! promised to say so before.
//!
//! A lease is asked for when a page is touched and there is none. When the server recalls it, a
//! writer writes what was stored, takes all pages out of memory, and answers. Only then the server
//! lets others change the file. The next touch asks again.

use super::{EVERYTHING, MappedFile, find};
use crate::file::Identity;
use crate::mem::file_pages::Leaving;
use crate::mem::wanted;
use alloc::boxed::Box;
use foundation::Errno;

/// Answers the server's request to end a lease.
pub type Answer = Box<dyn FnOnce() + Send>;

/// The server recalls the lease of a file. `answer` is called once nothing of the file is in
/// memory: at once where there is no lease. Returns whether the recall is valid: there is one at a
/// time. Does not wait; called with no lock held.
pub fn recall(identity: Identity, answer: impl FnOnce() + Send + 'static) -> bool {
    let Some(file) = find(identity).filter(|file| file.pages.needs_lease()) else {
        answer();
        return true;
    };
    {
        let mut recall = file.recall.lock();
        if recall.is_some() {
            return false;
        }
        *recall = Some(Box::new(answer));
    }
    file.pages.want_to_leave();
    wanted::wake();
    true
}

impl MappedFile {
    /// Asks for a lease, unless there is one.
    pub(super) fn begin_lease(&self) -> Result<(), Errno> {
        let mut size = self.size.lock()?;
        if self.pages.is_leased() {
            return Ok(());
        }
        self.reader.lease()?;
        *size = None;
        self.pages.set_leased(true);
        Ok(())
    }

    /// Ends the lease if the server has recalled it. Pages that it does not take stay, dirty.
    pub(super) fn end_recalled_lease(&self) {
        let Some(answer) = self.recall.lock().take() else { return };
        if let Ok(mut size) = self.size.lock() {
            // Nobody interrupts a writer.
            let _ = self.pages.begin_change(EVERYTHING);
            let written = self.write_all_back(&mut size, EVERYTHING);
            let leaving = if written.is_ok() { Leaving::All } else { Leaving::Clean };
            self.pages.set_leased(false);
            *size = None;
            answer();
            self.pages.end_change(EVERYTHING, leaving);
        }
    }
}
