//! Encoding and decoding of little-endian fields in byte slices. Both are total: what does not fit
//! or does not decode is an error.

use foundation::{ByteCount, FileOffset, PageCount, SnapshotOffset};

/// The bytes are not a message of this protocol, or do not fit where they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes fields off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes the next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    /// Takes the next `N` bytes, by value.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*front)
    }

    /// Number of bytes not yet taken.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.0.len()
    }
}

/// Writes fields into a slice, one after the other.
#[derive(Debug)]
pub struct Writer<'a> {
    space: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the start of `space`.
    #[inline]
    pub fn new(space: &'a mut [u8]) -> Self {
        Self { space, used: 0 }
    }

    /// Appends `bytes`. Fails without writing anything where they do not fit.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let end = self.used.checked_add(bytes.len()).ok_or(Malformed)?;
        self.space.get_mut(self.used..end).ok_or(Malformed)?.copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }

    /// Number of bytes written so far.
    #[inline]
    pub fn used(&self) -> usize {
        self.used
    }
}

/// A value of fixed size in a message's header or in a list of its payload.
pub trait Field: Sized {
    /// Length of the encoding in bytes.
    const BYTES: usize;
    /// Appends the value.
    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Malformed>;
    /// Takes a value. Fails where the bytes run out or the value is out of range.
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

macro_rules! integer_fields {
    ($($integer:ty),*) => {$(
        impl Field for $integer {
            const BYTES: usize = size_of::<$integer>();
            #[inline]
            fn put(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
                writer.put(&self.to_le_bytes())
            }
            #[inline]
            fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(<$integer>::from_le_bytes(reader.array()?))
            }
        }
    )*};
}
integer_fields!(u16, u32, u64, i64);

/// Implements [`Field`] for a tuple struct around an integer.
macro_rules! newtype_field {
    ($name:ident, $integer:ty) => {
        impl $crate::codec::Field for $name {
            const BYTES: usize = size_of::<$integer>();
            #[inline]
            fn put(&self, writer: &mut $crate::Writer<'_>) -> Result<(), $crate::Malformed> {
                self.0.put(writer)
            }
            #[inline]
            fn get(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::Malformed> {
                Ok(Self(<$integer>::get(reader)?))
            }
        }
    };
}

/// Implements [`Field`] for a set of bit flags. Unknown bits are malformed.
macro_rules! flags_field {
    ($name:ident, $integer:ty) => {
        impl $crate::codec::Field for $name {
            const BYTES: usize = size_of::<$integer>();
            #[inline]
            fn put(&self, writer: &mut $crate::Writer<'_>) -> Result<(), $crate::Malformed> {
                self.bits().put(writer)
            }
            #[inline]
            fn get(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::Malformed> {
                Self::from_bits(<$integer>::get(reader)?).ok_or($crate::Malformed)
            }
        }
    };
}

/// Defines a struct of fields, which are encoded in order without padding; it is itself a
/// [`Field`].
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $crate::codec::Field for $name {
            const BYTES: usize = 0 $(+ <$kind as $crate::codec::Field>::BYTES)*;
            #[allow(unused_variables)]
            #[inline]
            fn put(&self, writer: &mut $crate::Writer<'_>) -> Result<(), $crate::Malformed> {
                $(self.$field.put(writer)?;)*
                Ok(())
            }
            #[allow(unused_variables)]
            #[inline]
            fn get(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::Malformed> {
                Ok(Self { $($field: <$kind as $crate::codec::Field>::get(reader)?,)* })
            }
        }
    };
}

newtype_field!(FileOffset, u64);
newtype_field!(SnapshotOffset, u64);
newtype_field!(ByteCount, u64);
newtype_field!(PageCount, u64);

pub(crate) use {flags_field, newtype_field, record};
