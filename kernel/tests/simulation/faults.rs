//! Fault injection below the wrapper: a client of the base server whose requests fail on demand,
//! and which hides features from the wrapper.

use std::cell::RefCell;
use std::rc::Rc;

use foundation::Errno;
use fsproto::{
    Close, Features, HEADER_BYTES, Header, Hello, Op, Operation, Request, Tag, closes, error_reply,
};
use fsserver::Connection;

use crate::script::Failing;

/// Which requests fail, and how many have failed.
#[derive(Default)]
pub struct FaultPlan {
    /// The next failures: of which requests (or device transfers), how many pass before, how many
    /// fail, and with which error.
    next: Option<(Failing, u32, u32, Errno)>,
    /// Requests and transfers that failed so far.
    pub failed: u64,
    /// Those of them that were to remove a name.
    pub failed_removals: u64,
    /// Nothing fails now: the simulation itself sends the request.
    pub quiet: bool,
}

impl FaultPlan {
    /// After `after` more requests, `times` requests fail with `error`.
    pub fn plan(&mut self, which: Failing, after: u32, times: u32, error: Errno) {
        self.next = Some((which, after, times, error));
    }

    /// Nothing fails any more.
    pub fn end(&mut self) {
        self.next = None;
    }

    /// The error with which this request fails, if it does.
    pub fn take_fault(&mut self, op: Op) -> Option<Errno> {
        let error = self.take_next(|which| match which {
            Failing::Reads => matches!(op, Op::Read | Op::ReadAt | Op::ReadRanges | Op::ListHoles),
            Failing::Changes => {
                matches!(op, Op::Write | Op::SetAttr | Op::Allocate | Op::CloneRange)
            }
            // A close takes effect even if it is answered with an error.
            Failing::All => !matches!(op, Op::Hello | Op::Close),
            Failing::Transfers => false,
        })?;
        self.failed_removals += u64::from(op == Op::Remove);
        Some(error)
    }

    /// Whether this transfer of the base server's device fails.
    pub fn take_transfer_fault(&mut self) -> bool {
        self.take_next(|which| which == Failing::Transfers).is_some()
    }

    /// Counts a request that `is_hit` says is affected. Returns the error if it fails.
    fn take_next(&mut self, is_hit: impl FnOnce(Failing) -> bool) -> Option<Errno> {
        let (which, after, times, error) = self.next.as_mut()?;
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
            self.next = None;
        }
        self.failed += 1;
        Some(error)
    }
}

/// A client whose requests may fail.
pub struct FaultyConnection<C> {
    pub inner: C,
    pub faults: Rc<RefCell<FaultPlan>>,
    /// Features that are hidden from the wrapper.
    pub lacks: Features,
}

impl<C: Connection> Connection for FaultyConnection<C> {
    fn call(
        &mut self,
        head: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno> {
        let (fields, mut reader) =
            Header::decode(head).expect("the wrapper's requests are well-formed");
        let op = Op::from_number(fields.op).expect("a known operation");
        if let Some(error) = self.faults.borrow_mut().take_fault(op) {
            // What the request closes besides takes effect, as a close of its own does.
            for handle in closes(head) {
                self.inner.call(&Close { handle }.request(fields.tag, 0), &[], &mut [])?;
            }
            return Ok((error_reply(fields.op, fields.tag, error), 0));
        }
        if let Ok(Request::Hello(hello)) = Request::decode(fields.op, &mut reader) {
            let less = Hello { features: hello.features.difference(self.lacks), ..hello };
            return self.inner.call(&less.request(Tag(fields.tag.0), 0), payload, into);
        }
        self.inner.call(head, payload, into)
    }
}
