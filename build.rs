//! Folds functions of equal machine code into one when the release binary is linked: generic code over Arrow's types repeats itself much,
//! and without this the binary passes 60 MB. rust-lld, which Rust uses here by default, and mold know the flag; GNU ld does not, so it is
//! given only where rust-lld is the default.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
