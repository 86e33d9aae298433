//! `free [-b | -k | -m]`: memory, from `/proc/meminfo`.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "bkm", "free [-b | -k | -m]");
    let text = match user::io::read_file(b"/proc/meminfo") {
        Ok(text) => text,
        Err(error) => return complain("free", b"/proc/meminfo", error),
    };
    let text = core::str::from_utf8(&text).unwrap_or_default();
    let scale = |kib: u64| {
        if options.has(b'b') {
            kib << 10
        } else if options.has(b'm') {
            kib >> 10
        } else {
            kib
        }
    };
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        scale(kib.unwrap_or(0))
    };
    let (total, free, cache) =
        (value("MemTotal"), value("MemFree"), value("Buffers") + value("Cached"));
    let used = total.saturating_sub(free).saturating_sub(cache);
    println!("{:>12}{:>12}{:>12}{:>12}{:>12}", "", "total", "used", "free", "buff/cache");
    println!("{:<12}{total:>12}{used:>12}{free:>12}{cache:>12}", "Mem:");
    let (swap, swap_free) = (value("SwapTotal"), value("SwapFree"));
    println!("{:<12}{swap:>12}{:>12}{swap_free:>12}", "Swap:", swap.saturating_sub(swap_free));
    0
}
