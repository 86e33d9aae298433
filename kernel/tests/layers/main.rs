//! The layer rule: imports point down only.
//!
//! [`table`] declares the layers of the kernel and the crates of the workspace. [`source`] finds
//! what each source file refers to. A reference to a higher layer, a cycle between the files of a
//! layer, an undeclared dependency between crates, a lock without a rank, or a safe layer without
//! `#![forbid(unsafe_code)]` fails a test. The tests are tried on wrong examples. Files that need
//! each other share a folder, which counts as one file.

mod source;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Reference, SourceFile};

fn kernel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The position of a top-level module in [`table::LAYERS`].
fn layer(name: &str) -> Option<usize> {
    table::LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Whether the layer of `from` may import from module `to`.
fn may_import(from: &str, to: &str) -> bool {
    from == to || matches!((layer(from), layer(to)), (Some(from), Some(to)) if to < from)
}

/// The references that point up or sideways, as lines for a report.
fn upward(files: &[SourceFile]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let Some(from) = file.module.first().filter(|from| *from != "lib") else { continue };
        if layer(from).is_none() {
            wrong.push(format!("{}: {from} is in no layer", file.name));
        }
        for Reference { path, line } in &file.references {
            let Some(to) = path.first() else { continue };
            if !may_import(from, to) {
                wrong.push(format!("{}:{line}: {from} imports {}", file.name, path.join("::")));
            }
        }
    }
    wrong
}

#[test]
fn imports_point_down() {
    let wrong = upward(&source::read(&kernel()));
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_points_up_is_found() {
    let example = |module: &[&str], text: &str| {
        upward(&[source::parse("example.rs", module, text).expect("it is Rust")])
    };
    let wrong = example(
        &["mem", "frame"],
        "use crate::{sync::Mutex, file::{Io, Stat}};\n\
         fn one() { crate::task::current(); }\n\
         fn two(io: &super::super::mount::Mount) { assert!(crate::arch::on(io)); }\n\
         fn three() { log::info!(\"{}\", crate::syscall::number()); }",
    );
    assert_eq!(
        wrong,
        [
            "example.rs:1: mem imports file::Io",
            "example.rs:1: mem imports file::Stat",
            "example.rs:2: mem imports task::current",
            "example.rs:3: mem imports mount::Mount",
            "example.rs:4: mem imports syscall::number",
        ]
    );
    // Modules of one row do not import each other.
    assert_eq!(example(&["proc"], "use crate::syscall::x;").len(), 1);
    assert_eq!(example(&["syscall", "io"], "use crate::proc::x;").len(), 1);
    // Tests may look anywhere.
    let tests = "#[cfg(test)] mod tests { use crate::task::x; }";
    assert_eq!(example(&["mem"], tests), [""; 0]);
}

/// For each file of a layer (a folder counts as one): the files of the layer that it refers to.
fn edges(files: &[SourceFile], layer: &str) -> BTreeMap<String, BTreeSet<String>> {
    let inside: Vec<&SourceFile> = files
        .iter()
        .filter(|file| file.module.first().is_some_and(|first| first == layer))
        .collect();
    let exports: BTreeMap<&str, &str> = inside
        .iter()
        .filter(|file| file.module.len() == 1)
        .flat_map(|file| &file.exports)
        .map(|(name, child)| (name.as_str(), child.as_str()))
        .collect();
    let children: BTreeSet<&str> =
        inside.iter().filter_map(|file| file.module.get(1)).map(String::as_str).collect();
    let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
    for file in inside {
        let own = file.module.get(1).map_or("mod", String::as_str);
        if table::EXEMPT_FILES.contains(&own) {
            continue;
        }
        for Reference { path, .. } in &file.references {
            let (Some(first), Some(name)) = (path.first(), path.get(1)) else { continue };
            if first != layer {
                continue;
            }
            let to = match children.get(name.as_str()).or_else(|| exports.get(name.as_str())) {
                Some(child) => child,
                None => "mod",
            };
            if to != own {
                edges.entry(own.to_owned()).or_default().insert(to.to_owned());
            }
        }
    }
    edges
}

/// Groups of files that depend on each other in a circle, each sorted.
fn cycles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for to in edges.get(file).into_iter().flatten() {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|file| (file, reach(file))).collect();
    reached
        .iter()
        .filter(|(file, seen)| seen.contains(**file))
        .map(|(file, seen)| {
            let both =
                |other: &&&String| reached.get(**other).is_some_and(|back| back.contains(*file));
            seen.iter().filter(both).map(|file| (*file).clone()).collect()
        })
        .collect()
}

#[test]
fn files_of_a_layer_form_no_cycles() {
    let files = source::read(&kernel());
    for &layer in table::LAYERS.iter().copied().flatten() {
        let found = cycles(&edges(&files, layer));
        assert!(found.is_empty(), "files of {layer} depend on each other: {found:?}");
    }
}

#[test]
fn a_cycle_is_found() {
    let example = [
        source::parse("mod.rs", &["mem"], "mod a; mod b; mod c; pub use b::{B, other as Other};"),
        source::parse("a.rs", &["mem", "a"], "use super::Other;"),
        source::parse("b.rs", &["mem", "b"], "use crate::mem::c;"),
        source::parse("c.rs", &["mem", "c"], "fn f() { super::a::g() }"),
        source::parse("d.rs", &["mem", "d"], "use super::a;"),
    ]
    .map(|file| file.expect("it is Rust"));
    let found = cycles(&edges(&example, "mem"));
    assert_eq!(found, BTreeSet::from([["a", "b", "c"].map(str::to_owned).to_vec()]));
}

/// The members of the workspace that a manifest depends on, other than for tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut counts = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            counts = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if counts && line.contains("path = ") {
            found.extend(line.split([' ', '=', '.']).next().map(str::to_owned));
        }
    }
    found
}

#[test]
fn crates_depend_on_lower_crates_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (index, &(folder, name)) in table::CRATES.iter().enumerate() {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml"))
            .unwrap_or_else(|error| panic!("{folder}: {error}"));
        let lower = &table::CRATES[..index];
        for dependency in dependencies(&manifest) {
            assert!(
                lower.iter().any(|&(_, lower)| lower == dependency),
                "crate {name} depends on {dependency}, which is not below it"
            );
        }
    }
    let workspace = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace's manifest");
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ["));
    for member in members.expect("the list of members").split('"').skip(1).step_by(2) {
        assert!(
            table::CRATES.iter().any(|&(folder, _)| folder == member),
            "crate {member} is in no layer"
        );
    }
    let example = "[dependencies]\nkernel = { path = \"../kernel\" }\n[dev-dependencies]\n\
                   fsserver = { path = \"../fsserver\" }\n";
    assert_eq!(dependencies(example), BTreeSet::from(["kernel".to_owned()]));
}

/// The locks without a rank that a file uses.
fn unranked(file: &SourceFile) -> Vec<&String> {
    file.spin.iter().filter(|name| ["Mutex", "RwLock", "*"].contains(&name.as_str())).collect()
}

#[test]
fn every_lock_has_a_rank() {
    for file in source::read(&kernel()) {
        let is_exempt = table::UNRANKED_LOCKS.iter().any(|exempt| file.name.starts_with(exempt));
        assert!(is_exempt || unranked(&file).is_empty(), "{}: a lock without a rank", file.name);
    }
    let example = "use spin::{Mutex, Once}; static A: spin::RwLock<u8> = spin::RwLock::new(0);";
    let example = source::parse("example.rs", &["mem"], example).expect("it is Rust");
    assert_eq!(unranked(&example), ["Mutex", "RwLock", "RwLock"]);
}

#[test]
fn safe_layers_forbid_unsafe_code() {
    for layer in table::SAFE_LAYERS {
        let text = fs::read_to_string(kernel().join(layer).join("mod.rs")).expect("a layer's file");
        assert!(
            text.lines().any(|line| line == "#![forbid(unsafe_code)]"),
            "{layer}/mod.rs does not forbid unsafe code"
        );
    }
}
