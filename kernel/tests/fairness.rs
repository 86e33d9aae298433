//! The policy of the scheduler against an oracle of fairness, in simulated time.
//!
//! A machine of one CPU runs hogs, which always compute; clients, which compute and have a server
//! work for them; flooders, which send the server many requests before they wait for it; and
//! sleepers, which wake, compute a little or a lot, and sleep again. What they do is drawn from a
//! seed. The oracle knows CPU time and niceness only:
//!
//! - Of two that always compute, neither gets more than its weight says, in any window, but for
//!   some slices. What clients get beyond their weights, the server's work for them included, is
//!   the server's share at most, for all of them together.
//! - A client alone with its server gets the shares of both, unless it computes so much itself that
//!   it uses up its own.
//! - Who is ready waits for a bounded time, and a sleeper that needs little hardly at all: not for
//!   those that always compute ([`Machine::most_before_sleeper`]).

use std::cell::RefCell;
use std::rc::Rc;

use fastrand::Rng;
use foundation::mutant::{Mutant, choose};
use kernel::sync::{LEVELLED, Share, Turn};
use kernel::task::fair::{self, CREDIT, Contender, GRAIN, RunQueue};

/// The scheduler's slice.
const SLICE_NS: u64 = 1_000_000;
const SEEDS: u64 = 200;
/// Simulated time of a run.
const RUN_NS: u64 = 2_000_000_000;
/// A window of the oracle.
const WINDOW_NS: u64 = 250_000_000;
/// Weights of the nicenesses that are drawn.
const WEIGHTS: [(i32, u64); 5] = [(-5, 3121), (0, 1024), (0, 1024), (4, 423), (10, 110)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Hog,
    /// Computes for a while, then waits for the server.
    Client,
    /// Likewise, but has many requests under way.
    Flooder,
    /// Sleeps, then computes for at most so many nanoseconds.
    Sleeper(u64),
    Server,
}

struct Task {
    kind: Kind,
    weight: u64,
    share: Turn,
    lent: RefCell<Option<(usize, Turn)>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// CPU time until it does something else.
    left_ns: u64,
    wakes_at: Option<u64>,
    /// Since when it is ready and does not run.
    ready_since: Option<u64>,
    /// CPU time, and that of the server for it.
    used_ns: [u64; 2],
    /// Requests that the server has not yet carried out, of a flooder.
    requests: usize,
}

impl Contender for Task {
    fn virtual_time(&self) -> u64 {
        let own = self.share.virtual_time();
        self.lent.borrow().as_ref().map_or(own, |(_, lent)| lent.virtual_time().min(own))
    }

    fn raise_to(&self, virtual_time: u64) {
        self.share.raise_to(virtual_time);
        if let Some((_, lent)) = &*self.lent.borrow() {
            lent.raise_to(virtual_time);
        }
    }
}

/// As the queue's items are counted references in the kernel, too.
#[derive(Clone)]
struct Item(Rc<Task>, usize);

impl Contender for Item {
    fn virtual_time(&self) -> u64 {
        self.0.virtual_time()
    }

    fn raise_to(&self, virtual_time: u64) {
        self.0.raise_to(virtual_time);
    }
}

struct Machine {
    now: u64,
    random: Rng,
    tasks: Vec<Rc<Task>>,
    queue: RunQueue<Item>,
    running: Option<usize>,
    slice_end: u64,
    /// Requests that the server has not yet begun.
    requests: Vec<usize>,
    /// Whether the server is ready or runs.
    is_serving: bool,
    /// CPU time of each, and of the server for it, when the window began.
    before: Vec<[u64; 2]>,
}

const SERVER: usize = 0;
/// For how long a client, or the server for it, computes at a time, at most.
const MOST_COMPUTED_NS: u64 = 305_000;
/// Requests that a flooder sends before it waits.
const FLOOD: usize = 300;

impl Machine {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut kinds = vec![Kind::Server];
        kinds.extend((0..2 + random.u64(..3)).map(|_| Kind::Hog));
        kinds.extend((0..random.u64(..3)).map(|_| Kind::Client));
        kinds.extend((0..random.u64(..2)).map(|_| Kind::Flooder));
        kinds.extend((0..random.u64(..3)).map(|_| Kind::Sleeper(50_000)));
        kinds.extend((0..random.u64(..2)).map(|_| Kind::Sleeper(400_000_000)));
        let mut draw = |kind| {
            let at = if kind == Kind::Hog { random.usize(..5) } else { 1 };
            (kind, WEIGHTS[at])
        };
        let kinds = kinds.into_iter().map(&mut draw).collect();
        Self::of(random, kinds)
    }

    /// A machine with these tasks, the first of which is the server.
    fn of(random: Rng, kinds: Vec<(Kind, (i32, u64))>) -> Self {
        let make = |(kind, (niceness, weight))| {
            let share = Share::default();
            share.set_niceness(niceness);
            let state = State::default();
            let task = Task {
                kind,
                weight,
                share: share.into(),
                lent: RefCell::new(None),
                state: RefCell::new(state),
            };
            Rc::new(task)
        };
        let tasks: Vec<_> = kinds.into_iter().map(make).collect();
        let before = vec![[0; 2]; tasks.len()];
        let queue = RunQueue::new();
        let (running, slice_end) = (None, u64::MAX);
        let (requests, is_serving) = (Vec::new(), false);
        let mut machine =
            Self { now: 0, random, tasks, queue, running, slice_end, requests, is_serving, before };
        for at in 1..machine.tasks.len() {
            machine.plan(at);
            machine.wake(at);
        }
        machine
    }

    /// Draws for how long a task computes next.
    fn plan(&mut self, at: usize) {
        let task = &self.tasks[at];
        task.state.borrow_mut().left_ns = match task.kind {
            Kind::Hog => u64::MAX,
            Kind::Flooder => 2_000,
            Kind::Client | Kind::Server => 5_000 + self.random.u64(..MOST_COMPUTED_NS - 5_000),
            Kind::Sleeper(most) => 1_000 + self.random.u64(..most),
        };
    }

    fn wake(&mut self, at: usize) {
        let running = self.running.map(|running| self.tasks[running].virtual_time());
        if let Some(running) = running {
            self.queue.advance(running);
        }
        let task = self.tasks[at].clone();
        task.state.borrow_mut().ready_since = Some(self.now);
        let woken = self.queue.wake(Item(task, at));
        let is_behind = running.is_some_and(|running| fair::is_behind(woken, running));
        if self.running.is_some() && self.slice_end == u64::MAX {
            self.slice_end = self.now + SLICE_NS;
        }
        // As the kernel does it: only for those that an interrupt wakes.
        if is_behind && matches!(self.tasks[at].kind, Kind::Sleeper(_)) {
            self.put_back();
        }
    }

    fn put_back(&mut self) {
        if let Some(running) = self.running.take() {
            let task = self.tasks[running].clone();
            task.state.borrow_mut().ready_since = Some(self.now);
            self.queue.put_back(Item(task, running));
        }
    }

    /// The server, which runs, takes the next request, or waits for one.
    fn serve(&mut self) {
        if self.requests.is_empty() {
            self.is_serving = false;
            self.running = None;
            return;
        }
        let client = self.requests.remove(0);
        let lent = self.tasks[client].share.clone();
        *self.tasks[SERVER].lent.borrow_mut() = Some((client, lent));
        self.plan(SERVER);
    }

    /// The running task has computed for as long as it wanted to.
    fn finish(&mut self, at: usize) {
        let task = self.tasks[at].clone();
        self.queue.advance(task.virtual_time());
        match task.kind {
            Kind::Hog => unreachable!("a hog never ends"),
            Kind::Sleeper(_) => {
                let most_ms = if self.random.u64(..20) == 0 { 400 } else { 20 };
                let sleep_ns = self.random.u64(..most_ms * 1_000_000);
                task.state.borrow_mut().wakes_at = Some(self.now + sleep_ns + 1);
                self.running = None;
            }
            Kind::Client => {
                self.running = None;
                self.request(at);
            }
            Kind::Flooder => {
                let mut state = task.state.borrow_mut();
                state.requests += 1;
                let waits = state.requests == FLOOD;
                drop(state);
                if waits {
                    self.running = None;
                } else {
                    self.plan(at);
                }
                self.request(at);
            }
            Kind::Server => {
                let client = task.lent.borrow_mut().take().map(|(client, _)| client);
                let client = client.expect("the server works for somebody");
                self.reply(client);
                self.serve();
            }
        }
    }

    /// The server takes a request when it runs: it is woken without its client's turn.
    fn request(&mut self, client: usize) {
        self.requests.push(client);
        if !self.is_serving {
            self.is_serving = true;
            self.wake(SERVER);
        }
    }

    fn reply(&mut self, client: usize) {
        let mut state = self.tasks[client].state.borrow_mut();
        let waited = self.tasks[client].kind == Kind::Client || state.requests == FLOOD;
        state.requests = state.requests.saturating_sub(1);
        drop(state);
        if waited {
            self.plan(client);
            self.wake(client);
        }
    }

    /// Runs until the next event.
    fn step(&mut self) -> Result<(), String> {
        if self.running.is_none()
            && let Some(Item(task, at)) = self.queue.take()
        {
            let since = task.state.borrow_mut().ready_since.take().unwrap_or(self.now);
            self.check_wait(at, self.now - since)?;
            self.running = Some(at);
            if at == SERVER && task.lent.borrow().is_none() {
                self.serve();
            }
            self.slice_end = if self.queue.is_empty() { u64::MAX } else { self.now + SLICE_NS };
        }
        let wakes = self.tasks.iter().filter_map(|task| task.state.borrow().wakes_at).min();
        let left = self.running.map(|at| self.tasks[at].state.borrow().left_ns);
        let ends = left.map_or(u64::MAX, |left| self.now.saturating_add(left));
        let next = ends.min(self.slice_end).min(wakes.unwrap_or(u64::MAX)).max(self.now);
        if next == u64::MAX {
            return Err("nobody will ever run again".to_owned());
        }
        self.run_until(next);
        if let Some(running) = self.running
            && self.tasks[running].state.borrow().left_ns == 0
        {
            self.finish(running);
        }
        for at in 1..self.tasks.len() {
            let due = self.tasks[at].state.borrow().wakes_at.is_some_and(|at| at <= self.now);
            if due {
                self.tasks[at].state.borrow_mut().wakes_at = None;
                self.plan(at);
                self.wake(at);
            }
        }
        if self.now >= self.slice_end {
            self.slice_end = if self.queue.is_empty() { u64::MAX } else { self.now + SLICE_NS };
            let running = self.running.map(|at| self.tasks[at].virtual_time());
            if running.is_some_and(|ns| self.queue.is_due(ns)) {
                self.put_back();
            }
        }
        Ok(())
    }

    fn run_until(&mut self, next: u64) {
        let spent = next - self.now;
        self.now = next;
        let Some(running) = self.running else { return };
        let task = &self.tasks[running];
        match &*task.lent.borrow() {
            Some((client, lent)) => {
                task.share.charge_service(lent, spent);
                self.tasks[*client].state.borrow_mut().used_ns[1] += spent;
            }
            None => {
                task.share.charge(spent);
                task.state.borrow_mut().used_ns[0] += spent;
            }
        }
        let left = &mut task.state.borrow_mut().left_ns;
        *left = left.saturating_sub(if *left == u64::MAX { 0 } else { spent });
    }

    /// For how long a sleeper that needs little can have to wait, with its credit untouched but for
    /// at most [`GRAIN`].
    ///
    /// Let F be the floor when it wakes. Its virtual time is F - CREDIT + GRAIN at most then.
    /// Those that always want the CPU have F at least, which is more by GRAIN and more: the running
    /// one makes way at once, and those that are ready come later. Before the sleeper come only
    /// others that woke with credit, and a server at their expense. These have F - CREDIT at least,
    /// so each runs for GRAIN in all before it comes later, too, and then to the end of what it has
    /// begun, or of its slice. (In the first window nobody has any credit yet.)
    fn most_before_sleeper(&self, sleeper: usize) -> u64 {
        let others = self.tasks.iter().enumerate().filter(|&(at, _)| at != sleeper);
        others
            .map(|(_, task)| match task.kind {
                // The server's work is counted with those for whom it works.
                Kind::Hog | Kind::Server => 0,
                Kind::Client => GRAIN + 2 * MOST_COMPUTED_NS,
                // The server goes on with its next request.
                Kind::Flooder => GRAIN + SLICE_NS,
                Kind::Sleeper(most) => GRAIN + SLICE_NS.min(most),
            })
            .sum()
    }

    /// A task has waited for so long while it was ready.
    fn check_wait(&self, at: usize, waited: u64) -> Result<(), String> {
        let others = self.tasks.len() as u64;
        let limit = match self.tasks[at].kind {
            // It pays for what the server did meanwhile.
            Kind::Flooder => return Ok(()),
            Kind::Sleeper(most) if most < SLICE_NS && self.now > WINDOW_NS => {
                self.most_before_sleeper(at)
            }
            // Each of the others may have its credit and a slice, by its weight.
            _ => {
                let heaviest = self.tasks.iter().map(|task| task.weight).max().unwrap_or(1);
                let slowdown = heaviest / self.tasks[at].weight.min(heaviest) + 1;
                others * slowdown * (SLICE_NS + CREDIT)
            }
        };
        if waited > limit {
            let kind = self.tasks[at].kind;
            return Err(format!("{kind:?} {at} was ready for {waited} ns, limit {limit}"));
        }
        Ok(())
    }

    /// CPU time of a task in the window, and of the server for it.
    fn got(&self, at: usize) -> [f64; 2] {
        let state = self.tasks[at].state.borrow();
        [0, 1].map(|kind| (state.used_ns[kind] - self.before[at][kind]) as f64)
    }

    /// At the end of a window: compares those that always wanted the CPU.
    fn check_shares(&mut self) -> Result<(), String> {
        // One slice too much, one too few, and a client's turn behind others at the server.
        let slack = 3.0 * SLICE_NS as f64;
        let lead = (2 * CREDIT + 2 * LEVELLED) as f64;
        let all = || (0..self.tasks.len()).map(|at| (at, &*self.tasks[at]));
        let weight = |task: &Task| task.weight as f64 / 1024.0;

        let hogs = all().filter(|(_, task)| task.kind == Kind::Hog);
        let mut hogs: Vec<_> = hogs
            .map(|(at, task)| (self.got(at)[0] / weight(task), slack / weight(task), at))
            .collect();
        hogs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (Some(&(least, least_slack, poor)), Some(&(most, most_slack, rich))) =
            (hogs.first(), hogs.last())
        else {
            return Err("no hogs".to_owned());
        };
        if most - least > least_slack + most_slack + 2.0 * CREDIT as f64 {
            return Err(format!("hog {rich} got {most:.0} virtual ns, hog {poor} got {least:.0}"));
        }

        // No share is used beyond what each hog has had of its own.
        let clients =
            || all().filter(|(_, task)| matches!(task.kind, Kind::Client | Kind::Flooder));
        let ahead: f64 = clients()
            .map(|(at, task)| {
                let [computed, served] = self.got(at);
                let own = (least + least_slack + lead) * weight(task) + slack;
                (computed + served - own).max(0.0)
            })
            .sum();
        let server = &self.tasks[SERVER];
        let servers = (least + least_slack + lead) * weight(server) + slack;
        if ahead > servers {
            return Err(format!(
                "clients got {ahead:.0} ns beyond their shares, the server's is {servers:.0}"
            ));
        }

        // A client alone uses the server's share and its own one.
        if let [(at, task)] = *clients().collect::<Vec<_>>() {
            let [computed, served] = self.got(at);
            let own = (most - most_slack - lead) * weight(task) - slack;
            let servers = (most - most_slack - lead) * weight(server) - slack;
            if computed < own && computed + served < own + servers {
                return Err(format!(
                    "{:?} {at} computed for {computed:.0} of {own:.0} ns and was served for \
                     {served:.0} of {servers:.0} ns",
                    task.kind
                ));
            }
        }
        self.before = all().map(|(_, task)| task.state.borrow().used_ns).collect();
        Ok(())
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut machine = Machine::new(seed);
    let mut window_end = WINDOW_NS;
    while machine.now < RUN_NS {
        machine.step()?;
        if machine.now >= window_end {
            machine.check_shares()?;
            window_end += WINDOW_NS;
        }
    }
    Ok(())
}

/// Beside many of the least niceness, one of the greatest gets its small part.
fn run_extremes() -> Result<(), String> {
    const RUN_NS: u64 = 600_000_000_000;
    let (most, least) = ((-20, 88_761), (19, 15));
    let mut kinds = vec![(Kind::Server, most)];
    kinds.extend([(Kind::Hog, most); 10]);
    kinds.push((Kind::Hog, least));
    let mut machine = Machine::of(Rng::with_seed(1), kinds);
    while machine.now < RUN_NS {
        machine.step()?;
    }
    let got_ns = machine.tasks[11].state.borrow().used_ns[0];
    let part_ns = RUN_NS / (10 * most.1 / least.1);
    if got_ns.abs_diff(part_ns) > 2 * SLICE_NS {
        return Err(format!("the nicest got {got_ns} ns, its part is {part_ns} ns"));
    }
    Ok(())
}

/// The seeds from the first one on, until one fails.
fn run_all() -> Result<(), String> {
    run_extremes()?;
    (1..=SEEDS).try_for_each(|seed| run(seed).map_err(|error| format!("seed {seed}: {error}")))
}

/// Mutants that the oracle notices.
const NOTICED: &[Mutant] =
    &[Mutant::HoardCredit, Mutant::IgnoreNiceness, Mutant::FreeService, Mutant::ClientPays];

#[test]
fn unfair_mutants_are_noticed() {
    run_all().expect("the policy is fair");
    for &mutant in NOTICED {
        choose(Some(mutant));
        assert!(run_all().is_err(), "{} is not noticed", mutant.name());
        choose(None);
    }
}
