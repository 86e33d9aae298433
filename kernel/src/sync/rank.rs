//! The lock order of the kernel: the only place where it is declared.
//!
//! Each lock has a rank, the second parameter of its type: `Mutex<T, rank::Space>`. A thread that
//! holds a lock may acquire only locks of ranks further down in the table. Two locks of one rank
//! are held together only where the rank is `SpinNested`, through
//! [`Mutex::lock_nested`](super::Mutex::lock_nested). `try_lock` cannot deadlock and is exempt, but
//! what it acquired counts for the locks after it. [`check`](super::check) verifies all of this.
//!
//! | kind | while it is held |
//! |---|---|
//! | `SleepAcrossMessages` | the thread may wait, also for the reply of a file server |
//! | `Sleep` | the thread may wait, but not for a file server |
//! | `Spin` | the thread never waits, and sends no request that it waits for |
//! | `SpinNested` | as `Spin`; two of them may be held, in an order that their users define |
//!
//! Sleeping ranks come first, because no thread waits while it holds a spin lock.

/// How a lock of a rank is acquired, and what its holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A [`SleepLock`](super::SleepLock) that may be held while a file server is waited for.
    SleepAcrossMessages,
    /// A [`SleepLock`](super::SleepLock) whose holder waits for no file server.
    Sleep,
    /// A [`Mutex`](super::Mutex).
    Spin,
    /// A [`Mutex`](super::Mutex), two of which may be held at once.
    SpinNested,
}

impl Kind {
    const fn sleeps(self) -> bool {
        matches!(self, Self::SleepAcrossMessages | Self::Sleep)
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name of the rank.
    pub name: &'static str,
    /// How its locks are used.
    pub kind: Kind,
    /// What its locks protect.
    pub protects: &'static str,
}

/// A rank, as a type without values.
pub trait Rank: 'static {
    /// Index in [`TABLE`]; larger is further inside.
    const LEVEL: u8;
    /// How its locks are used.
    const KIND: Kind;
}

macro_rules! ranks {
    ($(#[doc = $protects:literal] $name:ident: $kind:ident,)*) => {
        #[derive(Clone, Copy)]
        enum Level { $($name,)* }

        $(
            #[doc = concat!("Protects", $protects)]
            #[derive(Debug)]
            pub enum $name {}

            impl Rank for $name {
                const LEVEL: u8 = Level::$name as u8;
                const KIND: Kind = Kind::$kind;
            }
        )*

        /// All ranks, outermost first.
        pub const TABLE: &[Row] = &[$(
            Row { name: stringify!($name), kind: Kind::$kind, protects: $protects },
        )*];
    };
}

ranks! {
    /// the position of an open file, and the order of reads and writes through it.
    Position: SleepAcrossMessages,
    /// the coherence of a file with its shared mapping.
    SharedMapping: SleepAcrossMessages,
    /// a disk's driver, and its page for sectors that are written in part.
    Disk: Sleep,

    /// which descriptor table a process uses.
    ProcessFiles: Spin,
    /// a descriptor table.
    Descriptors: Spin,
    /// the working directory and umask of a process.
    FileContext: Spin,
    /// the mounts of a name space.
    Mounts: Spin,
    /// the text of an open file of /proc.
    ProcText: Spin,
    /// all file locks (fcntl, flock).
    FileLocks: Spin,
    /// the table of files that are mapped shared.
    SharedMappings: Spin,
    /// the recall of a mapped file's lease.
    Recall: Spin,
    /// the table of named pipes.
    Fifos: Spin,
    /// the numbers of readers and writers of a named pipe.
    FifoCounts: Spin,
    /// the count of an eventfd.
    EventCount: Spin,
    /// the names of sockets that are bound.
    BoundSockets: Spin,
    /// the name, role and peer of a socket.
    SocketState: Spin,
    /// the connections that a socket has not accepted.
    Backlog: Spin,
    /// the bytes of a pipe; copied to programs without a fault while it is held.
    Pipe: Spin,
    /// one direction of a socket pair; copied to programs without a fault while it is held.
    Socket: Spin,
    /// which sockets are in the queues of others.
    CarriedSockets: Spin,
    /// the table of pseudo-terminals.
    Ptys: Spin,
    /// the state of a terminal.
    Terminal: Spin,
    /// the sessions that lost their terminal.
    LostTerminals: Spin,

    /// the table of traced processes.
    Traced: Spin,
    /// the threads of a process.
    Threads: Spin,
    /// whether a process runs, is stopped, ends or is a zombie.
    ProcessState: Spin,
    /// signal mask and pending signals of a thread.
    ThreadSignals: Spin,
    /// pending signals of a process.
    ProcessSignals: Spin,
    /// which signal dispositions a process uses.
    ProcessActions: Spin,
    /// signal dispositions.
    SignalActions: Spin,
    /// name, credentials and limits of a process.
    Identity: Spin,
    /// the waiters of all futexes.
    Futexes: Spin,
    /// which POSIX timers a process has, and what they notify.
    ProcessTimers: Spin,
    /// what is due at which CPU time of a process.
    CpuWatch: Spin,
    /// the setting of a timerfd.
    TimerFile: Spin,
    /// timeouts and alarms.
    Timers: Spin,
    /// which address space a thread uses.
    ThreadSpace: Spin,

    /// regions and page tables of an address space; fork holds the parent's, then the child's.
    Space: SpinNested,
    /// the frames of shared memory.
    SharedMemory: Spin,
    /// the pages of a mapped file.
    FilePages: Spin,
    /// the known holes of a snapshot.
    Holes: Spin,
    /// the reply of a fetch.
    FetchResult: Spin,
    /// the cache of snapshots' frames.
    FrameCache: Spin,
    /// the swap device and the transfers under way.
    SwapArea: Spin,
    /// the frames of one swap transfer.
    SwapTransfer: Spin,
    /// who is the last to refer to a page table that spaces share.
    SharedTables: Spin,
    /// the slots of the swap file.
    SwapSlots: Spin,

    /// the snapshots that a mount keeps for read-ahead.
    ReadAhead: Spin,
    /// what is kept of programs' files.
    KeptFiles: Spin,
    /// the last figures of a mount.
    Figures: Spin,
    /// the list of sessions on which handles may wait to be closed.
    Sessions: Spin,
    /// the requests in flight of a session.
    Session: Spin,
    /// the reply of a request.
    Reply: Spin,

    /// the entries of an epoll, and which of them may be ready.
    Epoll: Spin,
    /// who gets the signals of an open file.
    SignalIo: Spin,
    /// the watchers of an open file.
    FileWatchers: Spin,
    /// the watchers of an object.
    Watchers: Spin,
    /// the threads in a wait queue.
    WaitQueue: Spin,
    /// the ready threads.
    RunQueue: Spin,
    /// the table of processes and threads.
    Family: Spin,
    /// kernel stacks kept for new threads.
    SpareStacks: Spin,
    /// addresses of kernel stacks.
    StackAddresses: Spin,
    /// the list of address spaces, for reclaim.
    Spaces: Spin,
    /// the list of disks.
    Disks: Spin,
    /// who has a disk open.
    DiskOpenings: Spin,
    /// the place of the next message of an open /dev/kmsg.
    MessagesPosition: Spin,
    /// where the ramdisk lies.
    Ramdisk: Spin,
    /// a name of the machine.
    HostName: Spin,
    /// the random number generator.
    Random: Spin,
    /// the unknown system calls that were reported.
    UnknownCalls: Spin,

    /// the growth of the heap; only tried, because an allocation under any lock may need it.
    HeapGrowth: Spin,
    /// the heap's free blocks.
    HeapBlocks: Spin,
    /// the free frames.
    Frames: Spin,
    /// the memory of the screen.
    Screen: Spin,
    /// the registers of a UART.
    SerialPort: Spin,
    /// the messages of the log that are kept.
    Messages: Spin,
}

const _: () = {
    let mut row = 1;
    while row < TABLE.len() {
        assert!(
            !TABLE[row].kind.sleeps() || TABLE[row - 1].kind.sleeps(),
            "a sleeping lock would be acquired under a spin lock"
        );
        row += 1;
    }
};
