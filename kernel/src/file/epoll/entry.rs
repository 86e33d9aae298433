//! One watched file of an epoll.

use super::Epoll;
use crate::file::notify::{Change, Wake, Watched, Watcher};
use crate::file::{Fd, OpenFile, Ready, notify};
use crate::mem::account::{Account, Charge, Kind};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use foundation::Errno;
use linux_raw_sys::general as linux;

/// What an entry takes: itself, its places in the lists of the epoll and of its file, and what
/// these lists have in reserve.
const BYTES: usize = 512;

/// Flags that are no events.
const FLAGS: u32 =
    linux::EPOLLET | linux::EPOLLONESHOT | linux::EPOLLEXCLUSIVE | linux::EPOLLWAKEUP;
/// What may be combined with `EPOLLEXCLUSIVE`.
const WITH_EXCLUSIVE: u32 = linux::EPOLLEXCLUSIVE
    | linux::EPOLLIN
    | linux::EPOLLOUT
    | linux::EPOLLERR
    | linux::EPOLLHUP
    | linux::EPOLLWAKEUP
    | linux::EPOLLET;

/// `struct epoll_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The events that are waited for, and flags.
    pub events: u32,
    /// What a wait returns with the events.
    pub data: u64,
}

impl Interest {
    /// Whether one woken epoll of several is enough (`EPOLLEXCLUSIVE`).
    pub fn is_exclusive(self) -> bool {
        self.events & linux::EPOLLEXCLUSIVE != 0
    }

    /// Whether all of its events and flags may be exclusive.
    pub fn may_be_exclusive(self) -> bool {
        self.events & !WITH_EXCLUSIVE == 0
    }

    /// With the events that are reported although nobody asked for them.
    fn complete(self) -> Self {
        Self { events: self.events | Ready::UNASKED.events(), ..self }
    }
}

/// What names an entry: the number of a descriptor, and the address of the open file that it
/// referred to. The entry keeps the memory at that address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Fd, usize);

impl Key {
    pub(super) fn of(fd: Fd, file: &OpenFile) -> Self {
        Self(fd, core::ptr::from_ref(file).addr())
    }
}

/// A watched file. Changed under the lock of its epoll's state only.
pub(super) struct Entry {
    epoll: Weak<Epoll>,
    file: Weak<OpenFile>,
    fd: Fd,
    events: AtomicU32,
    data: AtomicU64,
    /// Whether it is in the list of those that may be ready.
    is_queued: AtomicBool,
    /// Whether it was removed from its epoll.
    has_ended: AtomicBool,
    _charge: Charge,
}

impl Entry {
    pub(super) fn new(
        epoll: &Arc<Epoll>,
        fd: Fd,
        file: &Arc<OpenFile>,
        interest: Interest,
        account: &Arc<Account>,
    ) -> Result<Arc<Self>, Errno> {
        let charge = Charge::take(account, Kind::Files, BYTES)?;
        let Interest { events, data } = interest.complete();
        Ok(Arc::new(Self {
            epoll: Arc::downgrade(epoll),
            file: Arc::downgrade(file),
            fd,
            events: AtomicU32::new(events),
            data: AtomicU64::new(data),
            is_queued: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            _charge: charge,
        }))
    }

    pub(super) fn key(&self) -> Key {
        Key(self.fd, self.file.as_ptr().addr())
    }

    /// The watched file; `None` once it is being dropped.
    pub(super) fn file(&self) -> Option<Arc<OpenFile>> {
        self.file.upgrade()
    }

    pub(super) fn interest(&self) -> Interest {
        let events = self.events.load(Ordering::Relaxed);
        Interest { events, data: self.data.load(Ordering::Relaxed) }
    }

    pub(super) fn set(&self, interest: Interest) {
        let Interest { events, data } = interest.complete();
        self.events.store(events, Ordering::Relaxed);
        self.data.store(data, Ordering::Relaxed);
    }

    /// The events that are present and waited for.
    pub(super) fn found(&self, file: &OpenFile) -> u32 {
        let wanted = self.interest().events & !FLAGS;
        if wanted == 0 { 0 } else { file.object().poll().events() & wanted }
    }

    /// Its events were reported. Returns whether it may be ready still: not if it is
    /// edge-triggered, or reported once, which disarms it.
    pub(super) fn reported(&self) -> bool {
        let events = self.interest().events;
        if events & linux::EPOLLONESHOT != 0 {
            self.events.store(events & FLAGS, Ordering::Relaxed);
        }
        events & (linux::EPOLLONESHOT | linux::EPOLLET) == 0
    }

    /// Undoes [`reported`](Self::reported) of an entry that had this interest, unless it was
    /// changed since.
    pub(super) fn rearm(&self, before: Interest) {
        if self.interest().events == before.events & FLAGS {
            self.events.store(before.events, Ordering::Relaxed);
        }
    }

    /// Marks it as queued. False where it is already, or was removed.
    pub(super) fn begin_queued(&self) -> bool {
        !self.has_ended.load(Ordering::Relaxed) && !self.is_queued.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_queued(&self) {
        self.is_queued.store(false, Ordering::Relaxed);
    }

    /// Marks it as removed. Returns whether it is queued.
    pub(super) fn end(&self) -> bool {
        self.has_ended.store(true, Ordering::Relaxed);
        self.is_queued.swap(false, Ordering::Relaxed)
    }
}

impl Watcher for Entry {
    fn changed(self: Arc<Self>, ready: Ready, wake: Wake, change: Change) -> bool {
        let interest = self.interest();
        if ready.events() & interest.events & !FLAGS == 0 {
            return false;
        }
        let Some(epoll) = self.epoll.upgrade() else { return false };
        epoll.state.lock().queue(self.clone());
        if !interest.is_exclusive() {
            epoll.pass_on(change);
            return false;
        }
        let Some(file) = self.file() else { return false };
        if file.object().is_per_caller() {
            // Whether it is ready for those who wait is not known here.
            epoll.pass_on(change);
            return false;
        }
        if wake == Wake::No || self.found(&file) == 0 {
            return false;
        }
        let is_enough = epoll.changed.is_awaited();
        epoll.pass_on(change);
        is_enough
    }

    fn is_exclusive(&self) -> bool {
        self.interest().is_exclusive()
    }

    fn closed(self: Arc<Self>, file: &dyn Watched) {
        notify::unwatch(file, &self);
        if let Some(epoll) = self.epoll.upgrade() {
            epoll.drop_entry(&self);
        }
    }
}
