//! Random bytes: ChaCha20, seeded by the time, and by the CPU's generator where it has one.

use super::UserBuffers;
use crate::arch;
use crate::mem::Space;
use crate::sync::{Interrupt, Mutex, rank, relax};
use foundation::{ByteCount, Errno};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Bytes generated at once.
const CHUNK: usize = 256;
/// Bytes after which other threads may run: some 100,000 instructions.
const YIELD_BYTES: u64 = 1 << 12;

static GENERATOR: Mutex<Option<ChaCha20Rng>, rank::Random> = Mutex::new(None);

/// Fills `bytes` with random bytes.
pub fn fill(bytes: &mut [u8]) {
    GENERATOR.lock().get_or_insert_with(|| ChaCha20Rng::from_seed(seed())).fill_bytes(bytes);
}

/// Fills a program's buffers with random bytes. Yields to other threads at times; a signal ends it
/// early. Returns the number of bytes.
pub fn put(space: &Space, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
    let mut done = ByteCount::ZERO;
    let mut bytes = [0; CHUNK];
    while !to.remaining().is_zero() {
        let wanted = to.remaining().to_usize().min(CHUNK);
        let part = bytes.get_mut(..wanted).unwrap_or_default();
        fill(part);
        match to.put(space, part) {
            Ok(count) => done += ByteCount::of_len(count),
            Err(error) => return if !done.is_zero() { Ok(done) } else { Err(error) },
        }
        if done.0.is_multiple_of(YIELD_BYTES) && relax(Interrupt::Signal).is_err() {
            break;
        }
    }
    Ok(done)
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for (at, bytes) in seed.chunks_exact_mut(8).enumerate() {
        let word = hardware().unwrap_or(0) ^ clock().rotate_left(16 * at as u32);
        bytes.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    seed
}

/// A word from the CPU's generator.
fn hardware() -> Option<u64> {
    const ATTEMPTS: usize = 10;
    let generator = x86_64::instructions::random::RdRand::new()?;
    (0..ATTEMPTS).find_map(|_| generator.get_u64())
}

/// The time, which differs between boots.
fn clock() -> u64 {
    arch::time_stamp() ^ super::tasks::now().0 as u64
}
