//! The table of processes and threads: numbers, parents, groups and sessions.
//!
//! One lock protects all of it. No other lock is taken while it is held; removed entries are
//! dropped after it is released.
#![forbid(unsafe_code)]

use super::signal::SIGCHLD;
use super::{Process, Thread};
use crate::mem::frame;
use crate::mem::kernel::STACK_PAGES;
use crate::sync::{Mutex, rank};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// A process's relations to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relations {
    /// The parent's process number; 0 for PID 1.
    pub parent: u32,
    /// The process group's number.
    pub group: u32,
    /// The session's number.
    pub session: u32,
}

struct Member {
    process: Arc<Process>,
    relations: Relations,
    children: BTreeSet<u32>,
    /// Those of its children that may have news for it: at least those that have.
    with_news: BTreeSet<u32>,
    /// Whether it has called exec: after that, its parent may not change its group.
    has_executed: bool,
}

struct Family {
    members: BTreeMap<u32, Member>,
    /// Each thread is at its number modulo the length. Numbers whose place is occupied are not
    /// assigned, so every wake-up finds its thread in one step.
    threads: [Option<Arc<Thread>>; MAX_THREADS],
    thread_count: usize,
    last_number: u32,
    /// The numbers have begun again, so that one may be in use still.
    has_wrapped: bool,
}

static FAMILY: Mutex<Family, rank::Family> = Mutex::new(Family {
    members: BTreeMap::new(),
    threads: [const { None }; MAX_THREADS],
    thread_count: 0,
    last_number: 0,
    has_wrapped: false,
});

/// Places for threads.
const MAX_THREADS: usize = 4096;
/// As on Linux, the kernel stacks of all threads take at most one of this many bytes of memory, so
/// that a fork bomb, root's included, leaves memory to what it runs into.
const STACKS_SHARE: usize = 8;
/// Linux's `MIN_THREADS`.
const MIN_THREADS: usize = 20;

/// Upper bound for processes and threads in this machine.
fn max_threads() -> usize {
    let frames = frame::stats().total / (STACKS_SHARE * STACK_PAGES.to_usize());
    frames.clamp(MIN_THREADS, MAX_THREADS)
}

/// The index of a thread's place.
fn place(tid: u32) -> usize {
    tid as usize % MAX_THREADS
}

impl Family {
    /// Whether a thread may be added by this process, or by none for the first one. One job leaves
    /// a quarter of all places to others: a shell can start programs beside a fork bomb that it has
    /// started as a job.
    fn has_space(&self, creator: Option<u32>) -> bool {
        // A zombie counts until it is reaped.
        let all = self.thread_count.max(self.members.len());
        let max = max_threads();
        let left_to_others = max / 4;
        if all + left_to_others < max {
            return true;
        }
        let job = creator.map_or(0, |pid| self.job(pid));
        // Init's own processes answer for all jobs but one, so that many small jobs are no way out.
        let used = if job == 0 {
            all - self.places(self.main_job()).min(all)
        } else {
            self.places(Some(job))
        };
        all < max && used + left_to_others < max
    }

    fn is_unused(&self, number: u32) -> bool {
        let is_anybodys = || {
            self.members.iter().any(|(&pid, member)| {
                let Relations { group, session, .. } = member.relations;
                [pid, group, session, member.job()].contains(&number)
            })
        };
        let is_free = self.threads.get(place(number)).is_some_and(Option::is_none);
        is_free && !(self.has_wrapped && is_anybodys())
    }

    /// The process that adopts the children of one that ends.
    fn reaper_of(&self, pid: u32) -> u32 {
        let parent = |pid: u32| self.members.get(&pid).map(|member| member.relations.parent);
        let above = core::iter::successors(parent(pid), |&pid| parent(pid));
        let adopts = |pid: &u32| {
            self.members.get(pid).is_some_and(|member| {
                let process = &member.process;
                process.choices.is_subreaper.load(Ordering::Relaxed) && !process.has_begun_to_end()
            })
        };
        above.take_while(|&pid| pid != 0).find(adopts).unwrap_or(super::INIT_PID)
    }

    fn job(&self, pid: u32) -> u32 {
        self.members.get(&pid).map_or(0, Member::job)
    }

    fn places(&self, job: Option<u32>) -> usize {
        let Some(job) = job else { return 0 };
        let threads = self.threads.iter().flatten();
        let threads = threads.filter(|thread| self.job(thread.process.pid) == job).count();
        threads.max(self.members.values().filter(|member| member.job() == job).count())
    }

    /// The job that has more than half of all processes, if there is one, or another one. (Boyer
    /// and Moore, a fast majority vote algorithm, 1981.)
    fn main_job(&self) -> Option<u32> {
        let (mut candidate, mut votes) = (None, 0u32);
        for member in self.members.values().filter(|member| member.job() != 0) {
            if votes == 0 {
                candidate = Some(member.job());
            }
            if candidate == Some(member.job()) { votes += 1 } else { votes -= 1 }
        }
        candidate
    }
}

/// The largest number. The next one is the kernel's own thread's.
const LAST_NUMBER: u32 = i32::MAX as u32 - 1;

/// The number that is tried after `last`. Behind the largest one, they begin again after PID 1, so
/// that nobody can use them up.
fn following(last: u32) -> u32 {
    if last < LAST_NUMBER { last + 1 } else { super::INIT_PID + 1 }
}

/// Assigns a number for a new process or thread of a creator, which is that of no process, zombie,
/// thread, group, session or job. EAGAIN where there are too many.
pub(super) fn new_number(creator: Option<u32>) -> Result<u32, Errno> {
    let mut family = FAMILY.lock();
    if !family.has_space(creator) {
        return Err(Errno::EAGAIN);
    }
    // Of as many consecutive numbers as there are places, at least one has a free place.
    for _ in 0..MAX_THREADS {
        let number = following(family.last_number);
        family.has_wrapped |= number < family.last_number;
        family.last_number = number;
        if family.is_unused(number) {
            return Ok(number);
        }
    }
    Err(Errno::EAGAIN)
}

/// Adds a process, in the group and session of the one that made it.
pub(super) fn add_process(process: &Arc<Process>, parent: u32, creator: u32) {
    let mut family = FAMILY.lock();
    let inherited = family.members.get(&creator).map(|member| member.relations);
    let own = Relations { parent, group: process.pid, session: process.pid };
    let relations = inherited.map_or(own, |inherited| Relations { parent, ..inherited });
    process.parent.store(parent, Ordering::Relaxed);
    let member = Member {
        process: process.clone(),
        relations,
        children: BTreeSet::new(),
        with_news: BTreeSet::new(),
        has_executed: false,
    };
    family.members.insert(process.pid, member);
    if let Some(parent) = family.members.get_mut(&parent) {
        parent.children.insert(process.pid);
    }
}

/// Adds a thread. EAGAIN if its place was taken since its number was assigned.
pub(super) fn add_thread(thread: &Arc<Thread>) -> Result<(), Errno> {
    let mut family = FAMILY.lock();
    let slot = family
        .threads
        .get_mut(place(thread.tid))
        .filter(|slot| slot.is_none())
        .ok_or(Errno::EAGAIN)?;
    *slot = Some(thread.clone());
    family.thread_count += 1;
    Ok(())
}

/// Drops a finished thread from its process.
pub(super) fn remove_thread(tid: u32) -> Option<Arc<Thread>> {
    let mut family = FAMILY.lock();
    let removed = family.threads.get_mut(place(tid))?.take_if(|thread| thread.tid == tid)?;
    family.thread_count -= 1;
    Some(removed)
}

/// Removes a process that was reaped.
pub(super) fn remove_process(pid: u32) {
    let mut family = FAMILY.lock();
    let removed = family.members.remove(&pid);
    if let Some(parent) =
        removed.as_ref().and_then(|member| family.members.get_mut(&member.relations.parent))
    {
        parent.children.remove(&pid);
        parent.with_news.remove(&pid);
    }
    drop(family);
    drop(removed);
}

/// Makes the children of an ending process those of the nearest process above that adopts orphans,
/// or of PID 1. Returns their numbers.
pub(super) fn reparent_children(pid: u32) -> BTreeSet<u32> {
    let mut family = FAMILY.lock();
    let reaper = family.reaper_of(pid);
    let (children, mut with_news) = family
        .members
        .get_mut(&pid)
        .map(|member| {
            (core::mem::take(&mut member.children), core::mem::take(&mut member.with_news))
        })
        .unwrap_or_default();
    for child in &children {
        if let Some(member) = family.members.get_mut(child) {
            member.relations.parent = reaper;
            member.process.set_exit_signal(SIGCHLD);
            member.process.parent.store(reaper, Ordering::Relaxed);
        }
    }
    if let Some(reaper) = family.members.get_mut(&reaper) {
        reaper.children.extend(&children);
        reaper.with_news.append(&mut with_news);
    }
    children
}

/// The process of a number.
pub fn find_process(pid: u32) -> Option<Arc<Process>> {
    FAMILY.lock().members.get(&pid).map(|member| member.process.clone())
}

/// The process of a number, or that of the thread of that number: as on Linux, most calls that name
/// a process accept the number of any of its threads.
pub fn process_of(number: u32) -> Option<Arc<Process>> {
    find_process(number).or_else(|| find_thread(number).map(|thread| thread.process.clone()))
}

/// The number of the first process above `last`.
pub(super) fn next_pid(last: u32) -> Option<u32> {
    let later = (Bound::Excluded(last), Bound::Unbounded);
    FAMILY.lock().members.range(later).next().map(|(&pid, _)| pid)
}

/// The program's thread of a number: no program finds the kernel's own.
pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    if tid <= LAST_NUMBER { any_thread(tid) } else { None }
}

/// The thread of a number, also the kernel's own.
pub(super) fn any_thread(tid: u32) -> Option<Arc<Thread>> {
    FAMILY.lock().threads.get(place(tid))?.clone().filter(|thread| thread.tid == tid)
}

/// The relations of a process.
pub fn relations(pid: u32) -> Option<Relations> {
    FAMILY.lock().members.get(&pid).map(|member| member.relations)
}

/// The processes whose relations `wanted` accepts, ascending by number. Each is looked for when the
/// one before has been used: nothing is allocated, and the table may change in between.
pub fn processes(
    wanted: impl Fn(&Relations) -> bool,
) -> impl Iterator<Item = (Arc<Process>, Relations)> {
    let mut last = 0;
    core::iter::from_fn(move || {
        let family = FAMILY.lock();
        let later = (Bound::Excluded(last), Bound::Unbounded);
        let (&pid, member) =
            family.members.range(later).find(|(_, member)| wanted(&member.relations))?;
        last = pid;
        Some((member.process.clone(), member.relations))
    })
}

/// All processes, likewise.
pub fn all_processes() -> impl Iterator<Item = Arc<Process>> {
    processes(|_| true).map(|(process, _)| process)
}

/// Records that a process has news for its parent: it has ended, or was stopped or continued. The
/// caller wakes the parent afterwards.
pub(super) fn note_news(pid: u32) {
    let mut family = FAMILY.lock();
    let Some(parent) = family.members.get(&pid).map(|member| member.relations.parent) else {
        return;
    };
    if let Some(parent) = family.members.get_mut(&parent) {
        parent.with_news.insert(pid);
    }
}

/// The parent has learned the news of a process.
pub(super) fn forget_news(pid: u32) {
    let mut family = FAMILY.lock();
    let parent = family.members.get(&pid).map(|member| member.relations.parent);
    if let Some(parent) = parent.and_then(|parent| family.members.get_mut(&parent)) {
        parent.with_news.remove(&pid);
    }
}

/// The children of a process that may have news for it, likewise.
pub(super) fn children_with_news(pid: u32) -> impl Iterator<Item = (Arc<Process>, Relations)> {
    let mut last = 0;
    core::iter::from_fn(move || {
        let family = FAMILY.lock();
        let later = (Bound::Excluded(last), Bound::Unbounded);
        let children = family.members.get(&pid)?.with_news.range(later);
        let child = children.filter_map(|child| family.members.get(child)).next()?;
        last = child.process.pid;
        Some((child.process.clone(), child.relations))
    })
}

/// A child of a process, by its number.
pub(super) fn child(parent: u32, pid: u32) -> Option<Arc<Process>> {
    let family = FAMILY.lock();
    let found = family.members.get(&pid).filter(|child| child.relations.parent == parent)?;
    Some(found.process.clone())
}

/// Whether a process has at least `count` children that `wanted` accepts. They are looked for.
pub(super) fn has_children(
    pid: u32,
    count: usize,
    wanted: impl Fn(&Process, &Relations) -> bool,
) -> bool {
    let family = FAMILY.lock();
    let Some(member) = family.members.get(&pid) else { return false };
    let children = member.children.iter().filter_map(|child| family.members.get(child));
    let found = children.filter(|child| wanted(&child.process, &child.relations));
    found.take(count).count() == count
}

/// The members of a process group, likewise.
pub fn group(group: u32) -> impl Iterator<Item = Arc<Process>> {
    processes(move |relations| relations.group == group).map(|(process, _)| process)
}

/// The first group above `last` that the end of a process can have made orphaned: its own group, or
/// that of a child. `own` are its relations, and `children` its children until then.
pub(super) fn next_group_orphaned(
    own: Relations,
    children: &BTreeSet<u32>,
    last: u32,
) -> Option<u32> {
    let family = FAMILY.lock();
    let guards = |parent: Relations, child: Relations| {
        parent.session == child.session && parent.group != child.group
    };
    let of = |pid: &u32| family.members.get(pid).map(|member| member.relations);
    let of_children = children.iter().filter_map(of).filter(|&child| guards(own, child));
    let of_parent = of(&own.parent).filter(|&parent| guards(parent, own)).map(|_| own);
    let groups = of_children.chain(of_parent).map(|relations| relations.group);
    groups.filter(|&group| group > last).min()
}

/// The session of a process group, if it has a member.
pub fn session_of_group(group: u32) -> Option<u32> {
    FAMILY
        .lock()
        .members
        .values()
        .find(|member| member.relations.group == group)
        .map(|member| member.relations.session)
}

/// Records that a process has called exec.
pub(super) fn note_exec(pid: u32) {
    if let Some(member) = FAMILY.lock().members.get_mut(&pid) {
        member.has_executed = true;
    }
}

/// setsid(2): makes a session and a group. EPERM for the leader of a group.
pub fn new_session(pid: u32) -> Result<u32, Errno> {
    let mut family = FAMILY.lock();
    if family.members.values().any(|member| member.relations.group == pid) {
        return Err(Errno::EPERM);
    }
    let member = family.members.get_mut(&pid).ok_or(Errno::ESRCH)?;
    member.relations.group = pid;
    member.relations.session = pid;
    member.enter_job(pid);
    Ok(pid)
}

impl Member {
    /// Its job, by the process that was the first in it; 0 for init's own. A job begins with the
    /// first setpgid(2) or setsid(2) below init's children, and whatever its processes start, in
    /// groups and sessions of their own too, belongs to it and shares its limits.
    fn job(&self) -> u32 {
        self.process.account.job()
    }

    /// The process has moved to another group. Init's children, the shells of its terminals, stay
    /// in init's own job.
    fn enter_job(&self, job: u32) {
        if self.job() == 0 && self.relations.parent != super::INIT_PID {
            self.process.account.enter_job(job);
        }
    }
}

/// setpgid(2), called by process `caller`.
pub fn set_group(caller: u32, pid: u32, group: u32) -> Result<(), Errno> {
    let mut family = FAMILY.lock();
    let own = family.members.get(&caller).ok_or(Errno::ESRCH)?.relations;
    let target = family.members.get(&pid).ok_or(Errno::ESRCH)?;
    let is_child = target.relations.parent == caller;
    if pid != caller && !is_child {
        return Err(Errno::ESRCH);
    }
    if is_child && target.has_executed {
        return Err(Errno::EACCES);
    }
    let session = target.relations.session;
    let exists = family
        .members
        .values()
        .any(|member| member.relations.group == group && member.relations.session == session);
    if session != own.session || session == pid || (group != pid && !exists) {
        return Err(Errno::EPERM);
    }
    let mut members = family.members.values().filter(|member| member.relations.group == group);
    let job = members.next().map_or(group, Member::job);
    if let Some(target) = family.members.get_mut(&pid) {
        target.relations.group = group;
        if job != 0 {
            target.enter_job(job);
        }
    }
    Ok(())
}

/// The number of threads.
pub(super) fn thread_count() -> usize {
    FAMILY.lock().thread_count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_again_after_the_last_one() {
        assert_eq!((following(0), following(1), following(LAST_NUMBER - 1)), (1, 2, LAST_NUMBER));
        assert_eq!(following(LAST_NUMBER), 2, "init's number and the kernel's are never assigned");
    }
}
