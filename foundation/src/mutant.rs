//! Deliberate breaks of single rules, for testing the tests.
//!
//! `if mutant::active(Mutant::SkipRescue) { … }` is constant-false unless the feature `mutants` is
//! on; then at most one mutant is chosen at run time by [`choose`]. The enumeration stands here
//! because kernel and servers share it and both depend on this crate.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A deliberate break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The name on command lines.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// The mutant of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

mutants! {
    /// R1: what was read ahead is given out although the file has changed since.
    StaleAhead = "stale-ahead",
    /// Q1: what is read ahead keeps the room that is set aside for it from those who write.
    AheadKeepsRoom = "ahead-keeps-room",
    /// C1: the old bytes are not saved.
    SkipRescue = "skip-rescue",
    /// C11: the change comes first, then the rescue.
    RescueAfterChange = "rescue-after-change",
    /// C11: a page read from the live file is not checked against the rescue map again.
    NoRescueRecheck = "no-rescue-recheck",
    /// C2: a truncation rescues nothing.
    SkipTruncateRescue = "skip-truncate-rescue",
    /// C5: an opening with truncation rescues nothing.
    SkipOpenTruncateRescue = "skip-open-truncate-rescue",
    /// C3: a removed file is really removed although a snapshot needs it.
    RemoveSnapshotted = "remove-snapshotted",
    /// C4: so is a file renamed over.
    RenameOverSnapshotted = "rename-over-snapshotted",
    /// C9: a temporary file is made for every snapshot.
    EagerRescue = "eager-rescue",
    /// C10: a closed snapshot keeps its rescued bytes.
    LeakRescue = "leak-rescue",
    /// C10: the kernel does not close a snapshot whose last association is gone.
    LeakSnapshot = "leak-snapshot",
    /// X5: a file that is closed stays open on its server.
    LeakHandle = "leak-handle",
    /// X5: a frame that was fetched is never free again.
    LeakFrame = "leak-frame",
    /// C7: closing the descriptor closes its snapshots.
    CloseWithFile = "close-with-file",
    /// C8: every snapshot rescues for itself.
    RescuePerSnapshot = "rescue-per-snapshot",
    /// C8: a rescue serves snapshots of a later version too.
    RescueServesAll = "rescue-serves-all",
    /// Q1: nothing is reserved.
    NoReservation = "no-reservation",
    /// R1: fragments are read from the live file after the snapshot.
    LiveFragments = "live-fragments",
    /// R2: the offset advances by what was asked for.
    OffsetByRequest = "offset-by-request",
    /// R2: the position lock is not taken.
    NoPositionLock = "no-position-lock",
    /// R3: the rest of the last page is zeroed.
    ZeroPastEnd = "zero-past-end",
    /// R4: the snapshot's byte 0 is taken for the file's page border.
    AlignOffset = "align-offset",
    /// R5: EFAULT is given before the server was asked.
    EarlyFault = "early-fault",
    /// R6: a page only partly covered is let go of without fetching it.
    DropPartialPage = "drop-partial-page",
    /// R7: a read writes into a frame that others see.
    WriteSharedFrame = "write-shared-frame",
    /// R8: a refused snapshot is an error rather than a copying read.
    NoFallback = "no-fallback",
    /// R9: each buffer of a vector is read by itself.
    VectorPerBuffer = "vector-per-buffer",
    /// R10: the list of holes is ignored.
    IgnoreHoles = "ignore-holes",
    /// R10: everything is a hole.
    AllHoles = "all-holes",
    /// F1: no neighbours are fetched.
    NoFaultAround = "no-fault-around",
    /// F2: a store goes into the cached frame.
    StoreShared = "store-shared",
    /// F3: every faulting thread sends its own request.
    FetchTwice = "fetch-twice",
    /// F3: what a fetch brought is mapped without looking whether the association is still the
    /// same.
    NoGeneration = "no-generation",
    /// F4: bytes leave the pipe before it is known that they can be delivered.
    ConsumeEarly = "consume-early",
    /// F5: a failed page-in gives zeros.
    ZeroOnError = "zero-on-error",
    /// F7: a waiting process cannot be killed.
    NotKillable = "not-killable",
    /// F8: servers' pages are swapped out like others.
    SwapServers = "swap-servers",
    /// F8: servers read lazily.
    LazyServer = "lazy-server",
    /// A1: fork drops associations.
    ForkDropsAssociation = "fork-drops-association",
    /// A2: exec reads its arguments after the old space is gone.
    ExecLateArguments = "exec-late-arguments",
    /// A3: exit leaks the space.
    LeakSpace = "leak-space",
    /// A4: splitting a region forgets the offset into its snapshot.
    SplitForgetsOffset = "split-forgets-offset",
    /// A5: no two snapshots share a frame.
    ShareNothing = "share-nothing",
    /// A7: a debugger sees zeros where a page was not fetched.
    DebuggerSeesZeros = "debugger-sees-zeros",
    /// A8: fork leaves the parent's mappings writable.
    ForkLeavesWritable = "fork-leaves-writable",
    /// Q2: pages that were stored to are let go of like clean ones.
    EvictPrivate = "evict-private",
    /// Q2: mapped pages are never let go of.
    NoClock = "no-clock",
    /// Q3: a page comes back from its neighbour's slot.
    SwapWrongSlot = "swap-wrong-slot",
    /// Q3: what cannot be read from the swap file is zeros.
    ZeroOnSwapError = "zero-on-swap-error",
    /// Q3: slots are never free again.
    LeakSwapSlot = "leak-swap-slot",
    /// Q3: a page of a file comes back from the device's neighbouring slot.
    SpillWrongSlot = "spill-wrong-slot",
    /// F5: a page of a file that does not come back from the device is zeros.
    SpillZeroOnError = "spill-zero-on-error",
    /// F5: a page of a file counts as written out although the device said that it failed.
    SpillIgnoresErrors = "spill-ignores-errors",
    /// Q3: slots of the device are never free again.
    LeakSpillSlot = "leak-spill-slot",
    /// Q4: the bound on snapshots is not kept.
    NoSnapshotLimit = "no-snapshot-limit",
    /// Q4: where there is no frame for a page, it is zeros.
    ZeroOnShortage = "zero-on-shortage",
    /// E1: the knob is ignored.
    IgnoreKnob = "ignore-knob",
    /// W1: a page that was stored to travels as a reference all the same.
    StoreIgnoredInRuns = "store-ignored-in-runs",
    /// W1: the buffers of a vector travel as bytes.
    VectorByBytes = "vector-by-bytes",
    /// W2: what comes back to its place counts as still there, whatever the map of changes says.
    ElideWithoutAsking = "elide-without-asking",
    /// W2: what others changed meanwhile is not brought back.
    RestoreSkipped = "restore-skipped",
    /// W3: a range is copied over itself piece by piece from the front.
    ForwardCopy = "forward-copy",
    /// W4: references to another file of the server travel as bytes.
    CopyByBytes = "copy-by-bytes",
    /// W5: a reference is sent to a server that does not know its snapshot.
    ForeignReference = "foreign-reference",
    /// W6: an append is taken for a write to where its bytes came from.
    ElideAppend = "elide-append",
    /// W7: where nothing has to be done, times and version do not move.
    SilentElide = "silent-elide",
    /// W7: what is written by reference needs no room.
    FreeReferences = "free-references",
    /// W8: a page that was stored to during the write counts as written.
    AssociateStoredPage = "associate-stored-page",
    /// W8: pages are write-protected after the server has their bytes.
    LateProtect = "late-protect",
    /// W8: what the server did not write counts as written.
    CleanBeyondWritten = "clean-beyond-written",
    /// W8: the snapshot of what was written is never closed.
    LeakResultSnapshot = "leak-result-snapshot",
    /// X1: rights are asked again at page-in.
    RightsAtPageIn = "rights-at-page-in",
    /// X2: programs can speak on a connection that is mounted.
    OpenCarrier = "open-carrier",
    /// X3: pages of a server that is not trusted are let go of, and asked for again.
    AskTwice = "ask-twice",
    /// X4: each entry of a vector is fetched anew when its turn comes.
    VectorAgain = "vector-again",
    /// X5: what a server tells of a snapshot is believed.
    BelieveServer = "believe-server",
    /// X6: the access time moves at page-in.
    TimesAtPageIn = "times-at-page-in",
    /// E3: pages are counted for bytes.
    Miscount = "miscount",
    /// E4: a read is told, and forgotten, when the first of its pages is replaced.
    TraceForgets = "trace-forgets",
}

#[cfg(feature = "mutants")]
static CHOSEN: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(usize::MAX);

/// Whether this break is in force.
#[cfg(feature = "mutants")]
pub fn active(mutant: Mutant) -> bool {
    CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == mutant as usize
}

/// Whether this break is in force: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn active(_: Mutant) -> bool {
    false
}

/// Puts a break in force (in place of the one before), or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(
        mutant.map_or(usize::MAX, |mutant| mutant as usize),
        core::sync::atomic::Ordering::Relaxed,
    );
}
