//! libFuzzer around the target `snapshot`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::run("snapshot", input);
});
