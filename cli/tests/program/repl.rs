//! The interactive shell in a pseudo-terminal, against a node in memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use queue_protocol::wire::request::MessageState;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::node::Node;

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(node: &Node, state: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || File::options().read(true).write(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_queuectl"));
        command.env("QUEUECTL_SERVERS", node.address.to_string()).env("XDG_STATE_HOME", state);
        command.env("TERM", "xterm").env("NO_COLOR", "1").env_remove("QUEUECTL_OUTPUT");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let master: OwnedFd = master;
        let keys = File::from(master);
        let mut reader = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` appears behind what was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) -> &mut Self {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return self;
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} did not appear in {:?}", self.seen),
            }
        }
    }

    /// Types a line and waits for `text`, then for the next prompt.
    #[track_caller]
    fn enter(&mut self, line: &str, text: &str, prompt: &str) {
        self.press(&format!("{line}\r"));
        self.expect(text).expect(prompt);
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

#[test]
fn a_session_from_the_first_push_to_the_last_lease() {
    let node = Node::start(&["jobs"]);
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&node, state.path());
    terminal.expect("leader n1, 1 of 2 nodes. Tab completes").expect("queuectl:n1> ");

    terminal.press("push j\t");
    terminal.expect("push jobs ");
    terminal.press("'resize 31.png'\r");
    terminal.expect("pushed 1 to jobs (id 1)").expect(" ms").expect("queuectl:n1> ");

    terminal.enter("lease jobs", "#1  jobs 1  attempt 1  30s left", "queuectl:n1 [1 leased]> ");
    terminal.enter("ack #1", "acked 1", "queuectl:n1> ");
    assert!(node.state.lock().unwrap().contents("jobs").is_empty());

    terminal.enter("push jobs 'two\rlines'", "pushed 1 to jobs (id 2)", "queuectl:n1> ");
    terminal.enter("use jobs", "", "queuectl:n1 jobs> ");
    terminal.enter("peek | tr a-z A-Z", "TWO\r\nLINES", "jobs> ");
    terminal.enter("push", "error[usage]: no body given and standard input is a terminal", "jobs> ");
    terminal.enter("nonsense", "unrecognized subcommand 'nonsense'", "jobs> ");
    terminal.enter("!echo from-$((1+1))", "from-2", "jobs> ");
    terminal.enter("history", "peek | tr a-z A-Z", "jobs> ");

    terminal.press("\x03");
    terminal.expect("Ctrl-D leaves").expect("jobs> ");
    terminal.enter("lease", "#2  jobs 2", "[1 leased] jobs> ");
    terminal.press("\x04");
    terminal.expect("1 message is leased here").expect("[Y/n] ");
    terminal.press("\r");
    terminal.expect("gave back 1 message");
    assert_eq!(terminal.end().code(), Some(0));
    assert_eq!(node.state.lock().unwrap().count("jobs", MessageState::Ready), 1);

    let history = state.path().join("queuectl/history");
    let mode = std::os::unix::fs::PermissionsExt::mode(&history.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(history).unwrap().contains("peek | tr a-z A-Z"));
}

#[test]
fn a_question_is_asked_before_what_cannot_be_undone() {
    let node = Node::start(&["jobs"]);
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&node, state.path());
    terminal.expect("queuectl:n1> ");
    terminal.enter("push jobs x", "pushed 1", "n1> ");
    terminal.press("queue purge jobs\r");
    terminal.expect("purge removes 1 message from jobs for good. Continue? [y/N] ");
    terminal.press("n\r");
    terminal.expect("n1> ");
    assert_eq!(node.state.lock().unwrap().contents("jobs").len(), 1);
    terminal.press("queue purge jobs\r");
    terminal.expect("Continue? [y/N] ");
    terminal.press("y\r");
    terminal.expect("purged 1 message from jobs").expect("n1> ");
    terminal.press("exit\r");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn a_signal_ends_the_shell_with_its_own_code() {
    let node = Node::start(&["jobs"]);
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&node, state.path());
    terminal.expect("queuectl:n1> ");
    let id = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.end().code(), Some(143));
}

#[test]
fn an_interrupt_ends_the_command_and_keeps_the_shell() {
    let node = Node::start(&["jobs"]);
    let state = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&node, state.path());
    terminal.expect("queuectl:n1> ");
    terminal.press("pop jobs --wait 60s\r");
    terminal.expect("60s").expect("\r\n");
    // Not the shell's controlling terminal, so the signal goes by hand.
    let id = rustix::process::Pid::from_child(&terminal.child);
    let interrupt = || rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    loop {
        interrupt();
        if let Ok(bytes) = terminal.screen.recv_timeout(Duration::from_millis(200)) {
            terminal.seen.push_str(&String::from_utf8_lossy(&bytes));
            break;
        }
    }
    terminal.expect("n1> ");
    terminal.enter("push jobs x", "pushed 1", "n1> ");
    terminal.press("exit\r");
    assert_eq!(terminal.end().code(), Some(0));
}
