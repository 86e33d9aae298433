//! Every input that is kept, once more, without an engine; and every target with some bytes that
//! need no finding.

use std::fs;
use std::path::Path;

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("can be listed").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.display().to_string(), fs::read(&path).expect("can be read")))
        .collect()
}

#[test]
fn x5_no_kept_input_hurts() {
    for (name, target) in fuzz::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}: nothing is kept for it");
        for (path, input) in inputs {
            // What panics says where; this says with what.
            println!("{path}");
            target(&input);
        }
    }
}

#[test]
fn x5_plain_bytes_hurt_no_target() {
    for (_, target) in fuzz::TARGETS {
        for length in [0, 1, 15, 16, 127, 128, 129, 512, 4096] {
            for byte in [0x00, 0x01, 0x2f, 0x7f, 0xff] {
                target(&vec![byte; length]);
            }
        }
    }
}

#[test]
fn every_corpus_is_some_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).expect("can be listed") {
        let name = entry.expect("can be listed").file_name().into_string().expect("text");
        assert!(fuzz::target(&name).is_some(), "no target `{name}`");
    }
}
