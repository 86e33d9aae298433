//! Tests of the simulation itself: it finds mutants, and reduces the failures that it finds.

use std::process::{Command, Stdio};
use std::time::Duration;

use foundation::mutant::{Mutant, choose};

use crate::campaign::run_seeds;
use crate::order::Order;
use crate::script::Case;
use crate::shrink::Shrinker;
use crate::{draw, run, sched};

/// Steps within which each mutant of [`FOUND`] is found.
const STEPS: u64 = 150_000;

/// The mutants that the simulation finds. The others change no bytes and no errors but cost time or
/// memory, or are in code that is not simulated.
const FOUND: &[Mutant] = &[
    Mutant::StatNeverStale,
    Mutant::StatInFlight,
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
    Mutant::ForgetCloses,
    Mutant::LeakFrame,
    Mutant::CloseWithFile,
    Mutant::ZeroOnError,
    Mutant::RescueServesAll,
    Mutant::LiveFragments,
    Mutant::OffsetByRequest,
    Mutant::NoPositionLock,
    Mutant::ZeroPastEnd,
    Mutant::AlignOffset,
    Mutant::ComposeOfOnePage,
    Mutant::EarlyFault,
    Mutant::DropPartialPage,
    Mutant::WriteSharedFrame,
    Mutant::NoFallback,
    Mutant::AllHoles,
    Mutant::StoreShared,
    Mutant::AnyVersion,
    Mutant::StampTravels,
    Mutant::TruncationUnrecorded,
    Mutant::DirectUntrusted,
    Mutant::ForkDropsAssociation,
    Mutant::SplitForgetsOffset,
    Mutant::ForkLeavesWritable,
    Mutant::ShareWritable,
    Mutant::UnmapShared,
    Mutant::StoresAroundShared,
    Mutant::LendWritable,
    Mutant::EvictPrivate,
    Mutant::SwapWrongSlot,
    Mutant::SwapMappedShared,
    Mutant::ReclaimLocked,
    Mutant::SwapServerWaits,
    Mutant::ClaimUnderLock,
    Mutant::FloorsUnchecked,
    Mutant::ZeroOnSwapError,
    Mutant::ZeroOnShortage,
    Mutant::AskTwice,
    Mutant::LeakSwapSlot,
    Mutant::ReuseSlotNumbers,
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
    Mutant::Miscount,
    Mutant::AbsentIsZeros,
    Mutant::StoreUnnoticed,
    Mutant::UnprotectedWriteBack,
    Mutant::ChangeKeepsPages,
    Mutant::WriteBackExtends,
    Mutant::ReadPastStores,
    Mutant::ReserveNothing,
    Mutant::MapUncertain,
];

/// A mutant that is active until this is dropped.
struct ActiveMutant;

impl ActiveMutant {
    fn new(mutant: Mutant) -> Self {
        choose(Some(mutant));
        Self
    }
}

impl Drop for ActiveMutant {
    fn drop(&mut self) {
        choose(None);
    }
}

/// Searches for a mutant in a separate process, because some corrupt memory for good. Returns the
/// number of steps and the failure.
fn find(mutant: Mutant) -> Option<String> {
    let program = std::env::current_exe().expect("a test is a program");
    let mut command = Command::new(program);
    command
        .args(["mutants::find_in_this_process", "--exact", "--ignored", "--nocapture"])
        .env("SLOTH_MUTANT", mutant.name());
    let output = command.stdin(Stdio::null()).output().expect("a test can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("found ")).map(str::to_owned)
}

#[test]
#[ignore = "run by mutants_are_found"]
fn find_in_this_process() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let name = std::env::var("SLOTH_MUTANT").expect("the name of a mutant");
    let _active = ActiveMutant::new(Mutant::from_name(&name).expect("the name of a mutant"));
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
fn mutants_are_found() {
    let mut missed = Vec::new();
    for &mutant in FOUND {
        match find(mutant) {
            Some(found) => println!("{:24} {found}", mutant.name()),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// For developers: which of all mutants are found, and after how many steps.
#[test]
#[ignore = "takes minutes; prints which mutants the simulation finds"]
fn all_mutants() {
    for &mutant in Mutant::ALL {
        println!("{:24} {}", mutant.name(), find(mutant).unwrap_or_else(|| "-".to_owned()));
    }
}

#[test]
fn failures_shrink() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let _active = ActiveMutant::new(Mutant::SkipRescue);
    let (seed, failure) = run_seeds(0, STEPS, |_, _| ()).failed.expect("skip-rescue is found");
    let (case, _) = Shrinker::shrink(draw::script(seed), failure, Duration::from_secs(20));
    assert!(case.script.steps.len() <= 12, "{}", case.to_text());
    // The text form preserves it, and it fails again.
    let again = Case::from_text(&case.to_text()).expect("its own text can be read");
    assert_eq!(again, case);
    assert!(run::run(&again.script, Order::replayed(again.choices)).is_err(), "{}", case.to_text());
}
