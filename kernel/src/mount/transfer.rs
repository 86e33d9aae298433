//! Completion of swap transfers: what a server's reply means for pages on their way.

use alloc::vec::Vec;

use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::{Field, Reader, Written};

use super::{message, mutants};
use crate::file::socket::Message;
use crate::mem::swap::Transfer;

/// A reply to a transfer's request: its status, its fields, and the message with its payload.
pub(super) struct TransferReply<'a> {
    pub status: Result<(), Errno>,
    pub fields: Reader<'a>,
    pub message: Message,
}

/// Completes a transfer with the server's reply, or with EIO where that was invalid (`None`).
pub(super) fn complete(transfer: Transfer, reply: Option<TransferReply<'_>>) {
    let Some(TransferReply { status, mut fields, message }) = reply else {
        return transfer.complete(Err(Errno::EIO));
    };
    let pages = transfer.pages();
    let result = status.and_then(|()| match &transfer {
        Transfer::In(_) => message::into_frames(message, pages),
        Transfer::Out(_) => {
            let written = Written::get(&mut fields).map_err(|_| Errno::EIO)?;
            if written.length == ByteCount::of_len(pages * PAGE_BYTES) || mutants::believe_server()
            {
                Ok(Vec::new())
            } else {
                Err(Errno::ENOSPC)
            }
        }
        Transfer::Punch(_) => Ok(Vec::new()),
    });
    transfer.complete(result);
}
