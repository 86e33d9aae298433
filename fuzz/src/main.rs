//! The fuzzer: one program for all targets, of which the environment's `FUZZ_TARGET` names one.
//! Built by `cargo xtask fuzz`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use std::sync::OnceLock;

    fn target() -> fuzz::Target {
        static TARGET: OnceLock<fuzz::Target> = OnceLock::new();
        *TARGET.get_or_init(|| {
            let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
            fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{name}`"))
        })
    }

    libfuzzer_sys::fuzz_target!(|data: &[u8]| target()(data));
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without the engine: cargo xtask fuzz TARGET");
    for (name, _) in fuzz::TARGETS {
        eprintln!("  {name}");
    }
    std::process::exit(2);
}
