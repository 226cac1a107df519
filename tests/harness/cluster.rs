//! A cluster of real processes on this machine: data in a temporary directory, everything killed at the end.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use queue_protocol::client::Client;
use queue_protocol::names::NodeId;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Role, StatusView};
use rustix::rand::{GetRandomFlags, getrandom};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;

use crate::dial::{client_over, trusting};
use crate::process::{Daemon, resident, show_log};
use crate::program::{self, Ran, Running, run};
use crate::settings::patient;
use crate::{LIMIT, free_port, slots, until};

/// Random bytes of the system.
///
/// # Panics
/// If it has none.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).expect("the system has randomness");
    assert_eq!(filled, N, "so few bytes come at once");
    bytes
}

/// Settings of every node that a test names none for: small segments, since they are filled with zeros at the start.
const SETTINGS: [(&str, &str); 3] =
    [("QUEUED_STORAGE_SEGMENT_SIZE", "1MiB"), ("QUEUED_LOG_FORMAT", "text"), ("QUEUED_SHUTDOWN_GRACE", "5s")];

/// Where a node lives.
pub struct Place {
    /// Data directory, which is made by the node.
    pub data: PathBuf,
    /// `127.0.0.1:12345`
    pub address: String,
    /// What stands before `queued` on its command line: a program that becomes the one it is told to start.
    pub under: Vec<String>,
}

impl Place {
    /// At a free port of this machine.
    pub fn local(data: PathBuf) -> Self {
        Self { data, address: format!("127.0.0.1:{}", free_port()), under: Vec::new() }
    }
}

struct Node {
    name: String,
    place: Place,
    log: PathBuf,
    /// Where it serves HTTP, from its next start on.
    http: Option<String>,
    daemon: Option<Daemon>,
}

impl Node {
    fn new(dir: &Path, number: usize, place: Place) -> Self {
        Self {
            name: format!("n{number}"),
            place,
            log: dir.join(format!("n{number}.log")),
            http: None,
            daemon: None,
        }
    }
}

/// Nodes are counted from 0; the name of the first is `n1`.
pub struct Cluster {
    nodes: Vec<Node>,
    env: Vec<(String, String)>,
    looker: Client,
    /// The authority that vouches for the nodes, where they speak TLS.
    authority: Option<PathBuf>,
    dir: TempDir,
    _slot: SemaphorePermit<'static>,
}

impl Cluster {
    /// Three nodes.
    pub async fn start() -> Self {
        Self::start_with(3, &[]).await
    }

    /// So many nodes with these settings in their environment. All are voters when this returns.
    ///
    /// # Panics
    /// If they do not become a cluster in time.
    pub async fn start_with(count: usize, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let places = (1..=count).map(|number| Place::local(dir.path().join(format!("n{number}")))).collect();
        Self::start_in(dir, places, env).await
    }

    /// One node in each of these places; their logs go to `dir`.
    ///
    /// # Panics
    /// As [`Cluster::start_with`].
    pub async fn start_in(dir: TempDir, places: Vec<Place>, env: &[(&str, &str)]) -> Self {
        let mut cluster = Self::with(dir, places, env).await;
        cluster.form().await;
        cluster
    }

    /// Starts the nodes whose data directories are in these places already.
    ///
    /// # Panics
    /// If they do not lead and follow in time.
    pub async fn found_in(dir: TempDir, places: Vec<Place>, env: &[(&str, &str)]) -> Self {
        let mut cluster = Self::with(dir, places, env).await;
        cluster.restart_all().await;
        cluster.all_vote().await;
        cluster
    }

    async fn with(dir: TempDir, places: Vec<Place>, env: &[(&str, &str)]) -> Self {
        let slot = slots::slot().await;
        let env = SETTINGS.iter().chain(env).map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let nodes: Vec<Node> =
            (1..).zip(places).map(|(number, place)| Node::new(dir.path(), number, place)).collect();
        let servers = nodes.iter().map(|node| node.place.address.clone()).collect();
        let env: Vec<(String, String)> = env.collect();
        let authority = env.iter().find(|(name, _)| name == "QUEUED_TLS_CA").map(|(_, file)| file.into());
        let looker = client_over(trusting(authority.clone()), servers, Duration::from_secs(2));
        Self { nodes, env, looker, authority, dir, _slot: slot }
    }

    async fn form(&mut self) {
        run(&mut self.queued("init", 0), b"").await.expect(0);
        self.start_node(0);
        until("the first node leads", LIMIT, async || self.leads(0).await).await;
        for n in 1..self.nodes.len() {
            self.join(n, &self.secret_file(0)).await.expect(0);
            self.start_node(n);
        }
        self.all_vote().await;
    }

    async fn join(&self, n: usize, secret_file: &Path) -> Ran {
        let mut join = self.queued("join", n);
        join.arg("--at").arg(&self.nodes[0].place.address).arg("--secret-file").arg(secret_file);
        run(&mut join, b"").await
    }

    /// Waits until every node votes and follows.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn all_vote(&self) {
        let count = self.nodes.len();
        until("all nodes vote", LIMIT, async || {
            for n in 0..count {
                let status = self.status(n).await?;
                let voters = status.members.iter().filter(|member| member.voter).count();
                if voters != count || status.leader.is_none() {
                    return Err(format!("{} knows {voters} voters, leader {:?}", status.name, status.leader));
                }
            }
            Ok(())
        })
        .await;
    }

    /// `queued COMMAND` for node `n`, with its directory, name and address.
    pub fn queued(&self, command: &str, n: usize) -> Command {
        let node = &self.nodes[n];
        let mut queued = program::queued_under(&node.place.under);
        queued.arg(command).args(["--name", &node.name, "--listen", &node.place.address]);
        queued.arg("--data-dir").arg(&node.place.data).current_dir(self.dir.path());
        queued.envs(self.env.iter().map(|(name, text)| (name, text)));
        queued
    }

    /// A place for one more node, which is not formatted yet.
    pub fn new_node(&mut self) -> usize {
        let number = self.nodes.len() + 1;
        let place = Place::local(self.dir.path().join(format!("n{number}")));
        let node = Node::new(self.dir.path(), number, place);
        self.nodes.push(node);
        number - 1
    }

    /// All nodes serve HTTP: each is started anew with an address for it.
    ///
    /// # Panics
    /// If they do not answer in time.
    pub async fn serve_http(&mut self) {
        for n in 0..self.nodes.len() {
            self.nodes[n].http = Some(format!("127.0.0.1:{}", free_port()));
            if self.nodes[n].daemon.is_some() {
                self.stop(n).await;
                self.restart(n).await;
            }
        }
        self.all_vote().await;
    }

    /// Where node `n` serves HTTP.
    ///
    /// # Panics
    /// If it does not.
    pub fn http(&self, n: usize) -> &str {
        self.nodes[n].http.as_deref().expect("serve_http was called")
    }

    /// From its next start on node `n` runs under the program of these words; under none if there are none.
    pub fn run_under(&mut self, n: usize, words: Vec<String>) {
        self.nodes[n].place.under = words;
    }

    /// From its next start on node `n` is at another port.
    pub fn move_node(&mut self, n: usize) {
        self.nodes[n].place.address = format!("127.0.0.1:{}", free_port());
    }

    /// From their next start on each of two nodes is where the other was.
    pub fn swap_addresses(&mut self, a: usize, b: usize) {
        let address = self.address(a).to_owned();
        self.nodes[a].place.address = std::mem::replace(&mut self.nodes[b].place.address, address);
    }

    /// From its next start on node `n` has this data directory and address; gives those it had.
    pub fn put_place(&mut self, n: usize, place: Place) -> Place {
        std::mem::replace(&mut self.nodes[n].place, place)
    }

    /// Process id of a node.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self, n: usize) -> u32 {
        self.daemon(n).pid()
    }

    /// Memory of a node that is resident, bytes.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident(&self, n: usize) -> u64 {
        resident(self.pid(n)).unwrap_or_else(|| panic!("{} has ended", self.nodes[n].name))
    }

    /// `queued join` on a new machine, `words` and its address on any other, `queued serve` on the new one. Gives the new
    /// node, and what the command said when it was done.
    ///
    /// # Panics
    /// If it is not taken in in time.
    pub async fn take_in(&mut self, words: &[&str]) -> (usize, String) {
        let n = self.new_node();
        let address = self.address(n).to_owned();
        let mut join = self.queued("join", n);
        let joining = Running::start(join.arg("--secret-file").arg(self.secret_file(0)));
        until("the new node listens", LIMIT, async || TcpStream::connect(&address).await.map(drop)).await;
        let command = Running::start(self.queuectl().args(words).arg(&address));
        joining.end().await.expect(0).says("waiting to be taken in");
        self.start_node(n);
        (n, command.end().await.expect(0).stdout)
    }

    /// Starts a node that does not run; does not wait for it.
    ///
    /// # Panics
    /// If it runs, or its program cannot be started.
    pub fn start_node(&mut self, n: usize) {
        let mut serve = self.queued("serve", n);
        serve.args(self.nodes[n].http.iter().flat_map(|http| ["--listen-http", http]));
        let node = &mut self.nodes[n];
        assert!(node.daemon.is_none(), "{} runs already", node.name);
        node.daemon = Some(Daemon::start(&mut serve, &node.log));
    }

    /// Starts a node that was killed or stopped, and waits until it answers.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn restart(&mut self, n: usize) {
        self.start_node(n);
        self.answers(n).await;
    }

    /// Starts all nodes that do not run, and waits until they answer.
    ///
    /// # Panics
    /// If they do not in time.
    pub async fn restart_all(&mut self) {
        let down: Vec<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].daemon.is_none()).collect();
        down.iter().for_each(|n| self.start_node(*n));
        for n in down {
            self.answers(n).await;
        }
    }

    async fn answers(&mut self, n: usize) {
        let name = self.nodes[n].name.clone();
        until(&format!("{name} answers"), LIMIT, async || {
            if let Some(status) = self.daemon_mut(n).ended() {
                panic!("{name} ended with {status}");
            }
            self.status(n).await.map(drop)
        })
        .await;
    }

    fn daemon_mut(&mut self, n: usize) -> &mut Daemon {
        self.nodes[n].daemon.as_mut().expect("it runs")
    }

    fn daemon(&self, n: usize) -> &Daemon {
        self.nodes[n].daemon.as_ref().expect("it runs")
    }

    /// `kill -9`
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, n: usize) {
        self.nodes[n].daemon.take().expect("it runs").kill();
    }

    /// `kill -9` of all at once.
    pub fn kill_all(&mut self) {
        Daemon::kill_all(self.nodes.iter_mut().filter_map(|node| node.daemon.take()).collect());
    }

    /// SIGSTOP
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self, n: usize) {
        self.daemon(n).pause();
    }

    /// SIGCONT
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self, n: usize) {
        self.daemon(n).resume();
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If it does not end with 0 in time.
    pub async fn stop(&mut self, n: usize) {
        self.daemon(n).terminate();
        let status = self.ended(n).await;
        assert!(status.success(), "{} ended with {status}", self.nodes[n].name);
    }

    /// How a node ended that was started, if it has.
    pub fn has_ended(&mut self, n: usize) -> Option<ExitStatus> {
        self.daemon_mut(n).ended()
    }

    /// Waits until a node has ended, and says how.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn ended(&mut self, n: usize) -> ExitStatus {
        let name = self.nodes[n].name.clone();
        let status =
            until(&format!("{name} ends"), LIMIT, async || self.daemon_mut(n).ended().ok_or("it still runs"))
                .await;
        self.nodes[n].daemon = None;
        status
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// `n1`
    pub fn name(&self, n: usize) -> &str {
        &self.nodes[n].name
    }

    /// `127.0.0.1:12345`
    pub fn address(&self, n: usize) -> &str {
        &self.nodes[n].place.address
    }

    /// Raft's number.
    pub fn node_id(&self, n: usize) -> NodeId {
        NodeId(n as u64 + 1)
    }

    /// Data directory.
    pub fn data_dir(&self, n: usize) -> &Path {
        &self.nodes[n].place.data
    }

    /// The cluster's secret as node `n` has it.
    pub fn secret_file(&self, n: usize) -> PathBuf {
        self.nodes[n].place.data.join("SECRET")
    }

    /// What node `n` wrote to its standard error.
    pub fn log_of(&self, n: usize) -> String {
        std::fs::read(&self.nodes[n].log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// A directory for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Looks at nodes by this client from now on.
    pub(crate) fn look_by(&mut self, client: Client) {
        self.looker = client;
    }

    pub(crate) fn authority(&self) -> Option<PathBuf> {
        self.authority.clone()
    }

    /// All addresses, with commas.
    pub fn servers(&self) -> String {
        let all: Vec<&str> = self.nodes.iter().map(|node| node.place.address.as_str()).collect();
        all.join(",")
    }

    /// `queuectl` with the servers of this cluster, patient enough for a busy machine.
    pub fn queuectl(&self) -> Command {
        let mut queuectl = program::queuectl();
        queuectl.env("QUEUECTL_SERVERS", self.servers()).env("QUEUECTL_TIMEOUT", "30s");
        queuectl.envs(self.authority.iter().map(|file| ("QUEUECTL_TLS_CA", file)));
        queuectl.env("XDG_STATE_HOME", self.dir.path()).current_dir(self.dir.path());
        queuectl
    }

    /// Runs `queuectl` with these words and nothing on standard input.
    pub async fn ctl(&self, words: &[&str]) -> Ran {
        run(self.queuectl().args(words), b"").await
    }

    /// A client with a session of its own.
    pub fn client(&self) -> Client {
        let servers = self.nodes.iter().map(|node| node.place.address.clone()).collect();
        client_over(trusting(self.authority.clone()), servers, patient(LIMIT))
    }

    /// What node `n` says of itself.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn status(&self, n: usize) -> Result<StatusView, String> {
        let node = &self.nodes[n];
        let answered = self.looker.ask_node(&node.place.address, ask::Status).await;
        answered.map(|answered| *answered.answer).map_err(|error| format!("{}: {error}", node.name))
    }

    async fn leads(&self, n: usize) -> Result<StatusView, String> {
        let status = self.status(n).await?;
        let own = status.leader.as_ref().is_some_and(|leader| leader.node == status.node);
        let ready = status.health.lead.is_some_and(|lead| lead.ready);
        if status.role == Role::Leader && own && ready {
            Ok(status)
        } else {
            Err(format!("{} is {:?} in term {}, ready {ready}", status.name, status.role, status.term))
        }
    }

    /// The node that leads in the newest term and takes requests, and its status. A node that is paused is not asked for long.
    ///
    /// # Panics
    /// If nobody does in time.
    pub async fn leader(&self) -> (usize, StatusView) {
        self.leader_above(0).await
    }

    /// The node that leads in a term above `term`.
    ///
    /// # Panics
    /// If nobody does in time.
    pub async fn leader_above(&self, term: u64) -> (usize, StatusView) {
        until(&format!("a node leads in a term above {term}"), LIMIT, async || {
            let mut why = Vec::new();
            let mut newest: Option<(usize, StatusView)> = None;
            for n in (0..self.nodes.len()).filter(|n| self.nodes[*n].daemon.is_some()) {
                match self.leads(n).await {
                    Ok(status) if status.term > newest.as_ref().map_or(term, |(_, other)| other.term) => {
                        newest = Some((n, status));
                    }
                    Ok(status) => why.push(format!("{} leads in term {}", status.name, status.term)),
                    Err(error) => why.push(error),
                }
            }
            newest.ok_or(why.join("; "))
        })
        .await
    }

    /// Makes node `n` the leader.
    ///
    /// # Panics
    /// If it does not become it in time.
    pub async fn transfer(&self, n: usize) {
        until(&format!("{} leads", self.nodes[n].name), LIMIT, async || {
            if self.leads(n).await.is_err() {
                self.looker
                    .ask(ask::TransferLeader(Some(self.node_id(n))))
                    .await
                    .map_err(|error| error.to_string())?;
            }
            self.leads(n).await.map(drop)
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                show_log(&node.name, &node.log);
            }
        }
    }
}

/// A client of these servers with a session of its own.
pub fn client_of(servers: Vec<String>, timeout: Duration) -> Client {
    client_over(trusting(None), servers, timeout)
}
