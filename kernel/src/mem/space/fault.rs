//! Faults: one page becomes usable, for the trap handler and for system calls that copy.
//!
//! Resolution loop:
//! 1. Under the space's lock, resolve the page if that is possible at once (`look`).
//! 2. Otherwise return the fetch or the page-in that the page needs.
//! 3. Release the lock and wait.
//! 4. Start again at the region lookup.
//!
//! Cached pages are keyed by content, so a concurrent remap cannot make the loop map wrong bytes
//! (F3).
#![forbid(unsafe_code)]

pub use super::access::{Access, FaultError};
use super::{
    Space, SpaceState, mutants,
    resolution::{Awaited, Coverage, FetchState, FileStep, PageRequest, Resolution},
};
use crate::{
    mem::{Claim, Fetch, FilePages, Page, USER_END, UserAddr, reclaim, swap::PageIn},
    sync::Interrupted,
};
use alloc::sync::Arc;
use foundation::Errno;
use foundation::counter::Counter;

/// Failed fetches of a page after which its fault fails (F5). A server that fails three times is
/// taken to be broken.
const MAX_ATTEMPTS: u32 = 3;
/// Frames that one fault can need: a page, and a table for each level below the root. With fewer,
/// frames would be taken and released for ever.
const FAULT_FRAMES: usize = 4;
/// Maximum of reclaims for one fault. Each has freed something, so this only ends a race that is
/// always lost.
const MAX_RECLAIMS: u32 = 64;

/// Why a fault gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Fetches from the server failed.
    Fetch,
    /// Reads of the swap file failed.
    PageIn,
    /// A mapped file's server does not take a store.
    Store,
    /// No frame is available.
    Memory,
    /// A wait was ended, or the fault fails for another reason.
    Other(FaultError),
}

impl From<Failure> for FaultError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fetch | Failure::PageIn => Self::Bus,
            Failure::Store => Self::Denied,
            Failure::Memory => Self::OutOfMemory,
            Failure::Other(error) => error,
        }
    }
}

impl From<FaultError> for Failure {
    fn from(error: FaultError) -> Self {
        Self::Other(error)
    }
}

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Self {
        Self::Other(FaultError::Killed)
    }
}

/// What keeps frames in memory.
enum Kept {
    PageIn { _page_in: Arc<PageIn> },
    Fetch { _fetch: Arc<Fetch> },
}

/// What a fault keeps between its attempts.
#[derive(Default)]
struct Progress {
    /// Fetches and page-ins that failed.
    failures: u32,
    reclaims: u32,
    /// The last fetch. Its frames stay in memory until they were looked at.
    held: Option<Awaited>,
    /// The last page-in, or fetch of a mapped file, likewise.
    kept: Option<Kept>,
}

impl Space {
    /// Makes the page of an address usable. Waits for servers where it must. For the trap handler.
    pub fn fault(&self, address: UserAddr, access: Access) -> Result<(), FaultError> {
        if address >= USER_END {
            return Err(FaultError::Segv);
        }
        self.counters.add(Counter::Faults, 1);
        self.resolve(address.page(), access, Coverage::Partial, |_| ())
    }

    /// Makes a page usable and runs `then` under the same lock. May wait; called with no lock held.
    pub(super) fn resolve<T>(
        &self,
        page: Page,
        access: Access,
        coverage: Coverage,
        then: impl FnOnce(&mut SpaceState) -> T,
    ) -> Result<T, FaultError> {
        let locked = mutants::lock_before_claim(self);
        reclaim::ready::<FaultError>(self.policy.claim())?;
        drop(locked);
        let request = PageRequest { page, access, coverage, counters: &self.counters };
        let mut then = Some(then);
        let mut progress = Progress::default();
        loop {
            debug_assert!(then.is_some() && progress.failures < MAX_ATTEMPTS);
            let attempt = self.with(|state| match state.look(&request, progress.held.as_ref()) {
                Ok(Resolution::Done) => {
                    debug_assert!(state.is_usable(&request));
                    Ok(Ok(then.take().map(|then| then(state))))
                }
                Ok(pending) => Ok(Err(pending)),
                Err(error) => Err(error),
            });
            let waited = match attempt {
                // `then` is taken here only.
                Ok(Ok(value)) => return value.ok_or(FaultError::Segv),
                Ok(Err(pending)) => self.await_pages(page, pending, &mut progress),
                Err(FaultError::OutOfMemory) => self.await_memory(&mut progress),
                // What is being moved or replaced is not there for a moment.
                Err(FaultError::Segv) if self.settle()? || self.grow_down(page) => Ok(()),
                Err(error) => return Err(error),
            };
            if let Err(failure) = waited {
                return mutants::zeros_on_failure(self, &request, failure, &mut then);
            }
        }
    }

    /// Frees memory for another attempt.
    fn await_memory(&self, progress: &mut Progress) -> Result<(), Failure> {
        progress.reclaims += 1;
        let goes_on = progress.reclaims <= MAX_RECLAIMS
            && self.drop_tables()
            && reclaim::make_room(FAULT_FRAMES, self.policy.claim())?;
        if goes_on { Ok(()) } else { Err(Failure::Memory) }
    }

    /// Waits for what an attempt needs. Fails once too many fetches and page-ins have failed.
    fn await_pages(
        &self,
        page: Page,
        pending: Resolution,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let (arrived, failure) = match pending {
            Resolution::Done => (true, Failure::Fetch),
            Resolution::Fetch(awaited) => {
                let fetched = self.await_fetch(&awaited)?;
                if let Err(Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN) = fetched {
                    // A shortage, here or at the server, and not the loss of the page.
                    return self.await_memory(progress);
                }
                let arrived = fetched.is_ok();
                if arrived {
                    mutants::map_blindly(self, page, &awaited)?;
                }
                drop(progress.held.replace(awaited));
                (arrived, Failure::Fetch)
            }
            Resolution::PageIn(page_in) => {
                let arrived = self.await_page_in(&page_in)?;
                drop(progress.kept.replace(Kept::PageIn { _page_in: page_in }));
                (arrived, Failure::PageIn)
            }
            Resolution::File(file, page, step) => {
                let failure = match step {
                    FileStep::Store => Failure::Store,
                    _ => Failure::Fetch,
                };
                match self.await_file_page(&file, page, step, progress) {
                    Err(Errno::EINTR) => return Err(Failure::Other(FaultError::Killed)),
                    Err(Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN) => {
                        return self.await_memory(progress);
                    }
                    done => (done.is_ok(), failure),
                }
            }
        };
        progress.failures += u32::from(!arrived);
        if progress.failures < MAX_ATTEMPTS { Ok(()) } else { Err(failure) }
    }

    /// Returns whether the pages arrived.
    fn await_page_in(&self, page_in: &Arc<PageIn>) -> Result<bool, FaultError> {
        self.counters.add(Counter::FaultsMajor, 1);
        self.policy.claim().assert_may_await(Claim::SwapServer);
        page_in.start();
        Ok(page_in.wait()?)
    }

    /// Has done what a page of a mapped file needs.
    #[cold]
    #[inline(never)]
    fn await_file_page(
        &self,
        file: &FilePages,
        page: Page,
        step: FileStep,
        progress: &mut Progress,
    ) -> Result<(), Errno> {
        self.policy.claim().assert_may_await(Claim::FileServer);
        match step {
            FileStep::Fetch(fetch, state) => {
                let fetched = self.await_started(&fetch, state)?;
                // Its frames stay in memory until they were looked at.
                drop(progress.kept.replace(Kept::Fetch { _fetch: fetch }));
                fetched
            }
            FileStep::Store => file.admit_store(page, self.policy.claim()),
            FileStep::Lease => file.renew_lease(),
            FileStep::Settle(access) => Ok(file.await_settled(page, access == Access::Write)?),
        }
    }

    fn await_fetch(&self, awaited: &Awaited) -> Result<Result<(), Errno>, FaultError> {
        Ok(self.await_started(&awaited.fetch, awaited.state)?)
    }

    fn await_started(
        &self,
        fetch: &Arc<Fetch>,
        state: FetchState,
    ) -> Result<Result<(), Errno>, Interrupted> {
        self.counters.add(Counter::FaultsMajor, 1);
        if state == FetchState::New {
            fetch.start();
        }
        loop {
            match fetch.wait() {
                Err(Interrupted) if mutants::not_killable() => {}
                result => return result,
            }
        }
    }
}
