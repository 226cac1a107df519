//! libFuzzer around the target `proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::run("proof", input);
});
