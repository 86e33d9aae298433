//! What source files refer to: every path that begins with `crate` or `super`, in imports, in code
//! and in macro arguments. Code under `#[cfg(test)]` is left out.

use std::fs;
use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// A path from the root of the crate, without `crate`.
#[derive(Debug)]
pub struct Reference {
    pub path: Vec<String>,
    pub line: usize,
}

/// A module with its imports.
#[derive(Debug)]
pub struct SourceFile {
    /// Its name, for reports.
    pub name: String,
    /// Its module's path from the root of the crate.
    pub module: Vec<String>,
    pub references: Vec<Reference>,
    /// What it uses of the crate `spin`.
    pub spin: Vec<String>,
    /// What it exports from its child modules: the name, and the child.
    pub exports: Vec<(String, String)>,
}

/// All source files below a folder.
pub fn read(root: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of sources");
        for entry in entries.map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let name = entry.strip_prefix(root).expect("it is below").with_extension("");
            let mut module: Vec<&str> =
                name.iter().map(|part| part.to_str().expect("an ASCII name")).collect();
            if module.contains(&"tests") || module == ["main"] {
                continue;
            }
            if module.last() == Some(&"mod") {
                module.pop();
            }
            let text = fs::read_to_string(&entry).expect("a source file");
            let shown = name.with_extension("rs").display().to_string();
            files.push(
                parse(&shown, &module, &text).unwrap_or_else(|error| panic!("{shown}: {error}")),
            );
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// Finds the references of one file.
pub fn parse(name: &str, module: &[&str], text: &str) -> syn::Result<SourceFile> {
    let file: File = syn::parse_file(text)?;
    let module: Vec<String> = module.iter().map(ToString::to_string).collect();
    let mut finder = Finder { module: module.clone(), ..Finder::default() };
    finder.visit_file(&file);
    let Finder { references, spin, exports, .. } = finder;
    Ok(SourceFile { name: name.to_owned(), module, references, spin, exports })
}

#[derive(Default)]
struct Finder {
    module: Vec<String>,
    references: Vec<Reference>,
    spin: Vec<String>,
    exports: Vec<(String, String)>,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl Finder {
    /// Adds a path as written, if it leaves the module.
    fn add(&mut self, path: &[String], line: usize) {
        let path = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("super") => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let kept = self.module.len().saturating_sub(up);
                [&self.module[..kept], &path[up..]].concat()
            }
            Some("spin") => return self.spin.extend(path.get(1).cloned()),
            _ => return,
        };
        self.references.push(Reference { path, line });
    }

    fn add_tree(&mut self, tree: &UseTree, before: &mut Vec<String>, public: bool) {
        let mut leaf = |name: String, alias: String, before: &[String]| {
            let child = before
                .first()
                .filter(|first| !["crate", "super", "self"].contains(&first.as_str()));
            if let Some(child) = child.filter(|_| public) {
                self.exports.push((alias, child.clone()));
            }
            let path = match name.as_str() {
                "self" => before.to_vec(),
                _ => [before, &[name]].concat(),
            };
            self.add(&path, tree.span().start().line);
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, before, public);
                before.pop();
            }
            UseTree::Name(name) => leaf(name.ident.to_string(), name.ident.to_string(), before),
            UseTree::Rename(rename) => {
                leaf(rename.ident.to_string(), rename.rename.to_string(), before)
            }
            UseTree::Glob(_) => leaf("*".to_owned(), "*".to_owned(), before),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(tree, before, public));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let public = !matches!(item.vis, Visibility::Inherited);
        self.add_tree(&item.tree, &mut Vec::new(), public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&parts, path.span().start().line);
        visit::visit_path(self, path);
    }

    /// The arguments of a macro are tokens: paths are found in their text.
    fn visit_macro(&mut self, item: &'ast Macro) {
        visit::visit_path(self, &item.path);
        let text = item.tokens.to_string();
        let line = item.span().start().line;
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let start = word.rsplit(['(', '[', '{', '&', '!', '*']).next().unwrap_or_default();
            if !matches!(start, "crate" | "super") {
                continue;
            }
            let mut path = vec![start.to_owned()];
            while words.next_if_eq(&"::").is_some() {
                let part = words.next().unwrap_or_default();
                let end = part.find(|c: char| c != '_' && !c.is_alphanumeric());
                path.push(part[..end.unwrap_or(part.len())].to_owned());
                if end.is_some() {
                    break;
                }
            }
            self.add(&path, line);
        }
    }
}
