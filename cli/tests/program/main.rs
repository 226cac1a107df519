//! The program as scripts see it: standard output, standard error, exit codes, against a node in memory.

mod node;
mod pops;
mod repl;
mod views;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use node::Node;
use queue_protocol::wire::request::{MessageState, NackKind};

fn queuectl(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queuectl"));
    command.env("QUEUECTL_SERVERS", node.address.to_string());
    command.env("QUEUECTL_TIMEOUT", "2s").env_remove("QUEUECTL_OUTPUT").stdin(Stdio::null());
    command
}

fn run(node: &Node, args: &[&str]) -> Output {
    queuectl(node).args(args).output().unwrap()
}

fn fed(node: &Node, args: &[&str], input: &[u8]) -> Output {
    let mut command = queuectl(node);
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The program may stop reading before the end; then the write fails, which is no failure of the test.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn assert_is(output: &Output, exit: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(seen, (Some(exit), stdout.to_owned(), stderr.to_owned()));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_message_goes_in_and_comes_out_once() {
    let node = Node::start(&["hello"]);
    assert_is(&run(&node, &["push", "hello", "it works"]), 0, "pushed 1 to hello (id 1)\n", "");
    assert_is(&run(&node, &["pop", "hello"]), 0, "it works\n", "");
    assert_is(&run(&node, &["pop", "hello"]), 1, "", "");
    assert!(node.state.lock().unwrap().contents("hello").is_empty());
}

#[test]
fn a_body_on_the_command_line_leaves_standard_input_alone() {
    let node = Node::start(&["jobs"]);
    let output = fed(&node, &["push", "jobs", "a", "b"], b"not this\n");
    assert_is(&output, 0, "pushed 2 to jobs (ids 1–2)\n", "");
    assert_eq!(node.state.lock().unwrap().contents("jobs"), ["\0a", "\0b"]);
}

#[test]
fn a_pipe_is_one_message_a_line_in_order() {
    let node = Node::start(&["jobs"]);
    let lines: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
    let output = fed(&node, &["push", "jobs", "--batch", "7", "--json"], lines.as_bytes());
    let document = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{document}");
    assert!(
        document.starts_with(
            r#"{"schema":"push/v1","queue":"jobs","count":5000,"deduplicated":0,"first_id":"1","#
        ),
        "{document}"
    );
    let expected: Vec<String> = (0..5_000).map(|number| format!("\0line {number}")).collect();
    assert_eq!(node.state.lock().unwrap().contents("jobs"), expected);
}

#[test]
fn binary_input_is_refused_by_line_and_taken_whole_or_by_nul() {
    let node = Node::start(&["jobs"]);
    let output = fed(&node, &["push", "jobs"], b"one\ntwo\nth\0ree\n");
    assert_eq!(output.status.code(), Some(65));
    let text = stderr(&output);
    assert!(text.starts_with("error[looks_binary]: line 3 contains a NUL byte"), "{text}");
    assert!(text.contains("\n  stored      lines 1–2\n"), "{text}");
    fed(&node, &["push", "jobs", "--whole"], b"x\0y\n");
    fed(&node, &["push", "jobs", "-0"], b"p\nq\0r\0");
    let contents = node.state.lock().unwrap().contents("jobs");
    assert_eq!(contents, ["\0one", "\0two", "\0x\0y\n", "\0p\nq", "\0r"]);
    let output = run(&node, &["pop", "jobs", "-n", "9", "-0"]);
    assert_is(&output, 0, "one\0two\0x\0y\n\0p\nq\0r\0", "");
}

#[test]
fn a_file_is_one_message() {
    let node = Node::start(&["jobs"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, b"a\0b\nc").unwrap();
    let path = path.to_str().unwrap();
    assert_is(&run(&node, &["push", "jobs", "--file", path]), 0, "pushed 1 to jobs (id 1)\n", "");
    assert_eq!(node.state.lock().unwrap().contents("jobs"), ["\0a\0b\nc"]);
    assert_eq!(run(&node, &["push", "jobs", "--file", "/nowhere/x"]).status.code(), Some(74));
}

#[test]
fn a_pipe_that_breaks_says_what_became_of_every_line() {
    let node = Node::start(&["jobs"]);
    node.state.lock().unwrap().pushes_left = Some(3);
    let lines: String = (1..=50).map(|number| format!("{number}\n")).collect();
    let args = ["push", "jobs", "--batch", "5", "--in-flight", "1", "--timeout", "500ms"];
    let output = fed(&node, &args, lines.as_bytes());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(79), "{text}");
    assert!(text.contains("error[not_confirmed]: "), "{text}");
    assert!(text.contains("\n  stored      lines 1–15\n"), "{text}");
    assert!(text.contains("\n  unknown     lines 16–20 (sent, not confirmed)\n"), "{text}");
    assert!(text.contains("\n  not sent    from line 21\n"), "{text}");
    assert_eq!(node.state.lock().unwrap().contents("jobs").len(), 15);
}

#[test]
fn an_interrupt_ends_reading_and_tells_what_is_stored() {
    let node = Node::start(&["jobs"]);
    let mut command = queuectl(&node);
    command.args(["push", "jobs"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nhalf").unwrap();
    // The pipe stays open: what was read is sent after the linger time, not at the end.
    while node.state.lock().unwrap().contents("jobs").len() < 2 {
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(text.starts_with("pushed 2 to jobs in ") && text.ends_with("(last id 2)\n"), "{text}");
    assert_eq!(node.state.lock().unwrap().contents("jobs"), ["\0one", "\0two"]);
}

#[test]
fn a_reader_that_goes_away_ends_the_pop_quietly_and_gives_back_what_it_did_not_get() {
    let node = Node::start(&["jobs"]);
    let body = "x".repeat(1_000);
    let lines: String = (0..1_000).map(|number| format!("{number} {body}\n")).collect();
    assert_eq!(fed(&node, &["push", "jobs"], lines.as_bytes()).status.code(), Some(0));
    let mut command = queuectl(&node);
    command.args(["pop", "jobs", "-n", "1000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 10];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_is(&output, 141, "", "");
    let state = node.state.lock().unwrap();
    assert_eq!(state.count("jobs", MessageState::Leased), 0, "nothing stays leased");
    assert!(state.count("jobs", MessageState::Ready) >= 700, "what was not flushed is there");
    assert_eq!(state.nacked, [NackKind::Release { delay_ms: 0 }]);
}

#[test]
fn a_variable_spoils_no_flag_and_an_address_that_is_none_is_refused_at_once() {
    let node = Node::start(&["jobs"]);
    let with = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = queuectl(&node);
        command.envs(variables.iter().copied()).args(words).output().unwrap()
    };
    let good = node.address.to_string();
    for servers in ["", "http://nowhere"] {
        let output = with(&[("QUEUECTL_SERVERS", servers)], &["-s", &good, "queue", "ls"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for (name, value) in
        [("QUEUECTL_SERVERS", "http://nowhere"), ("QUEUECTL_TIMEOUT", "5"), ("QUEUECTL_OUTPUT", "JSON")]
    {
        let output = with(&[(name, value)], &["queue", "ls"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
    // Nobody listens: it is said while it goes on, and at once if nobody is to wait.
    let output = run(&node, &["-s", "127.0.0.1:1", "--timeout", "700ms", "push", "jobs", "x"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.starts_with("not reached: 127.0.0.1:1 refused; trying again for up to 700ms"), "{text}");
    let output = run(&node, &["-s", "127.0.0.1:1", "--timeout", "60s", "--no-wait", "push", "jobs", "x"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.starts_with("error[unreachable]: the server did not answer: 127.0.0.1:1 refused"), "{text}");
}

#[test]
fn a_header_is_given_once() {
    let node = Node::start(&["jobs"]);
    let output = run(&node, &["push", "jobs", "x", "-H", "k=1", "-H", "k=2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("header \"k\" is given twice"), "{}", stderr(&output));
    assert!(node.state.lock().unwrap().contents("jobs").is_empty());
}

#[test]
fn a_message_printed_but_not_acked_is_told() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "x"]);
    node.state.lock().unwrap().refuses_acks = true;
    let output = run(&node, &["pop", "jobs"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(79), &b"x\n"[..]));
    assert!(stderr(&output).starts_with("error[not_confirmed]: message 1 was printed"));
}

#[test]
fn a_lease_is_settled_by_its_receipt_once() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "resize 31.png"]);
    let output = run(&node, &["lease", "jobs", "--for", "60s"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"resize 31.png\n"[..]));
    let line = stderr(&output);
    assert!(
        line.starts_with("jobs 1  attempt 1  lease until ") && line.ends_with("  receipt jobs/1/1\n"),
        "{line}"
    );
    assert_is(&run(&node, &["extend", "jobs/1/1", "--for", "2m"]), 0, "extended 1\n", "");
    assert_is(&run(&node, &["ack", "jobs/1/1"]), 0, "acked 1\n", "");
    let output = run(&node, &["ack", "jobs/1/1"]);
    assert_eq!(output.status.code(), Some(66));
    let expected = "error[receipt_stale]: receipt jobs/1/1 is no longer valid\n  message 1 is gone";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
}

#[test]
fn of_many_receipts_each_that_failed_is_listed() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "a", "b"]);
    run(&node, &["lease", "jobs", "-n", "2", "-q"]);
    let output = run(&node, &["ack", "jobs/1/1", "jobs/2/9", "jobs/3/3", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let words: Vec<_> = (0..3).map(|at| document["results"][at]["result"].as_str().unwrap()).collect();
    assert_eq!((document["schema"].as_str(), words), (Some("ack/v1"), vec!["ok", "stale", "gone"]));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&error["schema"], &error["exit"]), (&"error/v1".into(), &3.into()));
    assert_eq!(error["facts"].as_array().unwrap().len(), 2);
}

#[test]
fn an_unknown_queue_names_the_one_that_may_be_meant() {
    let node = Node::start(&["jobs"]);
    let expected = "error[queue_not_found]: no queue named \"jbos\"\n  hint: did you mean \"jobs\"?\n  \
                    hint: create it: `queuectl queue create jbos`\n";
    assert_is(&run(&node, &["pop", "jbos"]), 66, "", expected);
    assert_is(&run(&node, &["push", "new", "x", "--create"]), 0, "pushed 1 to new (id 1)\n", "");
}

#[test]
fn what_cannot_be_undone_needs_a_yes() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "a", "b"]);
    let expected = "error[confirm_required]: purge removes 2 messages from jobs for good; no terminal to ask on\n  \
                    hint: add `--yes`: `queuectl queue purge jobs --yes`\n";
    assert_is(&fed(&node, &["queue", "purge", "jobs"], b"y\n"), 2, "", expected);
    assert_is(&run(&node, &["queue", "purge", "jobs", "--yes"]), 0, "purged 2 messages from jobs\n", "");
    assert_is(&run(&node, &["queue", "rm", "jobs", "-y"]), 0, "removed jobs with 0 messages\n", "");
    assert_eq!(run(&node, &["queue", "rm", "jobs", "-y"]).status.code(), Some(66));
}

#[test]
fn dead_messages_are_listed_and_put_back() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "resize broken.png", "other"]);
    node.state.lock().unwrap().kill("jobs", 1);
    let expected = "ID  ATTEMPTS  DIED    REASON    LAST ERROR                BODY\n \
                    1         0  3m ago  rejected  cannot decode: not a PNG  resize broken.png\n";
    assert_is(&run(&node, &["dead", "ls", "jobs"]), 0, expected, "");
    let output = run(&node, &["dead", "retry", "jobs", "1", "2"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(3), &b"moved 1 message to jobs\n"[..])
    );
    assert!(stderr(&output).contains("\n  2  no dead message of that id\n"), "{}", stderr(&output));
    assert_eq!(run(&node, &["dead", "retry", "jobs", "2"]).status.code(), Some(66));
}

#[test]
fn the_cluster_has_a_row_for_the_node_that_is_away() {
    let node = Node::start(&["jobs"]);
    node.state.lock().unwrap().alone = true;
    let output = run(&node, &["cluster", "status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("\nn2    UNREACHABLE  127.0.0.1:1 "), "{text}");
    let verdict = "no quorum as seen from n1: no node leads with 2 of 2 voters; nothing can be written\nfeature level 1\n";
    assert!(text.ends_with(verdict), "{text}");
    for what in ["leader", "quorum", "writable", "voters=1"] {
        let output = run(&node, &["cluster", "wait", "--for", what, "--timeout", "300ms"]);
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    }
    assert_eq!(run(&node, &["cluster", "safe-to-stop", "n2"]).status.code(), Some(1));
    let output = run(&node, &["cluster", "wait", "--for", "members=2", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(run(&node, &["cluster", "transfer", "n9"]).status.code(), Some(66));
    assert_eq!(run(&node, &["ping"]).status.code(), Some(1));
}

#[test]
fn a_check_says_how_it_is_to_people_to_scripts_and_to_nagios() {
    let node = Node::start(&["jobs"]);
    node.state.lock().unwrap().alone = true;
    let nagios = |words: &[&str]| {
        let output = run(&node, &[words, &["--format", "nagios"]].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let no_quorum = "no quorum as seen from n1: no node leads with 2 of 2 voters; nothing can be written";
    let output = run(&node, &["check", "cluster"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("critical: {no_quorum}\n"));
    let (code, said) = nagios(&["check", "cluster"]);
    assert_eq!(
        (code, &*said),
        (Some(2), &*format!("CLUSTER CRITICAL - {no_quorum} | voters=0;;2 spare=0\n"))
    );

    run(&node, &["push", "jobs", "a", "b"]);
    let ok = "QUEUE OK - jobs: 2 ready, 0 leased, 0 delayed, 0 dead | ready=2;;5 leased=0 delayed=0 dead=0 oldest_ms=0\n";
    assert_eq!(nagios(&["check", "queue", "jobs", "--ready", "5"]), (Some(0), ok.to_owned()));
    for (limits, code, word) in
        [("1,5", 1, "WARNING"), ("0,1", 2, "CRITICAL"), ("2", 0, "OK"), ("1", 2, "CRITICAL")]
    {
        let (ended, said) = nagios(&["check", "queue", "jobs", "--ready", limits]);
        assert!(ended == Some(code) && said.starts_with(&format!("QUEUE {word} - ")), "{said}");
    }
    assert_eq!(run(&node, &["check", "queue", "jobs", "--ready", "1,5"]).status.code(), Some(0));
    let output = run(&node, &["check", "queue", "jobs", "--ready", "1", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "schema": "check/v1", "what": "queue", "state": "critical",
        "text": "jobs: 2 ready, more than 1", "findings": [{"state": "critical", "text": "jobs: 2 ready, more than 1"}],
        "measures": {"ready": 2, "leased": 0, "delayed": 0, "dead": 0, "oldest_ms": 0},
    });
    assert_eq!(document, expected);
    assert_eq!(nagios(&["check", "queue", "nowhere"]).0, Some(2));
    assert_eq!(run(&node, &["check", "queue", "nowhere"]).status.code(), Some(66));
    assert_eq!(nagios(&["check", "node", "n1"]).0, Some(2), "it leads, and nobody follows it");
    assert_eq!(nagios(&["check", "node", "n2"]).0, Some(2));
    assert_eq!(run(&node, &["check", "node", "n9"]).status.code(), Some(66));

    // Nobody is reached, and wrong use.
    let away = ["-s", "127.0.0.1:1", "--timeout", "300ms", "check", "cluster"];
    assert_eq!(run(&node, &away).status.code(), Some(69));
    let (code, said) = nagios(&away);
    assert!(code == Some(2) && said.starts_with("CLUSTER CRITICAL - the server did not answer"), "{said}");
    assert_eq!(run(&node, &["check", "cluster", "--colour"]).status.code(), Some(2));
    let (code, said) = nagios(&["check", "cluster", "--colour"]);
    assert!(code == Some(3) && said.starts_with("UNKNOWN - "), "{said}");
}

#[test]
fn nobody_there_is_69_and_wrong_use_is_2() {
    let node = Node::start(&[]);
    let output = run(&node, &["-s", "127.0.0.1:1", "push", "jobs", "x", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("error[unreachable]: "), "{}", stderr(&output));
    assert_eq!(run(&node, &["-s", "127.0.0.1:1", "cluster", "status"]).status.code(), Some(69));
    assert_eq!(run(&node, &["push", "jobs", "x", "--colour", "red"]).status.code(), Some(2));
    assert_eq!(run(&node, &["work"]).status.code(), Some(2));
    assert_eq!(run(&node, &["--help"]).status.code(), Some(0));
}

#[test]
fn a_batch_file_runs_until_a_command_fails() {
    let node = Node::start(&["jobs"]);
    let script =
        b"# fill\npush jobs 'a b' -q\npush jobs c -q\nlease jobs -q\nack #1\nuse jobs\npop\npush\npop\n";
    let output = fed(&node, &[], script);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a b\nacked 1\nc\n");
    assert!(stderr(&output).contains("error[usage]: no body given and standard input holds the commands"));
    assert!(stderr(&output).ends_with("standard input:8: exit 2\n"), "{}", stderr(&output));
}

#[test]
fn peek_changes_nothing() {
    let node = Node::start(&["jobs"]);
    run(&node, &["push", "jobs", "a", "b", "-H", "type=png"]);
    assert_is(&run(&node, &["peek", "jobs", "-n", "5"]), 0, "a\nb\n", "");
    assert_is(&run(&node, &["peek", "jobs", "2"]), 0, "b\n", "");
    assert_eq!(run(&node, &["peek", "jobs", "9"]).status.code(), Some(66));
    assert_eq!(run(&node, &["peek", "jobs", "--state", "dead"]).status.code(), Some(1));
    let output = run(&node, &["peek", "jobs", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(r#"{"schema":"message/v1","queue":"jobs","id":"1","state":"ready","#), "{text}");
    let end = r#""headers":{"type":"png"},"body":"a","next":"ready/4/1/18446744073709551615"}"#;
    assert!(text.trim_end().ends_with(end), "{text}");
    assert_eq!(node.state.lock().unwrap().count("jobs", MessageState::Ready), 2);
}

#[test]
fn listings_are_whole_and_a_part_says_where_the_next_one_begins() {
    let node = Node::start(&["jobs"]);
    let lines: String = (1..=600).map(|number| format!("body {number}\n")).collect();
    assert_eq!(fed(&node, &["push", "jobs"], lines.as_bytes()).status.code(), Some(0));
    node.state.lock().unwrap().peeked_max = Some(7);
    let documents = |words: &[&str]| -> Vec<serde_json::Value> {
        let output = run(&node, words);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // A size limit of the answer cuts nothing off.
    assert_eq!(
        run(&node, &["peek", "jobs", "-n", "20"]).stdout,
        lines.lines().take(20).map(|line| format!("{line}\n")).collect::<String>().into_bytes()
    );
    let seen = documents(&["peek", "jobs", "-n", "20", "--json"]);
    let next = seen[19]["next"].as_str().expect("there are more").to_owned();
    assert!(seen.len() == 20 && seen[..19].iter().all(|document| document.get("next").is_none()));
    assert_eq!(documents(&["peek", "jobs", "--after", &next, "--json"])[0]["body"], "body 21");

    (1..=600).for_each(|id| node.state.lock().unwrap().kill("jobs", id));
    let dead = documents(&["dead", "ls", "jobs", "--json"]);
    assert_eq!((dead.len(), &dead[599]["body"]), (600, &"body 600".into()));
    assert_eq!(documents(&["dead", "ls", "--json"]).len(), 600, "of all queues");
    let table = String::from_utf8(run(&node, &["dead", "ls", "jobs"]).stdout).unwrap();
    assert_eq!(table.lines().count(), 601, "one header");
    let (mut all, mut cursor) = (0, None::<String>);
    loop {
        let mut words = vec!["dead", "ls", "jobs", "--limit", "250", "--json"];
        words.extend(cursor.as_deref().map(|cursor| ["--after", cursor]).into_iter().flatten());
        let part = documents(&words);
        all += part.len();
        cursor = part.last().and_then(|last| last["next"].as_str()).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(all, 600);
    assert_eq!(run(&node, &["dead", "ls", "jobs", "--after", "x"]).status.code(), Some(2));
}

#[test]
fn queues_are_made_and_listed() {
    let node = Node::start(&["jobs"]);
    assert_is(&run(&node, &["queue", "create", "thumbs"]), 0, "created thumbs\n", "");
    assert_eq!(run(&node, &["queue", "create", "thumbs"]).status.code(), Some(73));
    let other = ["queue", "create", "thumbs", "--if-not-exists", "--lease", "1m", "--max-failures", "5"];
    let says = "thumbs exists with lease 30s, not 1m\n";
    assert_is(&run(&node, &other), 0, "thumbs exists already\n", says);
    let output = run(&node, &[&other[..], &["--json"]].concat());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let differs = serde_json::json!([{"setting": "lease_ms", "asked": 60_000, "has": 30_000}]);
    assert_eq!((&document["created"], &document["differs"]), (&false.into(), &differs));
    let expected = "QUEUE   READY  LEASED  DELAYED  DEAD  OLDEST  STATE\n\
                    jobs        0       0        0     0       -  ok\n\
                    thumbs      0       0        0     0       -  ok\n";
    assert_is(&run(&node, &["queue", "ls"]), 0, expected, "");
    let output = run(&node, &["queue", "ls", "--limit", "1", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((document["queues"].as_array().unwrap().len(), &document["next"]), (1, &"jobs".into()));
    let rest = "QUEUE   READY  LEASED  DELAYED  DEAD  OLDEST  STATE\nthumbs      0       0        0     0       -  ok\n";
    assert_is(&run(&node, &["queue", "ls", "--after", "jobs"]), 0, rest, "");
    let output = run(&node, &["ls", "t*", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["queues"].as_array().unwrap().len(), 1);
}

#[test]
fn completion_knows_the_queues_of_the_cluster() {
    let node = Node::start(&["jobs", "journal", "emails"]);
    let script = run(&node, &["completions", "bash"]);
    assert!(String::from_utf8_lossy(&script.stdout).contains("COMPLETE"));
    let mut command = queuectl(&node);
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    let output = command.args(["--", "queuectl", "push", "jo"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "jobs\njournal");
}
