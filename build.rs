//! Link options that keep the release program under 60 MB: relative relocations are packed (3 MB), and functions of equal machine code become
//! one (2.6 MB), since generic code over Arrow's types repeats itself much.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Linkers that do not know it (binutils before 2.38) pass over it.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // rust-lld and mold know this one; GNU ld does not, so it is given only where rust-lld is the default.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
