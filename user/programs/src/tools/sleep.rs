//! `sleep SECONDS…`: waits. Accepts fractions and the suffixes s, m, h and d.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let mut total_ns = 0u64;
    for arg in args.get(1..).unwrap_or_default() {
        match duration_ns(arg) {
            Some(duration_ns) => total_ns = total_ns.saturating_add(duration_ns),
            None => {
                eprintln!("sleep: {}: not a time", Show(arg));
                return 1;
            }
        }
    }
    if args.len() < 2 {
        eprintln!("usage: sleep SECONDS...");
        return 1;
    }
    sys::sleep(core::time::Duration::from_nanos(total_ns))
        .map_or_else(|error| complain("sleep", b"time", error), |()| 0)
}

/// Parses decimal seconds without floating point.
fn duration_ns(text: &[u8]) -> Option<u64> {
    let (text, factor) = match text.split_last()? {
        (b's', text) => (text, 1),
        (b'm', text) => (text, 60),
        (b'h', text) => (text, 3600),
        (b'd', text) => (text, 86400),
        _ => (text, 1),
    };
    let mut halves = text.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (halves.next()?, halves.next().unwrap_or_default());
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { user::opt::number(whole)? };
    let mut fraction_ns = 0;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(Some(0), |byte| (*byte as char).to_digit(10))?;
        fraction_ns = fraction_ns * 10 + u64::from(digit);
    }
    whole.checked_mul(1_000_000_000)?.checked_add(fraction_ns)?.checked_mul(factor)
}
