//! Processes and threads that do nothing but exist.

use crate::answer::ticks;
use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use proof::thread::Thread;
use user::prelude::*;
use user::sys::abi;

/// Children of one step.
const CHILDREN: u64 = 16;
/// Threads of one worker.
const THREADS: usize = 64;

/// Children that wait for ever, alone or with children of their own. The driver ends the rest.
pub struct Forks(Vec<i32>);

impl Forks {
    pub fn new() -> Self {
        Self(Vec::new())
    }
}

fn idle(random: &mut Random) -> ! {
    if random.below(4) == 0 {
        let _ = sys::setsid();
        let _ = sys::fork();
    }
    loop {
        let _ = os::raw(abi::__NR_pause, &[]);
    }
}

/// Runs a pipeline, and waits for it: the shell that must answer competes with few processes for
/// the processor, but with many for memory.
fn run_shell() {
    match sys::fork() {
        Ok(None) => {
            let _ = sys::execve(b"/bin/sh", &[b"sh", b"-c", b"echo x | cat"], &[]);
            sys::exit(1)
        }
        Ok(Some(child)) => {
            let _ = sys::wait_for(child);
        }
        Err(_) => {}
    }
}

impl Worker for Forks {
    fn step(&mut self, random: &mut Random) -> Outcome {
        if random.below(4) == 0 {
            run_shell();
        }
        for _ in 0..random.below(CHILDREN) {
            match sys::fork() {
                Ok(None) => idle(random),
                Ok(Some(child)) => self.0.push(child),
                Err(_) => break,
            }
        }
        if random.below(8) == 0 {
            for child in self.0.drain(..) {
                let _ = sys::kill(child, abi::SIGKILL as i32);
                let _ = sys::wait_for(child);
            }
        }
        Ok(())
    }
}

/// Instructions of a step that computes, at most.
const COMPUTED: u64 = 20_000_000;
/// Bytes that a long call is about.
const MUCH: usize = 1 << 30;

/// Uses the processor, in user mode and in long calls, and never waits.
pub struct Hog;

impl Worker for Hog {
    fn step(&mut self, random: &mut Random) -> Outcome {
        const POPULATE_READ: usize = 22;
        if random.below(4) > 0 {
            let end = ticks() + random.below(COMPUTED);
            while ticks() < end {
                core::hint::spin_loop();
            }
            return Ok(());
        }
        if let Ok(start) = os::mmap(0, MUCH, abi::PROT_READ, abi::MAP_PRIVATE | abi::MAP_NORESERVE)
        {
            let _ = os::raw(abi::__NR_madvise, &[start, MUCH, POPULATE_READ]);
            if let Ok(None) = sys::fork() {
                sys::exit(0)
            }
            let _ = os::munmap(start, MUCH);
            let _ = sys::wait(-1, 0);
        }
        Ok(())
    }
}

/// Threads of one process, which wait and end together.
pub struct Threads(Vec<Thread>);

impl Threads {
    pub fn new() -> Self {
        Self(Vec::new())
    }
}

extern "C" fn yielding(turns: usize) {
    for _ in 0..turns {
        let _ = sys::sched_yield();
    }
}

impl Worker for Threads {
    fn step(&mut self, random: &mut Random) -> Outcome {
        if self.0.len() == THREADS || random.below(8) == 0 {
            self.0.clear();
        }
        self.0.extend(Thread::start(yielding, random.below(256) as usize));
        if random.below(32) == 0 {
            // One thread's exec or exit ends all.
            if let Ok(None) = sys::fork() {
                sys::exit(0)
            }
            let _ = sys::wait(-1, 0);
        }
        Ok(())
    }
}
