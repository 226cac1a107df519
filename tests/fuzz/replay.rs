//! Arbitrary bytes where they come in: what fuzzing has found, replayed.
//!
//! `fuzz/targets` says what is done with them; `fuzz/corpus` keeps one input for each thing they were seen to do. To
//! look for more, for ever or so many times (a C++ compiler builds libFuzzer; no other tool is needed):
//!
//! ```text
//! cd tests/fuzz && mkdir -p found && cargo run --release --bin frames -- found corpus/frames -runs=1000000
//! ```
//!
//! New inputs come to lie in `found`; an input that makes a target panic is written to where the command runs. Once the
//! cause is mended it belongs in the corpus. `FUZZ_SEEDS=DIR cargo test -p tests --test fuzz` writes well-formed inputs
//! to begin with.

mod targets;

use std::path::Path;

/// All inputs together.
const CORPUS_SIZE_MAX: usize = 200 << 10;

/// The corpus of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("a readable directory").path();
            (path.display().to_string(), std::fs::read(&path).expect("a readable file"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn no_input_of_the_corpus_breaks_its_target() {
    for (target, run, _) in targets::ALL {
        let mut believed = [0, 0];
        for (path, input) in corpus(target) {
            let outcome = std::panic::catch_unwind(|| run(&input));
            believed[usize::from(outcome.unwrap_or_else(|_| panic!("{path} breaks the target {target}")))] +=
                1;
        }
        assert!(believed.iter().all(|count| *count >= 5), "{target}: refused and believed {believed:?}");
    }
}

#[test]
fn well_formed_inputs_are_believed() {
    for (target, run, seeds) in targets::ALL {
        let seeds = seeds();
        if let Ok(dir) = std::env::var("FUZZ_SEEDS") {
            let dir = Path::new(&dir).join(target);
            std::fs::create_dir_all(&dir).expect("a directory to write to");
            for (number, seed) in seeds.iter().enumerate() {
                std::fs::write(dir.join(number.to_string()), seed).expect("room for seeds");
            }
        }
        let believed = seeds.iter().filter(|seed| run(seed)).count();
        assert!(believed * 2 >= seeds.len(), "{target}: {believed} of {} are believed", seeds.len());
    }
}

#[test]
fn the_corpus_is_small() {
    let sizes =
        targets::ALL.map(|(target, ..)| corpus(target).iter().map(|(_, input)| input.len()).sum::<usize>());
    assert!(sizes.iter().sum::<usize>() <= CORPUS_SIZE_MAX, "{sizes:?} bytes");
}
