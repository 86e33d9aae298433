//! Link arguments of the loader: a static ELF at 1 MiB, where QEMU may put it on any machine.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["--image-base=0x100000", "--entry=pvh_start", "-znorelro"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
