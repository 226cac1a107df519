//! `queued dev -- CMD`: from nothing to a message, with one program.

use harness::program::{Running, queued, run};
use harness::{LIMIT, until};
use rustix::process::{Pid, Signal, kill_process};

async fn dev(words: &[&str]) -> harness::program::Ran {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut command = queued();
    command.args(["dev", "--any-port"]).args(words).env("TMPDIR", dir.path()).env_remove("XDG_RUNTIME_DIR");
    let ran = run(&mut command, b"").await;
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("it is ours").flatten().collect();
    assert!(left.is_empty(), "{left:?} is left behind");
    ran
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_finds_a_cluster_and_a_queuectl() {
    let script = "queuectl push a x --create && [ \"$(queuectl pop a)\" = x ]";
    dev(&["--", "sh", "-c", script]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_the_command_is_passed_on() {
    dev(&["--nodes", "1", "--quiet", "--", "sh", "-c", "exit 7"]).await.expect(7);
    dev(&["--nodes", "1", "--", "/no/such/program"]).await.expect(127).says("/no/such/program");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_ends_it_though_a_node_takes_it_for_something_else() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let up = dir.path().join("up");
    let mut command = queued();
    let script = format!("touch {}; sleep 600", up.display());
    command.args(["dev", "--any-port", "--nodes", "1", "--", "sh", "-c", &script]);
    command.env("TMPDIR", dir.path()).env_remove("XDG_RUNTIME_DIR");
    let mut running = Running::start(&mut command);
    until("the command runs", LIMIT, async || if up.exists() { Ok(()) } else { Err("it does not") }).await;
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::HUP).expect("it runs");
    until("it ends", LIMIT, async || if running.has_ended() { Ok(()) } else { Err("it runs") }).await;
}
