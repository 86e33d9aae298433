//! The participants: machines with their connections, processes with their files, and the step that
//! each actor is at.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use kernel::file::OpenFile;
use kernel::mem::Space;
use kernel::mount::{Mount, Trust};

use crate::holding::Shared;
use crate::model::Line;
use crate::script::{Seat, Setup};
use crate::{sched, shortage, wire};

/// An open file, and its position according to the oracle.
pub struct Opened {
    pub file: Arc<OpenFile>,
    pub position: Cell<u64>,
    pub line: Line,
    pub appends: bool,
}

/// A process: the state that its threads share.
pub struct Process {
    pub client: usize,
    pub space: Arc<Space>,
    pub files: RefCell<Vec<Rc<Opened>>>,
    pub killed: Cell<bool>,
}

impl Process {
    fn new(client: usize, shared: &Shared) -> Rc<Self> {
        let space = shortage::without(|| {
            let space = Space::new().expect("memory for a space");
            shared.map(&space);
            space
        });
        Rc::new(Self { client, space, files: RefCell::default(), killed: Cell::new(false) })
    }
}

#[derive(Default, Clone)]
enum Connection {
    #[default]
    None,
    /// An actor is connecting.
    Coming,
    There(Line, Arc<Mount>),
}

struct World {
    trust: Trust,
    seats: Vec<Seat>,
    clients: Vec<Connection>,
    /// The shared memory of each machine.
    shared: Vec<Shared>,
    processes: Vec<Rc<Process>>,
    /// The number of each actor's step. Never used twice.
    steps: Vec<u64>,
    last_step: u64,
    /// Failures of the base server before each actor's step.
    failures: Vec<u64>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| act(world.as_mut().expect("a run is under way")))
}

/// Creates the participants of a run.
pub fn begin(setup: &Setup) {
    let clients = setup.seats.iter().map(|seat| seat.client + 1).max().unwrap_or(0);
    let processes = setup.seats.iter().map(|seat| seat.process + 1).max().unwrap_or(0);
    let client_of = |process| {
        setup.seats.iter().find(|seat| seat.process == process).map_or(0, |seat| seat.client)
    };
    let shared: Vec<Shared> = (0..clients).map(|_| Shared::new()).collect();
    let process = |process| {
        let client = client_of(process);
        Process::new(client, &shared[client])
    };
    let processes = (0..processes).map(process).collect();
    let world = World {
        trust: if setup.untrusted { Trust::Untrusted } else { Trust::Trusted },
        seats: setup.seats.clone(),
        clients: vec![Connection::None; clients],
        processes,
        shared,
        steps: vec![0; setup.seats.len() + 1],
        last_step: 0,
        failures: vec![0; setup.seats.len() + 1],
    };
    WORLD.set(Some(world));
}

/// Drops all participants.
pub fn end() {
    // Not under the borrow: dropping may send messages.
    let world = WORLD.take();
    drop(world);
}

/// Begins a step of an actor. Returns its number.
pub fn begin_step(actor: usize) -> u64 {
    with(|world| {
        world.last_step += 1;
        world.steps[actor] = world.last_step;
        world.last_step
    })
}

/// The number of the last step that has begun.
pub fn last_step() -> u64 {
    with(|world| world.last_step)
}

/// A step of an actor begins after so many failures of the base server.
pub fn note_failures(actor: usize, failures: u64) {
    with(|world| world.failures[actor] = failures);
}

/// Failures of the base server before the first of the steps that are under way. What fails for one
/// actor may fail for others that wait for the same.
pub fn failures() -> u64 {
    let actors = with(|world| world.seats.len());
    let of_running =
        |actor: usize| (!sched::is_finished(actor)).then(|| with(|world| world.failures[actor]));
    (0..actors).filter_map(of_running).min().unwrap_or(0)
}

/// The number of an actor's step; 0 outside of actors.
pub fn step_of(actor: usize) -> u64 {
    WORLD.with_borrow(|world| {
        world.as_ref().and_then(|world| world.steps.get(actor).copied()).unwrap_or(0)
    })
}

/// The process of an actor; a new one if the previous one was killed.
pub fn process_of(actor: usize) -> Rc<Process> {
    let number = with(|world| world.seats[actor].process);
    let process = with(|world| world.processes[number].clone());
    if !process.killed.get() {
        return process;
    }
    let shared = with(|world| world.shared[process.client].clone());
    let new = Process::new(process.client, &shared);
    with(|world| world.processes[number] = new.clone());
    new
}

/// Looks at the shared memory of a machine.
pub fn shared<T>(client: usize, act: impl FnOnce(&mut Shared) -> T) -> T {
    with(|world| act(&mut world.shared[client]))
}

/// Kills a process.
pub fn kill(process: usize) {
    let threads: Vec<usize> = with(|world| {
        let process = process % world.processes.len();
        world.processes[process].killed.set(true);
        (0..world.seats.len()).filter(|&actor| world.seats[actor].process == process).collect()
    });
    threads.into_iter().for_each(|actor| sched::set_killed(actor, true));
}

/// Cuts the connection of a machine, if it is up.
pub fn disconnect(client: usize) {
    let connection = with(|world| world.clients[client % world.clients.len()].clone());
    if let Connection::There(line, _) = connection
        && wire::is_up(line)
    {
        wire::disconnect(line);
    }
}

/// Cuts the connection of a machine to the base alone, if it is up (F9).
pub fn disconnect_base(client: usize) {
    let connection = with(|world| world.clients[client % world.clients.len()].clone());
    if let Connection::There(line, _) = connection
        && wire::is_up(wire::direct_of(line))
    {
        wire::disconnect(wire::direct_of(line));
    }
}

/// The connection of a machine; connects if it has none. `None` if that fails, or if another actor
/// is connecting.
pub fn connection(client: usize) -> Option<(Line, Arc<Mount>)> {
    match with(|world| world.clients[client].clone()) {
        Connection::There(line, mount) if wire::is_up(line) => return Some((line, mount)),
        Connection::Coming => return None,
        Connection::There(..) | Connection::None => {}
    }
    let old = with(|world| std::mem::replace(&mut world.clients[client], Connection::Coming));
    drop(old);
    let (line, session) = wire::connect();
    let mount = Mount::with_trust(session, with(|world| world.trust)).ok();
    let connection = mount.clone().map_or(Connection::None, |mount| Connection::There(line, mount));
    with(|world| world.clients[client] = connection);
    mount.map(|mount| (line, mount))
}
