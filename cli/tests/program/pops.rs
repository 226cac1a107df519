//! `pop` and its reader: slow, gone, or never there; and a cluster that is away for a while.

use super::*;

#[test]
fn a_slow_reader_gets_every_message_once_while_their_leases_are_renewed() {
    let node = Node::start(&["jobs"]);
    node.state.lock().unwrap().lease_ms = Some(1_000);
    let body = "x".repeat(1_000);
    let lines: String = (0..200).map(|number| format!("{number} {body}\n")).collect();
    assert_eq!(fed(&node, &["push", "jobs"], lines.as_bytes()).status.code(), Some(0));
    let mut command = queuectl(&node);
    command.args(["pop", "jobs", "-n", "200"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Nobody reads until the leases of what waits were renewed twice, and what the pipe took was acked.
    let is_looked_after = |state: &node::State| {
        let left = state.contents("jobs").len();
        state.extended >= 2 && left < 200 && left > 100
    };
    while !is_looked_after(&node.state.lock().unwrap()) {
        std::thread::yield_now();
    }
    let mut read = String::new();
    child.stdout.take().unwrap().read_to_string(&mut read).unwrap();
    assert_is(&child.wait_with_output().unwrap(), 0, "", "");
    assert_eq!(read, lines);
    let state = node.state.lock().unwrap();
    assert!(state.contents("jobs").is_empty() && state.nacked.is_empty());
}

#[test]
fn a_pop_without_a_reader_takes_nothing_and_one_that_discards_says_how_many() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "a", "b", "c"]);
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("Q", env!("CARGO_BIN_EXE_queuectl"));
        command.env("QUEUECTL_SERVERS", node.address.to_string()).env_remove("QUEUECTL_OUTPUT");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = shell("$Q pop jobs >&-");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(74), "{text}");
    assert!(
        text.contains("no message was taken") && text.contains("`queuectl pop jobs --discard`"),
        "{text}"
    );
    assert_eq!(shell("$Q lease jobs >&-").status.code(), Some(74));
    assert_eq!(shell("$Q pop jobs > /dev/full").status.code(), Some(74));
    assert_eq!(node.state.lock().unwrap().count("jobs", MessageState::Ready), 3);
    assert_is(&shell("$Q pop jobs > /dev/null"), 0, "", "");
    assert_is(
        &run(&node, &["pop", "jobs", "-n", "9", "--discard"]),
        0,
        "discarded 2 messages from jobs\n",
        "",
    );
    assert_is(&run(&node, &["pop", "jobs", "--discard"]), 1, "", "");
}

#[test]
fn following_goes_on_when_the_cluster_is_back() {
    let node = Node::start(&["jobs"]);
    node.state.lock().unwrap().leases_refused = 3;
    run(&node, &["push", "jobs", "x"]);
    let mut command = queuectl(&node);
    command.args(["pop", "jobs", "--follow"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"x\n");
    while !node.state.lock().unwrap().contents("jobs").is_empty() {
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = "not today; trying again until it works\nthe cluster answers again\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(143), expected));
}
