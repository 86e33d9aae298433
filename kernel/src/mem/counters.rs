//! Counters of every decision (E3), for each process and for the whole system.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All of them, in the order they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// Its name in `/proc/lazy`.
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
    /// … because they covered too few whole pages.
    ReadsEagerSmall = "reads_eager_small",
    /// … because the object has no snapshots: a pipe, a device, a server without the feature.
    ReadsEagerObject = "reads_eager_object",
    /// … because the server refused the snapshot.
    ReadsEagerRefused = "reads_eager_refused",
    /// … because the address space has its fill of regions, or the buffer is shared memory.
    ReadsEagerRegions = "reads_eager_regions",
    /// … because the reader serves files itself (F8).
    ReadsEagerServer = "reads_eager_server",
    /// Small reads that were answered from a snapshot of what comes next, without a message.
    ReadsAhead = "reads_ahead",
    /// Bytes that these copied.
    BytesReadAhead = "bytes_read_ahead",
    /// Pages that reads associated.
    PagesLazy = "pages_lazy",
    /// Bytes that reads copied.
    BytesReadEager = "bytes_read_eager",
    /// Pages that writes sent as references to snapshots.
    PagesReferenced = "pages_referenced",
    /// Bytes that writes sent.
    BytesWritten = "bytes_written",
    /// Pages that became clean because they had been written (W8).
    PagesCleaned = "pages_cleaned",
    /// Pages that page-ins brought.
    PagesFetched = "pages_fetched",
    /// Their bytes.
    BytesFetched = "bytes_fetched",
    /// Page-in requests.
    Fetches = "fetches",
    /// Page-in requests that failed.
    FetchErrors = "fetch_errors",
    /// Pages of associations mapped from the cache.
    PagesMapped = "pages_mapped",
    /// Touches of holes, mapped to the zero page without a message.
    PagesHole = "pages_hole",
    /// Page faults, and misses of kernel copies.
    Faults = "faults",
    /// Those that waited for a server.
    FaultsMajor = "faults_major",
    /// Pages copied because a store met a frame that others see.
    PagesCow = "pages_cow",
    /// Frames that left the cache for want of memory.
    Evictions = "evictions",
    /// Clean pages unmapped for want of memory.
    PagesUnmapped = "pages_unmapped",
    /// Private pages that went to the swap file.
    PagesSwappedOut = "pages_swapped_out",
    /// Pages that came back from it.
    PagesSwappedIn = "pages_swapped_in",
    /// Flushes of translations.
    Flushes = "flushes",
    /// Snapshots made.
    SnapshotsMade = "snapshots_made",
    /// Snapshots closed.
    SnapshotsClosed = "snapshots_closed",
    /// Snapshots alive (made less closed; whole system).
    SnapshotsLive = "snapshots_live",
    /// Messages to servers.
    MessagesSent = "messages_sent",
    /// Bytes to servers.
    BytesSent = "bytes_sent",
    /// Bytes from servers.
    BytesReceived = "bytes_received",
}

/// One value for each [`Counter`].
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; COUNT],
}

/// The whole system's.
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

    /// Counts here and for the whole system.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.add_here(counter, amount);
        GLOBAL.add_here(counter, amount);
    }

    fn add_here(&self, counter: Counter, amount: u64) {
        if let Some(value) = self.values.get(counter as usize) {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// Names and values, in the order they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter.name(), self.get(counter)))
    }
}

/// Counts for the whole system alone, where no process is known.
pub fn count(counter: Counter, amount: u64) {
    GLOBAL.add_here(counter, amount);
}

/// Takes back what was counted, for the one counter that falls.
pub(super) fn uncount_live_snapshot() {
    if let Some(value) = GLOBAL.values.get(Counter::SnapshotsLive as usize) {
        value.fetch_sub(1, Ordering::Relaxed);
    }
}
