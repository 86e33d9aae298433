//! Open files and buffers.

use super::*;

/// A file in memory.
struct Memory(spin::Mutex<Vec<u8>>);

impl FileObject for Memory {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { size: ByteCount::of_len(self.0.lock().len()), ..Stat::default() })
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        let bytes = self.0.lock().clone();
        Ok(ByteCount::of_len(to.put(io.space, bytes.get(at.0 as usize..).unwrap_or_default())?))
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let mut new = vec![0; from.remaining().to_usize()];
        let taken = from.take(io.space, &mut new)?;
        let mut bytes = self.0.lock();
        let start = if let WritePosition::At(at) = at { at.0 as usize } else { bytes.len() };
        let end = start + taken;
        let length = bytes.len().max(end);
        bytes.resize(length, 0);
        bytes[start..end].copy_from_slice(&new[..taken]);
        Ok(WriteOutcome { bytes: ByteCount::of_len(taken), end: FileOffset(end as u64) })
    }
    fn seekable(&self) -> bool {
        true
    }
}

fn open(bytes: &[u8], status: Status) -> Arc<OpenFile> {
    OpenFile::nameless(Arc::new(Memory(spin::Mutex::new(bytes.to_vec()))), status, &Account::new())
        .unwrap()
}

/// R2: the step of the position is the count returned.
#[test]
fn r2_the_position_advances_by_what_was_read() {
    let process = Process::with_memory();
    let file = open(b"0123456789", Status::READ);
    assert_eq!(file.read(&process, &mut process.buffer(0, 4)), Ok(ByteCount(4)));
    assert_eq!(file.read(&process, &mut process.buffer(0, 100)), Ok(ByteCount(6)));
    assert_eq!(process.bytes(0, 6), b"456789");
    assert_eq!(file.read(&process, &mut process.buffer(0, 100)), Ok(ByteCount(0)));
    assert_eq!(file.with_position(|position| Ok(position.0)), Ok(10));
    assert_eq!(file.read_at(&process, &mut process.buffer(0, 3), FileOffset(2)), Ok(ByteCount(3)));
    assert_eq!(file.with_position(|position| Ok(position.0)), Ok(10));
}

/// W6: pwrite on an O_APPEND file appends.
#[test]
fn w6_append_ignores_the_offset() {
    let process = Process::with_memory();
    let file = open(b"0123", Status::READ | Status::WRITE | Status::APPEND);
    assert_eq!(
        file.write_at(&process, &mut process.filled(0, b"ab"), FileOffset(0)),
        Ok(ByteCount(2))
    );
    assert_eq!(file.write(&process, &mut process.filled(0, b"cd")), Ok(ByteCount(2)));
    assert_eq!(file.with_position(|position| Ok(position.0)), Ok(8));
    assert_eq!(
        file.read_at(&process, &mut process.buffer(0, 100), FileOffset(0)),
        Ok(ByteCount(8))
    );
    assert_eq!(process.bytes(0, 8), b"0123abcd");
}

#[test]
fn access_is_limited_to_the_open_mode() {
    let process = Process::with_memory();
    let reader = open(b"x", Status::READ);
    assert_eq!(reader.write(&process, &mut process.filled(0, b"y")), Err(Errno::EBADF));
    let place = open(b"x", Status::PATH);
    assert_eq!(place.read(&process, &mut process.buffer(0, 1)), Err(Errno::EBADF));
    assert_eq!(place.require_not_path(), Err(Errno::EBADF));
}

#[test]
fn nothing_is_moved_past_the_largest_offset() {
    let process = Process::with_memory();
    let file = open(b"", Status::READ | Status::WRITE);
    assert_eq!(
        file.write_at(&process, &mut process.filled(0, b"y"), MAX_OFFSET),
        Err(Errno::EINVAL)
    );
    let (mut two, last) = (process.buffer(0, 2), FileOffset(MAX_OFFSET.0 - 1));
    assert_eq!(file.read_at(&process, &mut two, last), Err(Errno::EINVAL));
    assert_eq!(file.read_at(&process, &mut process.buffer(0, 1), last), Ok(ByteCount::ZERO));
}

#[test]
fn reading_at_an_offset_needs_positions() {
    let process = Process::with_memory();
    let (read, _write) = crate::file::pipe::pipe();
    let file = OpenFile::nameless(read, Status::READ, &Account::new()).unwrap();
    assert_eq!(
        file.read_at(&process, &mut process.buffer(0, 1), FileOffset(0)),
        Err(Errno::ESPIPE)
    );
    assert_eq!(file.with_position(|_| Ok(())), Err(Errno::ESPIPE));
}

#[test]
fn vectors_are_filled_in_order_up_to_the_end_of_memory() {
    let process = Process::with_memory();
    let slices = [(0, 3), (0x1000, 0), (0x2000, 2), (PAGES * 4096 - 1, 5)];
    let slices =
        slices.map(|(at, len)| UserSlice::new(UserAddr(BASE + at), ByteCount(len)).unwrap());
    let mut buffers = UserBuffers::many(&slices).unwrap();
    assert_eq!((buffers.remaining(), buffers.only()), (ByteCount(10), None));
    assert_eq!(buffers.put(&process.space, b"abcd"), Ok(4));
    assert_eq!(
        buffers.put(&process.space, b"efgh"),
        Ok(2),
        "one byte more, and one before the end of memory"
    );
    assert_eq!((process.bytes(0, 3), process.bytes(0x2000, 2)), (b"abc".to_vec(), b"de".to_vec()));
    assert_eq!(process.bytes(PAGES * 4096 - 1, 1), b"f");
    assert_eq!(buffers.put(&process.space, b"gh"), Err(Errno::EFAULT));
}

#[test]
fn buffers_can_be_limited_and_skipped() {
    let process = Process::with_memory();
    let slices = [(0, 3), (0x1000, 3), (0x2000, 3)]
        .map(|(at, len)| UserSlice::new(UserAddr(BASE + at), ByteCount(len)).unwrap());
    let mut buffers = UserBuffers::many(&slices).unwrap();
    buffers.limit(ByteCount(5));
    buffers.skip(ByteCount(2));
    assert_eq!(buffers.remaining(), ByteCount(3));
    assert_eq!(buffers.put(&process.space, b"xyzw"), Ok(3));
    assert_eq!((process.bytes(2, 1), process.bytes(0x1000, 2)), (b"x".to_vec(), b"yz".to_vec()));
    assert_eq!(process.bytes(0x1002, 1), [0]);
    let mut kernel = UserBuffers::kernel(4);
    assert_eq!(kernel.put(&process.space, b"abcdef"), Ok(4));
    assert_eq!(kernel.into_bytes(), b"abcd");
}
