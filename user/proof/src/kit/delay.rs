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

struct Words(SharedWords);

impl Words {
    fn set(&self, word: Word) {
        self.0.add(word as usize, 1);
    }

    fn is_set(&self, word: Word) -> bool {
        self.0.get(word as usize) > 0
    }
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
    let words = Words(ok!(SharedWords::new()));
    let mut caller = Child::start(what, || {
        let prepared = prepare()?;
        words.set(Word::Prepared);
        yield_until(|| Ok(words.is_set(Word::Watched)))?;
        words.set(Word::Calling);
        call(prepared)?;
        words.set(Word::Returned);
        yield_until(|| Ok(words.is_set(Word::Seen)))
    })?;
    yield_until(|| Ok(words.is_set(Word::Prepared) || caller.has_ended()?))?;
    words.set(Word::Watched);
    let is_over = || Ok(words.is_set(Word::Returned) || caller.has_ended()?);
    let worst = longest_gap(is_over, || words.is_set(Word::Calling))?;
    words.set(Word::Seen);
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
    let words = Words(ok!(SharedWords::new()));
    let mut victim = Child::start(what, || {
        let prepared = prepare()?;
        words.set(Word::Prepared);
        call(prepared)
    })?;
    yield_until(|| Ok(words.is_set(Word::Prepared) || victim.has_ended()?))?;
    for _ in 0..SLICES {
        ok!(sys::sched_yield());
    }
    ok!(sys::kill(victim.pid, user::sys::abi::SIGKILL as i32));
    let worst = longest_gap(|| victim.has_ended(), || true)?;
    println!("{what}, killed: {worst} instructions");
    check!(worst <= MAX_DELAY, "{what}: its end kept others from running for {worst} instructions");
    check_eq!(victim.status()?.signal(), Some(user::sys::abi::SIGKILL as i32), "{what}");
    Ok(())
}

/// Does nothing but yield until something is true. Returns the longest time that a yield took, of
/// those after which `counts`.
fn longest_gap(
    mut is_over: impl FnMut() -> Outcome<bool>,
    counts: impl Fn() -> bool,
) -> Outcome<u64> {
    let (mut worst, mut last) = (0, now());
    while !is_over()? {
        ok!(sys::sched_yield());
        let time = now();
        if counts() {
            worst = worst.max(time - last);
        }
        last = time;
    }
    Ok(worst)
}

fn yield_until(is_true: impl FnMut() -> Outcome<bool>) -> Outcome {
    longest_gap(is_true, || false).map(drop)
}

/// The time-stamp counter.
fn now() -> u64 {
    // SAFETY: every processor that this kernel runs on has RDTSC, and it changes nothing.
    unsafe { _rdtsc() }
}
