//! Carries out a case with each claim failing in turn, and compares what is left.

use foundation::Errno;
use kernel::mem::host::failure;
use kernel::sync::{Interrupt, relax};

use crate::world::{NAMES, World};

/// A system call, and what is there before it.
pub struct Case {
    pub name: &'static str,
    pub world: fn() -> World,
    pub prepare: fn(&World),
    pub call: fn(&World) -> Result<u64, Errno>,
}

/// What a call can change.
#[derive(Clone, PartialEq, Eq)]
struct State {
    files: Vec<Option<(Vec<u8>, u64)>>,
    memory: Vec<Option<Vec<u8>>>,
}

impl State {
    fn of(world: &World) -> Self {
        let files = NAMES.iter().map(|name| world.file(name)).collect();
        Self { files, memory: world.memory() }
    }

    fn contents(&self) -> Vec<Option<&[u8]>> {
        let files = self.files.iter().map(|file| file.as_ref().map(|(bytes, _)| bytes.as_slice()));
        files.chain(self.memory.iter().map(Option::as_deref)).collect()
    }
}

/// Whether each byte of `now` is that of `before` or that of `after`.
fn is_between(now: Option<&[u8]>, before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
    let Some(bytes) = now else { return before.is_none() || after.is_none() };
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let longest = before.len().max(after.len());
    bytes.len() <= longest
        && bytes.iter().enumerate().all(|(at, byte)| {
            let zero = &0;
            [before.get(at).unwrap_or(zero), after.get(at).unwrap_or(zero)].contains(&byte)
        })
}

/// Runs a case until no claim fails. Returns how many did.
pub fn case(case: &Case) -> usize {
    let (before, after) = without_failure(case);
    for claim in 0.. {
        let world = (case.world)();
        (case.prepare)(&world);
        let (result, claims) = failure::during(Some(claim), || (case.call)(&world));
        let what = format!("{}, claim {claim} of {claims} fails, {result:?}", case.name);
        relax(Interrupt::Killable).expect("nobody is killed");
        let now = State::of(&world);
        for (index, (now, (before, after))) in now
            .contents()
            .into_iter()
            .zip(before.contents().into_iter().zip(after.contents()))
            .enumerate()
        {
            assert!(is_between(now, before, after), "{what}: wrong bytes in {index}");
        }
        for (name, (now, before)) in NAMES.iter().zip(now.files.iter().zip(&before.files)) {
            if let (Some((bytes, version)), Some((old, old_version))) = (now, before) {
                assert!(bytes == old || version != old_version, "{what}: the version of {name}");
            }
        }
        if claims <= claim {
            assert!(now.contents() == after.contents(), "{what}: all claims were met");
            world.end(&what);
            return claim;
        }
        // A call that met the failure in another way may not be repeatable.
        if now.contents() != after.contents() {
            let again = (case.call)(&world);
            let is_done = State::of(&world).contents() == after.contents();
            assert!(is_done, "{what}: then {again:?}, and not all is done");
        }
        world.end(&what);
    }
    unreachable!("a call has a finite number of claims")
}

/// The states before and after a call that meets no failure.
fn without_failure(case: &Case) -> (State, State) {
    let world = (case.world)();
    (case.prepare)(&world);
    let before = State::of(&world);
    world.end(case.name);
    let world = (case.world)();
    (case.prepare)(&world);
    let result = (case.call)(&world);
    assert!(result.is_ok(), "{}: {result:?}", case.name);
    let after = State::of(&world);
    world.end(case.name);
    (before, after)
}
