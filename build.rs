//! Link options that keep the program under 60 MB: relative relocations are packed (3 MB), functions with the same code become one (2.6 MB).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Linkers that do not know it (binutils before 2.38) pass over it.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Only rust-lld folds code, which is the default linker of this target alone; GNU ld would refuse the option. Nothing here compares
    // addresses of functions, which Rust does not promise to be distinct anyhow.
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
