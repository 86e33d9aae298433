//! What a run is: who takes part, and what each of them does, with all parameters. Together with an
//! order it says everything; as text it can be kept.

use serde::{Deserialize, Serialize};

pub const PAGE: usize = 4096;
/// Pages of an actor's part of its address space.
pub const WINDOW_PAGES: usize = 20;
pub const WINDOW: usize = WINDOW_PAGES * PAGE;
/// Names of files: few, so that actors meet.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// One who does things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The machine it is on: with memory, a cache and a connection of its own.
    pub client: usize,
    /// Its process; actors of one process share its memory and its files.
    pub process: usize,
}

/// The circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub seats: Vec<Seat>,
    /// Room of the store beneath.
    pub capacity_pages: u64,
    /// How much of that is memory; 0 for all. The rest is on its device.
    #[serde(default)]
    pub budget_pages: u64,
    pub fault_around: u64,
    pub min_lazy_pages: u64,
    /// What the store beneath can do: bits of `fsproto::Features` that it has not.
    pub lacks: u32,
    /// Requests may overtake each other.
    pub overtaking: bool,
    /// The machines do not trust the servers (X3).
    #[serde(default)]
    pub untrusted: bool,
}

/// A range of an actor's window: first byte and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub usize, pub usize);

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// There.
    Offset(u64),
    /// At the open file's position, which moves.
    Position,
}

/// Which requests to the store beneath fail; or the transfers of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failing {
    Reads,
    Changes,
    All,
    Transfers,
}

/// One step. `memory` and `file` count what the actor has, around and around. The last ones are the
/// world's.
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
    /// The kernel brings bytes that come from no file.
    Fill {
        memory: usize,
        at: Piece,
        value: u8,
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
        #[serde(rename = "rights")]
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
    Truncate {
        file: usize,
        size: u64,
    },
    Punch {
        file: usize,
        offset: u64,
        length: u64,
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
    /// So many clean frames go, that only the cache holds.
    Evict {
        frames: usize,
    },
    /// The clock takes so many pages away from programs: clean ones are fetched again, others go to
    /// the swap file.
    Take {
        pages: usize,
    },
    /// The swap file takes no more pages, or does again.
    FillSwap {
        is_full: bool,
    },
    /// So many times pages cannot be had from the swap file.
    FailSwap {
        times: u32,
    },
    /// Programs can have so many more frames, and no others.
    Shortage {
        frames: usize,
    },
    /// Programs can have all frames again.
    Plenty,
    /// A process ends, in the middle of whatever it does.
    Kill {
        process: usize,
    },
    /// A connection is lost.
    Disconnect {
        client: usize,
    },
    /// After so many requests to the store beneath, so many fail.
    Fail {
        which: Failing,
        after: u32,
        times: u32,
        full: bool,
    },
}

/// A run's beginning and all its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub setup: Setup,
    /// Who does what; each actor does its own in this order. The number after the last seat is the
    /// world.
    pub steps: Vec<(usize, Op)>,
}

/// A script, and the choices of an order.
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

    /// From text; lines that begin with `#` are for the reader.
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
