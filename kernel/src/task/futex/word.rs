//! The words of futexes in programs' memory.
//!
//! Kernel code is not preempted. So once a page can be written, nothing else runs between two
//! accesses to a word in it, which are as one.
#![forbid(unsafe_code)]

use crate::mem::{Access, Space, UserAddr, UserSlice};
use foundation::{ByteCount, Errno};

/// EINVAL for an address that is not aligned, EFAULT outside of the program's half.
pub fn check(address: UserAddr) -> Result<UserSlice, Errno> {
    if address.0.is_multiple_of(4) {
        UserSlice::new(address, ByteCount(4))
    } else {
        Err(Errno::EINVAL)
    }
}

/// The word at an address.
pub fn load(space: &Space, address: UserAddr) -> Result<u32, Errno> {
    let mut word = [0; 4];
    space.copy_in(check(address)?, &mut word)?;
    Ok(u32::from_le_bytes(word))
}

/// Changes a word to what `change` makes of it, if anything. Returns the old value. `change` must
/// not wait.
pub fn update(
    space: &Space,
    address: UserAddr,
    change: impl FnOnce(u32) -> Result<Option<u32>, Errno>,
) -> Result<u32, Errno> {
    let slice = check(address)?;
    space.fault(address, Access::Write)?;
    let old = load(space, address)?;
    if let Some(new) = change(old)? {
        space.copy_out_all(slice, &new.to_le_bytes())?;
    }
    Ok(old)
}

/// The operation that `FUTEX_WAKE_OP` carries out on a word, and its condition on the old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    operation: u32,
    operand: i32,
    comparison: u32,
    bound: i32,
}

impl Update {
    /// Decodes the sixth argument of futex(2): four bits of operation, four of comparison, and
    /// twelve for the operand of each, with a sign. ENOSYS for those that do not exist.
    pub fn decode(bits: u32) -> Result<Self, Errno> {
        const OPERATIONS: u32 = 5;
        const COMPARISONS: u32 = 6;
        const SHIFTED: u32 = 8;
        let signed = |bits: u32| (bits << 20).cast_signed() >> 20;
        let (operation, comparison) = (bits >> 28, bits >> 24 & 15);
        let mut operand = signed(bits >> 12);
        if operation & SHIFTED != 0 {
            operand = 1i32.wrapping_shl(operand.cast_unsigned());
        }
        let operation = operation & !SHIFTED;
        if operation >= OPERATIONS || comparison >= COMPARISONS {
            return Err(Errno::ENOSYS);
        }
        Ok(Self { operation, operand, comparison, bound: signed(bits) })
    }

    /// The new value of a word.
    pub fn apply(self, old: u32) -> u32 {
        let operand = self.operand.cast_unsigned();
        match self.operation {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            _ => old ^ operand,
        }
    }

    /// Whether the old value fulfils the condition.
    pub fn holds(self, old: u32) -> bool {
        let old = old.cast_signed();
        match self.comparison {
            0 => old == self.bound,
            1 => old != self.bound,
            2 => old < self.bound,
            3 => old <= self.bound,
            4 => old > self.bound,
            _ => old >= self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(operation: u32, comparison: u32, operand: i32, bound: i32) -> u32 {
        let field = |value: i32| value.cast_unsigned() & 0xfff;
        operation << 28 | comparison << 24 | field(operand) << 12 | field(bound)
    }

    #[test]
    fn updates_are_linuxs() {
        let results = [(0, 5), (1, 17), (2, 13), (3, 8), (4, 9)];
        for (operation, expected) in results {
            let update = Update::decode(encoded(operation, 0, 5, 12)).expect("it exists");
            assert_eq!((update.apply(12), update.holds(12)), (expected, true));
        }
        let minus = Update::decode(encoded(1, 2, -1, 0)).expect("it exists");
        assert_eq!((minus.apply(0), minus.holds(u32::MAX)), (u32::MAX, true));
        let shifted = Update::decode(encoded(8 | 2, 5, 4, -3)).expect("it exists");
        assert_eq!((shifted.apply(1), shifted.holds(0)), (17, true));
        for bits in [encoded(5, 0, 0, 0), encoded(0, 6, 0, 0)] {
            assert_eq!(Update::decode(bits), Err(Errno::ENOSYS));
        }
    }
}
