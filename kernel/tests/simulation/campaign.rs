//! Many runs, one seed after the other, until a number of steps is reached or a stop is requested;
//! and the report of a failure.

use std::io::{IsTerminal, Read, Write, stderr, stdin};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foundation::mutant::{Mutant, choose};

use crate::draw;
use crate::order::Order;
use crate::run::{BEAT, Failure, run, run_traced};
use crate::script::Case;
use crate::shrink::Shrinker;

/// A run that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);
/// Time limit for reducing a failure.
const SHRINKING: Duration = Duration::from_secs(60);

/// A stop was requested.
static STOP: AtomicBool = AtomicBool::new(false);

/// The result of a campaign.
pub struct Verdict {
    pub runs: u64,
    pub steps: u64,
    /// The first seed that failed, and how.
    pub failed: Option<(u64, Failure)>,
}

/// Runs seeds from `first` on until `steps` steps are done, or one fails.
pub fn run_seeds(first: u64, steps: u64, mut progress: impl FnMut(u64, u64)) -> Verdict {
    let mut verdict = Verdict { runs: 0, steps: 0, failed: None };
    while verdict.steps < steps && !STOP.load(Ordering::Relaxed) {
        let seed = first.wrapping_add(verdict.runs);
        let script = draw::script(seed);
        let result = run(&script, Order::drawn(seed));
        verdict.runs += 1;
        verdict.steps += script.steps.len() as u64;
        if let Err(failure) = result {
            verdict.failed = Some((seed, failure));
            break;
        }
        progress(seed, verdict.steps);
    }
    verdict
}

/// Reduces a failure. Returns it as text, with a trace of the run.
pub fn report(seed: u64, failure: Failure) -> String {
    eprintln!("seed {seed}: {} ({}); reducing it", failure.message, failure.place);
    let (case, failure) = Shrinker::shrink(draw::script(seed), failure, SHRINKING);
    let (_, lines) = run_traced(&case.script, Order::replayed(case.choices.clone()));
    let lines: String = lines.iter().map(|line| format!("#   {line}\n")).collect();
    format!(
        "# seed {seed}: {}\n# at {}\n{}# Trace:\n{lines}",
        failure.message.replace('\n', "\n# "),
        failure.place,
        case.to_text()
    )
}

/// Runs a saved case with its own choices, and in `orders` other orders.
pub fn replay(case: &Case, orders: u64) -> Result<(), Failure> {
    run(&case.script, Order::replayed(case.choices.clone()))?;
    (0..orders).try_for_each(|seed| run(&case.script, Order::drawn(seed)))
}

/// For `cargo xtask sim`: parameters come from environment variables; the end of standard input
/// requests a stop. Does not return.
pub fn command() -> ! {
    let text = |name| std::env::var(name).ok();
    let number = |name| text(name).and_then(|value| value.parse().ok());
    stop_at_end_of_input();
    watch();
    if let Some(name) = text("SLOTH_MUTANT") {
        let mutant =
            Mutant::from_name(&name).unwrap_or_else(|| panic!("no mutant of this name: {name}"));
        choose(Some(mutant));
    }
    if let Some(path) = text("SLOTH_REPLAY") {
        print_replay(&path);
    }
    let first = number("SLOTH_SEED").unwrap_or_else(|| fastrand::u64(..) >> 32);
    println!("seed {first}");
    let start = Instant::now();
    let verdict = run_seeds(first, number("SLOTH_STEPS").unwrap_or(u64::MAX), progress_line(start));
    let (steps, seconds) = (verdict.steps, start.elapsed().as_secs_f64());
    println!(
        "{} seeds, {steps} steps in {seconds:.1} s ({:.0} steps/s)",
        verdict.runs,
        steps as f64 / seconds
    );
    let Some((seed, failure)) = verdict.failed else {
        println!("nothing found");
        exit(0);
    };
    let report = report(seed, failure);
    print!("{report}");
    if let Some(path) = text("SLOTH_KEEP") {
        std::fs::write(&path, &report).expect("the file can be written");
        println!("# saved in {path}");
    }
    exit(1);
}

/// Shows progress on a terminal, twice a second.
fn progress_line(start: Instant) -> impl FnMut(u64, u64) {
    let mut shown = start;
    move |seed, steps| {
        if shown.elapsed() > Duration::from_millis(500) && stderr().is_terminal() {
            shown = Instant::now();
            eprint!(
                "\r{steps} steps, seed {seed}, {:.0} steps/s \r",
                steps as f64 / start.elapsed().as_secs_f64()
            );
            let _ = stderr().flush();
        }
    }
}

fn print_replay(path: &str) -> ! {
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let case = Case::from_text(&text).expect("the file holds a script");
    let (result, lines) = run_traced(&case.script, Order::replayed(case.choices));
    lines.iter().for_each(|line| println!("{line}"));
    match result {
        Ok(()) => println!("nothing found"),
        Err(Failure { message, place, .. }) => {
            println!("{message}\nat {place}");
            exit(1);
        }
    }
    exit(0);
}

fn stop_at_end_of_input() {
    std::thread::spawn(|| {
        // An error counts as the end.
        while stdin().read(&mut [0]).is_ok_and(|count| count > 0) {}
        STOP.store(true, Ordering::Relaxed);
    });
}

/// Ends the process if a run hangs in a lock; nothing else could.
pub fn watch() {
    std::thread::spawn(|| {
        let mut last = BEAT.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(HANGS);
            let now = BEAT.load(Ordering::Relaxed);
            if now == last && now > 0 {
                eprintln!("run {now} of this process hangs");
                exit(101);
            }
            last = now;
        }
    });
}
