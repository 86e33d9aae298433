//! Lists in payloads: holes, and what a write is made of.

use crate::codec::{Field, Reader, Writer, record};
use crate::{Handle, Malformed};

record! {
    /// A range of a file or snapshot in which nothing is stored: all zeros.
    Hole {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    }
}

record! {
    /// A part of a write. With `snapshot` 0, `length` bytes of the message's data, taken in order;
    /// else bytes of that snapshot.
    Piece {
        /// The snapshot, or 0.
        snapshot: Handle,
        /// First byte within the snapshot (0 for data).
        offset: u64,
        /// Bytes.
        length: u64,
    }
}

/// A list of records in a payload.
#[derive(Clone, Debug)]
pub struct Pieces<'a, T> {
    reader: Reader<'a>,
    kind: core::marker::PhantomData<T>,
}

impl<'a, T: Field> Pieces<'a, T> {
    /// The records that `bytes` is made of, `max` at most; a rest that is no whole record is
    /// malformed.
    pub fn decode(bytes: &'a [u8], max: usize) -> Result<Self, Malformed> {
        if !bytes.len().is_multiple_of(T::BYTES) || bytes.len() / T::BYTES > max {
            return Err(Malformed);
        }
        Ok(Self { reader: Reader::new(bytes), kind: core::marker::PhantomData })
    }
}

impl<T: Field> Iterator for Pieces<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        T::get(&mut self.reader).ok()
    }
}

macro_rules! record_bytes {
    ($name:ident) => {
        impl $name {
            /// Bytes of one in a payload.
            pub const BYTES: usize = <Self as Field>::BYTES;
            /// Appends it to a payload.
            pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
                self.put(writer)
            }
            /// As bytes of a payload.
            pub fn to_bytes(&self) -> [u8; <Self as Field>::BYTES] {
                let mut bytes = [0; <Self as Field>::BYTES];
                let fits = self.put(&mut Writer::new(&mut bytes));
                debug_assert!(fits.is_ok());
                bytes
            }
        }
    };
}
record_bytes!(Hole);
record_bytes!(Piece);
