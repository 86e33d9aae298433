//! Which source files belong to which crate: the tree of modules below each of cargo's targets.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use syn::{Item, ItemMod, Lit, Meta};

use super::rust::is_test_only;
use super::{SourceFile, TREE, root};

/// What a source file is part of. In this order, the first that holds for a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// A library or a program.
    Production,
    /// A module that is compiled for tests only.
    UnitTests,
    /// An integration test, which is a crate of its own.
    TestCrate,
}

/// The context of every source file that cargo would compile, by path.
pub fn contexts() -> BTreeMap<String, Context> {
    let mut walk = Walk { files: &TREE, found: BTreeMap::new() };
    for (path, context) in targets() {
        walk.file(&path, context, Children::BesideTheFile);
    }
    walk.found
}

/// The manifests of the workspace, and of the package that is not its member.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "image/Cargo.toml"];

/// The root file of each of cargo's targets.
fn targets() -> Vec<(String, Context)> {
    MANIFESTS.into_iter().flat_map(targets_of).collect()
}

fn targets_of(manifest: &str) -> Vec<(String, Context)> {
    let output = Command::new(crate::cargo::program())
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .args(["--manifest-path", manifest])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let workspace = root().canonicalize().expect("the workspace is a folder");
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let path = Path::new(target["src_path"].as_str().unwrap_or_default());
            let path = path.strip_prefix(&workspace).expect("a target in the workspace");
            let is_test = target["kind"][0] == "test";
            let context = if is_test { Context::TestCrate } else { Context::Production };
            targets.push((normal(path), context));
        }
    }
    targets
}

/// Where a file's modules are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Children {
    /// In the file's folder: for a crate's root and for `mod.rs`.
    BesideTheFile,
    /// In a folder with the file's name.
    InOwnFolder,
}

struct Walk<'a> {
    files: &'a [SourceFile],
    found: BTreeMap<String, Context>,
}

impl Walk<'_> {
    fn file(&mut self, path: &str, context: Context, children: Children) {
        if self.found.get(path).is_some_and(|known| *known <= context) {
            return;
        }
        let Some(file) = self.files.iter().find(|file| file.path == path) else { return };
        self.found.insert(path.to_owned(), context);
        // A file that does not parse is reported by the rules about syntax.
        let Ok(syntax) = syn::parse_file(&file.text) else { return };
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        let inner = match children {
            Children::BesideTheFile => folder.to_path_buf(),
            Children::InOwnFolder => Path::new(path).with_extension(""),
        };
        self.items(&syntax.items, folder, &inner, context);
    }

    fn items(&mut self, items: &[Item], folder: &Path, inner: &Path, context: Context) {
        for item in items {
            let Item::Mod(module) = item else { continue };
            let is_unit_test = is_test_only(&module.attrs) && context == Context::Production;
            let context = if is_unit_test { Context::UnitTests } else { context };
            let name = module.ident.to_string();
            if let Some((_, items)) = &module.content {
                let inner = inner.join(name);
                self.items(items, &inner, &inner, context);
            } else if let Some(given) = given_path(module) {
                self.file(&normal(&folder.join(given)), context, Children::BesideTheFile);
            } else {
                let beside = normal(&inner.join(format!("{name}.rs")));
                self.file(&beside, context, Children::InOwnFolder);
                let below = normal(&inner.join(name).join("mod.rs"));
                self.file(&below, context, Children::BesideTheFile);
            }
        }
    }
}

/// The path of a module's attribute `path`.
fn given_path(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// A path without `..` in it.
fn normal(path: &Path) -> String {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts.to_string_lossy().into_owned()
}

/// The source files of `files` that no target reaches.
pub fn unreached(files: &[SourceFile], reached: &BTreeMap<String, Context>) -> Vec<String> {
    let sources = files.iter().filter(|file| file.is_rust());
    sources.map(|file| file.path.clone()).filter(|path| !reached.contains_key(path)).collect()
}

#[test]
fn modules_are_found_where_the_compiler_looks() {
    let files = [
        ("a/src/lib.rs", "mod b;\nmod c;\n#[path = \"../other.rs\"]\nmod d;\n#[cfg(test)]\nmod t;"),
        ("a/src/b.rs", "mod e;"),
        ("a/src/b/e.rs", ""),
        ("a/src/c/mod.rs", "mod g { mod h; }"),
        ("a/src/c/g/h.rs", ""),
        ("a/other.rs", ""),
        ("a/src/t.rs", "mod u;"),
        ("a/src/t/u.rs", ""),
        ("a/src/dead.rs", ""),
    ];
    let files = files.map(|(path, text)| SourceFile::new(path, text));
    let mut walk = Walk { files: &files, found: BTreeMap::new() };
    walk.file("a/src/lib.rs", Context::Production, Children::BesideTheFile);
    assert_eq!(unreached(&files, &walk.found), ["a/src/dead.rs"]);
    assert_eq!(walk.found["a/src/b/e.rs"], Context::Production);
    assert_eq!(walk.found["a/src/t/u.rs"], Context::UnitTests);
}
