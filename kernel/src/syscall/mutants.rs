//! Wrong code for testing the tests of this layer. Neutral stubs without the feature `mutants`.

#[cfg(feature = "mutants")]
mod wrong {
    use super::super::arguments::{VECTOR_BYTES, vectors};
    use crate::file::{Caller, IoCaller, UserBuffers};
    use crate::mem::{USER_END, UserAddr};
    use crate::task::Current;
    use foundation::mutant::{Mutant, active};
    use foundation::{ByteCount, Errno};

    /// A2: the old space is empty before exec reads its arguments.
    pub fn exec_late_arguments(current: &Current) {
        if active(Mutant::ExecLateArguments) {
            let _ = current.space().unmap(UserAddr::NULL, ByteCount(USER_END.0));
        }
    }

    /// X4: transfers the buffers of a vector one by one, each fetched when its turn comes. Servers
    /// keep their messages whole.
    pub fn vector_again(
        current: &dyn Caller,
        vector: UserAddr,
        count: u64,
        transfer: &mut impl FnMut(&mut UserBuffers, ByteCount) -> Result<ByteCount, Errno>,
    ) -> Option<Result<ByteCount, Errno>> {
        if !active(Mutant::VectorAgain) || current.is_server() {
            return None;
        }
        let mut done = ByteCount::ZERO;
        for entry in 0..count {
            let address = UserAddr(vector.0 + entry * VECTOR_BYTES as u64);
            let moved = vectors(current, address, 1).and_then(|mut one| transfer(&mut one, done));
            match moved {
                Ok(moved) => done += moved,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(done))
    }
}

#[cfg(not(feature = "mutants"))]
mod wrong {
    use crate::file::{Caller, UserBuffers};
    use crate::mem::UserAddr;
    use crate::task::Current;
    use foundation::{ByteCount, Errno};

    #[inline(always)]
    pub fn exec_late_arguments(_: &Current) {}

    #[inline(always)]
    pub fn vector_again(
        _: &dyn Caller,
        _: UserAddr,
        _: u64,
        _: &mut impl FnMut(&mut UserBuffers, ByteCount) -> Result<ByteCount, Errno>,
    ) -> Option<Result<ByteCount, Errno>> {
        None
    }
}

pub(super) use wrong::{exec_late_arguments, vector_again};
