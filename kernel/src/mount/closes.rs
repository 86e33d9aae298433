//! Closing handles: with the next request, so that it costs no message of its own.
//!
//! A server that supports it ([`Features::CLOSES`](fsproto::Features::CLOSES)) closes the handles
//! in the last bytes of a request before it does what the request says. So nothing that a client
//! asks can tell whether they were closed before: a change rescues no byte for a snapshot that
//! nobody reads any more, and the figures are right. What no request takes along is closed by a
//! message of its own when [`MAX_CLOSES`] handles wait and one more comes, and when the CPU has
//! nothing else to do ([`close_waiting`]).
//!
//! Owns the list of handles that wait; a handle in there has its place from the request that opened
//! it, so closing needs no memory.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::iter;
use core::sync::atomic::{AtomicBool, Ordering};

use foundation::Errno;
use fsproto::{Close, HEADER_BYTES, Handle, MAX_CLOSES, add_closes};

use super::in_flight::{Owner, Table};
use super::{Session, mutants};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};

/// The sessions on which handles may wait.
static SESSIONS: Mutex<Vec<Weak<Session>>, rank::Sessions> = Mutex::new(Vec::new());
/// Whether handles wait on one of them.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Closes what waits on all sessions: called when the CPU has nothing else to do. Returns whether
/// there was something.
pub fn close_waiting() -> bool {
    if !WAITING.swap(false, Ordering::Relaxed) {
        return false;
    }
    let session = |index| SESSIONS.lock().get(index).map(Weak::upgrade);
    let all = (0..).map_while(session).flatten();
    fallible::as_kernel(|| all.for_each(|session| session.close_waiting()));
    true
}

impl Session {
    /// From now on requests carry closes.
    pub(super) fn carry_closes(self: &Arc<Self>) -> Result<(), Errno> {
        let mut sessions = SESSIONS.lock();
        sessions.retain(|session| session.strong_count() > 0);
        fallible::reserve(&mut *sessions, 1)?;
        sessions.push(Arc::downgrade(self));
        self.closes.carried.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Closes a handle: with the next request if the server can do that, else now or when there is
    /// space in the table. Never waits.
    pub fn close(&self, handle: Handle) {
        self.keep_unclosed(&mut self.table.lock(), handle);
        self.close_too_many();
    }

    /// Closes now what waits for the next request.
    pub fn close_waiting(&self) {
        self.close_beyond(0);
    }

    /// Closes what waits, if the next request cannot take it all.
    pub(super) fn close_too_many(&self) {
        let carried = self.closes.carried.load(Ordering::Relaxed);
        self.close_beyond(if carried { MAX_CLOSES } else { 0 });
    }

    /// Whether the next request can close something besides.
    #[inline]
    pub(super) fn has_closes(&self) -> bool {
        self.closes.waiting.load(Ordering::Relaxed) && self.closes.carried.load(Ordering::Relaxed)
    }

    /// Takes handles that wait to be closed, as many as there is space for.
    fn take_unclosed<'a>(&self, space: &'a mut [Handle]) -> &'a [Handle] {
        let mut table = self.table.lock();
        let mut count = 0;
        for (place, handle) in space.iter_mut().zip(iter::from_fn(|| table.unclosed.pop())) {
            *place = handle;
            count += 1;
        }
        self.closes.waiting.store(!table.unclosed.is_empty(), Ordering::Relaxed);
        space.get(..count).unwrap_or_default()
    }

    /// Sends a request which closes up to `most` handles besides. If it is not sent, these wait
    /// again.
    #[inline(never)]
    pub(super) fn with_closes(
        &self,
        header: &mut [u8; HEADER_BYTES],
        most: usize,
        send: impl FnOnce(&[u8; HEADER_BYTES]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut space = [Handle::NONE; MAX_CLOSES];
        let closing = self.take_unclosed(space.get_mut(..most).unwrap_or_default());
        if !mutants::forget_closes() {
            add_closes(header, closing);
        }
        let sent = send(header);
        self.closes_sent(closing, sent.is_ok());
        sent
    }

    /// The request with these closes was sent, or not: then they wait again.
    fn closes_sent(&self, handles: &[Handle], sent: bool) {
        let mut table = self.table.lock();
        for &handle in handles {
            if sent {
                table.forget_one();
            } else {
                self.keep_unclosed(&mut table, handle);
            }
        }
    }

    /// A handle waits to be closed; there is space for it.
    fn keep_unclosed(&self, table: &mut Table, handle: Handle) {
        if !table.gone {
            debug_assert!(table.unclosed.len() < table.unclosed.capacity());
            table.unclosed.push(handle);
            self.closes.waiting.store(true, Ordering::Relaxed);
            WAITING.store(true, Ordering::Relaxed);
        }
    }

    /// Closes all handles that wait, if these are more than `patience`.
    fn close_beyond(&self, patience: usize) {
        let waits = self.closes.waiting.load(Ordering::Relaxed);
        if !waits || self.table.lock().unclosed.len() <= patience {
            return;
        }
        let mut space = [Handle::NONE];
        while let &[handle] = self.take_unclosed(&mut space) {
            // It takes others along.
            let sent = self.send_for(&Close { handle }, || Owner::Nobody);
            self.closes_sent(&[handle], sent.is_ok());
            if sent.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::super::session::tests::{Wire, open};
    use super::*;
    use crate::file::socket::Message;
    use crate::mem::host;
    use foundation::Errno;
    use fsproto::{Field, GetStatFs, Header, Op, Operation, closes};

    /// The handles that the oldest message closes, which is withdrawn.
    fn closed_by_next(session: &Session, wire: &Wire) -> Vec<Handle> {
        let message = wire.0.lock().pop_front().expect("a message was sent");
        let (header, mut fields) = Header::decode(message.inline.first_chunk().unwrap()).unwrap();
        let mut closed: Vec<Handle> = closes(message.inline.first_chunk().unwrap()).collect();
        if header.op == Op::Close as u16 {
            closed.push(Close::get(&mut fields).unwrap().handle);
        }
        drop(session.table.lock().withdraw(header.tag));
        closed.sort();
        closed
    }

    #[test]
    fn a_request_takes_closes_along() {
        let _alone = host::exclusive();
        let wire = Arc::<Wire>::default();
        let session = Arc::new(Session::new(wire.clone()));
        session.carry_closes().unwrap();
        let look = || session.send_for(&GetStatFs {}, || Owner::Nobody);
        // They wait for a request, which takes all of them along.
        open(&session, 3).for_each(|handle| session.close(handle));
        assert_eq!((wire.0.lock().len(), session.in_flight()), (0, 3));
        look().unwrap();
        assert_eq!(closed_by_next(&session, &wire), [2, 3, 4].map(Handle));
        look().unwrap();
        assert_eq!(closed_by_next(&session, &wire), []);
        // One more than a request can take makes a message of its own, with the others.
        open(&session, 9).for_each(|handle| session.close(handle));
        assert_eq!(wire.0.lock().len(), 1);
        assert!(closed_by_next(&session, &wire).into_iter().eq((2..11).map(Handle)));
        // So does a CPU with nothing to do, once.
        open(&session, 2).for_each(|handle| session.close(handle));
        assert!(close_waiting() && !close_waiting());
        assert_eq!(closed_by_next(&session, &wire), [2, 3].map(Handle));
        // What a large request has no space for waits for the next one.
        open(&session, 8).for_each(|handle| session.close(handle));
        session.send_for(&fsproto::SetAttr::default(), || Owner::Nobody).unwrap();
        let space = <fsproto::SetAttr as Operation>::CLOSES;
        assert_eq!(closed_by_next(&session, &wire).len(), space);
        assert_eq!(session.in_flight(), 8 - space);
        look().unwrap();
        assert_eq!(closed_by_next(&session, &wire).len(), 8 - space);
        assert_eq!((session.in_flight(), session.table.lock().to_close), (0, 0));
    }

    #[test]
    fn closes_of_a_request_that_is_not_sent_wait_again() {
        /// Refuses everything while it is closed.
        #[derive(Default)]
        struct Gate(Wire, AtomicBool);
        impl Transport for Gate {
            fn send(&self, message: Message) -> Result<(), Errno> {
                if self.1.load(Ordering::Relaxed) {
                    return Err(Errno::ENOMEM);
                }
                self.0.send(message)
            }
        }
        let _alone = host::exclusive();
        let gate = Arc::<Gate>::default();
        let session = Arc::new(Session::new(gate.clone()));
        session.carry_closes().unwrap();
        open(&session, 4).for_each(|handle| session.close(handle));
        gate.1.store(true, Ordering::Relaxed);
        let look = || session.send_for(&GetStatFs {}, || Owner::Nobody);
        assert_eq!(look(), Err(Errno::ENOMEM));
        session.close_waiting();
        assert_eq!(session.in_flight(), 4);
        gate.1.store(false, Ordering::Relaxed);
        look().unwrap();
        assert_eq!(closed_by_next(&session, &gate.0), [2, 3, 4, 5].map(Handle));
    }
}
