//! Control data at places of a stream of bytes.
//!
//! A reader gets the control data with the first byte that they were sent with, and at most those
//! of one message: it stops behind the bytes with which they came, as on Linux.

use crate::file::control::Control;
use crate::file::timeout::Deadline;
use crate::mem::fallible;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use foundation::Errno;

/// What a write attaches to its bytes.
pub(in crate::file) enum Attach {
    /// The bytes come alone.
    Nothing,
    /// These, to the first byte.
    Begin(Box<Control>),
    /// The bytes belong to those before, to which something was attached.
    Continue,
}

/// How a write is made.
pub(in crate::file) struct Writing {
    /// What its bytes have with them.
    pub attach: Attach,
    /// Up to when it waits for space.
    pub deadline: Option<Deadline>,
}

impl Writing {
    /// Without control data or a time limit.
    #[inline]
    pub const fn plain() -> Self {
        Self { attach: Attach::Nothing, deadline: None }
    }
}

/// What a read has got so far.
#[derive(Default)]
pub(in crate::file) struct Taken {
    /// Control data.
    pub control: Option<Box<Control>>,
    /// Whether it has bytes already.
    pub has_bytes: bool,
}

/// Control data for the bytes from `at` to `end`, counted from the stream's first mark on.
struct Mark {
    at: u64,
    end: u64,
    /// `None` once they were received with the first of the bytes.
    control: Option<Box<Control>>,
}

/// The marks of the bytes in a queue.
#[derive(Default)]
pub(in crate::file) struct Marks {
    /// The place of the first byte in the queue.
    position: u64,
    list: VecDeque<Mark>,
}

impl Marks {
    /// Makes space for one more mark.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        Ok(fallible::reserve(&mut self.list, 1)?)
    }

    /// Notes what `length` new bytes have behind the `queued` ones; there is space for it.
    pub fn push(&mut self, queued: usize, length: usize, attach: &mut Attach) {
        let at = self.position + queued as u64;
        let end = at + length as u64;
        let last = self.list.back_mut().filter(|mark| mark.end == at);
        match core::mem::replace(attach, Attach::Continue) {
            Attach::Nothing => *attach = Attach::Nothing,
            Attach::Continue => {
                if let Some(last) = last {
                    last.end = end;
                }
            }
            Attach::Begin(control) => match last {
                Some(Mark { control: Some(before), end: last_end, .. })
                    if before.is_plain()
                        && control.is_plain()
                        && before.credentials == control.credentials =>
                {
                    *last_end = end;
                }
                _ => self.list.push_back(Mark { at, end, control: Some(control) }),
            },
        }
    }

    /// The first mark whose control data were not received.
    fn first(&self) -> Option<(&Mark, &Control)> {
        self.list.iter().find_map(|mark| Some((mark, mark.control.as_deref()?)))
    }

    /// How many bytes one read may get now, and the control data that come with them.
    pub fn limit(&self, taken: &Taken) -> (usize, Option<&Control>) {
        let distance = |to: u64| usize::try_from(to - self.position).unwrap_or(usize::MAX);
        if taken.control.is_some() {
            // The rest of their message.
            let begun = self.list.front().filter(|mark| mark.at <= self.position);
            let rest = begun.filter(|mark| mark.control.is_none());
            return (rest.map_or(0, |mark| distance(mark.end)), None);
        }
        match self.first() {
            None => (usize::MAX, None),
            // Bytes of several senders are not mixed.
            Some((mark, control))
                if control.credentials.is_some()
                    && (taken.has_bytes || mark.at > self.position) =>
            {
                (distance(mark.at), None)
            }
            Some((mark, control)) => (distance(mark.end), Some(control)),
        }
    }

    /// `count` bytes were read. Returns whether marks are left.
    pub fn advance(&mut self, count: usize, taken: &mut Taken) -> bool {
        self.position += count as u64;
        let mut reached = self.list.iter_mut().take_while(|mark| mark.at < self.position);
        if let Some(control) = reached.find_map(|mark| mark.control.take()) {
            taken.control = Some(control);
        }
        while self.list.front().is_some_and(|mark| mark.end <= self.position) {
            self.list.pop_front();
        }
        !self.list.is_empty()
    }
}
