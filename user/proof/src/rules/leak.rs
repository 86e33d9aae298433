//! X5: programs leave nothing behind. This test only runs them; `leaks`, under which it runs,
//! checks.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Gate, Named, Outcome, PAGE, load, pattern};
use proof::{check_eq, lazy, os};
use user::prelude::*;

const P: u64 = PAGE as u64;
const PAGES: usize = 40;
const LENGTH: usize = PAGES * PAGE;

/// After programs have exited or were killed, with buffers in every state, all frames, snapshots,
/// handles and rescued bytes are free again.
#[guest_test(
    mutants: &[Mutant::LeakSnapshot, Mutant::LeakSpace, Mutant::LeakHandle, Mutant::LeakFrame],
)]
fn x5_nothing_leaks() -> Outcome {
    let file = File::make("leaks", 1, LENGTH as u64)?;
    let gate = Gate::new()?;
    let ended = Child::start("a reader that ends", || {
        let buffer = Buffer::new(LENGTH + PAGE)?;
        file.read_into(&buffer, 5, LENGTH, 0)?;
        // A rescue for the rest, a private page, a page that stays lazy, and a child that shares
        // them.
        file.overwrite(2, 10 * P, 10 * P)?;
        buffer.check(12 * PAGE, PAGE, pattern(1, 12 * P - 5))?;
        buffer.put(20 * PAGE, 10, pattern(3, 0));
        Child::start("its child", || {
            buffer.check(PAGE, LENGTH - PAGE, pattern(1, P - 5)).or(Ok(()))
        })?
        .join()?;
        // Left mapped: exit must release it.
        buffer.leak();
        Ok(())
    })?;
    ended.join()?;
    let killed = Child::start("a reader that is killed", || {
        let buffer = Buffer::new(LENGTH)?;
        let other = file.reopen()?;
        file.read_into(&buffer, 0, LENGTH, 0)?;
        check_eq!(os::pwrite(other, buffer.at(0), PAGE, 0).named("pwrite")?, PAGE, "bytes written");
        load(buffer.at(3 * PAGE));
        sys::ftruncate(other, ByteCount(P)).named("ftruncate")?;
        gate.open()?;
        let [reader, _writer] = sys::pipe(0).named("pipe")?;
        sys::read(reader, &mut [0]).named("a read that never ends").map(drop)
    })?;
    gate.pass()?;
    killed.kill()?;
    // Reads, and writes by reference, through a server that is being unmounted.
    if lazy::present() {
        let stack = crate::stack::Stack::mount("leaks", 8 << 20)?;
        let file = File::make_in(&stack.path, "file", 1, LENGTH as u64)?;
        let buffer = Buffer::new(LENGTH)?;
        file.read_into(&buffer, 0, LENGTH, 0)?;
        load(buffer.at(0));
        file.overwrite(2, 0, P)?;
    }
    Ok(())
}
