//! Trouble beneath the wrapper: a client of the store whose requests fail when they are told to,
//! and which keeps features from the wrapper.

use std::cell::RefCell;
use std::rc::Rc;

use foundation::Errno;
use fsproto::{Features, HEADER_BYTES, Header, Hello, Op, Operation, Request, Tag, error_reply};
use fsserver::Connection;

use crate::script::Failing;

/// Which requests fail.
#[derive(Default)]
pub struct Trouble {
    /// Requests (or transfers of the store's device) that still pass, then those that fail, and
    /// what they say.
    coming: Option<(Failing, u32, u32, Errno)>,
    /// Requests and transfers that failed so far.
    pub failed: u64,
    /// Those among them that were to take a name away.
    pub failed_removals: u64,
    /// Nothing fails now: the simulation itself is asking.
    pub quiet: bool,
}

impl Trouble {
    /// After so many requests, so many fail.
    pub fn order(&mut self, which: Failing, after: u32, times: u32, error: Errno) {
        self.coming = Some((which, after, times, error));
    }

    /// Whether this request fails.
    fn meets(&mut self, op: Op) -> Option<Errno> {
        let error = self.strikes(|which| match which {
            Failing::Reads => matches!(op, Op::Read | Op::ListHoles),
            Failing::Changes => {
                matches!(op, Op::Write | Op::SetAttr | Op::Allocate | Op::CloneRange)
            }
            // What is closed is closed, whatever is said.
            Failing::All => !matches!(op, Op::Hello | Op::Close),
            Failing::Transfers => false,
        })?;
        self.failed_removals += u64::from(op == Op::Remove);
        Some(error)
    }

    /// Whether this transfer of the store's device fails.
    pub fn meets_transfer(&mut self) -> bool {
        self.strikes(|which| which == Failing::Transfers).is_some()
    }

    /// Whether it is the turn of something that is hit by what is coming.
    fn strikes(&mut self, is_hit: impl FnOnce(Failing) -> bool) -> Option<Errno> {
        let (which, after, times, error) = self.coming.as_mut()?;
        if self.quiet || !is_hit(*which) {
            return None;
        }
        if *after > 0 {
            *after -= 1;
            return None;
        }
        let error = *error;
        *times -= 1;
        if *times == 0 {
            self.coming = None;
        }
        self.failed += 1;
        Some(error)
    }
}

/// A client with trouble.
pub struct Troubled<C> {
    pub inner: C,
    pub trouble: Rc<RefCell<Trouble>>,
    /// Features that are kept from the wrapper.
    pub lacks: Features,
}

impl<C: Connection> Connection for Troubled<C> {
    fn call(
        &mut self,
        head: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno> {
        let (fields, mut reader) =
            Header::decode(head).expect("the wrapper's requests are well-formed");
        let op = Op::from_number(fields.op).expect("a known operation");
        if let Some(error) = self.trouble.borrow_mut().meets(op) {
            return Ok((error_reply(fields.op, fields.tag, error), 0));
        }
        if let Ok(Request::Hello(hello)) = Request::decode(fields.op, &mut reader) {
            let less = Hello { features: hello.features.difference(self.lacks), ..hello };
            return self.inner.call(&less.request(Tag(fields.tag.0), 0), payload, into);
        }
        self.inner.call(head, payload, into)
    }
}
