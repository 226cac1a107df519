//! What a node tells the supervisor that started it, as systemd does: when it is there, and that it lives, or nothing.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::machines::Machines;
use harness::process::Daemon;
use harness::{LIMIT, until};

/// The time in which the watchdog must hear something.
const WATCHDOG: Duration = Duration::from_secs(3);

/// Where systemd listens.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new() -> Self {
        let path = tempfile::tempdir().expect("there is a temporary directory").keep().join("notify");
        let socket = UnixDatagram::bind(&path).expect("it is ours");
        socket.set_nonblocking(true).expect("it is open");
        Self { socket, path }
    }

    fn env(&self) -> [(&'static str, String); 2] {
        let path = self.path.to_str().expect("it is text").to_owned();
        [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())]
    }

    /// All lines that have come since.
    fn heard(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(size) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..size]);
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }

    /// What was heard until this was.
    async fn hears(&self, word: &str) -> Vec<String> {
        let mut all = Vec::new();
        until(&format!("{word} is told"), LIMIT, async || {
            all.extend(self.heard());
            if all.iter().any(|line| line.contains(word)) { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_its_supervisor_that_it_is_ready_and_lives() {
    let supervisor = Supervisor::new();
    let env = supervisor.env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut cluster = Cluster::start_with(1, &env).await;
    let told = supervisor.hears("STATUS=leader in term").await;
    let at = |word: &str| told.iter().position(|line| line == word);
    let recovers = at("EXTEND_TIMEOUT_USEC=60000000");
    assert!(recovers.is_some() && recovers < at("READY=1"), "{told:?}");
    supervisor.hears("WATCHDOG=1").await;

    // Nothing is heard of one that hangs: not for as long as the watchdog waits.
    cluster.pause(0);
    supervisor.heard();
    tokio::time::sleep(WATCHDOG).await;
    assert_eq!(supervisor.heard(), Vec::<String>::new());
    cluster.resume(0);
    supervisor.hears("WATCHDOG=1").await;

    cluster.stop(0).await;
    supervisor.hears("STOPPING=1").await;
}

/// Of three machines one is started: it waits for the others, and whoever started it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_the_others_counts_as_started() {
    let supervisor = Supervisor::new();
    let machines = Machines::new(&["a", "b"]);
    machines.run("a", "openssl rand -hex 32 > secret && chmod 600 secret").await.expect(0);
    let env = supervisor.env().map(|(name, value)| format!("{name}={value}")).join(" ");
    let start = format!(
        "export {env}; exec queued start --peers a:7410,b:7410 --secret-file secret --data-dir data --listen-address a:7410 \
         --insecure"
    );
    let mut daemon = Daemon::start(&mut machines.command("a", &start), &machines.log("a"));
    let told = supervisor.hears("STATUS=waits for the other nodes").await;
    assert!(told.iter().any(|line| line == "READY=1"), "{told:?}");
    supervisor.hears("WATCHDOG=1").await;
    daemon.terminate();
    until("it ends", LIMIT, async || daemon.ended().ok_or("it runs")).await;
    supervisor.hears("STOPPING=1").await;
}
