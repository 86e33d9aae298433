//! epoll(7): open files that are watched, and those of them that may be ready.
//!
//! Each entry is a [`Watcher`](super::notify::Watcher) of its file. A change puts it at the end of
//! the list of those that may be ready, and a wait looks at this list only: its cost does not
//! depend on the entries that nothing happened to. A level-triggered entry that was reported goes
//! back to the end of the list; one that turns out not to be ready leaves it, until the next
//! change.
//!
//! An entry is named by a descriptor's number and the open file that it referred to, as on Linux.
//! It ends when it is removed, or when the open file is dropped. It does not keep the file open.
//!
//! An epoll is a file that can be watched, too. [`nesting`] refuses cycles and long chains, so
//! recursion along them is short. Of one change, an epoll passes on only the first report.
//!
//! Lock: `state`, one for each epoll, not held while files are looked at or anything is woken.

mod entry;
mod nesting;

use super::notify::Change;
use super::pipe::{nameless_stat, next_inode};
use super::{Fd, FileObject, FileType, Notifier, OpenFile, Ready, Stat, notify};
use crate::mem::account::Account;
use crate::mem::fallible;
use crate::sync::{Interrupted, Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
pub use entry::Interest;
use entry::{Entry, Key};
use foundation::Errno;

/// Entries of one epoll, at most: some more than the descriptors of a process. It bounds what an
/// insertion moves.
const MAX_ENTRIES: usize = 1 << 14;

/// A set of watched files.
pub struct Epoll {
    state: Mutex<State, rank::Epoll>,
    /// Notified when an entry may have become ready.
    changed: Notifier,
    /// The change that was passed on last.
    passed_on: AtomicU64,
    /// What the walks of [`nesting`] have found here.
    walked: nesting::Walked,
    inode: u64,
}

#[derive(Default)]
struct State {
    /// Ordered by their keys.
    entries: Vec<Arc<Entry>>,
    /// Those that may be ready, the longest waiting first. Has space for all entries.
    ready: VecDeque<Arc<Entry>>,
    /// The epolls that watch this one, once for each of their entries.
    parents: Vec<Weak<Epoll>>,
}

impl State {
    /// The place of an entry, or where it would have to be.
    fn find(&self, key: Key) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&key, |entry| entry.key())
    }

    /// Makes space for one more entry. ENOSPC at the limit.
    fn make_space(&mut self) -> Result<(), Errno> {
        let count = self.entries.len();
        if count >= MAX_ENTRIES {
            return Err(Errno::ENOSPC);
        }
        fallible::reserve(&mut self.entries, 1)?;
        let more = count + 1 - self.ready.len();
        Ok(fallible::reserve(&mut self.ready, more)?)
    }

    /// Adds an entry to the end of those that may be ready.
    fn queue(&mut self, entry: Arc<Entry>) {
        if entry.begin_queued() {
            debug_assert!(self.ready.len() < self.ready.capacity());
            self.ready.push_back(entry);
        }
    }

    /// Adds it to their beginning.
    fn queue_first(&mut self, entry: Arc<Entry>) {
        if entry.begin_queued() {
            self.ready.push_front(entry);
        }
    }

    /// Removes an entry, which is to be dropped after unlocking.
    fn remove(&mut self, at: usize) -> Arc<Entry> {
        let entry = self.entries.remove(at);
        if entry.end() {
            self.ready.retain(|queued| !Arc::ptr_eq(queued, &entry));
        }
        let needed = self.entries.len();
        fallible::shrink(&mut self.entries, needed);
        if self.entries.is_empty() {
            self.ready = VecDeque::new();
        }
        entry
    }
}

impl Epoll {
    /// An epoll without entries.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notifier::new(),
            passed_on: AtomicU64::new(0),
            walked: nesting::Walked::default(),
            inode: next_inode(),
        })
    }

    /// Adds an entry (`EPOLL_CTL_ADD`), for which `account` pays. EEXIST, ELOOP, ENOSPC, EPERM for
    /// files that are always ready, EINVAL for flags that exclude each other.
    pub fn add(
        self: &Arc<Self>,
        fd: Fd,
        file: &Arc<OpenFile>,
        interest: Interest,
        account: &Arc<Account>,
    ) -> Result<(), Errno> {
        let nested = super::downcast::<Self>(file.object());
        if interest.is_exclusive() && (nested.is_some() || !interest.may_be_exclusive()) {
            return Err(Errno::EINVAL);
        }
        let entry = Entry::new(self, fd, file, interest, account)?;
        if let Some(nested) = &nested {
            nesting::check(self, nested)?;
        }
        {
            let mut state = self.state.lock();
            let Err(at) = state.find(entry.key()) else { return Err(Errno::EEXIST) };
            state.make_space()?;
            state.entries.insert(at, entry.clone());
        }
        if let Err(error) = self.attach(&entry, file, nested.as_ref()) {
            self.forget(&entry, file);
            return Err(error);
        }
        self.look(&entry, file);
        Ok(())
    }

    /// Registers an entry with its file.
    fn attach(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        file: &Arc<OpenFile>,
        nested: Option<&Arc<Self>>,
    ) -> Result<(), Errno> {
        if let Some(nested) = nested {
            fallible::push(&mut nested.state.lock().parents, Arc::downgrade(self))?;
        }
        file.watch(entry)?;
        notify::watch(&**file, entry)
    }

    /// Changes an entry (`EPOLL_CTL_MOD`). ENOENT where there is none, EINVAL for exclusive ones.
    pub fn modify(&self, fd: Fd, file: &Arc<OpenFile>, interest: Interest) -> Result<(), Errno> {
        let entry = {
            let state = self.state.lock();
            let at = state.find(Key::of(fd, file)).map_err(|_| Errno::ENOENT)?;
            let entry = state.entries.get(at).ok_or(Errno::ENOENT)?;
            if interest.is_exclusive() || entry.interest().is_exclusive() {
                return Err(Errno::EINVAL);
            }
            entry.set(interest);
            entry.clone()
        };
        self.look(&entry, file);
        Ok(())
    }

    /// Removes an entry (`EPOLL_CTL_DEL`). ENOENT where there is none.
    pub fn remove(&self, fd: Fd, file: &OpenFile) -> Result<(), Errno> {
        let entry = {
            let state = self.state.lock();
            let at = state.find(Key::of(fd, file)).map_err(|_| Errno::ENOENT)?;
            state.entries.get(at).cloned().ok_or(Errno::ENOENT)?
        };
        self.forget(&entry, file);
        Ok(())
    }

    /// Removes an entry, and its registration with its file.
    fn forget(&self, entry: &Arc<Entry>, file: &OpenFile) {
        self.drop_entry(entry);
        self.detach(entry, file);
    }

    /// Removes an entry whose registration ends otherwise.
    fn drop_entry(&self, entry: &Entry) {
        let mut state = self.state.lock();
        let removed = state.find(entry.key()).ok().map(|at| state.remove(at));
        drop(state);
        drop(removed);
    }

    /// Ends an entry's registration with its file.
    fn detach(&self, entry: &Arc<Entry>, file: &OpenFile) {
        notify::unwatch(file, entry);
        file.unwatch(entry);
        if let Some(nested) = super::downcast_ref::<Self>(file.object()) {
            let mut state = nested.state.lock();
            let is_this = |parent: &Weak<Self>| core::ptr::eq(parent.as_ptr(), self);
            let at = state.parents.iter().position(is_this);
            let parent = at.map(|at| state.parents.swap_remove(at));
            drop(state);
            drop(parent);
        }
    }

    /// Looks at an entry that is new or changed, and wakes those that wait if it is ready.
    fn look(&self, entry: &Arc<Entry>, file: &OpenFile) {
        if entry.found(file) == 0 {
            return;
        }
        self.state.lock().queue(entry.clone());
        self.changed.notify_of(Ready::READ);
    }

    /// The next entry that may be ready, removed from their list.
    fn next(&self) -> Option<Arc<Entry>> {
        let mut state = self.state.lock();
        let entry = state.ready.pop_front()?;
        entry.end_queued();
        Some(entry)
    }

    /// Passes the events and the data of up to `max` entries that are ready to `sink`, which may
    /// wait. Returns how many; the error of `sink` where that was the first.
    pub fn take(
        &self,
        max: usize,
        mut sink: impl FnMut(usize, u32, u64) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut count = 0;
        // Those that are put back during this call are not looked at again.
        let queued = self.state.lock().ready.len();
        for _ in 0..queued {
            if count == max {
                break;
            }
            let Some(entry) = self.next() else { break };
            let Some(file) = entry.file() else { continue };
            let events = entry.found(&file);
            if events == 0 {
                continue;
            }
            // What the report does to the entry is done before `sink`, which may wait: others may
            // take or change the entry meanwhile.
            let interest = entry.interest();
            if entry.reported() {
                self.state.lock().queue(entry.clone());
            }
            if let Err(error) = sink(count, events, interest.data) {
                self.undo_report(entry, interest);
                return if count > 0 { Ok(count) } else { Err(error) };
            }
            count += 1;
        }
        Ok(count)
    }

    /// The report of an entry that had this interest did not reach anybody: it is to be reported
    /// again.
    fn undo_report(&self, entry: Arc<Entry>, interest: Interest) {
        {
            let mut state = self.state.lock();
            entry.rearm(interest);
            state.queue_first(entry);
        }
        self.changed.notify_of(Ready::READ);
    }

    /// Waits until `ready` returns a value; evaluates it after changes of the entries.
    pub fn wait<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
        self.changed.wait(ready)
    }

    /// Wakes those that wait for this epoll, once for each change.
    fn pass_on(&self, change: Change) {
        if self.passed_on.swap(change.0, Ordering::Relaxed) != change.0 {
            self.changed.pass_on(change);
        }
    }
}

impl FileObject for Epoll {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Nameless, self.inode))
    }

    fn poll(&self) -> Ready {
        let queued = self.state.lock().ready.len();
        for _ in 0..queued {
            let Some(entry) = self.next() else { break };
            if entry.file().is_some_and(|file| entry.found(&file) != 0) {
                self.state.lock().queue_first(entry);
                return Ready::READ;
            }
        }
        Ready::empty()
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.changed, Ready::all());
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        loop {
            let entry = {
                let mut state = self.state.lock();
                match state.entries.len() {
                    0 => break,
                    count => state.remove(count - 1),
                }
            };
            if let Some(file) = entry.file() {
                self.detach(&entry, &file);
            }
        }
    }
}
