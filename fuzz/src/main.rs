//! libFuzzer on one of the targets: the one that LUMEN_FUZZ_TARGET names, since the command line is libFuzzer's.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<&'static fuzz::Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("LUMEN_FUZZ_TARGET").unwrap_or_default();
    let target = fuzz::TARGETS.iter().find(|target| target.name == name);
    let Some(target) = target else { panic!("LUMEN_FUZZ_TARGET names no target: {name:?}") };
    TARGET.get_or_init(|| target);
}

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
