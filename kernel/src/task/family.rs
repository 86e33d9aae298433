//! The table of processes and threads: numbers, parents, groups and sessions.
//!
//! One lock for all of it; nothing else is locked while it is held, and what is taken out is
//! dropped after.
#![forbid(unsafe_code)]

use super::{Process, Thread};
use crate::sync::{Mutex, rank};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// Where a process stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relations {
    /// Parent; 0 for PID 1.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
}

struct Member {
    process: Arc<Process>,
    relations: Relations,
    children: BTreeSet<u32>,
    /// It has called exec since its birth: setpgid by the parent comes too late.
    has_executed: bool,
}

struct Family {
    members: BTreeMap<u32, Member>,
    /// Each at its number modulo the length: numbers whose place is taken are left out, so that
    /// every wake-up finds its thread with one look.
    threads: [Option<Arc<Thread>>; MAX_THREADS],
    thread_count: usize,
    last_number: u32,
}

static FAMILY: Mutex<Family, rank::Family> = Mutex::new(Family {
    members: BTreeMap::new(),
    threads: [const { None }; MAX_THREADS],
    thread_count: 0,
    last_number: 0,
});

/// Processes and threads at most: what keeps a fork bomb from taking all of the kernel's memory.
const MAX_THREADS: usize = 4096;

/// The place of a thread.
fn place(tid: u32) -> usize {
    tid as usize % MAX_THREADS
}

/// A number for a new process or thread. None is given twice.
pub(super) fn new_number() -> Result<u32, Errno> {
    let mut family = FAMILY.lock();
    if family.thread_count >= MAX_THREADS {
        return Err(Errno::EAGAIN);
    }
    // As many numbers in a row as there are places: one of them is free.
    for _ in 0..MAX_THREADS {
        if family.last_number >= i32::MAX as u32 {
            break;
        }
        family.last_number += 1;
        let number = family.last_number;
        if family.threads.get(place(number)).is_some_and(Option::is_none) {
            return Ok(number);
        }
    }
    Err(Errno::EAGAIN)
}

/// Adds a process, in its parent's group and session.
pub(super) fn add_process(process: &Arc<Process>, parent: u32) {
    let mut family = FAMILY.lock();
    let inherited = family.members.get(&parent).map(|member| member.relations);
    let own = Relations { parent, group: process.pid, session: process.pid };
    let relations = inherited.map_or(own, |inherited| Relations { parent, ..inherited });
    process.parent.store(parent, Ordering::Relaxed);
    let member = Member {
        process: process.clone(),
        relations,
        children: BTreeSet::new(),
        has_executed: false,
    };
    family.members.insert(process.pid, member);
    if let Some(parent) = family.members.get_mut(&parent) {
        parent.children.insert(process.pid);
    }
}

/// Adds a thread. EAGAIN if another took its place since it got its number.
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

/// Takes a thread out.
pub(super) fn remove_thread(tid: u32) -> Option<Arc<Thread>> {
    let mut family = FAMILY.lock();
    let removed = family.threads.get_mut(place(tid))?.take_if(|thread| thread.tid == tid)?;
    family.thread_count -= 1;
    Some(removed)
}

/// Takes a process out that was reaped.
pub(super) fn remove_process(pid: u32) {
    let mut family = FAMILY.lock();
    let removed = family.members.remove(&pid);
    if let Some(parent) =
        removed.as_ref().and_then(|member| family.members.get_mut(&member.relations.parent))
    {
        parent.children.remove(&pid);
    }
    drop(family);
    drop(removed);
}

/// Gives the children of a process that ends to PID 1, and returns them.
pub(super) fn give_away_children(pid: u32) -> Vec<Arc<Process>> {
    let mut family = FAMILY.lock();
    let children = family
        .members
        .get_mut(&pid)
        .map(|member| core::mem::take(&mut member.children))
        .unwrap_or_default();
    let mut orphans = Vec::new();
    for &child in &children {
        if let Some(member) = family.members.get_mut(&child) {
            member.relations.parent = super::init::INIT_PID;
            member.process.parent.store(super::init::INIT_PID, Ordering::Relaxed);
            orphans.push(member.process.clone());
        }
    }
    if let Some(init) = family.members.get_mut(&super::init::INIT_PID) {
        init.children.extend(children);
    }
    orphans
}

/// A process.
pub fn find_process(pid: u32) -> Option<Arc<Process>> {
    FAMILY.lock().members.get(&pid).map(|member| member.process.clone())
}

/// A thread.
pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    FAMILY.lock().threads.get(place(tid))?.clone().filter(|thread| thread.tid == tid)
}

/// Where a process stands.
pub fn relations(pid: u32) -> Option<Relations> {
    FAMILY.lock().members.get(&pid).map(|member| member.relations)
}

/// All processes, by number.
pub fn all_processes() -> Vec<Arc<Process>> {
    FAMILY.lock().members.values().map(|member| member.process.clone()).collect()
}

/// The children of a process.
pub(super) fn children(pid: u32) -> Vec<(Arc<Process>, Relations)> {
    let family = FAMILY.lock();
    let children = family.members.get(&pid).into_iter().flat_map(|member| &member.children);
    children
        .filter_map(|child| family.members.get(child))
        .map(|child| (child.process.clone(), child.relations))
        .collect()
}

/// The members of a process group.
pub fn group(group: u32) -> Vec<Arc<Process>> {
    let family = FAMILY.lock();
    family
        .members
        .values()
        .filter(|member| member.relations.group == group)
        .map(|member| member.process.clone())
        .collect()
}

/// The groups that can become orphaned by the end of a process: its own, of which its parent was a
/// guardian, and those of its children.
pub(super) fn groups_guarded_through(pid: u32) -> Vec<u32> {
    let family = FAMILY.lock();
    let Some(member) = family.members.get(&pid) else { return Vec::new() };
    let own = member.relations;
    let guards = |parent: Relations, child: Relations| {
        parent.session == child.session && parent.group != child.group
    };
    let parent = family.members.get(&own.parent).map(|parent| parent.relations);
    let children = member
        .children
        .iter()
        .filter_map(|child| family.members.get(child))
        .map(|child| child.relations);
    let mut groups: Vec<u32> =
        children.filter(|&child| guards(own, child)).map(|child| child.group).collect();
    groups.extend(parent.filter(|&parent| guards(parent, own)).map(|_| own.group));
    groups.sort_unstable();
    groups.dedup();
    groups
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

/// Notes that a process has called exec.
pub(super) fn note_exec(pid: u32) {
    if let Some(member) = FAMILY.lock().members.get_mut(&pid) {
        member.has_executed = true;
    }
}

/// setsid: a session and a group of its own. EPERM for the leader of a group.
pub fn new_session(pid: u32) -> Result<u32, Errno> {
    let mut family = FAMILY.lock();
    if family.members.values().any(|member| member.relations.group == pid) {
        return Err(Errno::EPERM);
    }
    let member = family.members.get_mut(&pid).ok_or(Errno::ESRCH)?;
    member.relations.group = pid;
    member.relations.session = pid;
    Ok(pid)
}

/// setpgid, called by process `caller`.
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
    if let Some(target) = family.members.get_mut(&pid) {
        target.relations.group = group;
    }
    Ok(())
}

/// How many threads there are.
pub(super) fn thread_count() -> usize {
    FAMILY.lock().thread_count
}
