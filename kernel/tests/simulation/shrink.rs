//! Reduces a failing run: fewer steps, simpler steps, calmer choices, as long as it fails in the
//! same place.
//!
//! Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
//! 2002) over the list of steps. The choices of an order mean something else once a step is
//! removed, so each candidate is tried in several orders. Choices are reduced last, when the steps
//! are final.

use std::time::{Duration, Instant};

use crate::order::Order;
use crate::run::{Failure, run};
use crate::script::{Case, Op, PAGE, Piece, Script};

/// Orders in which a candidate is tried.
const ORDERS: u64 = 40;

/// Searches for a smaller failing run until a deadline.
pub struct Shrinker {
    place: String,
    deadline: Instant,
    /// The smallest case that fails, and its failure.
    best: (Case, Failure),
}

impl Shrinker {
    /// Reduces a failing script within a time limit. The result fails when it is replayed.
    pub fn shrink(script: Script, failure: Failure, limit: Duration) -> (Case, Failure) {
        let case = Case { script, choices: failure.choices.clone() };
        let deadline = Instant::now() + limit;
        let mut shrinker = Self { place: failure.place.clone(), deadline, best: (case, failure) };
        shrinker.drop_steps();
        shrinker.simplify_steps();
        shrinker.drop_steps();
        shrinker.calm_choices();
        shrinker.best
    }

    fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Whether a script fails in the same place, in some order.
    fn still_fails(&mut self, script: &Script) -> bool {
        let last = self.best.0.choices.clone();
        let orders = std::iter::once(Order::replayed(last)).chain((0..ORDERS).map(Order::drawn));
        for order in orders {
            if self.is_late() {
                return false;
            }
            if self.keep_if_failing(script, order) {
                return true;
            }
        }
        false
    }

    fn keep_if_failing(&mut self, script: &Script, order: Order) -> bool {
        let Err(failure) = run(script, order) else { return false };
        if failure.place != self.place {
            return false;
        }
        let case = Case { script: script.clone(), choices: failure.choices.clone() };
        self.best = (case, failure);
        true
    }

    fn drop_steps(&mut self) {
        let mut size = self.best.0.script.steps.len().div_ceil(2);
        while size > 0 && !self.is_late() {
            let mut at = 0;
            while at < self.best.0.script.steps.len() {
                let mut script = self.best.0.script.clone();
                let end = (at + size).min(script.steps.len());
                script.steps.drain(at..end);
                if !self.still_fails(&script) {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        self.drop_seats();
    }

    /// Removes the last actors while they have no steps.
    fn drop_seats(&mut self) {
        loop {
            let mut script = self.best.0.script.clone();
            let last = script.setup.seats.len() - 1;
            if last == 0 || script.steps.iter().any(|(actor, _)| *actor == last) {
                return;
            }
            script.setup.seats.pop();
            script
                .steps
                .iter_mut()
                .filter(|(actor, _)| *actor > last)
                .for_each(|(actor, _)| *actor -= 1);
            if !self.still_fails(&script) {
                return;
            }
        }
    }

    fn simplify_steps(&mut self) {
        for at in 0..self.best.0.script.steps.len() {
            let mut tried = 0;
            while let Some(op) = simpler(&self.best.0.script.steps[at].1).into_iter().nth(tried) {
                let mut script = self.best.0.script.clone();
                script.steps[at].1 = op;
                if self.is_late() {
                    return;
                }
                tried = if self.still_fails(&script) { 0 } else { tried + 1 };
            }
        }
    }

    /// Replaces choices by zeros, and drops the zeros at the end.
    fn calm_choices(&mut self) {
        let script = self.best.0.script.clone();
        let mut size = self.best.0.choices.len().next_power_of_two();
        while size > 0 && !self.is_late() {
            let mut at = 0;
            while at < self.best.0.choices.len() && !self.is_late() {
                let mut choices = self.best.0.choices.clone();
                let end = (at + size).min(choices.len());
                if choices[at..end].iter().any(|&choice| choice != 0) {
                    choices[at..end].fill(0);
                    self.keep_if_failing(&script, Order::replayed(choices));
                }
                at += size;
            }
            size /= 2;
        }
        let choices = &mut self.best.0.choices;
        choices
            .truncate(choices.iter().rposition(|&choice| choice != 0).map_or(0, |last| last + 1));
    }
}

/// Simpler forms of a step, the simplest first.
fn simpler(op: &Op) -> Vec<Op> {
    let mut forms = Vec::new();
    match op {
        Op::Read { memory, file, at, pieces } | Op::Write { memory, file, at, pieces } => {
            let form = |memory, file, pieces| match op {
                Op::Read { .. } => Op::Read { memory, file, at: *at, pieces },
                _ => Op::Write { memory, file, at: *at, pieces },
            };
            forms.extend((pieces.len() > 1).then(|| form(*memory, *file, pieces[..1].to_vec())));
            if let [piece] = pieces[..] {
                forms.extend(
                    shorter(piece).into_iter().map(|piece| form(*memory, *file, vec![piece])),
                );
            }
            forms.extend((*memory > 0).then(|| form(0, *file, pieces.clone())));
            forms.extend((*file > 0).then(|| form(*memory, 0, pieces.clone())));
        }
        &Op::Load { memory, at, stride } => {
            forms.extend(shorter(at).into_iter().map(|at| Op::Load { memory, at, stride }));
            forms.extend((stride < PAGE).then_some(Op::Load { memory, at, stride: PAGE }));
        }
        &Op::Fill { memory, at, value } => {
            forms.extend(shorter(at).into_iter().map(|at| Op::Fill { memory, at, value }))
        }
        &Op::Store { memory, at, stride, value } => {
            forms.extend(shorter(at).into_iter().map(|at| Op::Store { memory, at, stride, value }));
            forms.extend((stride < PAGE).then_some(Op::Store { memory, at, stride: PAGE, value }));
        }
        _ => {}
    }
    forms
}

/// One byte, one page, half as long, starting at a page boundary.
fn shorter(Piece(start, length): Piece) -> Vec<Piece> {
    let mut forms = Vec::new();
    if length > 1 {
        forms.push(Piece(start, 1));
    }
    if length > PAGE {
        forms.push(Piece(start, PAGE));
        forms.push(Piece(start, (length / 2).next_multiple_of(PAGE).min(length - 1)));
    }
    if !start.is_multiple_of(PAGE) {
        forms.push(Piece(start / PAGE * PAGE, length));
    }
    forms
}
