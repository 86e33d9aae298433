//! A script: the participants, and the steps of each with all parameters. A script and an order
//! determine a run completely. Both can be saved as text.

use serde::{Deserialize, Serialize};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages of an actor's window in its address space.
pub const WINDOW_PAGES: usize = 20;
pub const WINDOW: usize = WINDOW_PAGES * PAGE;
/// Names of files: few, so that actors share files.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// An actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its machine, which has its own memory, frame cache and connection.
    pub client: usize,
    /// Its process; the threads of a process share memory and files.
    pub process: usize,
}

fn largest() -> u64 {
    foundation::knob::MAX_FAULT_AROUND
}

fn compose_pages() -> u64 {
    16
}

/// The parameters of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub seats: Vec<Seat>,
    /// Capacity of the base server, in pages.
    pub capacity_pages: u64,
    /// How many of these are memory; 0 for all. The others are on its device.
    #[serde(default)]
    pub budget_pages: u64,
    pub fault_around: u64,
    /// The largest window of a fault.
    #[serde(default = "largest")]
    pub fault_around_max: u64,
    /// Regions of so many pages are fetched whole; above the pages of an actor's window: all.
    #[serde(default)]
    pub fault_whole: u64,
    pub min_lazy_pages: u64,
    /// Reads of at most so many whole pages copy after one that was touched.
    #[serde(default)]
    pub copy_touched: u64,
    /// Small adjacent reads of so many pages and more are associated.
    #[serde(default)]
    pub coalesce_pages: u64,
    /// Windows of so many pages and more are composed of pages of the file.
    #[serde(default = "compose_pages")]
    pub compose_pages: u64,
    /// Bits of `fsproto::Features` that the base server does not have.
    pub lacks: u32,
    /// Requests may overtake each other.
    pub overtaking: bool,
    /// The machines do not trust the servers (X3).
    #[serde(default)]
    pub untrusted: bool,
    /// The wrapper says to the only machine that it is.
    #[serde(default)]
    pub sole: bool,
    /// Attributes are looked at after each step (X10).
    #[serde(default)]
    pub looks: bool,
}

/// A range of an actor's window: first byte and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub usize, pub usize);

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// This offset, in bytes.
    Offset(u64),
    /// The position of the open file, which advances.
    Position,
}

/// Which requests to the base server fail, or that transfers of its device do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failing {
    Reads,
    Changes,
    All,
    Transfers,
}

/// One step. `memory` and `file` are indices into what the actor has, modulo its number. The steps
/// from `Evict` on are events of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Read {
        memory: usize,
        file: usize,
        at: At,
        pieces: Vec<Piece>,
    },
    Write {
        memory: usize,
        file: usize,
        at: At,
        pieces: Vec<Piece>,
    },
    Load {
        memory: usize,
        at: Piece,
        stride: usize,
    },
    Store {
        memory: usize,
        at: Piece,
        stride: usize,
        value: u8,
    },
    /// The kernel stores bytes that are from no file.
    Fill {
        memory: usize,
        at: Piece,
        value: u8,
    },
    /// Pages outside the window are filled, and held until the next `Hold` or `Release`, which
    /// compares them.
    Hold {
        memory: usize,
        pages: usize,
        value: u8,
    },
    Release {
        memory: usize,
    },
    /// Pages that all processes of the machine share are stored to.
    StoreShared {
        memory: usize,
        stride: usize,
        value: u8,
    },
    LoadShared {
        memory: usize,
        stride: usize,
    },
    /// A file is mapped shared, in place of what the slot had.
    MapFile {
        slot: usize,
        name: usize,
        page: usize,
        pages: usize,
        writable: bool,
    },
    UnmapFile {
        memory: usize,
        slot: usize,
    },
    LoadFile {
        memory: usize,
        slot: usize,
        at: Piece,
        stride: usize,
    },
    StoreFile {
        memory: usize,
        slot: usize,
        at: Piece,
        stride: usize,
        value: u8,
    },
    /// The mapping is synchronised, as by msync(2).
    SyncMapping {
        memory: usize,
        slot: usize,
    },
    /// Reads from a file to a mapped one.
    ReadToMapping {
        memory: usize,
        slot: usize,
        at: Piece,
        file: usize,
        offset: u64,
    },
    /// Writes to a file from a mapped one.
    WriteFromMapping {
        memory: usize,
        slot: usize,
        at: Piece,
        file: usize,
        offset: u64,
    },
    Fork {
        memory: usize,
    },
    Exit {
        memory: usize,
    },
    Map {
        memory: usize,
        page: usize,
        pages: usize,
    },
    Unmap {
        memory: usize,
        page: usize,
        pages: usize,
    },
    Discard {
        memory: usize,
        page: usize,
        pages: usize,
    },
    Protect {
        memory: usize,
        page: usize,
        pages: usize,
        permissions: u32,
    },
    Remap {
        memory: usize,
        page: usize,
        pages: usize,
        to: usize,
        new_pages: usize,
    },
    Open {
        name: usize,
        truncate: bool,
        append: bool,
    },
    Close {
        file: usize,
    },
    Seek {
        file: usize,
        to: u64,
    },
    Stat {
        file: usize,
    },
    /// Changes permissions.
    Chmod {
        file: usize,
        mode: u16,
    },
    Truncate {
        file: usize,
        size: u64,
    },
    Punch {
        file: usize,
        offset: u64,
        length: u64,
    },
    Allocate {
        file: usize,
        offset: u64,
        length: u64,
        extends: bool,
    },
    Sync {
        file: usize,
    },
    Remove {
        name: usize,
    },
    Rename {
        old: usize,
        new: usize,
    },
    List,
    /// Evicts clean frames that only the cache holds.
    Evict {
        frames: usize,
    },
    /// Reclaims mapped pages of programs: clean ones are dropped, private ones are swapped out.
    Take {
        pages: usize,
    },
    /// The swap file is full, or no longer full.
    FillSwap {
        is_full: bool,
    },
    /// The next reads of the swap file fail.
    FailSwap {
        times: u32,
    },
    /// The swap file is lost, and another one takes its place.
    LoseSwap,
    /// Time goes by, so that what a server refused is tried again.
    Later {
        seconds: u64,
    },
    /// Programs can allocate only so many more frames.
    Shortage {
        frames: usize,
    },
    /// Programs can allocate all frames again.
    Plenty,
    /// A process is killed in the middle of an operation.
    Kill {
        process: usize,
    },
    /// A connection is lost.
    Disconnect {
        client: usize,
    },
    /// A connection to the base server is lost.
    DisconnectBase {
        client: usize,
    },
    /// After `after` requests to the base server, `times` requests fail.
    Fail {
        which: Failing,
        after: u32,
        times: u32,
        full: bool,
    },
}

/// The parameters of a run and all its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub setup: Setup,
    /// Steps with the index of their actor, which carries out its own in this order. The index
    /// after the last seat is the environment.
    pub steps: Vec<(usize, Op)>,
}

/// A script and the choices of an order, for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub script: Script,
    pub choices: Vec<u32>,
}

impl Script {
    /// The steps of one actor.
    pub fn steps_of(&self, actor: usize) -> Vec<Op> {
        self.steps.iter().filter(|(who, _)| *who == actor).map(|(_, op)| op.clone()).collect()
    }
}

impl Case {
    /// As text: the setup, a line for each step, the choices.
    pub fn to_text(&self) -> String {
        let mut text = format!("setup {}\n", ron(&self.script.setup));
        for (actor, op) in &self.script.steps {
            text += &format!("{actor} {}\n", ron(op));
        }
        let choices: Vec<String> = self.choices.iter().map(u32::to_string).collect();
        text + &format!("choices {}\n", choices.join(" "))
    }

    /// From text; lines that begin with `#` are comments.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let (mut setup, mut steps, mut choices) = (None, Vec::new(), Vec::new());
        for line in
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let bad = |error: &dyn std::fmt::Display| format!("{line}: {error}");
            match word {
                "setup" => setup = Some(ron::from_str(rest).map_err(|error| bad(&error))?),
                "choices" => {
                    choices = rest
                        .split_whitespace()
                        .map(str::parse)
                        .collect::<Result<_, _>>()
                        .map_err(|error| bad(&error))?;
                }
                actor => {
                    let actor = actor.parse().map_err(|error| bad(&error))?;
                    steps.push((actor, ron::from_str(rest).map_err(|error| bad(&error))?));
                }
            }
        }
        let setup = setup.ok_or("no setup")?;
        Ok(Self { script: Script { setup, steps }, choices })
    }
}

fn ron(value: &impl Serialize) -> String {
    ron::to_string(value).expect("plain data")
}
