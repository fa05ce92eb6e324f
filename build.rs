//! What the linker is told: to pack the program's relative relocations (3 MB less on disk; linkers that do not know it pass over it), and
//! to fold functions of equal machine code into one, since generic code over Arrow's types repeats itself much. Together they keep the
//! binary under 60 MB. rust-lld, which Rust uses here by default, and mold know the second; GNU ld does not, so it is given only where
//! rust-lld is the default.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
