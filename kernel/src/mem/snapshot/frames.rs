//! The frames that a fetch brought.
#![forbid(unsafe_code)]

use crate::mem::{Frame, OutOfMemory, fallible};
use alloc::vec::Vec;
use core::ops::Deref;
use foundation::PageCount;

/// A list of frames. A single one, as scattered touches fetch it, takes no memory of its own.
#[derive(Debug, Default)]
pub struct Frames {
    one: Option<Frame>,
    /// All frames, where there is space for more than one.
    several: Vec<Frame>,
}

impl Frames {
    /// An empty list with space for so many frames.
    #[inline]
    pub fn with_capacity(pages: PageCount) -> Result<Self, OutOfMemory> {
        let mut frames = Self::default();
        if pages > PageCount(1) {
            fallible::reserve_exact(&mut frames.several, pages.to_usize())?;
        }
        Ok(frames)
    }

    /// Appends a frame, for which there is space.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        if self.several.capacity() == 0 {
            debug_assert!(self.one.is_none(), "there is no space");
            self.one = Some(frame);
        } else {
            debug_assert!(self.several.len() < self.several.capacity(), "there is no space");
            self.several.push(frame);
        }
    }
}

impl From<Vec<Frame>> for Frames {
    fn from(several: Vec<Frame>) -> Self {
        Self { one: None, several }
    }
}

impl Deref for Frames {
    type Target = [Frame];
    #[inline]
    fn deref(&self) -> &[Frame] {
        match &self.one {
            Some(one) => core::slice::from_ref(one),
            None => &self.several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_frame_takes_no_memory_and_all_are_in_order() {
        crate::mem::host::init();
        for pages in 1..4 {
            let mut frames = Frames::with_capacity(PageCount(pages)).unwrap();
            let own: Vec<_> = (0..pages).map(|_| Frame::zeroed().unwrap()).collect();
            own.iter().for_each(|frame| frames.push(frame.clone()));
            assert!(frames.iter().eq(&own));
            assert_eq!(frames.several.capacity() == 0, pages == 1);
        }
        assert!(Frames::default().is_empty());
    }
}
