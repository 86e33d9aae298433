//! Mutants: faults that each violate one rule, to test the tests.
//!
//! `if mutant::active(Mutant::SkipRescue) { … }` is constant false without the feature
//! `mutants`. With it, `choose` switches at most one mutant on at run time. The list is in this
//! crate because kernel and servers share it.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A fault that violates the rule named in its documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every mutant, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The name that command lines and `/proc/sys/lazy/mutant` use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// The mutant that command lines call `name`, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

mutants! {
    /// Q4: the messages in a socket are not counted, and cost only their bytes.
    FreeMessages = "free-messages",
    /// F4: a message that was handed to a receiver is lost where a signal ends the wait.
    DropHanded = "drop-handed",
    /// F4: a message is handed to a receiver that was killed.
    HandToKilled = "hand-to-killed",
    /// C11: a message is handed to a receiver before those in the queue.
    Overtake = "overtake",
    /// X5: a late reply is taken for that of a later request at the same place.
    ForgetNumber = "forget-number",
    /// Niceness does not count.
    IgnoreNiceness = "ignore-niceness",
    /// A sleeper keeps all that it did not use of the CPU.
    HoardCredit = "hoard-credit",
    /// What the CPU waits is charged to the process that waits.
    ChargeWaiting = "charge-waiting",
    /// A server works at its own expense.
    KeepTurn = "keep-turn",
    /// A server's part of what it does for its clients is not counted.
    FreeService = "free-service",
    /// A client pays for all that servers do for it.
    ClientPays = "client-pays",
    /// Q6: who keeps much leaves nothing to others.
    TakeAll = "take-all",
    /// Q6: who has many files of a server open leaves none to others.
    TakeAllFiles = "take-all-files",
    /// Q4: an end of file that is typed takes no space in a terminal.
    FreeEndOfFile = "free-end-of-file",
    /// R1: read-ahead data is returned although the file has changed since.
    StaleAhead = "stale-ahead",
    /// X10: what is known of a path is kept although a request may change it.
    StatNeverStale = "stat-never-stale",
    /// X10: an answer is kept although a request in flight may have changed what it says.
    StatInFlight = "stat-in-flight",
    /// A6: a program is started from what was kept of its file before a change.
    RunOldProgram = "run-old-program",
    /// Q1: read-ahead keeps its reserved space when writers need it.
    AheadKeepsRoom = "ahead-keeps-room",
    /// C1: the old bytes are not rescued.
    SkipRescue = "skip-rescue",
    /// C11: the change precedes the rescue.
    RescueAfterChange = "rescue-after-change",
    /// C11: a page read from the live file is not checked against the rescue map again.
    NoRescueRecheck = "no-rescue-recheck",
    /// C2: a truncation rescues nothing.
    SkipTruncateRescue = "skip-truncate-rescue",
    /// C5: an open with O_TRUNC rescues nothing.
    SkipOpenTruncateRescue = "skip-open-truncate-rescue",
    /// C3: a removed file is deleted although a snapshot needs it.
    RemoveSnapshotted = "remove-snapshotted",
    /// C4: a file that is renamed over is deleted although a snapshot needs it.
    RenameOverSnapshotted = "rename-over-snapshotted",
    /// C9: every snapshot creates a temporary file.
    EagerRescue = "eager-rescue",
    /// C10: a closed snapshot keeps its rescued bytes.
    LeakRescue = "leak-rescue",
    /// C10: the kernel does not close a snapshot after its last association has ended.
    LeakSnapshot = "leak-snapshot",
    /// X5: a file that is closed stays open on its server.
    LeakHandle = "leak-handle",
    /// C10: what waits to be closed is forgotten with the next request.
    ForgetCloses = "forget-closes",
    /// X5: a fetched frame is never freed.
    LeakFrame = "leak-frame",
    /// C7: closing the descriptor closes its snapshots.
    CloseWithFile = "close-with-file",
    /// C8: every snapshot rescues separately.
    RescuePerSnapshot = "rescue-per-snapshot",
    /// C8: a rescue serves snapshots of a later version too.
    RescueServesAll = "rescue-serves-all",
    /// C8: the end of a snapshot ends all that are equal to it.
    ForgetEqualSnapshots = "forget-equal-snapshots",
    /// Q1: an allocation turns holes into data that snapshots find in the file.
    AllocateLiveHoles = "allocate-live-holes",
    /// Q1: an allocation leaves storage shared, so a later write may need more.
    AllocateKeepsShared = "allocate-keeps-shared",
    /// Q1: no space is reserved for a rescue.
    NoReservation = "no-reservation",
    /// R1: fragments are read from the live file after the snapshot.
    LiveFragments = "live-fragments",
    /// R2: the offset advances by the requested length.
    OffsetByRequest = "offset-by-request",
    /// R2: the position lock is not taken.
    NoPositionLock = "no-position-lock",
    /// R3: the rest of the last page is zeroed.
    ZeroPastEnd = "zero-past-end",
    /// R4: byte 0 of the snapshot is treated as a page boundary of the file.
    AlignOffset = "align-offset",
    /// R4: a page of two pages of the file is composed of one of them.
    ComposeOfOnePage = "compose-of-one-page",
    /// R5: EFAULT is returned before the request is sent.
    EarlyFault = "early-fault",
    /// R6: a partially covered page is dropped without fetching it.
    DropPartialPage = "drop-partial-page",
    /// R7: a read writes into a shared frame.
    WriteSharedFrame = "write-shared-frame",
    /// R8: a refused snapshot is an error rather than a copying read.
    NoFallback = "no-fallback",
    /// R8: after a short read that was touched, no short read is lazy any more.
    NeverLazyAgain = "never-lazy-again",
    /// R9: each buffer of a vector is a read of its own.
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
    /// F3: fetched pages are mapped without checking that the association is unchanged.
    NoGeneration = "no-generation",
    /// F4: bytes are removed from the pipe before the buffer is known to be writable.
    ConsumeEarly = "consume-early",
    /// F5: a failed page-in provides zeros.
    ZeroOnError = "zero-on-error",
    /// F7: a waiting process cannot be killed.
    NotKillable = "not-killable",
    /// F8: pages of servers are swapped out as those of other processes.
    SwapServers = "swap-servers",
    /// F8: the swap server's claims wait as those of programs do.
    SwapServerWaits = "swap-server-waits",
    /// F8: a claim waits while the address space is locked.
    ClaimUnderLock = "claim-under-lock",
    /// F8: servers read lazily.
    LazyServer = "lazy-server",
    /// F9: a base answers page-ins of any version with the bytes that a file has now.
    AnyVersion = "any-version",
    /// F9: the record of changes travels with the pages that a clone shares.
    StampTravels = "stamp-travels",
    /// F9: what a full record of changes no longer covers counts as unchanged.
    ForgetChanges = "forget-changes",
    /// F9: a truncation is not recorded as a change.
    TruncationUnrecorded = "truncation-unrecorded",
    /// F9: after a change that failed the file has its old version.
    VersionKept = "version-kept",
    /// F9: page-ins of an untrusted mount go to the base that it names.
    DirectUntrusted = "direct-untrusted",
    /// A1: fork drops associations.
    ForkDropsAssociation = "fork-drops-association",
    /// A2: exec reads its arguments after it has dropped the old address space.
    ExecLateArguments = "exec-late-arguments",
    /// A3: exit leaks the address space.
    LeakSpace = "leak-space",
    /// A4: splitting a region forgets the offset into its snapshot.
    SplitForgetsOffset = "split-forgets-offset",
    /// A5: no two snapshots share a frame.
    ShareNothing = "share-nothing",
    /// A7: a debugger reads zeros for pages that are not fetched.
    DebuggerSeesZeros = "debugger-sees-zeros",
    /// A8: fork leaves the parent's mappings writable.
    ForkLeavesWritable = "fork-leaves-writable",
    /// A8: a fork leaves stores possible to pages whose tables are shared.
    ShareWritable = "share-writable",
    /// A8: stores become possible to pages around one although others hold their frames.
    StoresAroundShared = "stores-around-shared",
    /// A8: a server can still store to the pages that it has handed over with a reply.
    LendWritable = "lend-writable",
    /// A8: unmapping a page empties its entry in a table that others share.
    UnmapShared = "unmap-shared",
    /// Q2: modified pages are dropped as if they were clean.
    EvictPrivate = "evict-private",
    /// Q2: mapped pages are never evicted.
    NoClock = "no-clock",
    /// Q3: a page is read back from the neighbouring slot.
    SwapWrongSlot = "swap-wrong-slot",
    /// Q4: where memory runs out, the process with the smallest charge is ended.
    EndSmallest = "end-smallest",
    /// Q4: who waits for the end of a process keeps that process's memory until then.
    HoldVictim = "hold-victim",
    /// Q8: a thread that could not be made stays in the table.
    KeepFailedThread = "keep-failed-thread",
    /// F8: a claim of a file server does not wait for pages to be swapped out.
    ServersNeverWait = "servers-never-wait",
    /// F8: the pages of init are swapped out.
    SwapInit = "swap-init",
    /// F8: floors may exceed half of memory.
    FloorsUnchecked = "floors-unchecked",
    /// Q3: a page that cannot be read from the swap file is zeros.
    ZeroOnSwapError = "zero-on-swap-error",
    /// Q3: swap slots are never freed.
    LeakSwapSlot = "leak-swap-slot",
    /// Q3: slots of a new swap file have the numbers of those that were lost.
    ReuseSlotNumbers = "reuse-slot-numbers",
    /// Q3: a page of shared memory is swapped out while another process maps it.
    SwapMappedShared = "swap-mapped-shared",
    /// Q6: pages that a program locked are evicted.
    ReclaimLocked = "reclaim-locked",
    /// Q6: any number of pages of mapped files can be dirty.
    ManyDirtyPages = "many-dirty-pages",
    /// Q6: pages that a server does not take keep others from storing.
    RefusedPagesCount = "refused-pages-count",
    /// M1: an absent page of a mapped file is zeros.
    AbsentIsZeros = "absent-is-zeros",
    /// M2: the first store to a page of a mapped file is not noticed.
    StoreUnnoticed = "store-unnoticed",
    /// M2: a page whose frame others refer to is stored to in place.
    StoreToLent = "store-to-lent",
    /// M2: pages that are written back are not write-protected.
    UnprotectedWriteBack = "unprotected-write-back",
    /// M2: reclaim drops dirty pages of mapped files.
    DropDirty = "drop-dirty",
    /// M4: a fetch brings bytes from before a change of the file.
    StaleFetch = "stale-fetch",
    /// M4: pages stay as they were before a change of the file.
    ChangeKeepsPages = "change-keeps-pages",
    /// M2: stores to the page in which a file ends are lost when it is resized.
    LosePartial = "lose-partial",
    /// M2: a page that the server did not take counts as written.
    RefusedIsWritten = "refused-is-written",
    /// M2: write-back extends a file to whole pages.
    WriteBackExtends = "write-back-extends",
    /// M2: stored pages of a server that is gone are lost without a message.
    LoseSilently = "lose-silently",
    /// M4: a reader does not see what was stored to a mapped file.
    ReadPastStores = "read-past-stores",
    /// M2: no space is reserved for a page that is stored to.
    ReserveNothing = "reserve-nothing",
    /// M6: files that others may change can be mapped.
    MapUncertain = "map-uncertain",
    /// Q3: a page of a file is read back from the neighbouring slot of the device.
    SpillWrongSlot = "spill-wrong-slot",
    /// F5: a page of a file that cannot be read from the device is zeros.
    SpillZeroOnError = "spill-zero-on-error",
    /// F5: a page of a file counts as written although the device reported an error.
    SpillIgnoresErrors = "spill-ignores-errors",
    /// Q3: slots of the device are never freed.
    LeakSpillSlot = "leak-spill-slot",
    /// Q4: the limit on snapshots is ignored.
    NoSnapshotLimit = "no-snapshot-limit",
    /// Q4: the map of changes under a snapshot grows with their number.
    NeverWiden = "never-widen",
    /// Q4: what changes left behind in a map is never joined.
    NeverJoin = "never-join",
    /// Q4: a page for which no frame is available is zeros.
    ZeroOnShortage = "zero-on-shortage",
    /// E1: the value of a knob is ignored.
    IgnoreKnob = "ignore-knob",
    /// W1: a modified page is sent as a reference.
    StoreIgnoredInRuns = "store-ignored-in-runs",
    /// W1: the buffers of a vector are sent as data.
    VectorByBytes = "vector-by-bytes",
    /// W2: a page that is written back to its place counts as unchanged there, whatever the map of
    /// changes says.
    ElideWithoutAsking = "elide-without-asking",
    /// W2: bytes that others changed in the meantime are not restored.
    RestoreSkipped = "restore-skipped",
    /// W3: an overlapping range is copied piece by piece from its start.
    ForwardCopy = "forward-copy",
    /// W4: references to another file of the server are sent as data.
    CopyByBytes = "copy-by-bytes",
    /// W5: a reference is sent to a server that does not know its snapshot.
    ForeignReference = "foreign-reference",
    /// W6: an append is treated as a write to the place of origin of its bytes.
    ElideAppend = "elide-append",
    /// W7: a write that moves no data changes neither times nor version.
    SilentElide = "silent-elide",
    /// W7: a write by reference needs no space.
    FreeReferences = "free-references",
    /// W8: a page that is modified during the write counts as written.
    AssociateStoredPage = "associate-stored-page",
    /// W8: pages are write-protected after the server has their bytes.
    LateProtect = "late-protect",
    /// W8: pages beyond the written length count as written.
    CleanBeyondWritten = "clean-beyond-written",
    /// W8: the snapshot of a write's result is never closed.
    LeakResultSnapshot = "leak-result-snapshot",
    /// X1: permissions are checked again at page-in.
    RightsAtPageIn = "rights-at-page-in",
    /// X2: programs can send messages on a mounted connection.
    OpenCarrier = "open-carrier",
    /// X3: pages of an untrusted server are dropped and fetched again.
    AskTwice = "ask-twice",
    /// X4: each entry of a vector is copied in again when it is used.
    VectorAgain = "vector-again",
    /// X5: a server's reply about a snapshot is not checked.
    BelieveServer = "believe-server",
    /// X6: the access time changes at page-in.
    TimesAtPageIn = "times-at-page-in",
    /// E3: pages are counted as bytes.
    Miscount = "miscount",
    /// E4: a read is reported, and forgotten, when the first of its pages is replaced.
    TraceForgets = "trace-forgets",
}

/// Defines functions that say whether a mutant is active: a visibility, then `name: Mutant;` for
/// each, with its doc comment.
#[macro_export]
macro_rules! mutant_switches {
    ($visibility:vis, $($(#[$doc:meta])* $name:ident: $mutant:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        $visibility fn $name() -> bool {
            $crate::mutant::active($crate::mutant::Mutant::$mutant)
        }
    )*};
}

#[cfg(feature = "mutants")]
static CHOSEN: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(usize::MAX);

/// Whether this mutant is switched on.
#[cfg(feature = "mutants")]
pub fn active(mutant: Mutant) -> bool {
    CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == mutant as usize
}

/// Whether this mutant is switched on: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn active(_: Mutant) -> bool {
    false
}

/// Switches a mutant on, in place of the previous one, or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(
        mutant.map_or(usize::MAX, |mutant| mutant as usize),
        core::sync::atomic::Ordering::Relaxed,
    );
}
