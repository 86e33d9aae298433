//! `/dev/kmsg`: the kernel's log, one message for each read, in Linux's form.

use crate::arch::{clock, messages, messages::PRIORITY};
use crate::file::{
    FileObject, FileType, Io, Ready, Stat, UserBuffers, WriteOutcome, WritePosition,
};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::format;
use foundation::{ByteCount, Errno, FileOffset};

/// An open `/dev/kmsg`.
pub struct Messages {
    inode: u64,
    /// The place of the message to read next.
    next: Mutex<u64, rank::MessagesPosition>,
}

impl Messages {
    /// Starts at the oldest message.
    pub fn open(inode: u64) -> Self {
        Self { inode, next: Mutex::new(0) }
    }
}

impl FileObject for Messages {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat {
            file_type: FileType::CharacterDevice,
            mode: 0o644,
            links: 1,
            inode: self.inode,
            device_number: 1 << 8 | 11,
            ..Stat::of_device()
        })
    }

    /// After the last message the end of the file, since no message wakes a reader; EAGAIN with
    /// `O_NONBLOCK`. EPIPE, once, where messages were lost; EINVAL if a message does not fit.
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _: FileOffset) -> Result<ByteCount, Errno> {
        let mut next = self.next.lock();
        let oldest = messages::places().start;
        if *next != 0 && *next < oldest {
            *next = oldest;
            return Err(Errno::EPIPE);
        }
        let Some(message) = messages::at(*next) else {
            return if io.nonblocking { Err(Errno::EAGAIN) } else { Ok(ByteCount::ZERO) };
        };
        *next = message.next;
        drop(next);
        let head = format!("{PRIORITY},{},{},-;", message.place, message.time_us);
        let mut line = fallible::with_capacity(head.len() + message.text().len() + 1)?;
        line.extend_from_slice(head.as_bytes());
        line.extend_from_slice(message.text());
        line.push(b'\n');
        if to.remaining() < ByteCount::of_len(line.len()) {
            return Err(Errno::EINVAL);
        }
        to.put(io.space, &line).map(ByteCount::of_len)
    }

    /// Adds a message.
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let bytes = from.remaining();
        let mut text = [0; messages::MESSAGE_BYTES];
        let count = from.take(io.space, &mut text)?;
        from.skip(from.remaining());
        let text = text.get(..count).unwrap_or_default().trim_ascii_end();
        messages::keep(clock::now_ns() / 1000, format_args!("{}", text.escape_ascii()));
        Ok(WriteOutcome::from_start(at.offset(), bytes))
    }

    fn poll(&self) -> Ready {
        let mut ready = Ready::WRITE;
        ready.set(Ready::READ, messages::at(*self.next.lock()).is_some());
        ready
    }
}
