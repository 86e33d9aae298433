//! Random numbers of the model, repeatable from a seed.

use std::cell::Cell;
use std::rc::Rc;

#[derive(Clone)]
pub struct Random(pub Rc<Cell<u64>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)))
    }

    pub fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        (state >> 11) % bound
    }

    /// A position: often a page boundary, or one byte beside it.
    pub fn position(&self, bound: u64) -> u64 {
        let at = self.below(bound + 1);
        let near = match self.below(4) {
            0 => at,
            1 | 2 => at & !4095,
            _ => (at & !4095) + 1,
        };
        near.min(bound)
    }

    pub fn range(&self, bound: u64) -> (u64, u64) {
        let (a, b) = (self.position(bound), self.position(bound));
        (a.min(b), a.abs_diff(b))
    }
}
