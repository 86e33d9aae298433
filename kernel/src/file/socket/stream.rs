//! Stream sockets.

use super::{ShutDown, report_readable};
use crate::file::pipe::{nameless_stat, next_inode};
use crate::file::ring::Ring;
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// One end of a pair of stream sockets: two pipes, one for each direction.
pub struct Stream {
    incoming: Arc<Ring>,
    outgoing: Arc<Ring>,
    inode: u64,
}

/// A connected pair of stream sockets.
pub fn stream_pair() -> (Arc<Stream>, Arc<Stream>) {
    let (there, back) = (Ring::new(), Ring::new());
    let one = Stream { incoming: back.clone(), outgoing: there.clone(), inode: next_inode() };
    let other = Stream { incoming: there, outgoing: back, inode: next_inode() };
    (Arc::new(one), Arc::new(other))
}

impl Stream {
    /// Copies bytes that stay in the stream.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        self.incoming.peek(io, to)
    }

    /// shutdown(2).
    pub fn shut_down(&self, how: ShutDown) {
        if how.reading() {
            self.incoming.close_reader();
        }
        if how.writing() {
            self.outgoing.close_writer();
        }
    }
}

impl FileObject for Stream {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Socket, self.inode))
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        self.incoming.read(io, to)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.outgoing.write(io, from)?))
    }
    fn poll(&self) -> Ready {
        let (incoming, outgoing) = (self.incoming.poll_reader(), self.outgoing.poll_writer());
        let mut ready = incoming | (outgoing - Ready::ERROR);
        let is_over = incoming.contains(Ready::HANG_UP) || self.incoming.is_refused();
        ready.set(Ready::READ | Ready::READ_END, ready.contains(Ready::READ) || is_over);
        ready.set(Ready::READ_END, is_over);
        ready.set(Ready::HANG_UP, is_over && self.outgoing.is_over());
        ready
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.incoming.changed, Ready::INPUT);
        visit(&self.outgoing.changed, Ready::OUTPUT);
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        report_readable(caller, request, argument, self.incoming.len())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut_down(ShutDown::Both);
    }
}
