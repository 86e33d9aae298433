//! What a process has chosen about itself with prctl(2), personality(2) and membarrier(2).
//!
//! Most of it changes nothing here; it is kept because programs read it again.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The slack of timers that processes begin with, in nanoseconds.
pub const USUAL_SLACK_NS: u64 = 50_000;

/// The choices of a process.
#[derive(Debug)]
pub struct Choices {
    /// `PR_SET_DUMPABLE`: 0 or 1.
    pub dumpable: AtomicU8,
    /// `PR_SET_NO_NEW_PRIVS`; it cannot be unset.
    pub no_new_privileges: AtomicBool,
    /// `PR_SET_KEEPCAPS`.
    pub keeps_capabilities: AtomicBool,
    /// `PR_SET_CHILD_SUBREAPER`: orphans among its descendants become its children.
    pub is_subreaper: AtomicBool,
    /// `PR_SET_THP_DISABLE`.
    pub without_huge_pages: AtomicBool,
    /// `PR_SET_PDEATHSIG`: the signal that it gets at its parent's end; 0 for none.
    pub parent_death: AtomicU8,
    /// `PR_SET_TIMERSLACK`, in nanoseconds.
    pub timer_slack_ns: AtomicU64,
    /// `PR_MCE_KILL`: the policy for broken memory, by Linux's numbers.
    pub broken_memory: AtomicU8,
    /// `PR_SET_SECUREBITS`.
    pub secure_bits: AtomicU32,
    /// personality(2).
    pub personality: AtomicU32,
    /// The commands of membarrier(2) that have registered it.
    pub barriers: AtomicU32,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            dumpable: AtomicU8::new(1),
            no_new_privileges: AtomicBool::new(false),
            keeps_capabilities: AtomicBool::new(false),
            is_subreaper: AtomicBool::new(false),
            without_huge_pages: AtomicBool::new(false),
            parent_death: AtomicU8::new(0),
            timer_slack_ns: AtomicU64::new(USUAL_SLACK_NS),
            broken_memory: AtomicU8::new(2),
            secure_bits: AtomicU32::new(0),
            personality: AtomicU32::new(0),
            barriers: AtomicU32::new(0),
        }
    }
}

impl Choices {
    /// Those of a child: all but what concerns its own parent and children.
    pub fn inherited(&self) -> Self {
        let relaxed = Ordering::Relaxed;
        Self {
            dumpable: AtomicU8::new(self.dumpable.load(relaxed)),
            no_new_privileges: AtomicBool::new(self.no_new_privileges.load(relaxed)),
            keeps_capabilities: AtomicBool::new(self.keeps_capabilities.load(relaxed)),
            without_huge_pages: AtomicBool::new(self.without_huge_pages.load(relaxed)),
            timer_slack_ns: AtomicU64::new(self.timer_slack_ns.load(relaxed)),
            broken_memory: AtomicU8::new(self.broken_memory.load(relaxed)),
            secure_bits: AtomicU32::new(self.secure_bits.load(relaxed)),
            personality: AtomicU32::new(self.personality.load(relaxed)),
            barriers: AtomicU32::new(self.barriers.load(relaxed)),
            ..Self::default()
        }
    }

    /// A new program begins.
    pub fn exec(&self) {
        self.dumpable.store(1, Ordering::Relaxed);
        self.keeps_capabilities.store(false, Ordering::Relaxed);
        self.barriers.store(0, Ordering::Relaxed);
    }
}
