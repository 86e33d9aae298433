//! Q3 for shared memory: more of it than the machine has, among several processes.

use crate::memory::nothing_lost;
use foundation::mutant::Mutant;
use proof::check;
use proof::guest_test;
use proof::kit::{Buffer, Child, Gate, Outcome, PAGE, load, pattern, store, within};
use proof::lazy::{self, Meter};

const MIB: usize = 1 << 20;

/// Two processes share three times the machine's memory. Each fills one half and checks the other
/// one's bytes, then each stores to the other half.
#[guest_test(
    memory_mib: 48,
    timeout_s: 120,
    mutants: &[Mutant::SwapWrongSlot],
)]
fn q3_shared_memory() -> Outcome {
    let bytes = if lazy::present() { 144 * MIB } else { 16 * MIB };
    let half = bytes / 2;
    let meter = Meter::start()?;
    let buffer = Buffer::shared(bytes)?;
    let [filled, checked] = [Gate::new()?, Gate::new()?];
    let child = Child::start("child", || {
        buffer.put(half, half, pattern(2, 0));
        filled.open()?;
        within("the parent's half", buffer.check(0, half, pattern(1, 0)))?;
        (0..half).step_by(7 * PAGE).for_each(|at| store(buffer.at(at), 0xcc));
        checked.open()
    })?;
    buffer.put(0, half, pattern(1, 0));
    filled.pass()?;
    within("the child's half", buffer.check(half, half, pattern(2, 0)))?;
    checked.pass()?;
    child.join()?;
    for at in (0..half).step_by(PAGE) {
        let stored = at % (7 * PAGE) == 0;
        let skipped = usize::from(stored);
        check!(!stored || load(buffer.at(at)) == 0xcc, "the child's store to byte {at}");
        let rest = pattern(1, (at + skipped) as u64);
        buffer.check(at + skipped, PAGE - skipped, rest)?;
    }
    if !lazy::present() {
        return Ok(());
    }
    let out = meter.system("pages_swapped_out")?.unwrap_or(0);
    check!(out >= (half / PAGE) as i64, "only {out} pages were swapped out");
    drop(buffer);
    nothing_lost("when the memory is gone")
}
