//! Planted bugs, each in a process of its own: the suite would notice.

use std::process::{Command, Output};

use queue_broker::mutants::{Mutant, VARIABLE};

fn run_with(mutant: Mutant, test: &str) -> Output {
    let myself = std::env::current_exe().expect("it runs");
    let mut command = Command::new(myself);
    command.args(["--exact", test]).env(VARIABLE, mutant.name());
    command.output().expect("it runs once more")
}

#[test]
fn planted_bugs_are_noticed() {
    let crash = "crash::every_crash_point_keeps_what_was_acknowledged_and_invents_nothing";
    let flips = "flips::no_flipped_bit_gives_other_data";
    let syncs = "failing_sync::a_node_whose_sync_fails_is_dead_and_has_lost_nothing";
    let planted = [
        (Mutant::AckBeforeSync, crash),
        (Mutant::DirectoryNotSynced, crash),
        (Mutant::CutAtAnyDamage, flips),
        (Mutant::SyncRetried, syncs),
    ];
    for (mutant, test) in planted {
        let output = run_with(mutant, test);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 failed"), "{} is not noticed by {test}:\n{text}", mutant.name());
    }
}
