//! What is known of a server's names: the attributes of the file at a path, that there is none, or
//! the symbolic link that is met. So stat(2) of a path that was asked for before needs no message
//! while nothing changes.
//!
//! Only of a mount whose server has declared that its files change by requests of this session
//! alone ([`Features::SOLE`](fsproto::Features::SOLE)). Owns a table of fixed size, and the account
//! of requests that may change what is in it.
//!
//! Invariant: what is found is what the server would answer now.
//! 1. A request that may change it is counted in the step that enters it in the table of requests,
//!    thus before it is sent. That step also drops what the request may change ([`Touches`]).
//! 2. It stays counted until its reply has arrived, also where nobody waits for that any more.
//! 3. An answer is kept only if no such request was in flight when it was asked for ([`Moment`]),
//!    and none has begun since.
//! 4. With the connection, all is gone.
//!
//! Reads and snapshots are among these requests, since they update the access time (X6); page-ins
//! and closes are not. Nothing here is part of the server's promises to other clients: with another
//! one, it would not be the only one.
//!
//! Lock: that of the session's table of requests. The table of answers is allocated when a mount
//! begins.

use alloc::vec::Vec;

use foundation::Errno;
use fsproto::{Attr, FileId, FileKind, Op, OpenFlags};

use super::mutants;
use crate::file::Walk;
use crate::mem::{OutOfMemory, fallible};

/// Longer paths are not kept.
const MAX_PATH_BYTES: usize = 128;
/// Links with longer targets are not kept.
const MAX_TARGET_BYTES: usize = 60;
const PATH_WORDS: usize = MAX_PATH_BYTES / size_of::<u64>();
/// A path is kept in one of so many places, which its hash determines.
const WAYS: usize = 4;
const SETS: usize = 16;
/// The epoch of an entry that holds nothing.
const NEVER: u64 = 0;

/// What a request may change of what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touches {
    Nothing,
    /// The attributes of a file, and no name.
    File(FileId),
    Anything,
}

impl Touches {
    /// Of any request of an operation.
    #[inline]
    pub fn by(op: Op) -> Self {
        match op {
            Op::Hello | Op::Close | Op::GetAttr | Op::Stat => Self::Nothing,
            Op::GetStatFs | Op::ListHoles | Op::ReadAt => Self::Nothing,
            _ => Self::Anything,
        }
    }
}

/// The server's answer to a request for attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Found(Attr),
    /// ENOENT or ENOTDIR.
    Failed(Errno),
    Link(Link),
}

/// A symbolic link at which a walk stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    walked: u8,
    target_bytes: u8,
    target: [u8; MAX_TARGET_BYTES],
}

impl Link {
    fn new(walked: usize, target: &[u8]) -> Option<Self> {
        let mut link = Self {
            walked: u8::try_from(walked).ok()?,
            target_bytes: u8::try_from(target.len()).ok()?,
            target: [0; MAX_TARGET_BYTES],
        };
        link.target.get_mut(..target.len())?.copy_from_slice(target);
        Some(link)
    }

    /// As the server answered it.
    pub fn walk<T>(&self) -> Result<Walk<T>, OutOfMemory> {
        let target = self.target.get(..usize::from(self.target_bytes)).unwrap_or_default();
        let target = fallible::to_vec(target)?;
        Ok(Walk::Link { which: 0, walked: usize::from(self.walked), target })
    }
}

impl Answer {
    /// What can be kept of the answer to a request with these flags.
    pub fn of(walk: &Result<Walk<Attr>, Errno>, flags: OpenFlags) -> Option<Self> {
        match walk {
            Ok(Walk::Done(attr)) => Some(Self::Found(*attr)),
            Ok(Walk::Link { walked, target, .. }) => Link::new(*walked, target).map(Self::Link),
            Err(Errno::ENOENT) => Some(Self::Failed(Errno::ENOENT)),
            // With the flag, the reason may be the file itself.
            Err(Errno::ENOTDIR) if !flags.contains(OpenFlags::DIRECTORY) => {
                Some(Self::Failed(Errno::ENOTDIR))
            }
            Err(_) => None,
        }
    }

    /// Whether it is also the answer to a request for this path with these flags.
    #[inline]
    fn is_for(&self, path_bytes: usize, flags: OpenFlags) -> bool {
        let follows = !flags.contains(OpenFlags::NO_FOLLOW);
        match self {
            Self::Found(attr) => match attr.kind {
                FileKind::Directory => true,
                FileKind::Symlink => !follows && !flags.contains(OpenFlags::DIRECTORY),
                _ => !flags.contains(OpenFlags::DIRECTORY),
            },
            Self::Failed(_) => true,
            // The link that is the last component is met only where it is followed.
            Self::Link(link) => follows || usize::from(link.walked) < path_bytes,
        }
    }
}

/// A path as words, filled up with zeros: quick to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    bytes: usize,
    words: [u64; PATH_WORDS],
}

impl Key {
    const EMPTY: Self = Self { bytes: 0, words: [0; PATH_WORDS] };

    /// `None` for a path that is too long.
    #[inline]
    fn new(path: &[u8]) -> Option<Self> {
        let mut key = Self { bytes: path.len(), ..Self::EMPTY };
        let (whole, rest) = path.as_chunks();
        let mut words = key.words.iter_mut();
        for bytes in whole {
            *words.next()? = u64::from_le_bytes(*bytes);
        }
        if !rest.is_empty() {
            let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            *words.next()? = last;
        }
        Some(key)
    }

    #[inline]
    fn used(&self) -> &[u64] {
        self.words.get(..self.bytes.div_ceil(size_of::<u64>())).unwrap_or_default()
    }

    /// The first of the places where it is kept.
    #[inline]
    fn place(&self) -> usize {
        /// Odd, with bits in no pattern: 2^64 divided by the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = |hash: u64, word: &u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        let hash = self.used().iter().fold(self.bytes as u64, mixed);
        (hash >> 32) as usize % SETS * WAYS
    }

    #[inline]
    fn is(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.used().iter().eq(other.used())
    }
}

#[derive(Clone, Copy)]
struct Entry {
    /// When it was kept: in an earlier epoch it is void.
    epoch: u64,
    key: Key,
    answer: Answer,
}

impl Entry {
    const VOID: Self =
        Self { epoch: NEVER, key: Key::EMPTY, answer: Answer::Failed(Errno::ENOENT) };
}

/// When an answer was asked for: the number of changes that had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

/// What is known of the names of a server.
pub(super) struct Known {
    /// Empty where nothing is kept.
    entries: Vec<Entry>,
    /// Begins anew with each request that may change anything.
    epoch: u64,
    /// Requests so far that may change something.
    begun: u64,
    /// How many of them are unanswered.
    in_flight: usize,
    /// A bit for each file that may be in an entry of this epoch.
    files: u64,
    /// Which of the places for a path is used next.
    next: usize,
}

impl Default for Known {
    fn default() -> Self {
        let (entries, epoch) = (Vec::new(), NEVER + 1);
        Self { entries, epoch, begun: 0, in_flight: 0, files: 0, next: 0 }
    }
}

fn bit_of(file: FileId) -> u64 {
    1 << (file.0 % 64)
}

impl Known {
    /// From now on, answers are kept.
    pub fn keep_answers(&mut self) -> Result<(), OutOfMemory> {
        fallible::reserve_exact(&mut self.entries, SETS * WAYS)?;
        self.entries.resize(SETS * WAYS, Entry::VOID);
        Ok(())
    }

    /// A request is about to be sent. Returns whether it may change something: then
    /// [`ended`](Self::ended) has to be called.
    #[inline]
    pub fn begins(&mut self, touches: Touches) -> bool {
        match touches {
            Touches::Nothing => return false,
            Touches::File(file) if self.files & bit_of(file) == 0 => {}
            Touches::File(file) => self.forget(file),
            Touches::Anything if mutants::stat_never_stale() => {}
            Touches::Anything => (self.epoch, self.files) = (self.epoch + 1, 0),
        }
        self.begun += 1;
        self.in_flight += 1;
        true
    }

    /// A request was answered, or not sent.
    #[inline]
    pub fn ended(&mut self, changes: bool) {
        self.in_flight -= usize::from(changes);
    }

    /// The connection is closed.
    pub fn forget_all(&mut self) {
        (self.epoch, self.files) = (self.epoch + 1, 0);
        (self.begun, self.in_flight) = (self.begun + 1, 0);
    }

    fn forget(&mut self, file: FileId) {
        if mutants::stat_never_stale() {
            return;
        }
        let is_of =
            |entry: &&mut Entry| matches!(entry.answer, Answer::Found(attr) if attr.id == file);
        self.entries.iter_mut().filter(is_of).for_each(|entry| entry.epoch = NEVER);
    }

    /// What is known of a path; `flags` may hold `NO_FOLLOW` and `DIRECTORY`.
    #[inline]
    pub fn find(&self, path: &[u8], flags: OpenFlags) -> Option<&Answer> {
        if self.entries.is_empty() {
            return None;
        }
        let key = Key::new(path)?;
        let places = self.entries.get(key.place()..)?.first_chunk::<WAYS>()?;
        let is_it = |entry: &&Entry| {
            entry.epoch == self.epoch && entry.key.is(&key) && entry.answer.is_for(key.bytes, flags)
        };
        places.iter().find(is_it).map(|entry| &entry.answer)
    }

    /// The moment, for an answer that is about to be asked for. `None` where it could not be kept.
    pub fn moment(&self) -> Option<Moment> {
        let is_still = self.in_flight == 0 || mutants::stat_in_flight();
        (is_still && !self.entries.is_empty()).then_some(Moment(self.begun))
    }

    /// Keeps an answer that was asked for at `since`, unless something may have changed since.
    pub fn note(&mut self, since: Moment, path: &[u8], answer: Answer) {
        if Moment(self.begun) != since && !mutants::stat_in_flight() {
            return;
        }
        let Some(key) = Key::new(path) else { return };
        let places = self.entries.get_mut(key.place()..).and_then(|rest| rest.first_chunk_mut());
        let Some(places): Option<&mut [Entry; WAYS]> = places else { return };
        let void = places.iter().position(|entry| entry.epoch != self.epoch);
        let place = void.unwrap_or_else(|| {
            self.next = (self.next + 1) % WAYS;
            self.next
        });
        if let Answer::Found(attr) = &answer {
            self.files |= bit_of(attr.id);
        }
        if let Some(entry) = places.get_mut(place) {
            *entry = Entry { epoch: self.epoch, key, answer };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::super::session::tests::{Wire, answer};
    use super::*;
    use crate::mem::host;
    use alloc::sync::Arc;
    use foundation::mutant::{Mutant, choose};
    use fsproto::{Header, Nothing, Sync};
    use std::collections::BTreeMap;
    use std::format;
    use std::sync::mpsc;

    const FOLLOW: OpenFlags = OpenFlags::empty();

    fn found(file: u64, kind: FileKind) -> Answer {
        Answer::Found(Attr { id: FileId(file), kind, ..Attr::default() })
    }

    fn known() -> Known {
        let mut known = Known::default();
        known.keep_answers().unwrap();
        known
    }

    fn keep(known: &mut Known, path: &[u8], answer: Answer) {
        known.note(known.moment().expect("nothing is in flight"), path, answer);
    }

    /// Requests of all kinds in any order, against a server whose files have a time of their last
    /// change. Whether what is found is always what the server would answer.
    fn is_as_the_server_answers() -> bool {
        let mut known = known();
        let (mut random, mut hits) = (1_u64, 0);
        // The server: the file of each name, and the time of each file.
        let (mut names, mut times) = (BTreeMap::<u64, u64>::new(), [0_i64; 8]);
        // Requests on their way: the file that each changes, or any; and an answer on its way.
        let mut changes: Vec<Option<u64>> = Vec::new();
        let mut asked: Option<(Option<Moment>, u64, Answer)> = None;
        let answer_now = |names: &BTreeMap<u64, u64>, times: &[i64; 8], name: u64| {
            names.get(&name).map_or(Answer::Failed(Errno::ENOENT), |&file| {
                let atime = fsproto::Time(times[file as usize]);
                Answer::Found(Attr { id: FileId(file), atime, ..Attr::default() })
            })
        };
        for step in 0..40_000_i64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = random >> 33;
            let name = drawn / 16 % 20;
            let path = format!("directory/of/names/{name}");
            match drawn % 16 {
                0 if changes.len() < 3 => {
                    let file = (drawn % 3 > 0).then_some(drawn / 64 % 8);
                    let touches =
                        file.map_or(Touches::Anything, |file| Touches::File(FileId(file)));
                    assert!(known.begins(touches));
                    changes.push(file);
                }
                1..=4 if !changes.is_empty() => {
                    // The server carries it out, and its reply arrives at once or later.
                    let file = changes.swap_remove(drawn as usize % changes.len());
                    match file {
                        Some(file) => times[file as usize] = step,
                        None if drawn % 5 == 0 => drop(names.remove(&name)),
                        None => drop(names.insert(name, drawn / 64 % 8)),
                    }
                    known.ended(true);
                }
                5..=9 => {
                    let right = answer_now(&names, &times, name);
                    match known.find(path.as_bytes(), FOLLOW) {
                        Some(found) if *found != right => return false,
                        Some(_) => hits += 1,
                        // The server answers now, the reply arrives later.
                        None if asked.is_none() => asked = Some((known.moment(), name, right)),
                        None => {}
                    }
                }
                _ => {
                    if let Some((since, name, answer)) = asked.take()
                        && let Some(since) = since
                    {
                        known.note(since, format!("directory/of/names/{name}").as_bytes(), answer);
                    }
                }
            }
        }
        assert!(hits > 500, "the test tests something: {hits}");
        true
    }

    #[test]
    fn x10_known_is_what_the_server_would_answer() {
        let _alone = host::exclusive();
        assert!(is_as_the_server_answers());
    }

    #[test]
    fn mutants_of_what_is_known_are_noticed() {
        let _alone = host::exclusive();
        for mutant in [Mutant::StatNeverStale, Mutant::StatInFlight] {
            choose(Some(mutant));
            let is_right = is_as_the_server_answers();
            choose(None);
            assert!(!is_right, "{}", mutant.name());
        }
    }

    #[test]
    fn a_change_of_a_file_leaves_others() {
        let mut known = known();
        let (own, same_bit) = (found(3, FileKind::Regular), found(67, FileKind::Regular));
        for (path, answer) in
            [(b"a", own), (b"b", own), (b"c", same_bit), (b"d", Answer::Failed(Errno::ENOENT))]
        {
            keep(&mut known, path, answer);
        }
        assert!(known.begins(Touches::File(FileId(3))));
        let left = [b"a", b"b", b"c", b"d"].map(|path| known.find(path, FOLLOW).copied());
        assert_eq!(left, [None, None, Some(same_bit), Some(Answer::Failed(Errno::ENOENT))]);
        assert_eq!(known.moment(), None, "an answer could be from before the change");
        known.ended(true);
        assert!(!known.begins(Touches::Nothing));
        assert!(known.begins(Touches::Anything));
        known.ended(true);
        assert_eq!(known.find(b"c", FOLLOW), None);
        assert_eq!(known.find(b"d", FOLLOW), None);
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let mut known = known();
        let answer = found(1, FileKind::Regular);
        for touches in [Touches::Anything, Touches::File(FileId(2))] {
            let since = known.moment().unwrap();
            assert!(known.begins(touches));
            known.note(since, b"a", answer);
            assert_eq!(known.find(b"a", FOLLOW), None, "while it is in flight");
            known.ended(true);
            known.note(since, b"a", answer);
            assert_eq!(known.find(b"a", FOLLOW), None, "after it");
        }
    }

    #[test]
    fn an_answer_is_for_the_flags_that_it_was_asked_with() {
        let (no_follow, directory) = (OpenFlags::NO_FOLLOW, OpenFlags::DIRECTORY);
        let link = |walked| Answer::Link(Link::new(walked, b"target").unwrap());
        let cases = [
            (found(1, FileKind::Regular), [true, true, false]),
            (found(1, FileKind::Pipe), [true, true, false]),
            (found(1, FileKind::Directory), [true, true, true]),
            (found(1, FileKind::Symlink), [false, true, false]),
            (Answer::Failed(Errno::ENOTDIR), [true, true, true]),
            // The link `a`, which `a/b` leads through; and the link `a/b` itself.
            (link(1), [true, true, true]),
            (link(3), [true, false, true]),
        ];
        for (answer, expected) in cases {
            let mut known = known();
            keep(&mut known, b"a/b", answer);
            let is_found =
                [FOLLOW, no_follow, directory].map(|flags| known.find(b"a/b", flags).is_some());
            assert_eq!(is_found, expected, "{answer:?}");
        }
        // With `DIRECTORY`, the file itself may be why.
        let failed = |error| Err::<Walk<Attr>, _>(error);
        assert_eq!(Answer::of(&failed(Errno::ENOTDIR), directory), None);
        assert!(Answer::of(&failed(Errno::ENOTDIR), FOLLOW).is_some());
        assert!(Answer::of(&failed(Errno::ENOENT), directory).is_some());
        assert_eq!(Answer::of(&failed(Errno::EIO), FOLLOW), None);
    }

    #[test]
    fn links_come_back_as_they_were() {
        let walk = Ok(Walk::Link { which: 0, walked: 7, target: b"../usr/lib".to_vec() });
        let Some(Answer::Link(link)) = Answer::of(&walk, FOLLOW) else { panic!("it is a link") };
        let Ok(Walk::<()>::Link { which: 0, walked: 7, target }) = link.walk() else {
            panic!("another link")
        };
        assert_eq!(target, b"../usr/lib");
        let long = Ok(Walk::Link { which: 0, walked: 7, target: [b'x'; 61].to_vec() });
        assert_eq!(Answer::of(&long, FOLLOW), None);
    }

    #[test]
    fn the_whole_path_is_compared() {
        let mut known = known();
        let long = [b'x'; MAX_PATH_BYTES + 1];
        let paths = (0..=MAX_PATH_BYTES).flat_map(|bytes| {
            // Each differs from the one before in its last byte, or in its length.
            let whole = long[..bytes].to_vec();
            let mut other = whole.clone();
            other.last_mut().map(|last| *last = 0).map_or_else(Vec::new, |()| Vec::from([other]));
            [whole, long[..bytes].iter().rev().map(|byte| byte ^ 1).collect()]
        });
        for (file, path) in paths.enumerate().skip(1) {
            assert_eq!(known.find(&path, FOLLOW), None, "{} bytes", path.len());
            let answer = found(file as u64, FileKind::Regular);
            keep(&mut known, &path, answer);
            assert_eq!(known.find(&path, FOLLOW), Some(&answer));
        }
        keep(&mut known, &long, found(1, FileKind::Regular));
        assert_eq!(known.find(&long, FOLLOW), None, "a path that is too long");
        assert_eq!(known.entries.capacity(), SETS * WAYS, "the table does not grow");
    }

    #[test]
    fn without_a_promise_nothing_is_kept() {
        let known = Known::default();
        assert_eq!((known.moment(), known.find(b"a", FOLLOW)), (None, None));
    }

    /// A change whose thread is killed counts until the server has replied; with the connection,
    /// everything is forgotten.
    #[test]
    fn a_change_counts_until_its_reply() {
        let _alone = host::exclusive();
        let wire = Arc::<Wire>::default();
        let session = Arc::new(Session::new(wire.clone()));
        session.table.lock().known.keep_answers().unwrap();
        let learn = || {
            let mut table = session.table.lock();
            let since = table.known.moment();
            if let Some(since) = since {
                table.known.note(since, b"a", found(1, FileKind::Regular));
            }
            table.known.find(b"a", FOLLOW).is_some()
        };
        assert!(learn());
        let (me, its) = mpsc::channel();
        let changing = session.clone();
        let change = std::thread::spawn(move || {
            me.send(host::current()).unwrap();
            changing.call(&Sync { handle: fsproto::Handle::ROOT }, &[]).map(drop)
        });
        let id = its.recv().unwrap();
        while wire.0.lock().is_empty() {
            std::thread::yield_now();
        }
        assert!(!learn(), "it may be carried out at any time");
        host::kill(Some(id));
        assert_eq!(change.join().unwrap(), Err(Errno::EINTR));
        host::kill(None);
        assert!(!learn(), "it is still on its way");
        let message = wire.0.lock().pop_front().unwrap();
        let (header, _) = Header::decode(message.inline.first_chunk().unwrap()).unwrap();
        answer::<Sync>(&session, header.tag, &Nothing {});
        assert!(learn());
        session.closed();
        assert!(session.table.lock().known.find(b"a", FOLLOW).is_none());
    }
}
