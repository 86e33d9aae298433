//! F9: page-ins that the base answers, past the wrapper.

use crate::stack::{Paging, Stack};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, File, Named, Outcome, PAGE, pattern, read_lazily};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::relay::Way;

const P: u64 = PAGE as u64;
const PAGES: usize = 200;
const LENGTH: usize = PAGES * PAGE;
const SPACE_BYTES: u64 = 16 << 20;

/// Page-ins that were sent to the wrapper, and to its base.
fn page_ins(stack: &Stack) -> [u64; 2] {
    [
        stack.look.client().messages_of(Op::Read, Way::Out),
        stack.look.base().messages_of(Op::ReadAt, Way::Out),
    ]
}

/// While nobody changes the file, every page comes from the base, also after its last name is gone.
/// Relays count what the kernel counts (E3).
#[guest_test]
fn f9_the_base_answers() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount_as("f9", SPACE_BYTES, Paging::Direct)?;
    let file = File::make_in(&stack.path, "file", 1, LENGTH as u64 + P)?;
    let buffer = Buffer::new(LENGTH + PAGE)?;
    stack.settle()?;
    let look = &stack.look;
    let figures = || {
        let base = look.base();
        [
            look.client().messages(Way::Out) + base.messages_of(Op::ReadAt, Way::Out),
            look.client().bytes(Way::Out) + base.bytes_of(Op::ReadAt, Way::Out),
            look.client().bytes(Way::Back) + base.bytes_of(Op::ReadAt, Way::Back),
            base.data_bytes_of(Op::ReadAt, Way::Back),
            base.granted(Op::ReadAt),
        ]
    };
    let (meter, before, asked) = (Meter::start()?, figures(), page_ins(&stack));
    // Neither offset nor buffer is aligned.
    read_lazily(&file, &buffer, 50, LENGTH, 5)?;
    buffer.check(50, LENGTH, pattern(1, 5))?;
    read_lazily(&file, &buffer, 0, LENGTH, 0)?;
    sys::unlink(file.path.as_bytes()).named("unlink")?;
    buffer.check(0, LENGTH, pattern(1, 0))?;
    stack.settle()?;
    let now = figures();
    let passed: Vec<i64> = now.iter().zip(before).map(|(now, then)| (now - then) as i64).collect();
    let [messages, sent, received, data, granted] = passed[..] else { return Ok(()) };
    check_eq!(page_ins(&stack)[0], asked[0], "page-ins that the wrapper answered");
    // The second read finds pages of the file of which those of the first were composed (R4).
    check!(granted > 0 && data >= (LENGTH as i64) - 2 * P as i64, "{granted} page-ins");
    meter.expect_system("messages_sent", messages)?;
    meter.expect_system("bytes_sent", sent)?;
    meter.expect_system("bytes_received", received)?;
    meter.expect_system("bytes_fetched", data)?;
    meter.expect("fetches_direct", granted)?;
    meter.expect("bytes_direct", data)?;
    meter.expect("fetches_stale", 0)
}

/// What has changed comes from the wrapper, and all else still from the base.
#[guest_test(mutants: &[Mutant::AnyVersion, Mutant::TruncationUnrecorded])]
fn f9_what_has_changed_comes_from_the_wrapper() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knobs = lazy::fault_around(1)?;
    let stack = Stack::mount_as("f9", SPACE_BYTES, Paging::Direct)?;
    let file = File::make_in(&stack.path, "file", 1, LENGTH as u64)?;
    let buffer = Buffer::new(LENGTH)?;
    read_lazily(&file, &buffer, 0, LENGTH, 0)?;
    for page in [3, 10, 11, 50] {
        file.overwrite(2, page * P + 100, 10)?;
    }
    sys::ftruncate(file.fd, ByteCount(100 * P)).named("ftruncate")?;
    sys::ftruncate(file.fd, ByteCount(2 * LENGTH as u64)).named("ftruncate")?;
    stack.settle()?;
    let (meter, before) = (Meter::start()?, page_ins(&stack));
    buffer.check(0, LENGTH, pattern(1, 0))?;
    let after = page_ins(&stack);
    let changed = 4 + 100;
    meter.expect("fetches_stale", changed)?;
    meter.expect("fetches_direct", PAGES as i64 - changed)?;
    check_eq!(after[0] - before[0], changed as u64, "page-ins that the wrapper answered");
    check_eq!(after[1] - before[1], PAGES as u64, "page-ins that the base was asked for");
    Ok(())
}

/// A peer that is not marked as a server, the relay here, gets no page-ins (F8).
#[guest_test]
fn f8_an_unmarked_base_is_not_asked() -> Outcome {
    not_asked("f8", Paging::DirectUnmarked)
}

/// A server that is not trusted does not decide whom the kernel believes (X3).
#[guest_test(mutants: &[Mutant::DirectUntrusted])]
fn x3_the_base_of_an_untrusted_server_is_not_asked() -> Outcome {
    not_asked("x3", Paging::DirectUntrusted)
}

fn not_asked(name: &str, paging: Paging) -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount_as(name, SPACE_BYTES, paging)?;
    let file = File::make_in(&stack.path, "file", 1, LENGTH as u64)?;
    let buffer = Buffer::new(LENGTH)?;
    check_eq!(os::pread(file.fd, buffer.at(0), LENGTH, 0).named("pread")?, LENGTH, "bytes read");
    buffer.check(0, LENGTH, pattern(1, 0))?;
    stack.settle()?;
    check_eq!(page_ins(&stack)[1], 0, "page-ins that the base was asked for");
    check!(page_ins(&stack)[0] > 0, "nothing was fetched");
    let greetings = stack.look.base().messages_of(Op::Hello, Way::Out);
    // That of the wrapper; the kernel learns from the answer to its own that the peer is unmarked.
    let most = if paging == Paging::DirectUntrusted { 1 } else { 2 };
    check_eq!(greetings, most, "sessions with the base");
    Ok(())
}
