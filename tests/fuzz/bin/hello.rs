//! libFuzzer around the target `hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::run("hello", input);
});
