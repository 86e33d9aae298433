//! Hole lists: the records of a reply's payload, checked.

use core::ops::Range;

use crate::pieces::{Hole, Records};
use crate::{MAX_HOLES, Malformed};

/// Decodes a list of at most [`MAX_HOLES`] holes. Malformed unless they are in ascending order,
/// disjoint, and all inside `within` (byte offsets relative to the handle's byte 0).
pub fn decode_holes(bytes: &[u8], within: Range<u64>) -> Result<Records<'_, Hole>, Malformed> {
    let holes = Records::decode(bytes, MAX_HOLES)?;
    if are_ordered(holes.clone(), within) { Ok(holes) } else { Err(Malformed) }
}

fn are_ordered(mut holes: impl Iterator<Item = Hole>, within: Range<u64>) -> bool {
    let mut previous_end = within.start;
    holes.all(|hole| {
        let Some(end) = hole.offset.checked_add(hole.length.0) else { return false };
        let is_ordered = hole.offset >= previous_end && end <= within.end;
        previous_end = end;
        is_ordered
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r10_holes_must_be_in_order_and_inside() {
        let hole = |offset, length| Hole { offset, length: foundation::ByteCount(length) };
        let accepts = |holes: &[Hole], within| are_ordered(holes.iter().copied(), within);
        assert!(accepts(&[], 0..0));
        assert!(accepts(&[hole(0, 4096), hole(4096, 1)], 0..4097));
        assert!(!accepts(&[hole(0, 4097), hole(4096, 1)], 0..8192), "they overlap");
        assert!(!accepts(&[hole(8192, 1), hole(0, 1)], 0..8193), "descending");
        assert!(!accepts(&[hole(0, 4096)], 0..4095), "past the end");
        assert!(!accepts(&[hole(0, 4096)], 1..8192), "before the start");
        assert!(!accepts(&[hole(u64::MAX, 2)], 0..u64::MAX), "overflows");
        assert!(decode_holes(&[0; MAX_HOLES * Hole::BYTES], 0..1).is_ok());
        assert!(decode_holes(&[0; (MAX_HOLES + 1) * Hole::BYTES], 0..1).is_err(), "too many");
        assert!(decode_holes(&[0; Hole::BYTES - 1], 0..1).is_err(), "half a record");
    }
}
