//! The targets, for libFuzzer. The workspace compiles the same files into a test that replays the corpus; how to fuzz
//! is said there, in `replay.rs`.

mod targets;

/// Runs one input of a target.
///
/// # Panics
/// If there is no such target, or the input breaks it.
pub fn run(target: &str, input: &[u8]) {
    let (_, run, _) = targets::ALL.iter().find(|(name, ..)| *name == target).expect("a target");
    run(input);
}
