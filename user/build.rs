//! Link arguments of the guest: a static, position-dependent Linux executable at 4 MiB.

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in
            ["--image-base=0x400000", "-z", "max-page-size=4096", "--no-pie", "--gc-sections"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
