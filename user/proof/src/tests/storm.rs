//! Random system calls with random arguments, from several processes at once, while a witness reads
//! lazily and checks every byte; and threads that race over the same pages. A failure prints the
//! seeds.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, child, file};
use proof::omitted::is_ours;
use proof::random;
use proof::stress::{self, StressWorker, Surroundings};
use proof::thread::Thread;
use proof::words::SharedWords;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

/// The only calls that are made on a host, on which others have effects.
const HARMLESS: [u32; 10] = [
    abi::__NR_read,
    abi::__NR_pread64,
    abi::__NR_pwrite64,
    abi::__NR_readv,
    abi::__NR_writev,
    abi::__NR_fstat,
    abi::__NR_lseek,
    abi::__NR_getdents64,
    abi::__NR_fcntl,
    abi::__NR_getcwd,
];

const STRESS_WORKERS: u64 = 4;
const FILE_BYTES: usize = 64 * PAGE_BYTES;

#[guest_test(timeout_s: 120)]
fn hostile_storm() -> Outcome {
    rage(0, 4_000)
}

/// Rounds of the long form: about a minute.
const ROUNDS: u64 = 60;

#[guest_test(timeout_s: 900, long: true)]
fn hostile_storm_long() -> Outcome {
    // Most stress workers end early: each round starts new ones.
    (0..if is_ours() { ROUNDS } else { 1 })
        .try_for_each(|round| rage(round * STRESS_WORKERS, if is_ours() { 60_000 } else { 4_000 }))
}

fn rage(first_seed: u64, calls: u64) -> Outcome {
    let ours = is_ours();
    let numbers: Vec<u32> = if ours { stress::numbers() } else { HARMLESS.to_vec() };
    let mut content = vec![0; FILE_BYTES];
    random::fill(1, 0, &mut content);
    let quiet = file(b"quiet", &content)?;
    let made = ok!(SharedWords::new());
    let surroundings = ok!(Surroundings::new());
    let mut workers = Vec::new();
    for index in 0..STRESS_WORKERS {
        let seed = first_seed + index;
        // Workers guess descriptors, too: those of the witness are not open in them.
        workers.push(child(|| match sys::close(quiet).and_then(|()| StressWorker::new(seed)) {
            Ok(mut worker) => {
                for _ in 0..calls {
                    worker.call(&numbers);
                    made.add(index as usize, 1);
                }
                0
            }
            Err(_) => NOT_BEGUN,
        })?);
    }
    let outcome = watch(&mut workers, &made, || witness(quiet, &content));
    for worker in workers {
        ok!(sys::kill(worker, abi::SIGKILL as i32));
        ok!(sys::wait_for(worker));
    }
    if ours {
        ok!(surroundings.restore());
    }
    ok!(sys::close(quiet));
    outcome.map_err(|failure| {
        format!(
            "{failure}; {} calls were made, by seeds {first_seed} to {}",
            made.sum(),
            first_seed + STRESS_WORKERS - 1
        )
    })
}

/// The status of a stress worker that could not begin. A signal is an expected end.
const NOT_BEGUN: i32 = 3;
/// Reads of the witness without any call in between after which the remaining workers count as
/// blocked for ever.
const IDLE_LOOKS: u32 = 40;

/// The witness: reads the file lazily and checks it until no stress worker makes calls any more.
/// Workers that have ended are removed from the list.
fn watch(
    workers: &mut Vec<i32>,
    made: &SharedWords,
    mut witness: impl FnMut() -> Outcome,
) -> Outcome {
    let (mut before, mut idle) = (0, 0);
    while !workers.is_empty() && idle < IDLE_LOOKS {
        witness()?;
        while let Ok(Some((ended, status))) = sys::wait(-1, abi::WNOHANG) {
            workers.retain(|worker| *worker != ended);
            check!(status.exit_code() != Some(NOT_BEGUN));
        }
        let now = made.sum();
        idle = if now == before { idle + 1 } else { 0 };
        before = now;
    }
    witness()
}

/// Reads a file that nobody changes and checks a part of it.
fn witness(fd: Fd, content: &[u8]) -> Outcome {
    for round in 0..10 {
        let mut pages = ok!(Pages::new(FILE_BYTES));
        check_eq!(sys::pread(fd, &mut pages, FileOffset::ZERO), Ok(FILE_BYTES));
        let at = 5 * round * PAGE_BYTES;
        if pages[at..at + 8 * PAGE_BYTES] != content[at..at + 8 * PAGE_BYTES] {
            return Err(format!("the witness found other bytes than there were, in round {round}"));
        }
    }
    Ok(())
}

/// The state that racing threads share.
struct Race {
    fds: [Fd; 2],
    start: usize,
    stop: AtomicBool,
    turns: AtomicU32,
}

const RACE_PAGES: usize = 16;
/// Marks the words that the storing thread writes.
const MARK: u64 = 0x7374_6f72_6564_0000;

/// A word of a file, which identifies the file and the position.
fn race_word(which: u64, at: usize) -> u64 {
    0x6669_6c65_0000_0000 | which << 24 | at as u64
}

fn at_random(race: &Race, seed: u64) -> Option<usize> {
    let turn = race.turns.fetch_add(1, Ordering::Relaxed);
    (!race.stop.load(Ordering::Relaxed))
        .then(|| (random::at(seed, turn.into()) % RACE_PAGES as u64) as usize * PAGE_BYTES)
}

fn shared(argument: usize) -> &'static Race {
    // SAFETY: `race` joins its threads before their shared state is dropped.
    unsafe { &*(argument as *const Race) }
}

extern "C" fn reading(argument: usize) {
    let race = shared(argument);
    while let Some(at) = at_random(race, 1) {
        let length = (RACE_PAGES * PAGE_BYTES - at).min(6 * PAGE_BYTES);
        let fd = race.fds[at / PAGE_BYTES % 2];
        // SAFETY: the range belongs to the race; only children check its content.
        let _ = unsafe {
            sys::syscall(abi::__NR_pread64, [fd.argument(), race.start + at, length, at, 0, 0])
        };
    }
}

extern "C" fn storing(argument: usize) {
    let race = shared(argument);
    while let Some(at) = at_random(race, 2) {
        // SAFETY: as above. Only the unmapping thread removes a page, and it maps another one in
        // the same call.
        unsafe { ((race.start + at + 8) as *mut u64).write_volatile(MARK) };
    }
}

extern "C" fn unmapping(argument: usize) {
    let race = shared(argument);
    let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_FIXED) as usize;
    while let Some(at) = at_random(race, 3) {
        // SAFETY: as above.
        let _ = unsafe {
            sys::syscall(abi::__NR_mmap, [race.start + at, PAGE_BYTES, 3, flags, usize::MAX, 0])
        };
        let _ = sys::sched_yield();
    }
}

/// Reads, stores, new mappings and forks race over the same pages: each word is one that was
/// written there.
#[guest_test(timeout_s: 120)]
fn hostile_race() -> Outcome {
    let mut fds = [Fd::NONE; 2];
    for (which, fd) in (0..).zip(&mut fds) {
        let words = (0..RACE_PAGES * PAGE_BYTES)
            .step_by(8)
            .flat_map(|at| race_word(which, at).to_le_bytes());
        *fd = file(format!("race-{which}").as_bytes(), &words.collect::<Vec<u8>>())?;
    }
    let mut pages = ok!(Pages::new(RACE_PAGES * PAGE_BYTES));
    let race = Race {
        fds,
        start: pages.as_mut_ptr() as usize,
        stop: AtomicBool::new(false),
        turns: AtomicU32::new(0),
    };
    let argument = &raw const race as usize;
    let mut threads = Vec::new();
    for body in [reading, storing, unmapping, reading] {
        threads.push(ok!(Thread::start(body, argument)));
    }
    let mut outcome = Ok(());
    for round in 0..150 {
        let looker = child(|| {
            i32::from(
                !(0..RACE_PAGES * PAGE_BYTES).step_by(8).all(|at| is_possible(race.start, at)),
            )
        });
        let status = looker.map(|looker| sys::wait_for(looker).map(|status| status.exit_code()));
        if status != Ok(Ok(Some(0))) {
            outcome = Err(format!(
                "in round {round} a child saw a word that nobody put there, or {status:?}"
            ));
            break;
        }
    }
    race.stop.store(true, Ordering::Relaxed);
    drop(threads);
    outcome
}

fn is_possible(start: usize, at: usize) -> bool {
    // SAFETY: in a child's own copy of the pages, to which nobody writes any more.
    let word = unsafe { ((start + at) as *const u64).read_volatile() };
    word == 0
        || word == race_word(0, at)
        || word == race_word(1, at)
        || (word == MARK && at % PAGE_BYTES == 8)
}
