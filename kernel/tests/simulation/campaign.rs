//! Many runs, one seed after the other, until so many steps are done or somebody says stop; and
//! what is told of a failure.

use std::io::{IsTerminal, Read, Write, stderr, stdin};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foundation::mutant::{Mutant, choose};

use crate::draw;
use crate::order::Order;
use crate::run::{BEAT, Failure, run, run_traced};
use crate::script::Kept;
use crate::shrink::Shrinker;

/// A run that makes no progress for so long hangs.
const HANGS: Duration = Duration::from_secs(60);
/// Time for making a failure smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// Somebody wants the campaign to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// What a campaign did.
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

/// A seed's failure as text: made smaller, with what happens in it line by line.
pub fn told(seed: u64, failure: Failure) -> String {
    eprintln!("seed {seed}: {} ({}); making it smaller", failure.message, failure.place);
    let (kept, failure) = Shrinker::shrink(draw::script(seed), failure, SHRINKING);
    let (_, lines) = run_traced(&kept.script, Order::told(kept.choices.clone()));
    let lines: String = lines.iter().map(|line| format!("#   {line}\n")).collect();
    format!(
        "# seed {seed}: {}\n# at {}\n{}# What happens:\n{lines}",
        failure.message.replace('\n', "\n# "),
        failure.place,
        kept.to_text()
    )
}

/// A kept script again: as it is told, and in other orders.
pub fn replay(kept: &Kept, orders: u64) -> Result<(), Failure> {
    run(&kept.script, Order::told(kept.choices.clone()))?;
    (0..orders).try_for_each(|seed| run(&kept.script, Order::drawn(seed)))
}

/// For `cargo xtask sim`: what to do comes from the environment; the end of standard input is the
/// wish to stop. Does not return.
pub fn command() -> ! {
    let text = |name| std::env::var(name).ok();
    let number = |name| text(name).and_then(|value| value.parse().ok());
    stop_at_end_of_input();
    watch();
    if let Some(name) = text("SLOTH_MUTANT") {
        let mutant =
            Mutant::from_name(&name).unwrap_or_else(|| panic!("no break of this name: {name}"));
        choose(Some(mutant));
    }
    if let Some(path) = text("SLOTH_REPLAY") {
        tell_replay(&path);
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
    let told = told(seed, failure);
    print!("{told}");
    if let Some(path) = text("SLOTH_KEEP") {
        std::fs::write(&path, &told).expect("the file can be written");
        println!("# kept in {path}");
    }
    exit(1);
}

/// Shows on a terminal how far it came, twice a second.
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

fn tell_replay(path: &str) -> ! {
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let kept = Kept::from_text(&text).expect("the file holds a script");
    let (result, lines) = run_traced(&kept.script, Order::told(kept.choices));
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
        // An error is an end too.
        while stdin().read(&mut [0]).is_ok_and(|count| count > 0) {}
        STOP.store(true, Ordering::Relaxed);
    });
}

/// Ends the process where a run hangs in a lock: nothing else could.
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
