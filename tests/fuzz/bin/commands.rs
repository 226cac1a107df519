//! libFuzzer around the target `commands`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::run("commands", input);
});
