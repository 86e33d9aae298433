//! Time: the HPET is the clock, and its first comparator the timer, which fires once for each time
//! that it is set (IA-PC HPET Specification 1.0a).
//!
//! The HPET's rate is known, so nothing is measured at start. With QEMU's icount it counts
//! instructions exactly. "Legacy replacement" routes the comparator to interrupt line 0, in place
//! of the PIT.

use crate::arch::{Alarm, Alarms};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;

/// The HPET's physical address on PC chipsets; the ACPI table gives the same one.
const HPET_ADDRESS: u64 = 0xfed0_0000;
const CAPABILITIES: u64 = 0;
const CONFIGURATION: u64 = 0x10;
const COUNTER: u64 = 0xf0;
const TIMER_CONFIGURATION: u64 = 0x100;
const TIMER_COMPARATOR: u64 = 0x108;
const ENABLE: u64 = 1;
const LEGACY_REPLACEMENT: u64 = 1 << 1;
/// The capability for [`LEGACY_REPLACEMENT`].
const CAN_REPLACE: u64 = 1 << 15;
/// The timer's interrupt is enabled; all other bits are 0: edge-triggered, once.
const TIMER_ENABLE: u64 = 1 << 2;
/// The standard's upper bound for the counter's period, in femtoseconds: 100 ns.
const MAX_PERIOD_FS: u64 = 100_000_000;
const FS_PER_NS: u64 = 1_000_000;
/// The farthest that the timer is set ahead, 18 minutes: the product with [`FS_PER_NS`] fits.
const MAX_AHEAD_NS: u64 = 1 << 40;
/// The interrupt line of the timer.
pub const TIMER_LINE: u8 = 0;

static BASE: AtomicU64 = AtomicU64::new(0);
static PERIOD_FS: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds in a tick of the counter, with 32 bits behind the point.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
static WALL_AT_START_NS: AtomicI64 = AtomicI64::new(0);
static ALARMS: Alarms = Alarms::new();

/// A register of the HPET.
///
/// # Safety
/// `BASE` is the address at which the device is mapped, and `offset` is that of a register.
unsafe fn register(offset: u64) -> VolatilePtr<'static, u64> {
    let address = (BASE.load(Ordering::Relaxed) + offset) as *mut u64;
    // SAFETY: the caller's promise.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}

fn counter() -> u64 {
    // SAFETY: `start` has found the device. Reading the counter has no side effect.
    let read = || unsafe { register(COUNTER) }.read();
    let mut ticks = read();
    // A device on a narrow bus may return two halves of different moments. Next to a carry, two
    // reads in a row must agree about the upper half.
    while (ticks as u32).wrapping_add(NEAR_CARRY) < 2 * NEAR_CARRY {
        let again = read();
        if again >> 32 == ticks >> 32 && again >= ticks {
            break;
        }
        ticks = again;
    }
    ticks
}

/// Ticks within which the two halves of the counter are read.
const NEAR_CARRY: u32 = 1 << 20;

fn ns_of(ticks: u64) -> u64 {
    let product = u128::from(ticks) * u128::from(NS_PER_TICK.load(Ordering::Relaxed));
    (product >> 32) as u64
}

/// Nanoseconds since the kernel's start.
pub fn now_ns() -> u64 {
    ns_of(counter().wrapping_sub(START.load(Ordering::Relaxed)))
}

/// Milliseconds since the kernel's start; 0 before the clock runs.
pub(super) fn uptime_us() -> u64 {
    if PERIOD_FS.load(Ordering::Relaxed) == 0 { 0 } else { now_ns() / 1000 }
}

/// Nanoseconds since 1970-01-01 UTC.
pub fn wall_ns() -> i64 {
    WALL_AT_START_NS.load(Ordering::Relaxed).saturating_add(now_ns() as i64)
}

/// Sets the time since 1970. The battery-backed clock keeps its own.
pub fn set_wall_ns(wall_ns: i64) {
    WALL_AT_START_NS.store(wall_ns.saturating_sub(now_ns() as i64), Ordering::Relaxed);
}

/// Whether an alarm is set.
#[inline]
pub fn is_set(alarm: Alarm) -> bool {
    ALARMS.is_set(alarm)
}

/// The deadline of an alarm, or [`NEVER`](crate::arch::NEVER).
#[inline]
pub fn deadline(alarm: Alarm) -> u64 {
    ALARMS.deadline(alarm)
}

/// Sets an alarm to a time in nanoseconds since the kernel's start, or cancels it with
/// [`NEVER`](crate::arch::NEVER). Then the timer interrupts, perhaps once too early.
#[inline]
pub fn set_alarm(alarm: Alarm, deadline_ns: u64) {
    if let Some(deadline_ns) = ALARMS.set(alarm, deadline_ns) {
        set_timer(deadline_ns);
    }
}

/// The handler of the timer's interrupt begins.
pub fn fired() {
    ALARMS.fired();
}

/// Sets the timer for exactly the earliest alarm: when an interrupt has been handled, and before
/// the CPU becomes idle.
#[inline]
pub fn set_exactly() {
    if let Some(deadline_ns) = ALARMS.exact() {
        set_timer(deadline_ns);
    }
}

/// Makes the timer fire once at a time, or at once if that has passed; in any case after
/// [`MAX_AHEAD_NS`].
fn set_timer(deadline_ns: u64) {
    let period_fs = PERIOD_FS.load(Ordering::Relaxed);
    let mut ahead_ticks = 1;
    loop {
        let now = counter();
        let now_ns = ns_of(now.wrapping_sub(START.load(Ordering::Relaxed)));
        let left_ns = deadline_ns.saturating_sub(now_ns).min(MAX_AHEAD_NS);
        let at = now.wrapping_add((left_ns * FS_PER_NS).div_ceil(period_fs).max(ahead_ticks));
        // SAFETY: `start` has found the device, which touches no memory.
        unsafe { register(TIMER_COMPARATOR) }.write(at);
        // If the counter has passed meanwhile, the comparator does not match before it wraps.
        if (at.wrapping_sub(counter()) as i64) > 0 {
            return;
        }
        ahead_ticks *= 2;
    }
}

/// Starts the clock. The timer is set for the first time by an alarm.
pub(super) unsafe fn start(physical_memory_offset: u64) {
    BASE.store(physical_memory_offset + HPET_ADDRESS, Ordering::Relaxed);
    // SAFETY: physical memory, including devices, is mapped at the offset. Without an HPET, reads
    // give all ones or zeros.
    unsafe {
        let capabilities = register(CAPABILITIES).read();
        let period_fs = capabilities >> 32;
        assert!((1..=MAX_PERIOD_FS).contains(&period_fs), "this machine has no HPET");
        assert!(capabilities & CAN_REPLACE != 0, "this machine's HPET cannot replace the PIT");
        PERIOD_FS.store(period_fs, Ordering::Relaxed);
        NS_PER_TICK.store((period_fs << 32) / FS_PER_NS, Ordering::Relaxed);
        register(CONFIGURATION).update(|configuration| configuration | ENABLE | LEGACY_REPLACEMENT);
        START.store(counter(), Ordering::Relaxed);
        set_timer(MAX_AHEAD_NS);
        register(TIMER_CONFIGURATION).write(TIMER_ENABLE);
    }
    WALL_AT_START_NS.store(rtc_seconds().saturating_mul(1_000_000_000), Ordering::Relaxed);
}

fn cmos(register: u8) -> u8 {
    // SAFETY: the CMOS clock's ports; reading changes nothing but the selected register.
    unsafe {
        Port::<u8>::new(0x70).write(register);
        Port::<u8>::new(0x71).read()
    }
}

/// The battery-backed clock's time in seconds since 1970. It is assumed to be UTC.
fn rtc_seconds() -> i64 {
    const FIELDS: [u8; 6] = [0, 2, 4, 7, 8, 9];
    let read = || FIELDS.map(cmos);
    // The clock may be updated between two reads. Two equal reads in a row are consistent.
    let mut fields = read();
    for _ in 0..1000 {
        let again = read();
        if again == fields && cmos(0x0a) & 0x80 == 0 {
            break;
        }
        fields = again;
    }
    let binary = cmos(0x0b) & 4 != 0;
    let [second, minute, hour, day, month, year] = fields
        .map(|field| i64::from(if binary { field } else { (field >> 4) * 10 + (field & 15) }));
    days_from_civil(2000 + year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year - cycle * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    cycle * 146_097 + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year
        - 719_468
}
