//! Link arguments of the kernel: a static ELF in the top 2 GiB, entered at the loader API's
//! `_start`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in [
            "--image-base=0xffffffff80000000",
            "-z",
            "max-page-size=4096",
            "-z",
            "norelro",
            "--no-pie",
            "--gc-sections",
        ] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
