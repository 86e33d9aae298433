//! Ranges of plain bytes, as reads and writes of a file see them.

/// The bytes of a range, fewer at the end.
pub fn range(bytes: &[u8], offset: u64, length: u64) -> &[u8] {
    let start = offset.min(bytes.len() as u64) as usize;
    let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
    &bytes[start..end.max(start)]
}

/// `bytes` with `data` stored at `offset`.
pub fn overlaid(bytes: &[u8], offset: usize, data: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    overlay(&mut bytes, offset, data);
    bytes
}

/// Stores `data` at `offset`.
pub fn overlay(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}
