//! `memfs`: serves files in memory to the other end of standard input, without a wrapper, until it
//! is closed. A program of its own, so that whoever starts it stays small.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use fsserver::ClientLimits;
use fsserver::memfs::{AccessTimes, Memfs};
use proof::os;
use user::prelude::*;
use user::transport::SocketTransport;

program!(run);

/// Bytes that the files can have together.
const CAPACITY_BYTES: u64 = 1 << 20;

fn run(_: &Args) -> i32 {
    if let Err(error) = os::become_server() {
        return complain("memfs", b"the server's mark", error);
    }
    let memfs = Memfs::new(CAPACITY_BYTES, AccessTimes::Untouched, || fsproto::Time(0));
    let transport = SocketTransport::new(Fd::STDIN);
    match fsserver::serve(memfs, || Ok(()), ClientLimits::default(), transport) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("memfs: {error:?}");
            1
        }
    }
}
