//! Signals: numbers, sets, actions, and the information that comes with them. Plain data in Linux's
//! layouts; `send` and `deliver` use it.
#![forbid(unsafe_code)]

use crate::mem::account::{Account, Charge, Kind};
use crate::mem::limits::Resource;
use crate::mem::{OutOfMemory, fallible};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// A signal's number, 1 to [`MAX_SIGNAL`]; or [`Signal::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub u8);

impl Signal {
    /// No signal. Sending it only tests whether a signal could be sent.
    pub const NONE: Self = Self(0);

    /// The index of this signal's action; `None` for an invalid number.
    fn index(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1).filter(|&index| index < SIGNALS)
    }
}

macro_rules! signals {
    ($($name:ident = $number:literal,)*) => {
        $(#[doc = concat!("Number ", $number, ".")] pub const $name: Signal = Signal($number);)*

        impl Signal {
            /// The name of a signal that is not a real-time signal.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $($name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}
signals! {
    SIGHUP = 1,
    SIGINT = 2,
    SIGQUIT = 3,
    SIGILL = 4,
    SIGTRAP = 5,
    SIGABRT = 6,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGKILL = 9,
    SIGUSR1 = 10,
    SIGSEGV = 11,
    SIGUSR2 = 12,
    SIGPIPE = 13,
    SIGALRM = 14,
    SIGTERM = 15,
    SIGCHLD = 17,
    SIGCONT = 18,
    SIGSTOP = 19,
    SIGTSTP = 20,
    SIGTTIN = 21,
    SIGTTOU = 22,
    SIGURG = 23,
    SIGXCPU = 24,
    SIGXFSZ = 25,
    SIGVTALRM = 26,
    SIGPROF = 27,
    SIGWINCH = 28,
    SIGSYS = 31,
}

/// The highest signal number. Signals from 32 on are the real-time signals.
pub const MAX_SIGNAL: Signal = Signal(64);
/// How many signals there are.
const SIGNALS: usize = MAX_SIGNAL.0 as usize;
const MAX_SIGNAL_NUMBER: u8 = MAX_SIGNAL.0;

/// A set of signals; bit 0 is signal 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);
    /// Signals that cannot be blocked, ignored or caught.
    pub const UNBLOCKABLE: Self = Self::of(SIGKILL).with(SIGSTOP);
    /// Signals that stop a process by default.
    pub const STOPPING: Self = Self::of(SIGSTOP).with(SIGTSTP).with(SIGTTIN).with(SIGTTOU);
    /// Signals that are ignored by default.
    pub const IGNORED: Self = Self::of(SIGCHLD).with(SIGCONT).with(SIGURG).with(SIGWINCH);
    /// Signals whose default action on Linux is to write a core file: the program has failed.
    pub const FAILURES: Self =
        Self::SYNCHRONOUS.with(SIGQUIT).with(SIGABRT).with(SIGXCPU).with(SIGXFSZ).with(SIGSYS);
    /// Signals raised by an exception of the program. They are delivered first.
    const SYNCHRONOUS: Self =
        Self::of(SIGSEGV).with(SIGBUS).with(SIGILL).with(SIGTRAP).with(SIGFPE);

    /// One signal; the empty set for 0 or a number too high.
    pub const fn of(signal: Signal) -> Self {
        match signal.0 {
            number @ 1..=MAX_SIGNAL_NUMBER => Self(1 << (number - 1)),
            _ => Self::EMPTY,
        }
    }

    /// This set with one more signal.
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// This set without the signals of another.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The union of both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set contains a signal.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signal to deliver first: an exception's, else the lowest number.
    pub fn first(self) -> Option<Signal> {
        let urgent = Self(self.0 & Self::SYNCHRONOUS.0);
        let chosen = if urgent.is_empty() { self } else { urgent };
        (!chosen.is_empty()).then(|| Signal(chosen.0.trailing_zeros() as u8 + 1))
    }
}

bitflags::bitflags! {
    /// Flags of an action (`sa_flags`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when children stop.
        const NO_CHILD_STOP = 1;
        /// Children that end leave no zombie.
        const NO_CHILD_WAIT = 2;
        /// The handler takes three arguments. It gets them in any case.
        const SIGINFO = 4;
        /// Tag bits of a fault's address are reported. There are none here.
        const EXPOSE_TAGBITS = 0x800;
        /// `sa_restorer` is set.
        const RESTORER = 0x0400_0000;
        /// Run on the alternate stack.
        const ON_STACK = 0x0800_0000;
        /// Restart the system call that was interrupted.
        const RESTART = 0x1000_0000;
        /// Do not block the signal while its handler runs.
        const NO_DEFER = 0x4000_0000;
        /// Reset the action to the default when the signal is delivered.
        const RESET = 0x8000_0000;
    }
}

/// `struct sigaction` of the kernel's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// [`Action::DEFAULT`], [`Action::IGNORE`], or the handler's address.
    pub handler: u64,
    /// Flags; those that this kernel does not know are cleared.
    pub flags: u64,
    /// The address that the handler returns to.
    pub restorer: u64,
    /// Signals that are blocked, too, while the handler runs.
    pub mask: SignalSet,
}

impl Action {
    /// The default action (`SIG_DFL`).
    pub const DEFAULT: u64 = 0;
    /// Ignoring the signal (`SIG_IGN`).
    pub const IGNORE: u64 = 1;
    /// Size of the structure, in bytes.
    pub const BYTES: usize = 32;

    /// The known flags.
    pub fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_truncate(self.flags)
    }

    /// The structure in a program's memory.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (chunk, word) in
            bytes.chunks_exact_mut(8).zip([self.handler, self.flags, self.restorer, self.mask.0])
        {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads the structure from a program's memory.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |index: usize| super::word(bytes, index * 8);
        Self {
            handler: word(0),
            flags: ActionFlags::from_bits_truncate(word(1)).bits(),
            restorer: word(2),
            mask: SignalSet(word(3)).without(SignalSet::UNBLOCKABLE),
        }
    }
}

/// What delivering a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The signal is discarded.
    Ignore,
    /// The process ends.
    Terminate,
    /// The process stops.
    Stop,
    /// A handler runs.
    Catch(Action),
}

/// A process's action for each signal.
#[derive(Clone, Debug)]
pub struct Actions([Action; SIGNALS]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); SIGNALS])
    }
}

impl Actions {
    /// The action for a signal.
    pub fn get(&self, signal: Signal) -> Action {
        signal.index().and_then(|index| self.0.get(index)).copied().unwrap_or_default()
    }

    /// Sets the action for a signal. Ignores invalid signal numbers.
    pub fn set(&mut self, signal: Signal, action: Action) {
        if let Some(slot) = signal.index().and_then(|index| self.0.get_mut(index)) {
            *slot = action;
        }
    }

    /// What delivering a signal does.
    pub fn disposition(&self, signal: Signal) -> Disposition {
        let action = self.get(signal);
        match action.handler {
            Action::IGNORE => Disposition::Ignore,
            Action::DEFAULT if SignalSet::IGNORED.contains(signal) => Disposition::Ignore,
            Action::DEFAULT if SignalSet::STOPPING.contains(signal) => Disposition::Stop,
            Action::DEFAULT => Disposition::Terminate,
            _ => Disposition::Catch(action),
        }
    }

    /// Resets handlers to the default, as exec does. Ignored signals stay ignored.
    pub fn reset_handlers(&mut self) {
        for action in &mut self.0 {
            *action = Action {
                handler: if action.handler == Action::IGNORE {
                    Action::IGNORE
                } else {
                    Action::DEFAULT
                },
                ..Action::default()
            };
        }
    }
}

/// `siginfo_t`: the information that a handler gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalInfo {
    /// The signal's number.
    pub signal: Signal,
    /// Who sent it: one of the constants below, or a program's own code.
    pub code: i32,
    /// Process number of the sender or of the child; that of a timer.
    pub pid: u32,
    /// User number of the sender; the overrun of a timer.
    pub extra: u32,
    /// Whether a timer of the process has sent it.
    pub is_of_timer: bool,
    /// A child's status, the faulting address, or the sender's value.
    pub value: u64,
}

impl SignalInfo {
    /// `SI_USER`: sent by kill(2).
    pub const USER: i32 = 0;
    /// `SI_KERNEL`: raised by the kernel.
    pub const KERNEL: i32 = 0x80;
    /// `SI_TIMER`: sent by a timer.
    const TIMER: i32 = -2;
    /// `SI_TKILL`: sent by tgkill(2).
    pub const TKILL: i32 = -6;
    /// `SEGV_MAPERR`, `BUS_ADRALN`, `FPE_INTDIV`, `ILL_ILLOPC`, `TRAP_BRKPT`, `CLD_EXITED`: the
    /// first reason of each signal.
    pub const FIRST_REASON: i32 = 1;
    /// `SEGV_ACCERR`: memory is mapped there, but its permissions forbid the access.
    pub const DENIED: i32 = 2;
    /// `ILL_ILLOPN`: the instruction does not exist.
    pub const NO_SUCH_INSTRUCTION: i32 = 2;
    /// `TRAP_TRACE`: an instruction was carried out.
    pub const SINGLE_STEP: i32 = 2;
    /// `BUS_ADRERR`: the page is not available.
    pub const BUS_ADDRESS: i32 = 2;
    /// Size of the structure, in bytes.
    pub const BYTES: usize = 128;

    /// The information for a signal that the kernel sends.
    pub fn kernel(signal: Signal) -> Self {
        Self { signal, code: Self::KERNEL, ..Self::default() }
    }

    /// The information for the signal of the timer with this number.
    pub fn timer(signal: Signal, id: u32, value: u64) -> Self {
        Self { signal, code: Self::TIMER, pid: id, extra: 0, value, is_of_timer: true }
    }

    /// The information that a program passes with a signal. Code, sender and value are the
    /// program's.
    pub fn from_bytes(signal: Signal, bytes: &[u8; Self::BYTES]) -> Self {
        let [code, pid] = [super::word(bytes, 8), super::word(bytes, 16)];
        let extra = (pid >> 32) as u32;
        let (code, value) = ((code as u32).cast_signed(), super::word(bytes, 24));
        Self { signal, code, pid: pid as u32, extra, value, is_of_timer: false }
    }

    /// Whether an exception of the program raised it, so that the value is an address.
    pub fn is_fault(&self) -> bool {
        self.code > 0 && self.code != Self::KERNEL && SignalSet::SYNCHRONOUS.contains(self.signal)
    }

    /// The structure in a program's memory.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let is_fault = self.is_fault();
        let mut put = |at: usize, value: &[u8]| {
            for (to, &from) in bytes.iter_mut().skip(at).zip(value) {
                *to = from;
            }
        };
        put(0, &u32::from(self.signal.0).to_le_bytes());
        put(8, &self.code.to_le_bytes());
        if is_fault {
            put(16, &self.value.to_le_bytes());
        } else {
            put(16, &self.pid.to_le_bytes());
            put(20, &self.extra.to_le_bytes());
            put(24, &self.value.to_le_bytes());
        }
        bytes
    }
}

/// The first real-time signal.
pub const FIRST_REALTIME: Signal = Signal(32);
/// Upper bound for pending real-time signals of one process or thread.
const MAX_QUEUED: usize = 1024;
/// Capacity that an empty list keeps.
const KEPT: usize = 8;

/// Pending signals. As on Linux, an ordinary signal is pending once, however often it is sent;
/// real-time signals are queued in order.
#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    infos: Vec<SignalInfo>,
    /// For the memory of `infos`, once there is some.
    charge: Option<Charge>,
}

impl Pending {
    /// The set of pending signals.
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// Makes space for one more real-time signal for the process of this account. EAGAIN at the
    /// limit, and without memory.
    pub fn make_room(&mut self, account: &Arc<Account>) -> Result<(), Errno> {
        if !self.has_room(account) {
            return Err(Errno::EAGAIN);
        }
        self.grow(account).map_err(|_| Errno::EAGAIN)
    }

    /// Whether the limits admit one more real-time signal for the process of this account.
    fn has_room(&self, account: &Account) -> bool {
        let limit = account.limits.get(Resource::Signals);
        self.infos.len() < MAX_QUEUED && (self.infos.len() as u64) < limit
    }

    /// Adds a signal for the process of this account.
    pub fn add(&mut self, info: SignalInfo, account: &Arc<Account>) {
        let counts = info.signal >= FIRST_REALTIME && self.has_room(account);
        // A timer sends one signal at a time.
        if counts || info.is_of_timer || !self.set.contains(info.signal) {
            self.set = self.set.with(info.signal);
            // Without memory the signal is delivered without its information.
            if self.grow(account).is_ok() {
                self.infos.push(info);
            }
        }
    }

    /// Whether the signal of a timer is pending.
    pub fn has_of_timer(&self, signal: Signal, id: u32) -> bool {
        let is_it = |info: &SignalInfo| info.is_of_timer && (info.signal, info.pid) == (signal, id);
        self.set.contains(signal) && self.infos.iter().any(is_it)
    }

    /// Discards the signals of a timer, or of all timers.
    pub fn remove_of_timers(&mut self, id: Option<u32>) {
        let is_it = |info: &SignalInfo| info.is_of_timer && id.is_none_or(|id| info.pid == id);
        while let Some(at) = self.infos.iter().position(is_it) {
            let signal = self.infos.remove(at).signal;
            if !self.infos.iter().any(|info| info.signal == signal) {
                self.set = self.set.without(SignalSet::of(signal));
            }
        }
    }

    /// Makes space for one more.
    fn grow(&mut self, account: &Arc<Account>) -> Result<(), OutOfMemory> {
        let count = self.infos.len();
        if count < self.infos.capacity() {
            return Ok(());
        }
        let more = count.max(KEPT);
        let bytes = (count + more) * size_of::<SignalInfo>();
        // Where the list cannot grow, the old charge stays.
        let charge = Charge::take(account, Kind::Signals, bytes)?;
        fallible::reserve_exact(&mut self.infos, more)?;
        self.charge = Some(charge);
        Ok(())
    }

    /// Removes and returns the first signal that is not blocked.
    pub fn take(&mut self, blocked: SignalSet) -> Option<SignalInfo> {
        let signal = self.set.without(blocked).first()?;
        let is_it = |info: &SignalInfo| info.signal == signal;
        let info = self
            .infos
            .iter()
            .position(is_it)
            .map_or(SignalInfo::kernel(signal), |at| self.infos.remove(at));
        if !self.infos.iter().any(is_it) {
            self.set = self.set.without(SignalSet::of(signal));
        }
        // Releases the memory of a burst once it is over.
        if self.infos.is_empty() && self.infos.capacity() > KEPT {
            self.infos = Vec::new();
            self.charge = None;
        }
        Some(info)
    }

    /// Discards the pending signals of a set.
    pub fn remove(&mut self, signals: SignalSet) {
        self.set = self.set.without(signals);
        self.infos.retain(|info| !signals.contains(info.signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_come_first_and_blocked_signals_wait() {
        crate::mem::host::init();
        let (mut pending, account) = (Pending::default(), Account::new());
        for signal in [SIGINT, SIGSEGV, SIGCHLD, SIGINT] {
            pending.add(SignalInfo::kernel(signal), &account);
        }
        assert_eq!(pending.take(SignalSet::EMPTY).map(|info| info.signal), Some(SIGSEGV));
        assert_eq!(pending.take(SignalSet::of(SIGINT)).map(|info| info.signal), Some(SIGCHLD));
        assert_eq!(pending.take(SignalSet::of(SIGINT)), None);
        assert_eq!(pending.take(SignalSet::EMPTY).map(|info| info.signal), Some(SIGINT));
        assert_eq!(pending.take(SignalSet::EMPTY), None, "sent twice, pending once");
    }

    #[test]
    fn real_time_signals_are_counted_and_come_in_order() {
        crate::mem::host::init();
        let (mut pending, account) = (Pending::default(), Account::new());
        let sent = [(41, 1), (40, 2), (41, 3), (40, 4), (SIGINT.0, 5), (SIGINT.0, 6)];
        for (signal, value) in sent {
            let signal = Signal(signal);
            pending.add(SignalInfo { signal, value, ..SignalInfo::default() }, &account);
        }
        let taken: Vec<_> = core::iter::from_fn(|| pending.take(SignalSet::EMPTY))
            .map(|info| (info.signal.0, info.value))
            .collect();
        assert_eq!(taken, [(SIGINT.0, 5), (40, 2), (40, 4), (41, 1), (41, 3)]);
        (0..2 * MAX_QUEUED).for_each(|_| pending.add(SignalInfo::kernel(FIRST_REALTIME), &account));
        assert!(!pending.has_room(&account) && account.bytes(Kind::Signals) > 0);
        assert_eq!(core::iter::from_fn(|| pending.take(SignalSet::EMPTY)).count(), MAX_QUEUED);
        assert_eq!(account.total_bytes(), 0, "the memory of a burst is released");
    }

    #[test]
    fn dispositions_are_those_of_linux() {
        let mut actions = Actions::default();
        assert_eq!(actions.disposition(SIGTERM), Disposition::Terminate);
        assert_eq!(actions.disposition(SIGCHLD), Disposition::Ignore);
        assert_eq!(actions.disposition(SIGTTIN), Disposition::Stop);
        assert_eq!(actions.disposition(MAX_SIGNAL), Disposition::Terminate);
        let caught = Action { handler: 0x40_0000, ..Action::default() };
        actions.set(SIGTERM, caught);
        actions.set(SIGINT, Action { handler: Action::IGNORE, ..caught });
        assert_eq!(actions.disposition(SIGTERM), Disposition::Catch(caught));
        actions.reset_handlers();
        assert_eq!(actions.disposition(SIGTERM), Disposition::Terminate);
        assert_eq!(actions.disposition(SIGINT), Disposition::Ignore);
        actions.set(Signal::NONE, caught);
        actions.set(Signal(65), caught);
        assert_eq!(actions.get(Signal::NONE), Action::default());
    }

    #[test]
    fn an_action_survives_its_encoding_but_cannot_block_kill() {
        let action =
            Action { handler: 5, flags: 0x1400_0000, restorer: 7, mask: SignalSet::of(SIGINT) };
        assert_eq!(Action::from_bytes(&action.to_bytes()), action);
        let all = Action { mask: SignalSet(u64::MAX), ..action };
        assert!(!Action::from_bytes(&all.to_bytes()).mask.contains(SIGKILL));
    }
}
