//! How programs share the files that a server can have open.
//!
//! A server says how many that are, for all of this kernel's programs together. An open file is
//! counted for the server, and for the process and the job that opened it, until its handle is
//! closed. Who has many open leaves some to others, as with memory
//! ([`Account`](crate::mem::Account)): so whoever has fewer open finds some, and a shell can start
//! programs beside any number of processes that open what they can.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use foundation::Errno;

use super::mutants;
use crate::mem::Account;

/// A process with this number of open files, or more, leaves a quarter of all to those with fewer;
/// one with fewer leaves less in proportion, and the first file of a process leaves nothing. So
/// many processes end up with equal numbers, and one more gets as many.
const MANY: usize = 17;

/// A job with more than one of this number of all open files leaves as many to other jobs.
const JOB_SHARE: usize = 16;

/// The open files of one server.
#[derive(Debug)]
pub(super) struct Handles {
    /// The server's limit, if it has stated one.
    limit: Option<usize>,
    open: AtomicUsize,
}

impl Handles {
    /// No open files, of a server with this limit; 0 for none.
    pub fn new(limit: u32) -> Arc<Self> {
        let limit = (limit > 0).then_some(limit as usize);
        Arc::new(Self { limit, open: AtomicUsize::new(0) })
    }

    /// Counts one more, which a process is about to open; or the kernel itself, which has no
    /// account. ENFILE if it would leave too few to others.
    pub fn charge(self: &Arc<Self>, account: Option<Arc<Account>>) -> Result<HandleCharge, Errno> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let (own, job) = account.as_ref().map_or((0, 0), |account| account.add_server_file());
        let is_program = account.as_ref().is_some_and(|account| !account.is_server());
        let charge = HandleCharge { handles: self.clone(), account };
        match self.limit {
            Some(limit) if is_program && open + left(limit, own, job) > limit => Err(Errno::ENFILE),
            _ => Ok(charge),
        }
    }
}

/// How many of `limit` open files have to be left by a process that would have `own` of them, and
/// whose job would have `job`.
fn left(limit: usize, own: usize, job: usize) -> usize {
    if mutants::take_all_files() {
        return 0;
    }
    let by_process = limit / 4 * (own.clamp(1, MANY) - 1) / (MANY - 1);
    let by_job = if job > limit / JOB_SHARE { limit / JOB_SHARE } else { 0 };
    by_process.max(by_job)
}

/// An open file of a server, counted until this is dropped.
#[derive(Debug)]
pub(super) struct HandleCharge {
    handles: Arc<Handles>,
    account: Option<Arc<Account>>,
}

impl Drop for HandleCharge {
    fn drop(&mut self) {
        self.handles.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(account) = &self.account {
            account.remove_server_file();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Processes that take what they can, in turn or one after the other.
    fn taken(
        handles: &Arc<Handles>,
        accounts: &[Arc<Account>],
        in_turn: bool,
    ) -> Vec<Vec<HandleCharge>> {
        let mut taken: Vec<_> = accounts.iter().map(|_| Vec::new()).collect();
        let mut before = usize::MAX;
        while before != handles.open.load(Ordering::Relaxed) {
            before = handles.open.load(Ordering::Relaxed);
            for (account, taken) in accounts.iter().zip(&mut taken) {
                while let Ok(charge) = handles.charge(Some(account.clone())) {
                    taken.push(charge);
                    if in_turn {
                        break;
                    }
                }
            }
        }
        taken
    }

    fn accounts(count: usize, job: u32) -> Vec<Arc<Account>> {
        let account = |_| {
            let account = Account::new();
            if job != 0 {
                account.enter_job(job);
            }
            account
        };
        (0..count).map(account).collect()
    }

    #[test]
    fn q6_whoever_comes_with_little_finds_an_open_file() {
        for limit in [256_u32, 1000, 4000] {
            for (count, in_turn) in [(1, true), (20, false), (20, true), (200, true), (200, false)]
            {
                let handles = Handles::new(limit);
                let bomb = accounts(count, 4094);
                let kept = taken(&handles, &bomb, in_turn);
                let open: usize = kept.iter().map(Vec::len).sum();
                assert!(open >= limit as usize / 2, "{count} processes get {open} of {limit}");
                // Another job: a shell, and what it starts.
                let others = accounts(5, 4093);
                for other in &others {
                    let two = [(); 2].map(|()| handles.charge(Some(other.clone())).unwrap());
                    drop(two);
                }
                assert_eq!(others[0].server_files(), 0);
                drop(kept);
                assert_eq!(handles.open.load(Ordering::Relaxed), 0);
            }
        }
    }

    #[test]
    fn q6_processes_without_a_job_leave_some_too() {
        for count in [1, 20, 60] {
            let handles = Handles::new(1280);
            let bomb = accounts(count, 0);
            let kept = taken(&handles, &bomb, true);
            let most = kept.iter().map(Vec::len).max().unwrap();
            let mut mine = Vec::new();
            let one = Account::new();
            while let Ok(charge) = handles.charge(Some(one.clone())) {
                mine.push(charge);
            }
            assert!(mine.len() + 1 >= most.min(MANY), "{} beside {most}", mine.len());
        }
    }

    #[test]
    fn servers_and_the_kernel_are_not_refused() {
        let handles = Handles::new(10);
        let server = Account::new();
        server.mark_server();
        let all: Vec<_> = (0..10).map(|_| handles.charge(Some(server.clone()))).collect();
        assert!(all.iter().all(Result::is_ok) && handles.charge(None).is_ok());
        assert_eq!(handles.charge(Some(Account::new())).err(), Some(Errno::ENFILE));
        // Without a limit, nobody is.
        let unlimited = Handles::new(0);
        let account = Account::new();
        let many: Vec<_> = (0..1000).map(|_| unlimited.charge(Some(account.clone()))).collect();
        assert!(many.iter().all(Result::is_ok));
    }
}
