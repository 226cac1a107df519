//! The nodes of a dev cluster: formatted if need be, started, watched, killed, started again and stopped.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use queue_protocol::wire::response::{Role, StatusView};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::access;
use super::logs;
use super::place::Place;
use super::process::Process;
use super::screen::{Row, State};
use super::secure;
use crate::commands::failure::Failure;
use crate::commands::probe;
use crate::fs::os::OsDisk;
use crate::locked::Locked as _;
use crate::node::identity::{Identity, IdentityError};
use crate::node::secret::SECRET_FILE;
use crate::outside::ExitStatus as Exit;

/// How long a start may take, all nodes together, and a restart of one.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node that came back may take to catch up before that is said.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at a node that is not where it should be.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Lines of a failed node's log that are shown.
const LOG_LINES: usize = 8;

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    /// The number of the leader.
    pub(super) leader: usize,
    /// Its term.
    pub(super) term: u64,
}

/// A cluster of processes. Cheap to clone; clones are the same cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    program: PathBuf,
    flags: Vec<String>,
    relay: bool,
    /// One a node; n1 is the first.
    nodes: Vec<Mutex<Node>>,
}

#[derive(Default)]
struct Node {
    process: Option<Arc<Process>>,
    paused: bool,
}

impl Cluster {
    /// A cluster at this place whose nodes are processes of `program`, all with `flags`. None runs yet.
    pub(super) fn new(place: Place, program: PathBuf, flags: Vec<String>, relay: bool) -> Self {
        let nodes = place.ports.iter().map(|_| Mutex::default()).collect();
        Self { shared: Arc::new(Shared { place, program, flags, relay, nodes }) }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.shared.place
    }

    /// What its nodes are processes of.
    pub(super) fn program(&self) -> &Path {
        &self.shared.program
    }

    /// Numbers of all nodes.
    pub(super) fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.shared.nodes.len()
    }

    fn node(&self, number: usize) -> MutexGuard<'_, Node> {
        self.shared.nodes[number - 1].locked()
    }

    /// The process of a node that runs or is paused.
    fn process(&self, number: usize) -> Option<Arc<Process>> {
        self.node(number).process.clone().filter(|process| process.status().is_none())
    }

    /// Starts all nodes; those that are no members yet join one after the other.
    pub(super) async fn start(&self) -> Result<Leadership, Failure> {
        let started = timeout(START_TIMEOUT, self.start_all()).await;
        started.unwrap_or_else(|_| {
            let took = humantime::format_duration(START_TIMEOUT);
            let failure =
                Failure::new(Exit::Unavailable, "start", format!("the cluster is not ready after {took}"));
            Err(self.with_logs(failure, self.numbers()))
        })
    }

    async fn start_all(&self) -> Result<Leadership, Failure> {
        let mut strangers = Vec::new();
        for number in self.numbers() {
            match (number, self.is_member(number)?) {
                (1, false) => self.run_to_end(1, &["init"]).await?,
                (_, false) => {
                    strangers.push(number);
                    continue;
                }
                (_, true) => {}
            }
            self.spawn(number)?;
        }
        for number in self.numbers().filter(|number| !strangers.contains(number)) {
            self.answers(number).await?;
        }
        let secret = self.place().data_dir(1).join(SECRET_FILE);
        for number in strangers {
            let at = format!("--at={}", self.place().address(1));
            self.run_to_end(number, &["join", &at, &format!("--secret-file={}", secret.display())]).await?;
            self.spawn(number)?;
            self.answers(number).await?;
        }
        loop {
            let said = self.statuses().await;
            if let Some(leadership) = agreed(&said) {
                return Ok(leadership);
            }
            self.refuse_ended()?;
            sleep(LOOK_AGAIN).await;
        }
    }

    fn is_member(&self, number: usize) -> Result<bool, Failure> {
        match Identity::read(&OsDisk, &self.place().data_dir(number)) {
            Ok(found) => Ok(found.identity.is_joined()),
            Err(IdentityError::Missing { .. }) => Ok(false),
            Err(error) => Err(crate::node::NodeError::from(error).into()),
        }
    }

    /// The command line that all commands of a node begin with.
    fn command(&self, number: usize, words: &[&str]) -> Result<Command, Failure> {
        let log = logs::append_to(&self.place().log_file(number))?;
        let log_too = log.try_clone().map_err(|error| Failure::io("a descriptor", &error))?;
        let mut command = Command::new(self.program());
        // Of this name, whatever name this process was called by.
        std::os::unix::process::CommandExt::arg0(&mut command, "queued");
        // Out of reach of the terminal's signals.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .args(words)
            .args(["--only-flags", &format!("--node-name=n{number}")])
            .arg(format!("--listen-address={}", self.place().address(number)))
            .arg(format!("--node-data-dir={}", self.place().data_dir(number).display()))
            .args(&self.shared.flags)
            .args(self.secured(number))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too);
        Ok(command)
    }

    /// The settings of TLS, if it is spoken.
    fn secured(&self, number: usize) -> Vec<String> {
        let Some(authority) = self.place().authority() else { return Vec::new() };
        let [certificate, key] = secure::pair(&self.place().dir, number);
        vec![
            format!("--tls-mode={}", self.place().tls.as_str()),
            format!("--tls-cert={}", certificate.display()),
            format!("--tls-key={}", key.display()),
            format!("--tls-ca={}", authority.display()),
        ]
    }

    fn start_process(&self, number: usize, words: &[&str]) -> Result<Arc<Process>, Failure> {
        let mut command = self.command(number, words)?;
        let failed = |error| Failure::io(format!("n{number} did not start"), &error);
        if !self.shared.relay {
            return Ok(Arc::new(Process::spawn(&mut command).map_err(failed)?));
        }
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let process = Process::spawn(&mut command).map_err(failed)?;
        logs::relay(format!("n{number}"), reader, logs::append_to(&self.place().log_file(number))?)
            .map_err(failed)?;
        Ok(Arc::new(process))
    }

    /// Runs a command of a node that ends by itself.
    async fn run_to_end(&self, number: usize, words: &[&str]) -> Result<(), Failure> {
        let process = self.start_process(number, words)?;
        *self.node(number) = Node { process: Some(Arc::clone(&process)), paused: false };
        let status = process.ended().await;
        if status.success() { Ok(()) } else { Err(self.ended_badly(number, words[0], status)) }
    }

    fn spawn(&self, number: usize) -> Result<(), Failure> {
        let http = format!("--listen-http={}", self.place().http_address(number));
        let words: &[&str] = if cfg!(feature = "http") { &[&http] } else { &[] };
        let process = self.start_process(number, &[&["serve", "--parent-pipe"], words].concat())?;
        *self.node(number) = Node { process: Some(process), paused: false };
        Ok(())
    }

    /// Waits until a node that was started answers.
    async fn answers(&self, number: usize) -> Result<StatusView, Failure> {
        loop {
            if let Some(status) = self.status(number).await {
                return Ok(status);
            }
            self.refuse_ended()?;
            sleep(LOOK_AGAIN).await;
        }
    }

    /// An error if a node that was started has ended.
    fn refuse_ended(&self) -> Result<(), Failure> {
        for number in self.numbers() {
            let status = self.node(number).process.as_ref().and_then(|process| process.status());
            if let Some(status) = status {
                return Err(self.ended_badly(number, "serve", status));
            }
        }
        Ok(())
    }

    fn ended_badly(&self, number: usize, word: &str, status: ExitStatus) -> Failure {
        let code = status.code().and_then(Exit::of).unwrap_or(Exit::Bug);
        let what = format!("n{number} did not start: queued {word} ended with {}", ended(status));
        self.with_logs(Failure::new(code, "node_failed", what), number..=number)
    }

    fn with_logs(&self, failure: Failure, numbers: impl Iterator<Item = usize>) -> Failure {
        numbers.fold(failure, |failure, number| {
            let lines = logs::last_lines(&self.place().log_file(number), LOG_LINES);
            lines.into_iter().fold(failure, |failure, line| failure.fact(format!("n{number} | {line}")))
        })
    }

    /// What a node says of itself; `None` if it does not answer.
    pub(super) async fn status(&self, number: usize) -> Option<StatusView> {
        {
            let node = self.node(number);
            let runs = node.process.as_ref().is_some_and(|process| process.status().is_none());
            if !runs || node.paused {
                return None;
            }
        }
        probe::status(&self.place().address(number), self.place().tls, access::own(self.place())).await
    }

    async fn statuses(&self) -> Vec<Option<StatusView>> {
        join_all(self.numbers().map(|number| self.status(number))).await
    }

    /// The nodes, for a table.
    pub(super) async fn rows(&self) -> Vec<Row> {
        let said = self.statuses().await;
        let row = |(number, status)| {
            let node = self.node(number);
            let state = match &node.process {
                None => State::Absent,
                Some(process) => match process.status() {
                    Some(status) => State::Ended(ended(status)),
                    None if node.paused => State::Paused(process.pid()),
                    None => State::Running(process.pid()),
                },
            };
            Row { name: format!("n{number}"), address: self.place().address(number), state, status }
        };
        self.numbers().zip(said).map(row).collect()
    }

    /// The number of the leader that a node follows or is, of the newest term.
    pub(super) async fn leader(&self) -> Option<usize> {
        let said = self.statuses().await;
        let leaders = self.numbers().zip(said).filter_map(|(number, status)| Some((number, status?)));
        let leaders = leaders.filter(|(_, status)| status.role == Role::Leader);
        leaders.max_by_key(|(_, status)| status.term).map(|(number, _)| number)
    }

    /// Numbers of the nodes that do not run, and of those that are paused.
    pub(super) fn absent(&self) -> (Vec<usize>, Vec<usize>) {
        let runs = |number: &usize| self.process(*number).is_some();
        let (running, ended): (Vec<usize>, Vec<usize>) = self.numbers().partition(runs);
        (ended, running.into_iter().filter(|number| self.node(*number).paused).collect())
    }

    /// SIGKILL: a crash. The number of the process; `None` if it does not run.
    pub(super) async fn kill(&self, number: usize) -> Result<Option<u32>, Failure> {
        let Some(process) = self.process(number) else { return Ok(None) };
        signal(number, &process, Signal::KILL)?;
        process.ended().await;
        Ok(Some(process.pid()))
    }

    /// SIGSTOP. The number of the process; `None` if it does not run or is paused already.
    pub(super) fn pause(&self, number: usize) -> Result<Option<u32>, Failure> {
        self.set_paused(number, true, Signal::STOP)
    }

    /// SIGCONT. The number of the process; `None` if it is not paused.
    pub(super) fn resume(&self, number: usize) -> Result<Option<u32>, Failure> {
        self.set_paused(number, false, Signal::CONT)
    }

    fn set_paused(&self, number: usize, paused: bool, by: Signal) -> Result<Option<u32>, Failure> {
        let mut node = self.node(number);
        let Some(process) = node.process.clone().filter(|process| process.status().is_none()) else {
            return Ok(None);
        };
        if node.paused == paused {
            return Ok(None);
        }
        signal(number, &process, by)?;
        node.paused = paused;
        Ok(Some(process.pid()))
    }

    /// Stops a node if it runs, starts it, and waits until it has applied what was committed when it came back.
    /// What it is then, for people.
    pub(super) async fn restart(&self, number: usize) -> Result<String, Failure> {
        self.stop_one(number, Instant::now() + STOP_TIMEOUT).await?;
        self.spawn(number)?;
        let back = timeout(START_TIMEOUT, self.answers_or_ended(number)).await;
        back.unwrap_or_else(|_| {
            Err(Failure::new(Exit::Unavailable, "start", format!("n{number} does not answer")))
        })?;
        let caught_up = timeout(CATCH_UP_TIMEOUT, self.caught_up(number)).await;
        Ok(match caught_up {
            Ok(role) => format!("{}, caught up", super::screen::role(role)),
            Err(_) if self.leader().await.is_none() => "there is no leader yet".to_owned(),
            Err(_) => "catching up".to_owned(),
        })
    }

    async fn answers_or_ended(&self, number: usize) -> Result<(), Failure> {
        while self.status(number).await.is_none() {
            if let Some(status) = self.node(number).process.as_ref().and_then(|process| process.status()) {
                return Err(self.ended_badly(number, "serve", status));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn caught_up(&self, number: usize) -> Role {
        loop {
            if let Some(leader) = self.leader().await
                && let Some(committed) = self.status(leader).await.map(|status| status.commit_index)
            {
                while let Some(status) = self.status(number).await {
                    if status.leader.is_some() && status.applied_index >= committed {
                        return status.role;
                    }
                    sleep(LOOK_AGAIN).await;
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Calls `tell` for each node that ends; returns when the last one has.
    pub(super) async fn all_ended(&self, tell: impl Fn(String)) {
        let processes = self.numbers().filter_map(|number| Some((number, self.process(number)?)));
        let mut ends: FuturesUnordered<_> =
            processes.map(|(number, process)| async move { (number, process.ended().await) }).collect();
        while let Some((number, status)) = ends.next().await {
            tell(format!("n{number} has ended: {}", ended(status)));
        }
    }

    /// Stops all nodes: by SIGTERM, and after a while by SIGKILL. Returns when all have ended.
    pub(super) async fn stop(&self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let stops = join_all(self.numbers().map(|number| self.stop_one(number, deadline))).await;
        for failure in stops.into_iter().filter_map(Result::err) {
            crate::commands::say(&failure.to_string());
        }
    }

    async fn stop_one(&self, number: usize, deadline: Instant) -> Result<(), Failure> {
        let Some(process) = self.process(number) else { return Ok(()) };
        self.resume(number)?;
        signal(number, &process, Signal::TERM)?;
        if timeout_at(deadline, process.ended()).await.is_err() {
            signal(number, &process, Signal::KILL)?;
            process.ended().await;
        }
        Ok(())
    }
}

fn signal(number: usize, process: &Process, signal: Signal) -> Result<(), Failure> {
    process.signal(signal).map_err(|error| Failure::io(format!("n{number} cannot be signalled"), &error))
}

/// `exit status 66`, `signal 9`
fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Who leads, if every node says the same and every node votes.
fn agreed(said: &[Option<StatusView>]) -> Option<Leadership> {
    let mut leaders = said.iter().map(|status| {
        let status = status.as_ref()?;
        let votes = status.members.iter().filter(|member| member.voter).count();
        let leader = status.leader.as_ref().filter(|_| votes == said.len())?;
        Some((leader.node, leader.term))
    });
    let (leader, term) = leaders.next()??;
    let all = leaders.all(|other| other == Some((leader, term)));
    let number =
        said.iter().position(|status| status.as_ref().is_some_and(|status| status.node == leader))? + 1;
    all.then_some(Leadership { leader: number, term })
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::{ClusterId, NodeId};
    use queue_protocol::wire::bounded::{Bounded, Text};
    use queue_protocol::wire::response::{LeaderView, MemberView};

    use super::*;

    fn status(node: u64, leader: Option<(u64, u64)>, voters: u64) -> Option<StatusView> {
        let member = |node| MemberView {
            node: NodeId(node),
            name: Text::cut("n"),
            address: Text::cut("a"),
            voter: node <= voters,
            matched_index: None,
        };
        Some(StatusView {
            cluster: ClusterId(1),
            node: NodeId(node),
            name: Text::cut("n"),
            role: Role::Follower,
            term: 1,
            leader: leader.map(|(node, term)| LeaderView {
                node: NodeId(node),
                name: Text::cut("n"),
                address: Text::cut("a"),
                term,
            }),
            last_index: 0,
            commit_index: 0,
            applied_index: 0,
            snapshot_index: 0,
            purged_index: 0,
            disk_free_bytes: 0,
            uptime_ms: 0,
            version: Text::cut("0"),
            drained: false,
            level: queue_protocol::wire::level::Level::FIRST,
            levels: queue_protocol::wire::level::Levels::OURS,
            members: Bounded::new((1..=3).map(member).collect()).unwrap(),
            changing: false,
            clock_off_ms: 0,
            connections_max: 10_000,
            connections_asked: 10_000,
            tls: queue_protocol::wire::security::TlsView::default(),
            secret: queue_protocol::wire::security::SecretView::default(),
            log: queue_protocol::wire::logs::LogView::default(),
            health: queue_protocol::health::HealthView::default(),
        })
    }

    #[test]
    fn a_cluster_is_ready_when_all_vote_and_name_the_same_leader_of_the_same_term() {
        let all = |leaders: [Option<(u64, u64)>; 3]| {
            let said: Vec<_> =
                leaders.into_iter().zip(1..).map(|(leader, node)| status(node, leader, 3)).collect();
            agreed(&said)
        };
        let two = Some((2, 5));
        assert_eq!(all([two, two, two]), Some(Leadership { leader: 2, term: 5 }));
        assert_eq!(all([two, two, Some((2, 4))]), None);
        assert_eq!(all([two, Some((1, 5)), two]), None);
        assert_eq!(all([two, two, None]), None);
        assert_eq!(agreed(&[status(1, two, 3), status(2, two, 3), None]), None);
        assert_eq!(agreed(&[status(1, two, 2), status(2, two, 3), status(3, two, 3)]).or(agreed(&[])), None);
    }
}
