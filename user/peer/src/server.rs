//! A minimal file server for FUSE: one folder of a few files, in memory that is mapped from the
//! start. It speaks to `/dev/fuse` directly and carries out one request at a time.

use crate::mode::Mode;
use crate::protocol::{self, HEADER_BYTES, Reply, TRANSFER_BYTES, operation};
use core::ops::Range;
use proof::os;
use user::alloc::borrow::ToOwned;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;

/// The most files at a time, and the most bytes of each.
const MOST_FILES: usize = 4;
const MOST_BYTES: usize = 64 << 20;

/// The most bytes of a write: what Linux allows.
const MOST_WRITTEN_BYTES: usize = 256 * PAGE_BYTES;

/// The node of the folder. Those of files follow, and none is used twice.
const ROOT: u64 = 1;

/// A file, whose bytes are at its index in the memory.
struct File {
    node: u64,
    name: Vec<u8>,
    len: usize,
}

/// Files in memory, and how they are served.
pub struct Server {
    memory: Pages,
    files: [Option<File>; MOST_FILES],
    next_node: u64,
    mode: Mode,
    /// The file that was written last, until another request but a read arrives: its index. More is
    /// expected at its end.
    growing: Option<usize>,
}

/// Bytes of a request up to the data of a write.
const HEAD_BYTES: usize = HEADER_BYTES + TRANSFER_BYTES;

/// A request that has arrived.
struct Arrived {
    /// Bytes of it in the buffer.
    bytes: usize,
    /// Bytes of a write's data that are in the file already.
    in_place: usize,
}

/// What follows a reply's own bytes: a part of the memory.
type Data = Range<usize>;

impl Server {
    /// A server without files. Touches all of its memory.
    pub fn new(mode: Mode) -> Result<Self> {
        let mut memory = Pages::new(MOST_FILES * MOST_BYTES)?;
        for page in memory.chunks_mut(PAGE_BYTES) {
            page[0] = 1;
        }
        let files = [const { None }; MOST_FILES];
        Ok(Self { memory, files, next_node: ROOT + 1, mode, growing: None })
    }

    /// Serves until the file system is unmounted.
    pub fn serve(&mut self, fd: Fd) -> Result<()> {
        let mut request = Pages::new(HEAD_BYTES + MOST_WRITTEN_BYTES)?;
        loop {
            let arrived = match self.receive(fd, &mut request) {
                Ok(arrived) => arrived,
                // A request that was taken back before it was read.
                Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => continue,
                Err(Errno::ENODEV) => return Ok(()),
                Err(error) => return Err(error),
            };
            let request = &request[..arrived.bytes];
            let mut reply = Reply::new(protocol::u64_at(request, 8));
            let Some(data) = self.answer(request, arrived.in_place, &mut reply) else { continue };
            let header = reply.finish(data.len());
            let sent = if data.is_empty() {
                sys::write(fd, header)
            } else {
                let data = &self.memory[data];
                let parts = [header, data].map(|part| [part.as_ptr() as usize, part.len()]);
                os::writev(fd, &parts)
            };
            match sent {
                // ENOENT: whoever asked was killed.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a request. While a file grows, what follows a request's head is received behind
    /// the file's end: the data of a write is then where it belongs, and all else is moved.
    fn receive(&mut self, fd: Fd, request: &mut [u8]) -> Result<Arrived> {
        let grown = self.growing.and_then(|index| Some((index, self.files[index].as_ref()?)));
        let Some((node, end, place)) = grown.and_then(|(index, file)| {
            let place = Self::place(index, file.len as u64, MOST_WRITTEN_BYTES).ok()?;
            Some((file.node, file.len, place))
        }) else {
            return sys::read(fd, request).map(|bytes| Arrived { bytes, in_place: 0 });
        };
        let (head, rest) = request.split_at_mut(HEAD_BYTES);
        let tail = &mut self.memory[place];
        let parts = [&mut *head, &mut *tail].map(|part| [part.as_mut_ptr() as usize, part.len()]);
        let bytes = os::readv(fd, &parts)?;
        let left = bytes.saturating_sub(HEAD_BYTES);
        let is_expected = protocol::u32_at(head, 4) == operation::WRITE
            && protocol::u64_at(head, 16) == node
            && protocol::u64_at(head, HEADER_BYTES + 8) == end as u64;
        if is_expected {
            return Ok(Arrived { bytes: HEAD_BYTES, in_place: left });
        }
        rest[..left].copy_from_slice(&tail[..left]);
        Ok(Arrived { bytes, in_place: 0 })
    }

    /// Carries out a request, so many bytes of whose data are in the file already. Returns which of
    /// the files' bytes follow the reply; `None` if there is no reply.
    fn answer(&mut self, request: &[u8], in_place: usize, reply: &mut Reply) -> Option<Data> {
        let node = protocol::u64_at(request, 16);
        let operation = protocol::u32_at(request, 4);
        if operation != operation::READ {
            self.growing = None;
        }
        let done = match operation {
            operation::READ => self.read(node, request),
            operation::WRITE => self.write(node, request, in_place, reply),
            operation::LOOKUP => self.look_up(request, reply),
            operation::GETATTR => self.attributes(node, reply),
            operation::SETATTR => self.set_attributes(node, request, reply),
            operation::OPEN => {
                reply.opened(self.open_flags());
                Ok(0..0)
            }
            operation::CREATE => self.create(request, reply),
            operation::UNLINK => self.unlink(request),
            operation::RELEASE | operation::DESTROY => Ok(0..0),
            operation::INIT => {
                self.initialise(request, reply);
                Ok(0..0)
            }
            operation::FORGET | operation::BATCH_FORGET | operation::INTERRUPT => return None,
            // The kernel does not ask again.
            _ => Err(Errno::ENOSYS),
        };
        Some(done.unwrap_or_else(|error| {
            reply.fail(error);
            0..0
        }))
    }

    fn initialise(&self, request: &[u8], reply: &mut Reply) {
        let read_ahead_bytes = protocol::u32_at(request, HEADER_BYTES + 8);
        let mut flags = protocol::ASYNC_READ | protocol::BIG_WRITES | protocol::MAX_PAGES;
        if self.mode.writes_back {
            flags |= protocol::WRITEBACK_CACHE;
        }
        let [major, minor] = protocol::VERSION;
        reply.u32(major).u32(minor).u32(read_ahead_bytes).u32(flags);
        // Requests in the background and how many are too many, 16 bits each; bytes of a write; the
        // unit of times; pages of a request; then what is not used.
        reply.u32(64 << 16 | 64).u32(MOST_WRITTEN_BYTES as u32).u32(1);
        reply.u32((MOST_WRITTEN_BYTES / PAGE_BYTES) as u32).u64(0).u64(0).u64(0).u64(0);
    }

    fn open_flags(&self) -> u32 {
        if self.mode.is_direct { protocol::DIRECT_IO } else { 0 }
    }

    /// A file and its index.
    fn find(&mut self, node: u64) -> Result<(usize, &mut File)> {
        let mut files = self.files.iter_mut().enumerate();
        let found = files.find_map(|(index, file)| {
            file.as_mut().filter(|file| file.node == node).map(|file| (index, file))
        });
        found.ok_or(Errno::ENOENT)
    }

    /// The bytes from an offset of a file on, within what it can have.
    fn place(index: usize, offset: u64, bytes: usize) -> Result<Data> {
        let offset = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = offset.checked_add(bytes).filter(|end| *end <= MOST_BYTES).ok_or(Errno::EFBIG)?;
        Ok(index * MOST_BYTES + offset..index * MOST_BYTES + end)
    }

    fn read(&mut self, node: u64, request: &[u8]) -> Result<Data> {
        let offset = protocol::u64_at(request, HEADER_BYTES + 8);
        let size = protocol::u32_at(request, HEADER_BYTES + 16) as usize;
        let (index, file) = self.find(node)?;
        let left = file.len.saturating_sub(usize::try_from(offset).unwrap_or(usize::MAX));
        if left == 0 { Ok(0..0) } else { Self::place(index, offset, size.min(left)) }
    }

    fn write(
        &mut self,
        node: u64,
        request: &[u8],
        in_place: usize,
        reply: &mut Reply,
    ) -> Result<Data> {
        let offset = protocol::u64_at(request, HEADER_BYTES + 8);
        let data = request.get(HEAD_BYTES..).ok_or(Errno::EINVAL)?;
        let bytes = in_place + data.len();
        let (index, file) = self.find(node)?;
        let place = Self::place(index, offset, bytes)?;
        let (gap, end) = (file.len, offset as usize + bytes);
        file.len = gap.max(end);
        if gap < offset as usize {
            self.memory[Self::place(index, gap as u64, offset as usize - gap)?].fill(0);
        }
        if in_place == 0 {
            self.memory[place].copy_from_slice(data);
        }
        self.growing = Some(index);
        reply.u32(bytes as u32).u32(0);
        Ok(0..0)
    }

    fn by_name(&self, name: &[u8]) -> Option<usize> {
        self.files.iter().position(|file| file.as_ref().is_some_and(|file| file.name == name))
    }

    fn look_up(&self, request: &[u8], reply: &mut Reply) -> Result<Data> {
        let index = self.by_name(protocol::name_at(request, HEADER_BYTES));
        let file = index.and_then(|index| self.files[index].as_ref()).ok_or(Errno::ENOENT)?;
        reply.entry(self.mode.valid_s, file.node, file.len as u64, protocol::FILE_MODE);
        Ok(0..0)
    }

    fn attributes(&mut self, node: u64, reply: &mut Reply) -> Result<Data> {
        let valid_s = self.mode.valid_s;
        if node == ROOT {
            reply.attributes(valid_s, ROOT, 0, protocol::FOLDER_MODE);
        } else {
            let len = self.find(node)?.1.len as u64;
            reply.attributes(valid_s, node, len, protocol::FILE_MODE);
        }
        Ok(0..0)
    }

    fn set_attributes(&mut self, node: u64, request: &[u8], reply: &mut Reply) -> Result<Data> {
        if protocol::u32_at(request, HEADER_BYTES) & protocol::CHANGES_SIZE != 0 {
            let new = protocol::u64_at(request, protocol::NEW_SIZE_AT);
            let (index, file) = self.find(node)?;
            let place = Self::place(index, 0, usize::try_from(new).map_err(|_| Errno::EFBIG)?)?;
            let gap = place.start + file.len..place.end;
            file.len = place.len();
            if !gap.is_empty() {
                self.memory[gap].fill(0);
            }
        }
        self.attributes(node, reply)
    }

    fn create(&mut self, request: &[u8], reply: &mut Reply) -> Result<Data> {
        let name = protocol::name_at(request, HEADER_BYTES + protocol::CREATE_BYTES);
        if self.by_name(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let free = self.files.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
        let node = self.next_node;
        self.next_node += 1;
        self.files[free] = Some(File { node, name: name.to_owned(), len: 0 });
        reply.entry(self.mode.valid_s, node, 0, protocol::FILE_MODE).opened(self.open_flags());
        Ok(0..0)
    }

    /// Nobody uses a file that has no name, so it is gone.
    fn unlink(&mut self, request: &[u8]) -> Result<Data> {
        let index = self.by_name(protocol::name_at(request, HEADER_BYTES)).ok_or(Errno::ENOENT)?;
        self.files[index] = None;
        Ok(0..0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::MODES;

    /// A request to a node: fields, and bytes behind them.
    fn request(operation: u32, node: u64, fields: &[u64], rest: &[u8]) -> Vec<u8> {
        let length = HEADER_BYTES + fields.len() * 8 + rest.len();
        let mut request = (length as u32).to_le_bytes().to_vec();
        request.extend(operation.to_le_bytes());
        request.extend([7, node, 0, 0].iter().flat_map(|number| number.to_le_bytes()));
        request.extend(fields.iter().flat_map(|number| number.to_le_bytes()));
        request.extend(rest);
        request
    }

    /// The reply to a request.
    fn ask(server: &mut Server, operation: u32, node: u64, fields: &[u64], rest: &[u8]) -> Vec<u8> {
        let request = request(operation, node, fields, rest);
        let mut reply = Reply::new(7);
        let data = server.answer(&request, 0, &mut reply).expect("a reply");
        let mut bytes = reply.finish(data.len()).to_vec();
        bytes.extend(&server.memory[data]);
        assert_eq!((protocol::u32_at(&bytes, 0) as usize, bytes[8]), (bytes.len(), 7));
        bytes
    }

    fn error(reply: &[u8]) -> i32 {
        protocol::u32_at(reply, 4) as i32
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let mut server = Server::new(MODES[0]).unwrap();
        let created = ask(&mut server, operation::CREATE, ROOT, &[0, 0], b"name\0");
        assert_eq!((error(&created), created.len()), (0, 16 + 128 + 16));
        let node = protocol::u64_at(&created, 16);
        let transfer = |offset, size| [0, offset, size, 0, 0];
        let written = ask(&mut server, operation::WRITE, node, &transfer(6, 3), b"abc");
        assert_eq!((error(&written), protocol::u32_at(&written, 16)), (0, 3));
        let read = ask(&mut server, operation::READ, node, &transfer(4, 100), b"");
        assert_eq!(&read[16..], b"\0\0abc");
        assert_eq!(ask(&mut server, operation::READ, node, &transfer(9, 100), b"").len(), 16);
        let found = ask(&mut server, operation::LOOKUP, ROOT, &[], b"name\0");
        assert_eq!((found.len(), protocol::u64_at(&found, 16)), (16 + 128, node));
        let attributes = ask(&mut server, operation::GETATTR, node, &[0, 0], b"");
        assert_eq!((attributes.len(), protocol::u64_at(&attributes, 16 + 24)), (16 + 104, 9));
        assert_eq!(error(&ask(&mut server, operation::UNLINK, ROOT, &[], b"name\0")), 0);
        for (operation, name) in [(operation::LOOKUP, &b"name\0"[..]), (operation::READ, b"")] {
            assert_eq!(error(&ask(&mut server, operation, node, &[], name)), -2, "{operation}");
        }
    }

    #[test]
    fn the_first_reply_has_the_length_of_its_version() {
        let mut server = Server::new(MODES[0]).unwrap();
        let first = ask(&mut server, operation::INIT, 0, &[7 | 38 << 32, 1 << 17], b"");
        assert_eq!((error(&first), first.len()), (0, 16 + 64));
        assert_eq!(protocol::u32_at(&first, 16), 7);
        assert_eq!(error(&ask(&mut server, 99, 0, &[], b"")), -38);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let mut server = Server::new(MODES[0]).unwrap();
        let created = ask(&mut server, operation::CREATE, ROOT, &[0, 0], b"name\0");
        let node = protocol::u64_at(&created, 16);
        for offset in [MOST_BYTES as u64, u64::MAX] {
            let fields = [0, offset, 1, 0, 0];
            assert_eq!(error(&ask(&mut server, operation::WRITE, node, &fields, b"a")), -27);
        }
        let fields = [u64::from(protocol::CHANGES_SIZE), 0, u64::MAX];
        assert_eq!(error(&ask(&mut server, operation::SETATTR, node, &fields, b"")), -27);
    }

    #[test]
    fn a_growing_file_gets_its_data_in_place_and_other_requests_are_whole() {
        let [far, near] = os::socket_pair().unwrap();
        let mut server = Server::new(MODES[0]).unwrap();
        let created = ask(&mut server, operation::CREATE, ROOT, &[0, 0], b"name\0");
        let node = protocol::u64_at(&created, 16);
        let write =
            |offset, data: &[u8]| request(operation::WRITE, node, &[0, offset, 3, 0, 0], data);
        let long = request(operation::SETATTR, node, &[0; 11], b"");
        let mut buffer = vec![0; HEAD_BYTES + MOST_WRITTEN_BYTES];
        // The second write is at the end; the last one is not.
        for (sent, in_place) in
            [(write(0, b"abc"), 0), (write(3, b"def"), 3), (long, 0), (write(1, b"xy"), 0)]
        {
            sys::write(far, &sent).unwrap();
            let arrived = server.receive(near, &mut buffer).unwrap();
            assert_eq!((arrived.in_place, arrived.bytes + in_place), (in_place, sent.len()));
            assert_eq!(buffer[..arrived.bytes], sent[..arrived.bytes]);
            server.answer(&buffer[..arrived.bytes], arrived.in_place, &mut Reply::new(7)).unwrap();
        }
        let read = ask(&mut server, operation::READ, node, &[0, 0, 100, 0, 0], b"");
        assert_eq!(&read[16..], b"axydef");
    }
}
