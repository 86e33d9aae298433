//! Rules about the syntax of Rust: lengths of functions, and imports.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Signature, UseTree};

use super::modules::{Context, contexts};
use super::{SourceFile, TREE, Violation, report};

/// A function fits on a screen.
const MAX_FUNCTION_LINES: usize = 70;

/// Whether one of the attributes is `#[cfg(test)]`.
pub fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Collects the violations of one file.
struct Checker<'a> {
    file: &'a SourceFile,
    context: Context,
    violations: Vec<Violation>,
}

impl Checker<'_> {
    fn report(&mut self, at: Span, what: String) {
        self.violations.push(self.file.violation(at.start().line, what));
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let start = signature.span().start().line;
        let count = body.brace_token.span.close().end().line - start + 1;
        if count > MAX_FUNCTION_LINES {
            let what = format!("{count} lines in the function `{}`", signature.ident);
            self.report(signature.span(), what);
        }
    }

    /// Reports the wildcards below `tree`; `path` is what stands before it.
    fn wildcards(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.wildcards(&part.tree, path);
                path.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.wildcards(tree, path);
                }
            }
            UseTree::Glob(glob) if !self.may_be_wild(path) => {
                self.report(glob.span(), format!("wildcard import `{}::*`", path.join("::")));
            }
            UseTree::Glob(_) | UseTree::Name(_) | UseTree::Rename(_) => {}
        }
    }

    fn may_be_wild(&self, path: &[String]) -> bool {
        let last = path.last().map(String::as_str);
        last == Some("prelude")
            || match self.context {
                Context::TestCrate => true,
                Context::UnitTests => last == Some("super"),
                Context::Production => false,
            }
    }
}

impl<'a> Visit<'a> for Checker<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.wildcards(&item.tree, &mut Vec::new());
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        let outside = self.context;
        if is_test_only(&item.attrs) && outside == Context::Production {
            self.context = Context::UnitTests;
        }
        visit::visit_item_mod(self, item);
        self.context = outside;
    }
}

fn violations(file: &SourceFile, context: Context) -> Vec<Violation> {
    let mut checker = Checker { file, context, violations: Vec::new() };
    match syn::parse_file(&file.text) {
        Ok(syntax) => checker.visit_file(&syntax),
        Err(error) => checker.report(error.span(), error.to_string()),
    }
    checker.violations
}

/// All violations whose text begins with one of the kinds' first words.
fn check(is_wanted: impl Fn(&Violation) -> bool) {
    let contexts = contexts();
    let all = TREE.iter().filter(|file| file.is_rust()).flat_map(|file| {
        violations(file, contexts.get(&file.path).copied().unwrap_or(Context::Production))
    });
    report(&all.filter(is_wanted).collect::<Vec<_>>());
}

fn is_import(violation: &Violation) -> bool {
    violation.what.starts_with("wildcard")
}

#[test]
fn functions_have_at_most_70_lines() {
    check(|violation| !is_import(violation));
}

#[test]
fn imports_name_what_they_import() {
    check(is_import);
}

#[test]
fn a_long_function_is_reported() {
    let body = |lines: usize| "x();\n".repeat(lines - 2);
    let count =
        |text: String| violations(&SourceFile::new("a.rs", &text), Context::Production).len();
    assert_eq!(count(format!("fn f() {{\n{}}}", body(MAX_FUNCTION_LINES))), 0);
    assert_eq!(count(format!("fn f() {{\n{}}}", body(MAX_FUNCTION_LINES + 1))), 1);
    let method = format!("    fn f() {{\n{}    }}\n", body(MAX_FUNCTION_LINES + 1));
    for outside in ["impl X", "trait X", "mod x"] {
        assert_eq!(count(format!("{outside} {{\n{method}}}")), 1, "{outside}");
    }
}

#[test]
fn a_wildcard_import_is_reported() {
    let count = |text: &str, context| violations(&SourceFile::new("a.rs", text), context).len();
    for text in ["use a::*;", "pub use a::{b, c::*};", "fn f() { use E::*; }", "use super::*;"] {
        assert_eq!(count(text, Context::Production), 1, "{text}");
        assert_eq!(count(text, Context::TestCrate), 0, "{text}");
    }
    assert_eq!(count("use a::prelude::*;", Context::Production), 0);
    assert_eq!(count("#[cfg(test)] mod t { use super::*; }", Context::Production), 0);
    assert_eq!(count("#[cfg(test)] mod t { use a::*; }", Context::Production), 1);
    assert_eq!(count("use super::*;", Context::UnitTests), 0);
}

#[test]
fn what_does_not_parse_is_reported() {
    assert_eq!(violations(&SourceFile::new("a.rs", "fn f( {"), Context::Production).len(), 1);
}
