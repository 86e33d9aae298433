//! The parser of executable files.

use kernel::task::elf::Program;

/// The header of an executable. Segments must be in user memory, in ascending order.
pub fn elf(data: &[u8]) {
    for program in [Program::parse(data), Program::parse_loader(data)].into_iter().flatten() {
        let mut last = 0;
        for segment in &program.segments {
            assert!(segment.start >= last && segment.file_bytes <= segment.memory_bytes);
            last = segment.start + segment.memory_bytes;
        }
        assert!(last <= kernel::arch::USER_END);
    }
}
