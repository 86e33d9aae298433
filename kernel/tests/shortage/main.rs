//! Shortage of memory at every single place: each system call is carried out again and again, and
//! each time another claim for memory fails, until one run meets no failure any more.
//!
//! A claim is a frame, the growth of a collection that may fail, or headroom. After each failure,
//! every byte of the files and of the program's memory is what it was before the call or what the
//! call would have made of it; a file with other bytes has another version; no lock is held; the
//! same call succeeds now, or finds that all was done; and once the program has ended, every frame,
//! handle and snapshot is released (Q8).
//!
//! The allocator ends the test where the kernel makes a large request that cannot fail.

mod allocator;
mod cases;
mod check;
mod marks;
mod world;

use kernel::mem::host;

/// More than the claims of any case.
const MOST_CLAIMS: usize = 2000;

#[test]
fn q8_each_claim_of_each_call_may_fail() {
    let _alone = host::exclusive();
    let mut runs = 0;
    for case in cases::all() {
        let claims = check::case(&case);
        assert!(claims < MOST_CLAIMS, "{}: {claims} claims", case.name);
        println!("{}: {claims} claims", case.name);
        runs += claims;
    }
    println!("{runs} failures");
    assert!(runs > 500, "{runs} failures are too few");
}
