//! Addresses of sockets in a program's memory: `struct sockaddr_un`.

use super::arguments::{half, load, store};
use crate::file::Caller;
use crate::file::control::{MAX_NAME, Name};
use crate::mem::{UserAddr, UserSlice};
use foundation::{ByteCount, Errno};
use linux_raw_sys::net;

/// Bytes of any address, at most (`struct sockaddr_storage`).
const MAX_BYTES: usize = 128;
/// Bytes of the family, with which an address begins.
const FAMILY_BYTES: usize = 2;

/// An address that a program passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// No bytes at all.
    Nothing,
    /// The family `AF_UNSPEC`.
    Unspecified,
    /// The family `AF_UNIX` alone.
    FamilyOnly,
    /// A path or an abstract name.
    Named(Name),
}

/// Decodes the address at `at`. EINVAL for other families, and for lengths that are none.
pub fn address(current: &dyn Caller, at: UserAddr, length: i32) -> Result<Address, Errno> {
    let mut bytes = [0; MAX_BYTES];
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    load(current, at, bytes)?;
    let Some((family, name)) = bytes.split_first_chunk::<FAMILY_BYTES>() else {
        return if length == 0 { Ok(Address::Nothing) } else { Err(Errno::EINVAL) };
    };
    let family = u32::from(u16::from_le_bytes(*family));
    match (family, name) {
        (net::AF_UNSPEC, _) => Ok(Address::Unspecified),
        (net::AF_UNIX, []) => Ok(Address::FamilyOnly),
        (net::AF_UNIX, [0, ..]) => Name::new(name).map(Address::Named),
        (net::AF_UNIX, path) if path.len() <= MAX_NAME => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            Name::new(path.get(..end).unwrap_or_default()).map(Address::Named)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// An address with its length, as it is stored.
pub struct AddressBytes {
    bytes: [u8; FAMILY_BYTES + MAX_NAME + 1],
    length: usize,
}

impl AddressBytes {
    /// No address.
    pub const NONE: Self = Self { bytes: [0; FAMILY_BYTES + MAX_NAME + 1], length: 0 };
}

/// The address of a socket; of one without a name, the family alone.
pub fn bytes_of(name: Option<&Name>) -> AddressBytes {
    let mut address = AddressBytes { length: FAMILY_BYTES, ..AddressBytes::NONE };
    let name_bytes = name.map_or(&[][..], Name::bytes);
    let parts = (net::AF_UNIX as u16).to_le_bytes();
    let all = parts.iter().chain(name_bytes);
    address.bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
    // A path is ended by a zero.
    let ends = usize::from(name.is_some_and(|name| !name.is_abstract()));
    address.length += name_bytes.len() + ends;
    address
}

/// Stores as much of an address as there is space for, and its length. EINVAL where the length that
/// the program states is negative.
pub fn store_address(
    current: &dyn Caller,
    address: AddressBytes,
    at: UserAddr,
    length_at: UserAddr,
) -> Result<u64, Errno> {
    let mut space = [0; 4];
    load(current, length_at, &mut space)?;
    let space = i32::from_le_bytes(space);
    let space = usize::try_from(space).map_err(|_| Errno::EINVAL)?;
    store_prefix(current, &address, at, space)?;
    store(current, length_at, &(address.length as u32).to_le_bytes())
}

/// Stores at most `space` bytes of an address. Returns its length.
pub fn store_prefix(
    current: &dyn Caller,
    address: &AddressBytes,
    at: UserAddr,
    space: usize,
) -> Result<u32, Errno> {
    let bytes = address.bytes.get(..address.length.min(space)).unwrap_or_default();
    if !bytes.is_empty() {
        let slice = UserSlice::new(at, ByteCount::of_len(bytes.len()))?;
        current.space().copy_out_all(slice, bytes)?;
    }
    Ok(address.length as u32)
}

/// A word of a program's memory.
pub fn load_half(current: &dyn Caller, at: UserAddr) -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    load(current, at, &mut bytes)?;
    Ok(half(&bytes, 0))
}
