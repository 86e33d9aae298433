//! Resource limits of a process (`RLIMIT_*`), with Linux's numbers and initial values.
//!
//! They are part of its account. Who uses a resource asks for the limit; root is exempt from those
//! from which Linux exempts it (`NPROC`, `MEMLOCK`), and only up to what the machine has.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicI16, AtomicU64, Ordering};
use foundation::Errno;
use linux_raw_sys::general as linux;

/// A resource with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Resource {
    /// Bytes of a file that a write or a truncation may reach.
    FileSize = linux::RLIMIT_FSIZE,
    /// Bytes of private writable memory.
    Data = linux::RLIMIT_DATA,
    /// Bytes of the first stack.
    Stack = linux::RLIMIT_STACK,
    /// One more than the largest descriptor.
    Files = linux::RLIMIT_NOFILE,
    /// Bytes of regions.
    AddressSpace = linux::RLIMIT_AS,
    /// Queued signals.
    Signals = linux::RLIMIT_SIGPENDING,
}

/// Number of resources.
const COUNT: usize = linux::RLIM_NLIMITS as usize;
/// The value for no limit.
pub const INFINITE: u64 = u64::MAX;
/// Upper bound of the limit of descriptors: `nr_open` of Linux, for a table of 64 KiB.
pub const MAX_FILES: u64 = 4096;

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// Upper bound of the soft limit.
    pub hard: u64,
}

impl Limit {
    const fn both(value: u64) -> Self {
        Self { soft: value, hard: value }
    }
}

/// The limits of one process.
#[derive(Debug)]
pub struct Limits {
    soft: [AtomicU64; COUNT],
    hard: [AtomicU64; COUNT],
    /// See [`adjustment`](Self::adjustment).
    adjustment: AtomicI16,
}

/// Limit of [`Limits::adjustment`], both ways.
pub const MOST_ADJUSTED: i16 = 1000;

impl Default for Limits {
    fn default() -> Self {
        let (soft, hard) = (
            [const { AtomicU64::new(INFINITE) }; COUNT],
            [const { AtomicU64::new(INFINITE) }; COUNT],
        );
        let new = Self { soft, hard, adjustment: AtomicI16::new(0) };
        let initial = [
            (linux::RLIMIT_STACK, Limit { soft: 8 << 20, hard: INFINITE }),
            (linux::RLIMIT_CORE, Limit { soft: 0, hard: INFINITE }),
            (linux::RLIMIT_NOFILE, Limit { soft: 1024, hard: MAX_FILES }),
            (linux::RLIMIT_MEMLOCK, Limit::both(8 << 20)),
            (linux::RLIMIT_SIGPENDING, Limit::both(4096)),
            (linux::RLIMIT_NPROC, Limit::both(4096)),
            (linux::RLIMIT_MSGQUEUE, Limit::both(819_200)),
            (linux::RLIMIT_NICE, Limit::both(0)),
            (linux::RLIMIT_RTPRIO, Limit::both(0)),
        ];
        for (resource, limit) in initial {
            new.store(resource, limit);
        }
        new
    }
}

impl Limits {
    /// The soft limit of a resource.
    #[inline]
    pub fn get(&self, resource: Resource) -> u64 {
        self.soft.get(resource as usize).map_or(INFINITE, |soft| soft.load(Ordering::Relaxed))
    }

    /// The limit of a resource by its number. EINVAL for an unknown one.
    pub fn load(&self, resource: u32) -> Result<Limit, Errno> {
        let at = resource as usize;
        let (soft, hard) = self.soft.get(at).zip(self.hard.get(at)).ok_or(Errno::EINVAL)?;
        Ok(Limit { soft: soft.load(Ordering::Relaxed), hard: hard.load(Ordering::Relaxed) })
    }

    /// Sets the limit of a resource. EINVAL for an unknown one and for a soft limit above the hard
    /// one, EPERM for more descriptors than a table can have. (Root may raise a hard limit.)
    pub fn set(&self, resource: u32, limit: Limit) -> Result<(), Errno> {
        self.load(resource)?;
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        if resource == linux::RLIMIT_NOFILE && limit.hard > MAX_FILES {
            return Err(Errno::EPERM);
        }
        self.store(resource, limit);
        Ok(())
    }

    /// The same limits, for a child.
    pub fn inherit(&self) -> Self {
        let copy = |from: &[AtomicU64; COUNT]| {
            core::array::from_fn(|at| {
                AtomicU64::new(from.get(at).map_or(INFINITE, |limit| limit.load(Ordering::Relaxed)))
            })
        };
        let adjustment = AtomicI16::new(self.adjustment());
        Self { soft: copy(&self.soft), hard: copy(&self.hard), adjustment }
    }

    /// `oom_score_adj`: thousandths of memory and swap, added to what the process holds where one
    /// has to be ended.
    pub fn adjustment(&self) -> i16 {
        self.adjustment.load(Ordering::Relaxed)
    }

    /// Sets it. EINVAL beyond 1000 either way.
    pub fn adjust(&self, thousandths: i64) -> Result<(), Errno> {
        let value = i16::try_from(thousandths).map_err(|_| Errno::EINVAL)?;
        if value.unsigned_abs() > MOST_ADJUSTED.unsigned_abs() {
            return Err(Errno::EINVAL);
        }
        self.adjustment.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn store(&self, resource: u32, limit: Limit) {
        let at = resource as usize;
        if let Some((soft, hard)) = self.soft.get(at).zip(self.hard.get(at)) {
            soft.store(limit.soft, Ordering::Relaxed);
            hard.store(limit.hard, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_kept_and_inherited() {
        let limits = Limits::default();
        assert_eq!(limits.get(Resource::Files), 1024);
        assert_eq!(limits.load(99), Err(Errno::EINVAL));
        let files = linux::RLIMIT_NOFILE;
        assert_eq!(limits.set(files, Limit { soft: 3, hard: 2 }), Err(Errno::EINVAL));
        assert_eq!(limits.set(files, Limit::both(INFINITE)), Err(Errno::EPERM));
        limits.set(files, Limit::both(10)).unwrap();
        assert_eq!(limits.inherit().get(Resource::Files), 10);
        limits.set(linux::RLIMIT_AS, Limit { soft: 5, hard: 6 }).unwrap();
        assert_eq!(limits.load(linux::RLIMIT_AS), Ok(Limit { soft: 5, hard: 6 }));
        assert_eq!(limits.adjust(-1001), Err(Errno::EINVAL));
        assert_eq!(limits.adjust(1 << 40), Err(Errno::EINVAL));
        limits.adjust(-1000).unwrap();
        assert_eq!(limits.inherit().adjustment(), -1000);
    }
}
