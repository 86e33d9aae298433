//! X4: arguments that another thread changes during the call.

use crate::scripted::{Action, Script, Server, USUAL, content};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, File, Named, Outcome, PAGE, UNTOUCHED, pattern, within};
use proof::thread::Thread;
use proof::{check, check_eq, lazy, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// The state that the caller and the thread that changes its arguments share.
struct Vector {
    parts: [[AtomicUsize; 2]; 2],
    places: [usize; 2],
    stop: AtomicBool,
    turns: AtomicU64,
}

impl Vector {
    extern "C" fn spoil(argument: usize) {
        // SAFETY: the address of a `Vector` that lives until the thread was joined.
        let this = unsafe { &*(argument as *const Self) };
        while !this.stop.load(Ordering::SeqCst) {
            let turn = this.turns.fetch_add(1, Ordering::SeqCst);
            let bad = [0, 0xffff_8000_0000_0000, usize::MAX][(turn % 3) as usize];
            this.parts[1][0].store(bad, Ordering::SeqCst);
            // Only two lengths alternate: a larger valid one would be obeyed.
            this.parts[0][1].store(usize::MAX - turn as usize % 2, Ordering::SeqCst);
            this.parts[0][1].store(2 * PAGE, Ordering::SeqCst);
            this.parts[1][0].store(this.places[1], Ordering::SeqCst);
            if turn.is_multiple_of(64) {
                let _: sys::Result<i32> = sys::sched_yield();
            }
        }
    }
}

/// A vector that another thread changes during the call: the kernel uses what it checked, and
/// writes to nothing but the buffers.
#[guest_test]
fn x4_arguments_once() -> Outcome {
    let file = File::make("file", 1, 64 * P)?;
    let buffer = Buffer::filled(12 * PAGE, UNTOUCHED)?;
    let places = [buffer.at(PAGE), buffer.at(6 * PAGE)];
    let vector = Vector {
        parts: [[places[0].into(), (2 * PAGE).into()], [places[1].into(), (3 * PAGE).into()]],
        places,
        stop: AtomicBool::new(false),
        turns: AtomicU64::new(0),
    };
    let thread = Thread::start(Vector::spoil, &raw const vector as usize)?;
    let mut whole = 0;
    for round in 0..3000u64 {
        let offset = round % 50 * P;
        os::seek(file.fd, offset).named("lseek")?;
        match os::raw(abi::__NR_readv, &[file.fd.argument(), &raw const vector.parts as usize, 2]) {
            Ok(count) if count == 5 * PAGE => {
                whole += 1;
                buffer.check(PAGE, 2 * PAGE, pattern(1, offset))?;
                buffer.check(6 * PAGE, 3 * PAGE, pattern(1, offset + 2 * P))?;
            }
            Ok(count) => check!(count <= 64 * PAGE, "{count} bytes"),
            Err(error) => {
                check!(error == Errno::EFAULT || error == Errno::EINVAL, "readv: {error:?}")
            }
        }
        buffer.check(0, PAGE, UNTOUCHED)?;
        buffer.check(9 * PAGE, 3 * PAGE, UNTOUCHED)?;
    }
    vector.stop.store(true, Ordering::SeqCst);
    thread.join();
    check!(whole > 0, "no call ever got its vector as it was");
    Ok(())
}

/// A call of another thread, whose vector is changed while the call waits.
struct Waiting {
    number: u32,
    fd: Fd,
    parts: [[AtomicUsize; 2]; 2],
    count: AtomicUsize,
}

impl Waiting {
    fn new(number: u32, fd: Fd, parts: [[usize; 2]; 2]) -> Self {
        Self {
            number,
            fd,
            parts: parts.map(|part| part.map(AtomicUsize::new)),
            count: AtomicUsize::new(0),
        }
    }

    extern "C" fn call(argument: usize) {
        // SAFETY: the address of a `Waiting` that lives until the thread was joined.
        let this = unsafe { &*(argument as *const Self) };
        let vector = &raw const this.parts as usize;
        this.count.store(
            os::raw(this.number, &[this.fd.argument(), vector, 2, 0]).unwrap_or(0),
            Ordering::SeqCst,
        );
    }

    /// Makes the call and runs `meanwhile`, which returns once the call waits. Then the second
    /// buffer is moved to `decoy`, and `go` lets the call continue.
    fn change_while(
        &self,
        meanwhile: impl FnOnce() -> Outcome,
        decoy: usize,
        go: impl FnOnce() -> Outcome,
    ) -> Outcome {
        let thread = Thread::start(Self::call, &raw const *self as usize)?;
        meanwhile()?;
        self.parts[1][0].store(decoy, Ordering::SeqCst);
        go()?;
        thread.join();
        let whole = self.parts.iter().map(|part| part[1].load(Ordering::SeqCst)).sum();
        check_eq!(self.count.load(Ordering::SeqCst), whole, "bytes moved by the call");
        Ok(())
    }
}

/// A vector that changes while the call waits: the call transfers the buffers that the vector named
/// at its start.
#[guest_test(mutants: &[Mutant::VectorAgain])]
fn x4_vector_is_taken_at_the_start() -> Outcome {
    within("writev to a pipe", vector_of_a_writer())?;
    // On Linux nothing shows when a read waits, so the test cannot be done there.
    if lazy::present() { within("preadv from a server", vector_of_a_reader()) } else { Ok(()) }
}

/// The first buffer holds more than the pipe, so the second is used only after a read of the pipe.
fn vector_of_a_writer() -> Outcome {
    const FIRST: usize = 32 * PAGE;
    let [reader, writer] = sys::pipe(0).named("pipe")?;
    let from = Buffer::filled(FIRST + 2 * PAGE, pattern(1, 0))?;
    let to = Buffer::filled(FIRST + PAGE, UNTOUCHED)?;
    let call =
        Waiting::new(abi::__NR_writev, writer, [[from.at(0), FIRST], [from.at(FIRST), PAGE]]);
    // Once a byte has arrived, the call has copied its arguments.
    let meanwhile = || os::readable([reader, reader]).named("poll").map(drop);
    let drain = || {
        let mut done = 0;
        while done < to.len_bytes() {
            match os::read(reader, to.at(done), to.len_bytes() - done).named("read")? {
                0 => break,
                count => done += count,
            }
        }
        check_eq!(done, to.len_bytes(), "bytes that arrived");
        Ok(())
    };
    call.change_while(meanwhile, from.at(FIRST + PAGE), drain)?;
    sys::close(reader).named("close")?;
    sys::close(writer).named("close")?;
    to.check(0, to.len_bytes(), pattern(1, 0))
}

/// The request has arrived, so the call has copied its arguments; the reply is sent after the
/// change.
fn vector_of_a_reader() -> Outcome {
    const PART: usize = 8 * PAGE;
    let script: Script = Box::new(|_, asked, _| {
        if asked.op == Op::Snapshot && asked.nth == 1 { Action::Hold } else { Action::Send }
    });
    let server = Server::mount("x4", USUAL, script)?;
    let file = server.open(0)?;
    let to = Buffer::filled(3 * PART, UNTOUCHED)?;
    let call = Waiting::new(abi::__NR_preadv, file, [[to.at(0), PART], [to.at(PART), PART]]);
    call.change_while(|| server.wait_held(), to.at(2 * PART), || server.release())?;
    to.check(0, 2 * PART, content(0, 0, 0))?;
    to.check(2 * PART, PART, UNTOUCHED)?;
    sys::close(file).named("close")
}
