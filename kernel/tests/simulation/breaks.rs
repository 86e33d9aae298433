//! The simulation is tested: it finds deliberate breaks of the code, and makes what it finds small.

use std::time::Duration;

use fsproto::mutant::{Mutant, choose};

use crate::campaign::run_seeds;
use crate::order::Order;
use crate::script::Kept;
use crate::shrink::Shrinker;
use crate::{draw, run, sched};

/// Steps within which each of these is found.
const STEPS: u64 = 60_000;

/// Breaks that the simulation finds. The others leave bytes and errors as they are, and cost something, or lie outside of what is simulated.
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
    Mutant::CloseWithFile,
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
    Mutant::LeakSwapSlot,
    Mutant::StoreIgnoredInRuns,
    Mutant::ElideWithoutAsking,
    Mutant::RestoreSkipped,
    Mutant::ForwardCopy,
    Mutant::ElideAppend,
    Mutant::LeakResultSnapshot,
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

/// After how many steps a break is found, and what does not hold then.
fn find(mutant: Mutant, steps: u64) -> Option<(u64, String)> {
    let _broken = Broken::by(mutant);
    let verdict = run_seeds(0, steps, |_, _| ());
    verdict.failed.map(|(_, failure)| (verdict.steps, failure.message))
}

#[test]
fn breaks_are_found() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let mut missed = Vec::new();
    for &mutant in FOUND {
        match find(mutant, STEPS) {
            Some((steps, message)) => println!("{:24} {steps:6} steps: {}", mutant.name(), message.lines().next().unwrap_or_default()),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// For a look at all breaks: which are found, and how soon.
#[test]
#[ignore = "takes minutes; tells which breaks the simulation finds"]
fn all_breaks() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    for &mutant in Mutant::ALL {
        let found = find(mutant, STEPS).map(|(steps, message)| format!("{steps:6} {}", message.lines().next().unwrap_or_default()));
        println!("{:24} {}", mutant.name(), found.unwrap_or_else(|| "-".to_owned()));
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
