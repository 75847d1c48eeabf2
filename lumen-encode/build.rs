//! openh264's own build falls back to plain C++ without a word where nasm is missing, and takes 2.3 times as long per
//! frame ever after. Better to stop here.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64" || arch == "x86");
    if x86 && !Command::new("nasm").arg("-v").output().is_ok_and(|output| output.status.success()) {
        println!(
            "cargo::error=nasm is needed to build openh264 with vector instructions: install the package nasm, then `cargo clean -p openh264-sys2`"
        );
    }
}
