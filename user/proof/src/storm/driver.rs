//! Starts the witness, the shell and the workers, replaces workers that have ended, and judges.

use crate::answer::{Shell, ticks};
use crate::numbers::{Number, Numbers};
use crate::witness::Witness;
use crate::worker::{Plan, remove_directory};
use core::time::Duration;
use proof::kit::{Outcome, child};
use proof::lazy;
use proof::stress::Surroundings;
use user::prelude::*;
use user::sys::abi;

/// Pause between two looks at the shell and the workers.
const PAUSE: Duration = Duration::from_millis(2);
/// The status of a process that found a wrong byte.
pub const WRONG: i32 = 9;
/// Searches for processes that remain. Each kills what it finds, and a process may fork meanwhile.
const SEARCHES: usize = 10_000;
/// Names of the processes that must live on.
const LASTING: [&[u8]; 4] = [b"init", b"memfs", b"snapfs", b"scratchfs"];

/// A process's id and name.
type Named = (i32, Vec<u8>);

/// A storm in progress.
pub struct Storm {
    plan: Plan,
    end_ticks: u64,
    numbers: Numbers,
    surroundings: Surroundings,
    /// The processes before the storm.
    before: Vec<Named>,
    shell: Shell,
    witness: i32,
    /// The workers' process ids; 0 for one that could not be started.
    workers: Vec<i32>,
}

impl Storm {
    /// Starts all processes. The storm lasts for `duration` ticks of the time-stamp counter.
    pub fn new(plan: Plan, duration: u64, workers: u64) -> Outcome<Self> {
        let before = processes()?;
        // All workers are to be ended before these, this process, the shell and the witness, which
        // inherit it: many small ones can leave it the largest.
        before.iter().try_for_each(|(pid, _)| adjust(&format!("{pid}"), "-500"))?;
        let numbers = ok!(Numbers::new());
        let shell = Shell::start()?;
        let witness = child(|| {
            shell.close();
            let outcome = Witness::new(plan.seed, &numbers).and_then(Witness::run);
            outcome.inspect_err(|failure| eprintln!("{failure}")).map_or(WRONG, |()| 0)
        })?;
        let workers = vec![0; workers as usize];
        let surroundings = ok!(Surroundings::new());
        Ok(Self {
            plan,
            end_ticks: ticks() + duration,
            numbers,
            surroundings,
            before,
            shell,
            witness,
            workers,
        })
    }

    /// Lets the storm go on until its end. Returns figures about it.
    pub fn run(mut self) -> Outcome<String> {
        let outcome = self.rage();
        self.kill_others()?;
        outcome?;
        self.shell.ask()?;
        let slowest = self.shell.slowest_ticks;
        self.shell.end()?;
        self.numbers.count(Number::Ended);
        check_eq!(ok!(sys::wait_for(self.witness)).exit_code(), Some(0), "the witness's status");
        ok!(self.surroundings.restore());
        // They may have left no space.
        (0..self.workers.len()).for_each(remove_directory);
        is_alive(&self.before)?;
        Ok(format!("{}, the slowest time after {slowest} ticks", self.numbers))
    }

    fn rage(&mut self) -> Outcome {
        while ticks() < self.end_ticks {
            for index in 0..self.workers.len() {
                if self.workers[index] == 0 {
                    self.start(index);
                }
            }
            self.shell.ask()?;
            self.numbers.count(Number::Answers);
            self.reap()?;
            let _ = sys::sleep(PAUSE);
        }
        Ok(())
    }

    /// Starts a worker. Without memory for it, the next look tries again.
    fn start(&mut self, index: usize) {
        let number = self.numbers.get(Number::Workers);
        match sys::fork() {
            Ok(Some(pid)) => {
                self.workers[index] = pid;
                self.numbers.count(Number::Workers);
            }
            Ok(None) => {
                self.shell.close();
                if adjust("self", "0").is_err() {
                    sys::exit(1);
                }
                sys::exit(self.plan.run(index, number, &self.numbers));
            }
            Err(_) => {}
        }
    }

    /// Waits for the children that have ended.
    fn reap(&mut self) -> Outcome {
        while let Ok(Some((ended, status))) = sys::wait(-1, abi::WNOHANG) {
            check!(ended != self.shell.pid, "the shell has ended: {}", status.shell_status());
            check!(ended != self.witness, "the witness has ended: {}", status.shell_status());
            check!(status.exit_code() != Some(WRONG), "a worker found wrong bytes");
            if status.signal().is_some() {
                self.numbers.count(Number::Killed);
            }
            for worker in self.workers.iter_mut().filter(|worker| **worker == ended) {
                *worker = 0;
            }
        }
        Ok(())
    }

    /// Kills all processes that the storm has started, except for the shell and the witness.
    fn kill_others(&self) -> Outcome {
        let spared = [sys::getpid(), self.shell.pid, self.witness];
        let is_spared =
            |pid: i32| spared.contains(&pid) || self.before.iter().any(|(old, _)| *old == pid);
        for worker in self.workers.iter().filter(|worker| **worker != 0) {
            let _ = sys::kill(*worker, abi::SIGKILL as i32);
        }
        for _ in 0..SEARCHES {
            let mut found = false;
            for (pid, _) in processes()?.iter().filter(|(pid, _)| !is_spared(*pid)) {
                let _ = sys::kill(*pid, abi::SIGKILL as i32);
                found = true;
            }
            while let Ok(Some((ended, status))) = sys::wait(-1, abi::WNOHANG) {
                check!(!spared.contains(&ended), "{ended} has ended: {}", status.shell_status());
            }
            if !found {
                return Ok(());
            }
            let _ = sys::sleep(PAUSE);
        }
        Err(format!("processes remain: {:?}", processes()?))
    }
}

/// Adjusts when a process is ended where memory runs out.
fn adjust(process: &str, thousandths: &str) -> Outcome {
    lazy::write_text(&format!("/proc/{process}/oom_score_adj"), thousandths)
}

/// All processes, with their names.
fn processes() -> Outcome<Vec<Named>> {
    let mut found = Vec::new();
    for name in ok!(user::fs::list(b"/proc")) {
        let Some(pid) = user::opt::number(&name) else { continue };
        // It may have ended since.
        let path = format!("/proc/{pid}/comm");
        let comm = user::io::read_file(path.as_bytes()).unwrap_or_default();
        found.push((pid, comm.trim_ascii().to_vec()));
    }
    Ok(found)
}

/// Fails unless init and the servers are the processes that they were, and files can be written.
fn is_alive(before: &[Named]) -> Outcome {
    let after = processes()?;
    for old in before.iter().filter(|(_, name)| LASTING.contains(&name.as_slice())) {
        check!(after.contains(old), "{} is gone; there are {after:?}", Show(&old.1));
    }
    let file = proof::kit::file(b"afterwards", b"alive")?;
    ok!(sys::close(file));
    check_eq!(proof::kit::content(b"afterwards")?, b"alive");
    Ok(())
}
