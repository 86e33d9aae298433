//! Lists in payloads: holes, the pieces of a write, and ranges to read.

use foundation::{ByteCount, SnapshotOffset};

use crate::codec::{Field, Reader, Writer, record};
use crate::{Handle, Malformed};

record! {
    /// A range of a file or snapshot without storage, which reads as zeros.
    Hole {
        /// First byte, counted from the start of the file or snapshot that the list is about.
        offset: u64,
        /// Length of the range.
        length: ByteCount,
    }
}

record! {
    /// A piece of a write: a reference to bytes of a snapshot or, with [`Handle::NONE`], the next
    /// `length` bytes of the message's data.
    Piece {
        /// The snapshot, or [`Handle::NONE`].
        snapshot: Handle,
        /// First byte within the snapshot; 0 for data.
        offset: SnapshotOffset,
        /// Number of bytes.
        length: ByteCount,
    }
}

record! {
    /// A range of bytes of a file, which [`ReadRanges`](crate::ReadRanges) reads.
    ByteRange {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u32,
    }
}

/// A list of records in a payload, as an iterator.
#[derive(Clone, Debug)]
pub struct Records<'a, T> {
    reader: Reader<'a>,
    kind: core::marker::PhantomData<T>,
}

impl<'a, T: Field> Records<'a, T> {
    /// Checks the form of a list: whole records, at most `max`.
    pub fn decode(bytes: &'a [u8], max: usize) -> Result<Self, Malformed> {
        if !bytes.len().is_multiple_of(T::BYTES) || bytes.len() / T::BYTES > max {
            return Err(Malformed);
        }
        Ok(Self { reader: Reader::new(bytes), kind: core::marker::PhantomData })
    }
}

impl<T: Field> Iterator for Records<'_, T> {
    type Item = T;
    #[inline]
    fn next(&mut self) -> Option<T> {
        T::get(&mut self.reader).ok()
    }

    /// All records decode: they consist of numbers.
    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let records = self.reader.remaining() / T::BYTES;
        (records, Some(records))
    }
}

macro_rules! record_bytes {
    ($name:ident) => {
        impl $name {
            /// Length of the encoding in bytes.
            pub const BYTES: usize = <Self as Field>::BYTES;
            /// Appends the record to a payload.
            pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
                self.put(writer)
            }
            /// The encoding of the record.
            pub fn to_bytes(&self) -> [u8; <Self as Field>::BYTES] {
                let mut bytes = [0; <Self as Field>::BYTES];
                let fits = self.put(&mut Writer::new(&mut bytes));
                debug_assert!(fits.is_ok());
                bytes
            }
        }
    };
}

impl Hole {
    /// First byte behind the hole, counted as `offset`; at most `u64::MAX`.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length.0)
    }
}

record_bytes!(Hole);
record_bytes!(Piece);
record_bytes!(ByteRange);
