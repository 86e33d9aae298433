//! Receiving from a channel, and sending to one.

use super::channel::{Arrival, Channel, Refusal, Sender};
use super::message::{assemble, deliver};
use crate::file::control::Control;
use crate::file::timeout::{self, Deadline};
use crate::file::{Io, Ready, UserBuffers};
use alloc::boxed::Box;
use foundation::{ByteCount, Errno};

/// The result of a receiving call, apart from the bytes themselves.
#[derive(Default)]
pub struct Received {
    /// Bytes delivered.
    pub copied: ByteCount,
    /// Length of the message.
    pub length: ByteCount,
    /// Control data of the message.
    pub control: Option<Box<Control>>,
}

impl Received {
    /// Bytes of a stream: they are all there is.
    pub(super) fn bytes(count: ByteCount, control: Option<Box<Control>>) -> Self {
        Self { copied: count, length: count, control }
    }
}

/// Receives one message. The part that does not fit is dropped. EBUSY where the kernel is attached.
#[inline]
pub(super) fn receive(
    channel: &Channel,
    io: &Io<'_>,
    to: &mut UserBuffers,
) -> Result<Received, Errno> {
    let place = to.front().map(|front| (io.space, front));
    let mut queued = match channel.receive(io.nonblocking, place)? {
        Arrival::Kernels => return Err(Errno::EBUSY),
        Arrival::End => return end(channel),
        Arrival::Handed(length) => {
            return Ok(Received::bytes(ByteCount::of_len(length), None));
        }
        Arrival::Queued(queued) => queued,
    };
    channel.changed.notify_of(Ready::WRITE);
    match deliver(io, queued.message(), to) {
        Ok(copied) => {
            channel.delivered();
            let length = ByteCount::of_len(queued.message().len());
            Ok(Received { copied, length, control: queued.take_control() })
        }
        Err(error) => {
            channel.unreceive(queued);
            Err(error)
        }
    }
}

/// The end of a channel: nothing, or once that the other end was reset.
fn end(channel: &Channel) -> Result<Received, Errno> {
    let was_reset = core::mem::take(&mut channel.state.lock().was_reset);
    if was_reset { Err(Errno::ECONNRESET) } else { Ok(Received::default()) }
}

/// Copies the next message, which stays in the queue.
pub(super) fn peek(
    channel: &Channel,
    io: &Io<'_>,
    to: &mut UserBuffers,
) -> Result<Received, Errno> {
    let Some((message, control)) = channel.peek(io.nonblocking)? else {
        return Ok(Received::default());
    };
    let copied = deliver(io, &message, to)?;
    Ok(Received { copied, length: ByteCount::of_len(message.len()), control })
}

/// Sends the rest of `from` as one message, with control data. Waits while the queue is full, up to
/// the deadline.
pub(super) fn transmit(
    channel: &Channel,
    io: &Io<'_>,
    from: &mut UserBuffers,
    mut control: Option<Box<Control>>,
    deadline: Option<Deadline>,
) -> Result<ByteCount, Errno> {
    let sender = if io.caller.is_some_and(|caller| caller.is_server()) {
        Sender::Server
    } else {
        Sender::Ordinary
    };
    // A server gets the plain reason: it may have to retry.
    let shortage = if sender == Sender::Server { Errno::ENOMEM } else { Errno::ENOBUFS };
    let mut message = assemble(io, from)
        .map_err(|error| if error == Errno::ENOMEM { shortage } else { error })?;
    let length = ByteCount::of_len(message.len());
    let account = Some(io.account());
    let attempt = || match channel.send_with(&mut message, &mut control, sender, account) {
        Ok(()) => Some(Ok(())),
        Err(Refusal::Closed) => Some(Err(Errno::EPIPE)),
        Err(Refusal::NoMemory) => Some(Err(shortage)),
        Err(Refusal::Full) => None,
    };
    let sent = timeout::wait(&channel.changed, io.nonblocking, deadline.as_ref(), attempt)?;
    sent.unwrap_or(Err(Errno::EAGAIN)).map(|()| length)
}
