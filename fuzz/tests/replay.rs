//! Replays the corpus of every target without an engine, and runs every target on simple inputs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs in a target's archive, with their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = folder().join(name).with_extension("tar");
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().expect("the archive can be read");
    let input = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let mut entry = entry.expect("a well-formed entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("an input can be read");
        (name, bytes)
    };
    entries.map(input).collect()
}

#[test]
fn x5_no_input_of_the_corpus_fails() {
    for (name, target) in fuzz::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}: the corpus is empty");
        for (input, bytes) in inputs {
            // A panic reports the place, and this line the input.
            println!("{name}: {input}");
            target(&bytes);
        }
    }
}

#[test]
fn x5_simple_inputs_fail_no_target() {
    for (_, target) in fuzz::TARGETS {
        for length in [0, 1, 15, 16, 127, 128, 129, 512, 4096] {
            for byte in [0x00, 0x01, 0x2f, 0x7f, 0xff] {
                target(&vec![byte; length]);
            }
        }
    }
}

#[test]
fn every_archive_belongs_to_a_target() {
    for entry in fs::read_dir(folder()).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(fuzz::target(name).is_some(), "no target `{name}`");
    }
}
