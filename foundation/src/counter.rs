//! Counters of every decision (E3), for each process and for the whole system.
//!
//! The list is here, below everything, so that each layer can count what it decides. `/proc/lazy`
//! shows the values of the system, `/proc/PID/lazy` those of a process. A counter only grows, but
//! for [`Counter::SnapshotsLive`].

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters, in the order in which `/proc` shows them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The counter's name in `/proc/lazy`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
        const COUNT: usize = Counter::ALL.len();
    };
}

counters! {
    /// Reads that mapped at least one page.
    ReadsLazy = "reads_lazy",
    /// Reads that copied because laziness was off.
    ReadsEagerOff = "reads_eager_off",
    /// Reads that copied because they covered too few whole pages.
    ReadsEagerSmall = "reads_eager_small",
    /// Reads that copied because the object has no snapshots: a pipe, a device, a server without
    /// the feature.
    ReadsEagerObject = "reads_eager_object",
    /// Reads that copied because the server refused the snapshot, or too many were live.
    ReadsEagerRefused = "reads_eager_refused",
    /// Reads that copied because the address space has the maximum of regions, or the buffer is
    /// shared memory.
    ReadsEagerRegions = "reads_eager_regions",
    /// Reads that copied because the reader serves files itself (F8).
    ReadsEagerServer = "reads_eager_server",
    /// Small sequential reads answered from a read-ahead snapshot, without a message.
    ReadsAhead = "reads_ahead",
    /// Bytes copied by reads that were answered from a read-ahead snapshot.
    BytesReadAhead = "bytes_read_ahead",
    /// Requests for attributes of a path that needed no message, because they were known.
    StatsKnown = "stats_known",
    /// Pages that reads associated.
    PagesLazy = "pages_lazy",
    /// Bytes that reads copied.
    BytesReadEager = "bytes_read_eager",
    /// Pages that writes sent as references to snapshots.
    PagesReferenced = "pages_referenced",
    /// Bytes that writes sent as data.
    BytesWritten = "bytes_written",
    /// Private pages that became clean because they had been written (W8).
    PagesCleaned = "pages_cleaned",
    /// Pages that page-ins fetched from servers.
    PagesFetched = "pages_fetched",
    /// Bytes that page-ins fetched from servers.
    BytesFetched = "bytes_fetched",
    /// Page-in requests.
    Fetches = "fetches",
    /// Page-in requests that failed.
    FetchErrors = "fetch_errors",
    /// Page-in requests that a base answered, past its wrapper (F9).
    FetchesDirect = "fetches_direct",
    /// Bytes that they fetched.
    BytesDirect = "bytes_direct",
    /// Page-in requests that a base did not answer, since the file has changed there.
    FetchesStale = "fetches_stale",
    /// Snapshot-backed pages mapped from the frame cache.
    PagesMapped = "pages_mapped",
    /// Holes touched and mapped to the zero page, without a message.
    PagesHole = "pages_hole",
    /// Page faults, and misses of kernel copies.
    Faults = "faults",
    /// Faults that waited for a server.
    FaultsMajor = "faults_major",
    /// Pages copied because a store hit a frame with several owners.
    PagesCow = "pages_cow",
    /// Frames that reclaim freed from the frame cache.
    Evictions = "evictions",
    /// Clean pages that reclaim unmapped.
    PagesUnmapped = "pages_unmapped",
    /// Private pages written to the swap file.
    PagesSwappedOut = "pages_swapped_out",
    /// Pages read back from the swap file.
    PagesSwappedIn = "pages_swapped_in",
    /// Flushes of address translations: of up to 32 pages one by one, or of a whole space.
    Flushes = "flushes",
    /// Switches of the processor to another address space.
    SpaceSwitches = "space_switches",
    /// Snapshots that servers have returned.
    SnapshotsMade = "snapshots_made",
    /// Snapshots whose last reference was dropped.
    SnapshotsClosed = "snapshots_closed",
    /// Snapshots alive now, over all mounts: made less closed. Of the whole system only.
    SnapshotsLive = "snapshots_live",
    /// Messages sent to servers.
    MessagesSent = "messages_sent",
    /// Bytes sent to servers.
    BytesSent = "bytes_sent",
    /// Bytes received from servers.
    BytesReceived = "bytes_received",
}

/// One value for each [`Counter`].
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; COUNT],
}

/// The counters of the whole system.
pub static GLOBAL: Counters = Counters::new();

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self { values: [const { AtomicU64::new(0) }; COUNT] }
    }

    /// Adds to a process's counter and to the system's.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        self.add_here(counter, amount);
        GLOBAL.add_here(counter, amount);
    }

    #[inline]
    fn add_here(&self, counter: Counter, amount: u64) {
        if let Some(value) = self.values.get(counter as usize) {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The counter's value.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// Names and values, in the order in which `/proc` shows them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter.name(), self.get(counter)))
    }
}

/// Adds to the system's counter alone, where no process is known.
#[inline]
pub fn count(counter: Counter, amount: u64) {
    GLOBAL.add_here(counter, amount);
}

/// Counts a snapshot that a server has returned.
pub fn count_snapshot_made() {
    count(Counter::SnapshotsMade, 1);
    count(Counter::SnapshotsLive, 1);
}

/// Counts a snapshot whose last reference was dropped.
pub fn count_snapshot_closed() {
    count(Counter::SnapshotsClosed, 1);
    if let Some(value) = GLOBAL.values.get(Counter::SnapshotsLive as usize) {
        value.fetch_sub(1, Ordering::Relaxed);
    }
}
