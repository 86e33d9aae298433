//! How long a process is kept from running while another one makes a long system call.

use super::{Child, Outcome};
use crate::words::SharedWords;
use crate::{check, check_eq, ok, omitted};
use core::arch::x86_64::_rdtsc;
use user::prelude::*;

/// Instructions for which one system call may keep others from running. A check for others every
/// 512 steps of some hundred instructions takes a tenth of it.
pub const MAX_DELAY: u64 = 2_000_000;

/// What witness and caller say to each other. Each word is 0 or 1.
#[derive(Clone, Copy)]
enum Word {
    /// The caller has prepared its call.
    Prepared,
    /// The witness watches.
    Watched,
    /// The caller is in its call.
    Calling,
    /// The call has returned.
    Returned,
    /// The witness has seen that: what the caller's end causes is not measured.
    Seen,
}

/// Runs `prepare` and then `call` in a child. Fails if the call kept this process, which does
/// nothing but yield, from running for more than [`MAX_DELAY`]. A call that ends the child is
/// measured to its end.
///
/// For tests with the field `icount`. Nothing is run on Linux, where the clock is another one.
pub fn check_delay<T>(
    what: &str,
    prepare: impl FnOnce() -> Outcome<T>,
    call: impl FnOnce(T) -> Outcome,
) -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let words = ok!(SharedWords::new());
    let set = |word: Word| words.add(word as usize, 1);
    let is_set = |word: Word| words.get(word as usize) > 0;
    let mut caller = Child::start(what, || {
        let prepared = prepare()?;
        set(Word::Prepared);
        while !is_set(Word::Watched) {
            ok!(sys::sched_yield());
        }
        set(Word::Calling);
        call(prepared)?;
        set(Word::Returned);
        while !is_set(Word::Seen) {
            ok!(sys::sched_yield());
        }
        Ok(())
    })?;
    while !is_set(Word::Prepared) && !caller.has_ended()? {
        ok!(sys::sched_yield());
    }
    set(Word::Watched);
    let mut worst = 0;
    let mut last = now();
    while !is_set(Word::Returned) && !caller.has_ended()? {
        ok!(sys::sched_yield());
        let time = now();
        if is_set(Word::Calling) {
            worst = worst.max(time - last);
        }
        last = time;
    }
    set(Word::Seen);
    println!("{what}: {worst} instructions");
    check!(worst <= MAX_DELAY, "{what}: others were kept from running for {worst} instructions");
    caller.join()
}

/// Slices that the victim of [`check_kill`] gets for its call.
const SLICES: u32 = 3;

/// Runs `prepare` and then `call`, which takes longer than [`SLICES`], in a child, and kills it in
/// the middle of the call. Fails if its end keeps this process from running for more than
/// [`MAX_DELAY`].
pub fn check_kill<T>(
    what: &str,
    prepare: impl FnOnce() -> Outcome<T>,
    call: impl FnOnce(T) -> Outcome,
) -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let words = ok!(SharedWords::new());
    let mut victim = Child::start(what, || {
        let prepared = prepare()?;
        words.add(Word::Prepared as usize, 1);
        call(prepared)
    })?;
    while words.get(Word::Prepared as usize) == 0 && !victim.has_ended()? {
        ok!(sys::sched_yield());
    }
    for _ in 0..SLICES {
        ok!(sys::sched_yield());
    }
    ok!(sys::kill(victim.pid, user::sys::abi::SIGKILL as i32));
    let mut worst = 0;
    let mut last = now();
    while !victim.has_ended()? {
        ok!(sys::sched_yield());
        let time = now();
        (worst, last) = (worst.max(time - last), time);
    }
    println!("{what}, killed: {worst} instructions");
    check!(worst <= MAX_DELAY, "{what}: its end kept others from running for {worst} instructions");
    check_eq!(victim.status()?.signal(), Some(user::sys::abi::SIGKILL as i32), "{what}");
    Ok(())
}

/// The time-stamp counter.
fn now() -> u64 {
    // SAFETY: every processor that this kernel runs on has RDTSC, and it changes nothing.
    unsafe { _rdtsc() }
}
