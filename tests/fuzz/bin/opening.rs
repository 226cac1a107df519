//! libFuzzer around the target `opening`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::run("opening", input);
});
