//! The attribute `#[guest_test]`: registers a function as a test, where it is defined.

#![forbid(unsafe_code)]

use proc_macro::{TokenStream, TokenTree};

/// Registers a function `fn() -> Outcome` as a test of its program.
///
/// The test has the function's name; the first paragraph of its documentation says what it proves.
/// The arguments are fields of `proof::registry::Test` that differ from their defaults, for example
/// `#[guest_test(memory_mib: 48, mutants: &[Mutant::SkipRescue])]`.
#[proc_macro_attribute]
pub fn guest_test(fields: TokenStream, item: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = item.clone().into_iter().collect();
    let Some(name) = function_name(&tokens) else {
        return "compile_error!(\"only a function can be a test\");".parse().unwrap_or_default();
    };
    let doc = documentation(&tokens);
    let fields = fields.to_string();
    let fields = fields.trim_end().trim_end_matches(',');
    let comma = if fields.is_empty() { "" } else { "," };
    let registration = format!(
        "const _: () = {{
            #[::proof::linkme::distributed_slice(::proof::registry::TESTS)]
            #[linkme(crate = ::proof::linkme)]
            static TEST: ::proof::registry::Test = ::proof::registry::Test {{
                name: \"{name}\",
                doc: concat!({doc}),
                run: {name},
                {fields} {comma}
                ..::proof::registry::Test::DEFAULT
            }};
        }};"
    );
    let registration: TokenStream = match registration.parse() {
        Ok(tokens) => tokens,
        Err(error) => {
            format!("compile_error!({:?});", error.to_string()).parse().unwrap_or_default()
        }
    };
    item.into_iter().chain(registration).collect()
}

/// The identifier behind `fn`.
fn function_name(tokens: &[TokenTree]) -> Option<String> {
    let is_fn =
        |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    match tokens.get(tokens.iter().position(is_fn)? + 1)? {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    }
}

/// The literals of the documentation's lines, separated by commas.
fn documentation(tokens: &[TokenTree]) -> String {
    let mut literals = String::new();
    for token in tokens {
        let TokenTree::Group(group) = token else { continue };
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        if let [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Literal(text)] = &*inner
            && word.to_string() == "doc"
        {
            literals += &format!("{text}, \"\\n\",");
        }
    }
    literals
}
