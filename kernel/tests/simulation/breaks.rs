//! The simulation is tested: it finds deliberate breaks of the code, and makes what it finds small.

use std::process::{Command, Stdio};
use std::time::Duration;

use foundation::mutant::{Mutant, choose};

use crate::campaign::run_seeds;
use crate::order::Order;
use crate::script::Kept;
use crate::shrink::Shrinker;
use crate::{draw, run, sched};

/// Steps within which each of these is found.
const STEPS: u64 = 150_000;

/// Breaks that the simulation finds. The others leave bytes and errors as they are, and cost
/// something, or lie outside of what is simulated.
const FOUND: &[Mutant] = &[
    Mutant::SkipRescue,
    Mutant::RescueAfterChange,
    Mutant::NoRescueRecheck,
    Mutant::SkipTruncateRescue,
    Mutant::SkipOpenTruncateRescue,
    Mutant::RemoveSnapshotted,
    Mutant::RenameOverSnapshotted,
    Mutant::EagerRescue,
    Mutant::LeakSnapshot,
    Mutant::LeakHandle,
    Mutant::LeakFrame,
    Mutant::CloseWithFile,
    Mutant::ZeroOnError,
    Mutant::RescueServesAll,
    Mutant::LiveFragments,
    Mutant::OffsetByRequest,
    Mutant::NoPositionLock,
    Mutant::ZeroPastEnd,
    Mutant::AlignOffset,
    Mutant::EarlyFault,
    Mutant::DropPartialPage,
    Mutant::WriteSharedFrame,
    Mutant::NoFallback,
    Mutant::AllHoles,
    Mutant::StoreShared,
    Mutant::ForkDropsAssociation,
    Mutant::SplitForgetsOffset,
    Mutant::ForkLeavesWritable,
    Mutant::EvictPrivate,
    Mutant::SwapWrongSlot,
    Mutant::ZeroOnSwapError,
    Mutant::ZeroOnShortage,
    Mutant::AskTwice,
    Mutant::LeakSwapSlot,
    Mutant::SpillWrongSlot,
    Mutant::SpillZeroOnError,
    Mutant::SpillIgnoresErrors,
    Mutant::StoreIgnoredInRuns,
    Mutant::ElideWithoutAsking,
    Mutant::RestoreSkipped,
    Mutant::ForwardCopy,
    Mutant::ElideAppend,
    Mutant::LeakResultSnapshot,
    Mutant::AssociateStoredPage,
    Mutant::LateProtect,
    Mutant::NoGeneration,
];

/// Puts no break in force when it goes.
struct Broken;

impl Broken {
    fn by(mutant: Mutant) -> Self {
        choose(Some(mutant));
        Self
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        choose(None);
    }
}

/// Looks for a break in a process of its own, since some of them leave traces in the machine's
/// memory. Gives the steps it took and what did not hold then.
fn find(mutant: Mutant) -> Option<String> {
    let program = std::env::current_exe().expect("a test is a program");
    let mut command = Command::new(program);
    command
        .args(["breaks::find_in_this_process", "--exact", "--ignored", "--nocapture"])
        .env("SLOTH_MUTANT", mutant.name());
    let output = command.stdin(Stdio::null()).output().expect("a test can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("found ")).map(str::to_owned)
}

#[test]
#[ignore = "a part of breaks_are_found"]
fn find_in_this_process() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let name = std::env::var("SLOTH_MUTANT").expect("the name of a break");
    let _broken = Broken::by(Mutant::from_name(&name).expect("the name of a break"));
    let verdict = run_seeds(0, STEPS, |_, _| ());
    if let Some((_, failure)) = verdict.failed {
        println!(
            "found {:6} {}",
            verdict.steps,
            failure.message.lines().next().unwrap_or_default()
        );
    }
}

#[test]
fn breaks_are_found() {
    let mut missed = Vec::new();
    for &mutant in FOUND {
        match find(mutant) {
            Some(found) => println!("{:24} {found}", mutant.name()),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// For a look at all breaks: which are found, and how soon.
#[test]
#[ignore = "takes minutes; tells which breaks the simulation finds"]
fn all_breaks() {
    for &mutant in Mutant::ALL {
        println!("{:24} {}", mutant.name(), find(mutant).unwrap_or_else(|| "-".to_owned()));
    }
}

#[test]
fn what_is_found_becomes_small() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let _broken = Broken::by(Mutant::SkipRescue);
    let (seed, failure) = run_seeds(0, STEPS, |_, _| ()).failed.expect("skip-rescue is found");
    let (kept, _) = Shrinker::shrink(draw::script(seed), failure, Duration::from_secs(20));
    assert!(kept.script.steps.len() <= 12, "{}", kept.to_text());
    // As text it is the same, and fails in the same way.
    let again = Kept::from_text(&kept.to_text()).expect("what was written can be read");
    assert_eq!(again, kept);
    assert!(run::run(&again.script, Order::told(again.choices)).is_err(), "{}", kept.to_text());
}
