//! The relays between kernel, snapfs and its base that `relay=` in `etc/sloth.conf` asks for. They
//! count messages, and log them on request.
//!
//! A relay prints its figures to standard error on SIGUSR1 and before it ends. Each is a marked
//! process (F8).

use crate::{Attempt, servers};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use user::prelude::*;
use user::relay::{self, Tally};
use user::sys::abi;

/// The relays' process ids; 0 for none.
static RELAYS: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];

/// The signals that have arrived.
static REPORT_REQUESTED: AtomicBool = AtomicBool::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: i32) {
    let flag = if signal == abi::SIGTERM as i32 { &ENDED } else { &REPORT_REQUESTED };
    flag.store(true, Ordering::Relaxed);
}

/// Inserts a relay before a server's end of a socket pair. Returns the new end for the client.
pub fn insert(name: &'static str, server: Fd, log: bool) -> Attempt<Fd> {
    let [ours, client] = servers::pair()?;
    let relay = servers::start_marked(name, servers::Floor::RELAY, [server, client], || {
        pass(name, client, server, log)
    })?;
    if let Some(slot) = RELAYS.iter().find(|slot| slot.load(Ordering::Relaxed) == 0) {
        slot.store(relay, Ordering::Relaxed);
    }
    let _ = (sys::close(server), sys::close(client));
    Ok(ours)
}

/// Makes all relays print their figures and end.
pub fn conclude() {
    for relay in RELAYS.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|relay| *relay != 0)
    {
        let _ = sys::kill(relay, abi::SIGTERM as i32).map(|_| sys::wait_for(relay));
    }
}

fn pass(name: &str, client: Fd, server: Fd, log: bool) -> core::result::Result<(), String> {
    // Delivered only while the relay waits: one that came at another time would be overlooked.
    let signals = [abi::SIGUSR1, abi::SIGTERM];
    let before = sys::signal_mask(signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1)))
        .map_err(|error| format!("the signals' mask: {error}"))?;
    for signal in signals {
        sys::signal_handle(signal as i32, on_signal, 0)
            .map_err(|error| format!("a signal's handler: {error}"))?;
    }
    let tally = Tally::new();
    let report = || eprintln!("{name}\n{tally}");
    let count = |passing: &relay::Passing<'_>| {
        tally.count(passing);
        if log {
            eprintln!("{name} {passing}");
        }
    };
    let interrupted = || {
        if ENDED.load(Ordering::Relaxed) {
            report();
            sys::exit(0)
        }
        if REPORT_REQUESTED.swap(false, Ordering::Relaxed) {
            report();
        }
    };
    let relayed = relay::run(client, server, before, count, interrupted);
    report();
    relayed.map_err(|error| format!("{error}"))
}
