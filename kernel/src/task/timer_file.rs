//! timerfd: a timer whose expirations are read from a descriptor.
//!
//! Expirations are not counted as they happen but computed from the clock when somebody asks. So a
//! periodic timer that nobody reads interrupts once, and not again before its next read.
//!
//! Lock: `setting`, not held while waiting or waking.
#![forbid(unsafe_code)]

use super::timer::{Timed, Timeout};
use crate::arch::clock;
use crate::file::{FileObject, FileType, Io, Notifier, Ready, Stat, UserBuffers, nameless_stat};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// Bytes that a read returns: a number of expirations.
const BYTES: usize = 8;

/// What the time of a timer is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerBase {
    /// 1970 (`CLOCK_REALTIME`). Setting that clock does not move a timer that is armed.
    Real,
    /// The start of the machine (`CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`).
    Boot,
}

/// When a timer expires next, and how often after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Schedule {
    /// Nanoseconds since boot; `None` for a timer that is not armed.
    next_ns: Option<u64>,
    /// Nanoseconds; 0 for a timer that expires once.
    period_ns: u64,
}

impl Schedule {
    /// The number of expirations until `now_ns`.
    fn expirations(self, now_ns: u64) -> u64 {
        let Some(late_ns) = self.next_ns.and_then(|next| now_ns.checked_sub(next)) else {
            return 0;
        };
        1 + late_ns.checked_div(self.period_ns).unwrap_or(0)
    }

    /// What is left of it after `expirations`.
    fn after(self, expirations: u64) -> Self {
        let following = |next: u64| next.saturating_add(self.period_ns.saturating_mul(expirations));
        let is_over = self.period_ns == 0 && expirations > 0;
        let next_ns = if is_over { None } else { self.next_ns.map(following) };
        Self { next_ns, ..self }
    }

    /// Nanoseconds until the next expiration, at least 1 for an armed timer; 0 without one.
    fn left_ns(self, now_ns: u64) -> u64 {
        let coming = self.after(self.expirations(now_ns)).next_ns;
        coming.map_or(0, |next| next.saturating_sub(now_ns).max(1))
    }
}

#[derive(Default)]
struct Setting {
    schedule: Schedule,
    /// Interrupts when the timer expires next.
    alarm: Option<Timeout>,
}

/// An open timer.
pub struct TimerFile {
    /// What absolute times are relative to.
    pub clock: TimerBase,
    setting: Mutex<Setting, rank::TimerFile>,
    expired: Notifier,
    inode: u64,
}

impl TimerFile {
    /// A timer that is not armed.
    pub fn new(clock: TimerBase) -> Arc<Self> {
        let (setting, expired) = (Mutex::default(), Notifier::new());
        Arc::new(Self { clock, setting, expired, inode: crate::file::next_inode() })
    }

    /// Arms the timer for `next_ns` since boot, and every `period_ns` after that (0: once), or
    /// disarms it. Returns the time left and the period before, in nanoseconds.
    pub fn set(self: &Arc<Self>, next_ns: Option<u64>, period_ns: u64) -> (u64, u64) {
        let schedule = Schedule { next_ns, period_ns };
        let (before, alarm) = {
            let mut setting = self.setting.lock();
            let before = core::mem::replace(&mut setting.schedule, schedule);
            (before, core::mem::replace(&mut setting.alarm, self.alarm(schedule)))
        };
        drop(alarm);
        self.expired.notify_of(Ready::READ);
        (before.left_ns(clock::now_ns()), before.period_ns)
    }

    /// The time left and the period, in nanoseconds.
    pub fn left(&self) -> (u64, u64) {
        let schedule = self.setting.lock().schedule;
        (schedule.left_ns(clock::now_ns()), schedule.period_ns)
    }

    fn alarm(self: &Arc<Self>, schedule: Schedule) -> Option<Timeout> {
        let timed = Arc::downgrade(self);
        schedule.next_ns.map(|next_ns| Timeout::calling(next_ns, timed))
    }
}

impl Timed for TimerFile {
    fn expired(self: Arc<Self>) {
        self.expired.notify_of(Ready::READ);
    }
}

/// A timer as a file. The alarm refers to the timer, so the object that is open is a reference to
/// it.
pub struct OpenTimer(pub Arc<TimerFile>);

impl OpenTimer {
    /// Takes the expirations, and sets the alarm for the next one; `None` without any.
    fn take(&self) -> Option<u64> {
        let mut setting = self.0.setting.lock();
        let expirations = setting.schedule.expirations(clock::now_ns());
        if expirations == 0 {
            return None;
        }
        setting.schedule = setting.schedule.after(expirations);
        setting.alarm = self.0.alarm(setting.schedule);
        Some(expirations)
    }
}

impl FileObject for OpenTimer {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Nameless, self.0.inode))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        if to.remaining() < ByteCount::of_len(BYTES) {
            return Err(Errno::EINVAL);
        }
        let expirations = if io.nonblocking {
            self.take().ok_or(Errno::EAGAIN)?
        } else {
            self.0.expired.wait(|| self.take())?
        };
        match to.put(io.space, &expirations.to_le_bytes())? {
            BYTES => Ok(ByteCount::of_len(BYTES)),
            _ => Err(Errno::EFAULT),
        }
    }

    fn poll(&self) -> Ready {
        let schedule = self.0.setting.lock().schedule;
        let mut ready = Ready::empty();
        ready.set(Ready::READ, schedule.expirations(clock::now_ns()) > 0);
        ready
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.0.expired, Ready::all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_computed_from_the_clock() {
        let once = Schedule { next_ns: Some(100), period_ns: 0 };
        assert_eq!([99, 100, 1000].map(|now| once.expirations(now)), [0, 1, 1]);
        assert_eq!([99, 100].map(|now| once.left_ns(now)), [1, 0]);
        assert_eq!(once.after(1).next_ns, None);
        let often = Schedule { next_ns: Some(100), period_ns: 30 };
        assert_eq!([99, 100, 129, 130, 161].map(|now| often.expirations(now)), [0, 1, 1, 2, 3]);
        assert_eq!([90, 100, 131].map(|now| often.left_ns(now)), [10, 30, 29]);
        assert_eq!(often.after(2).next_ns, Some(160));
        assert_eq!(Schedule::default().expirations(u64::MAX), 0);
    }
}
