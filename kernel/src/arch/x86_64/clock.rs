//! Time: the HPET is the clock, the PIT generates the tick.
//!
//! The HPET's rate is known, so nothing is measured at start. With QEMU's icount it counts
//! instructions exactly.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;

/// The HPET's physical address on PC chipsets; the ACPI table gives the same one.
const HPET_ADDRESS: u64 = 0xfed0_0000;
const CAPABILITIES: u64 = 0;
const CONFIGURATION: u64 = 0x10;
const COUNTER: u64 = 0xf0;
const ENABLE: u64 = 1;
/// The standard's upper bound for the counter's period, in femtoseconds: 100 ns.
const MAX_PERIOD_FS: u64 = 100_000_000;
const FS_PER_NS: u64 = 1_000_000;

/// Ticks per second.
pub const TICK_HZ: u64 = 100;
/// The PIT's input frequency.
const PIT_HZ: u64 = 1_193_182;

static BASE: AtomicU64 = AtomicU64::new(0);
static PERIOD_FS: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
static WALL_AT_START_NS: AtomicI64 = AtomicI64::new(0);

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
    unsafe { register(COUNTER) }.read()
}

/// Nanoseconds since the kernel's start.
pub fn now_ns() -> u64 {
    let ticks = counter().wrapping_sub(START.load(Ordering::Relaxed));
    let period_fs = PERIOD_FS.load(Ordering::Relaxed);
    (u128::from(ticks) * u128::from(period_fs) / u128::from(FS_PER_NS)) as u64
}

/// Milliseconds since the kernel's start; 0 before the clock runs.
pub(super) fn uptime_ms() -> u64 {
    if PERIOD_FS.load(Ordering::Relaxed) == 0 { 0 } else { now_ns() / 1_000_000 }
}

/// Nanoseconds since 1970-01-01 UTC.
pub fn wall_ns() -> i64 {
    WALL_AT_START_NS.load(Ordering::Relaxed).saturating_add(now_ns() as i64)
}

/// Starts the clock and the tick, which is interrupt line 0.
pub(super) unsafe fn start(physical_memory_offset: u64) {
    BASE.store(physical_memory_offset + HPET_ADDRESS, Ordering::Relaxed);
    // SAFETY: physical memory, including devices, is mapped at the offset. Without an HPET, reads
    // give all ones or zeros.
    unsafe {
        let period_fs = register(CAPABILITIES).read() >> 32;
        assert!((1..=MAX_PERIOD_FS).contains(&period_fs), "this machine has no HPET");
        PERIOD_FS.store(period_fs, Ordering::Relaxed);
        register(CONFIGURATION).update(|configuration| configuration | ENABLE);
    }
    START.store(counter(), Ordering::Relaxed);
    WALL_AT_START_NS.store(rtc_seconds().saturating_mul(1_000_000_000), Ordering::Relaxed);
    let divisor = (PIT_HZ / TICK_HZ) as u16;
    let [low, high] = divisor.to_le_bytes();
    // SAFETY: the PIT's ports, used only here: channel 0, both bytes, rate generator.
    unsafe {
        Port::<u8>::new(0x43).write(0x34);
        Port::<u8>::new(0x40).write(low);
        Port::<u8>::new(0x40).write(high);
    }
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
