//! The fuzzer. It contains all targets; the environment variable `FUZZ_TARGET` selects one. `cargo
//! xtask fuzz` builds it.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use std::sync::OnceLock;

    fn target() -> fuzz::Target {
        static TARGET: OnceLock<fuzz::Target> = OnceLock::new();
        *TARGET.get_or_init(|| {
            let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
            fuzz::target(&name)
                .unwrap_or_else(|| panic!("FUZZ_TARGET is not the name of a target: `{name}`"))
        })
    }

    libfuzzer_sys::fuzz_target!(|data: &[u8]| target()(data));
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without the engine; use cargo xtask fuzz TARGET");
    for (name, _) in fuzz::TARGETS {
        eprintln!("  {name}");
    }
    std::process::exit(2);
}
