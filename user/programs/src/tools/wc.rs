//! `wc [-lwcm] [FILE…]`: counts lines, words and bytes.

use user::prelude::*;

/// The counts of one file.
#[derive(Clone, Copy, Default)]
struct Counts {
    lines: u64,
    words: u64,
    bytes: u64,
}

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "lwcm", "wc [-lwc] [FILE...]");
    let chosen: Vec<bool> = b"lwc".iter().map(|letter| options.has(*letter)).collect();
    let chosen = if chosen.contains(&true) || options.has(b'm') {
        [chosen[0], chosen[1], chosen[2] || options.has(b'm')]
    } else {
        [true; 3]
    };
    let mut results: Vec<(Counts, &[u8])> = Vec::new();
    let status = user::io::for_each_input("wc", &options.operands, |path, fd| {
        let mut counts = Counts::default();
        let mut in_word = false;
        user::io::for_each_piece(fd, |piece| {
            count(piece, &mut counts);
            if chosen[1] {
                counts.words += words(piece, &mut in_word);
            }
            true
        })?;
        results
            .push((counts, if options.operands.is_empty() { b"" } else { path.to_vec().leak() }));
        Ok(())
    });
    if options.operands.len() > 1 {
        let mut total = Counts::default();
        for (counts, _) in &results {
            total.lines += counts.lines;
            total.words += counts.words;
            total.bytes += counts.bytes;
        }
        results.push((total, b"total"));
    }
    let mut out = Out::standard();
    let widest = results.iter().map(|(counts, _)| counts.bytes).max().unwrap_or(0);
    let alone = results.len() == 1 && chosen.iter().filter(|chosen| **chosen).count() == 1;
    let minimum = if options.operands.is_empty() { 7 } else { 1 };
    let width = if alone { 1 } else { format!("{widest}").len().max(minimum) };
    for (counts, path) in results {
        show(&mut out, [counts.lines, counts.words, counts.bytes], chosen, width, path);
    }
    out.finish("wc", status)
}

/// Counts the bytes and lines of one block, which is much faster than counting words.
fn count(piece: &[u8], counts: &mut Counts) {
    counts.bytes += piece.len() as u64;
    counts.lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
}

/// Counts the words that begin in one block. `in_word` is whether the block before ended in one.
fn words(piece: &[u8], in_word: &mut bool) -> u64 {
    let mut words = 0;
    for byte in piece {
        let space = byte.is_ascii_whitespace() || *byte == 0x0b;
        // Unprintable characters neither begin nor end a word, as in GNU's wc.
        let printable = *byte > 0x20 && *byte != 0x7f;
        words += u64::from(printable && !*in_word);
        *in_word = (*in_word || printable) && !space;
    }
    words
}

fn show(out: &mut Out, values: [u64; 3], chosen: [bool; 3], width: usize, path: &[u8]) {
    let mut line = String::new();
    for (value, _) in values.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
        let gap = if line.is_empty() { "" } else { " " };
        line += &format!("{gap}{value:width$}");
    }
    let gap: &[u8] = if path.is_empty() { b"" } else { b" " };
    out.put(&[line.as_bytes(), gap, path, b"\n"].concat());
}
