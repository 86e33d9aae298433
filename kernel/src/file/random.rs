//! Random bytes: ChaCha20, seeded by the CPU's generator where it has one, and by the time in any case.

use crate::sync::Mutex;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

static GENERATOR: Mutex<Option<ChaCha20Rng>> = Mutex::new(None);

/// Fills `bytes`.
pub fn fill(bytes: &mut [u8]) {
    GENERATOR.lock().get_or_insert_with(|| ChaCha20Rng::from_seed(seed())).fill_bytes(bytes);
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for (at, bytes) in seed.chunks_exact_mut(8).enumerate() {
        let word = hardware().unwrap_or(0) ^ clock().rotate_left(16 * at as u32);
        bytes.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    seed
}

/// A word of the CPU's generator.
fn hardware() -> Option<u64> {
    const ATTEMPTS: usize = 10;
    let generator = x86_64::instructions::random::RdRand::new()?;
    (0..ATTEMPTS).find_map(|_| generator.get_u64())
}

/// What differs from start to start, if only a little.
fn clock() -> u64 {
    // SAFETY: reading the time stamp counter has no effect; every x86_64 CPU has it.
    let cycles = unsafe { core::arch::x86_64::_rdtsc() };
    cycles ^ super::caller::now().0 as u64
}
