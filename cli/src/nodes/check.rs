//! `check cluster|queue|node`: whether something is well, for monitoring. The judgement is that of `cluster status`.

use queue_protocol::health::ready;
use queue_protocol::names::QueueName;
use queue_protocol::wire::response::QueueView;
use serde_json::{Map, Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{CheckClusterArgs, CheckCmd, CheckFormat, CheckNodeArgs, CheckQueueArgs, Limits};
use crate::nodes::cluster::{find, gather};
use crate::queues;
use crate::shell::Shell;
use crate::show::render;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warning,
    Critical,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Critical => "critical",
        }
    }
}

/// A number that was looked at, and its limits.
struct Measure {
    name: &'static str,
    value: u64,
    limits: Option<Limits>,
}

/// What a check found.
struct Found {
    what: &'static str,
    findings: Vec<(State, String)>,
    /// What is said if nothing was found.
    well: String,
    measures: Vec<Measure>,
}

impl Found {
    fn new(what: &'static str) -> Self {
        Self { what, findings: Vec::new(), well: String::new(), measures: Vec::new() }
    }

    fn add(&mut self, state: State, text: impl Into<String>) {
        self.findings.push((state, text.into()));
    }

    fn measure(&mut self, name: &'static str, value: u64, limits: Option<Limits>) {
        self.measures.push(Measure { name, value, limits });
    }

    /// A measure that must not be above its limits; `show` makes a text of it or of a limit.
    fn at_most(
        &mut self,
        name: &'static str,
        value: u64,
        limits: Option<Limits>,
        show: impl Fn(u64, Option<u64>) -> String,
    ) {
        self.measure(name, value, limits);
        let Some(Limits { warning, critical }) = limits else { return };
        let warning = warning.unwrap_or(u64::MAX);
        if value > critical {
            self.add(State::Critical, show(value, Some(critical)));
        } else if value > warning {
            self.add(State::Warning, show(value, Some(warning)));
        }
    }

    fn state(&self) -> State {
        self.findings.iter().map(|(state, _)| *state).max().unwrap_or(State::Ok)
    }

    /// What was found in one line, the worst first.
    fn text(&self) -> String {
        let mut findings: Vec<&(State, String)> = self.findings.iter().collect();
        findings.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        let texts: Vec<&str> = findings.iter().map(|(_, text)| text.as_str()).collect();
        if texts.is_empty() { self.well.clone() } else { texts.join("; ") }
    }

    /// A plugin's line: what is behind the bar is for machines.
    fn nagios(&self) -> String {
        let limit = |measure: &Measure| match measure.limits {
            None => String::new(),
            Some(Limits { warning, critical }) => {
                format!(";{};{critical}", warning.map_or_else(String::new, |warning| warning.to_string()))
            }
        };
        let measures: Vec<String> = self
            .measures
            .iter()
            .map(|measure| format!("{}={}{}", measure.name, measure.value, limit(measure)))
            .collect();
        let text = self.text().replace('|', "/");
        format!("{} - {text} | {}", nagios_head(self.what, self.state()), measures.join(" "))
    }

    fn document(&self) -> Value {
        let finding = |(state, text): &(State, String)| json!({"state": state.name(), "text": text});
        let measures: Map<String, Value> =
            self.measures.iter().map(|measure| (measure.name.to_owned(), measure.value.into())).collect();
        json!({
            "schema": "check/v1",
            "what": self.what,
            "state": self.state().name(),
            "text": self.text(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "measures": measures,
        })
    }

    fn tell(&self, shell: &mut Shell, format: CheckFormat) -> Exit {
        if format == CheckFormat::Nagios {
            shell.out.add(format!("{}\n", self.nagios()).as_bytes());
            return nagios_exit(self.state());
        }
        if shell.settings.json {
            shell.out.document(&self.document());
        } else if self.findings.is_empty() {
            shell.out.add(format!("ok: {}\n", self.well).as_bytes());
        } else {
            for (state, text) in &self.findings {
                shell.out.add(format!("{}: {text}\n", state.name()).as_bytes());
            }
        }
        if self.state() == State::Critical { Exit::No } else { Exit::Done }
    }
}

fn nagios_head(what: &str, state: State) -> String {
    format!("{} {}", what.to_uppercase(), state.name().to_uppercase())
}

/// The exit codes of a plugin: 0 OK, 1 WARNING, 2 CRITICAL.
fn nagios_exit(state: State) -> Exit {
    match state {
        State::Ok => Exit::Done,
        State::Warning => Exit::No,
        State::Critical => Exit::Usage,
    }
}

/// Runs a `check` command.
pub(crate) async fn run(shell: &mut Shell, cmd: CheckCmd) -> Done {
    let (what, format, found) = match cmd {
        CheckCmd::Cluster(args) => ("cluster", args.output.format, cluster(shell, &args).await),
        CheckCmd::Queue(args) => ("queue", args.output.format, queue(shell, &args).await),
        CheckCmd::Node(args) => ("node", args.output.format, node(shell, &args).await),
    };
    match found {
        Ok(found) => Ok(found.tell(shell, format)),
        // A plugin says on standard output what is wrong, and knows no other codes.
        Err(End::Failed(failure)) if format == CheckFormat::Nagios => {
            let line = format!("{} - {}\n", nagios_head(what, State::Critical), failure.message);
            shell.out.add(line.as_bytes());
            Ok(nagios_exit(State::Critical))
        }
        Err(end) => Err(end),
    }
}

async fn cluster(shell: &Shell, args: &CheckClusterArgs) -> Result<Found, End> {
    let nodes = gather(shell).await?;
    let judged = nodes.judge();
    let (have, need, of) = judged.quorum();
    let spare = judged.spare();
    let mut found = Found::new("cluster");
    found.well = judged.verdict();
    if !judged.is_writable() {
        found.add(State::Critical, judged.verdict());
    }
    let leases = judged.refusals.iter().filter(|refusal| refusal.is_of_leases());
    leases.for_each(|refusal| found.add(State::Critical, refusal.what()));
    let troubles = judged.troubles();
    let state = if judged.is_writable() { State::Warning } else { State::Critical };
    let is_told = |text: &String| found.findings.iter().any(|(_, told)| told == text);
    let told: Vec<String> = troubles.into_iter().filter(|text| !is_told(text)).collect();
    told.into_iter().for_each(|text| found.add(state, text));
    if judged.works() && of > 1 && spare == 0 {
        found.add(State::Warning, judged.verdict());
    }
    if let Some(least) = args.voters.filter(|least| (have as u64) < *least) {
        found.add(State::Critical, format!("{have} voters count, fewer than {least}"));
    }
    if let Some(least) = args.spare.filter(|least| (spare as u64) < *least) {
        found.add(State::Critical, format!("writes survive the loss of {spare} voters, not of {least}"));
    }
    for text in nodes.clocks().into_iter().chain(nodes.warnings()) {
        found.add(State::Warning, text);
    }
    let need = Some(Limits { warning: None, critical: need as u64 }).filter(|_| of > 0);
    found.measure("voters", have as u64, need);
    found.measure("spare", spare as u64, None);
    Ok(found)
}

async fn queue(shell: &Shell, args: &CheckQueueArgs) -> Result<Found, End> {
    let view = queue_view(shell, &args.queue).await?;
    let name = &view.name;
    let mut found = Found::new("queue");
    found.well = format!(
        "{name}: {} ready, {} leased, {} delayed, {} dead",
        view.ready, view.leased, view.delayed, view.dead
    );
    if view.full {
        found.add(State::Critical, format!("{name} is full: pushes are refused"));
    }
    if view.blocked {
        found.add(
            State::Critical,
            format!("{name} is blocked: dead messages hold all of its groups that have ready ones"),
        );
    }
    if view.settings.pushes_paused {
        found.add(State::Warning, format!("pushes to {name} are paused"));
    }
    if view.settings.leases_paused {
        found.add(State::Warning, format!("leases of {name} are paused"));
    }
    let count = |what: &'static str| {
        let name = name.clone();
        move |value: u64, limit: Option<u64>| {
            format!("{name}: {value} {what}, more than {}", limit.unwrap_or(0))
        }
    };
    found.at_most("ready", view.ready, args.ready, count("ready"));
    found.at_most("leased", view.leased, args.leased, count("leased"));
    found.measure("delayed", view.delayed, None);
    found.at_most("dead", view.dead, args.dead, count("dead"));
    let oldest_ms = view.oldest_ready_ms.unwrap_or(0);
    found.at_most("oldest_ms", oldest_ms, args.oldest, |value, limit| {
        let (age, limit) = (render::age(value), render::age(limit.unwrap_or(0)));
        format!("{name}: the oldest ready message is {age} old, more than {limit}")
    });
    Ok(found)
}

/// A queue as the leader sees it; that there is no leader is an answer, and it is no.
async fn queue_view(shell: &Shell, name: &QueueName) -> Result<QueueView, End> {
    queues::existing(shell, name).await.map_err(|end| match end {
        End::Failed(failure) if failure.exit == Exit::Retry => {
            let failure = Failure { exit: Exit::No, ..*failure };
            failure.into()
        }
        end => end,
    })
}

async fn node(shell: &Shell, args: &CheckNodeArgs) -> Result<Found, End> {
    let nodes = gather(shell).await?;
    let id = find(&nodes, &args.node)?;
    let node = nodes.iter().find(|node| node.member.as_ref().is_some_and(|member| member.node == id));
    let node = node.expect("it was found there");
    let (name, judged) = (node.name(), nodes.judge());
    let mut found = Found::new("node");
    let status = match &node.status {
        Ok((status, _)) => status,
        Err(why) => {
            found.add(State::Critical, format!("{name} does not answer: {why}"));
            return Ok(found);
        }
    };
    found.well =
        format!("{name} is {}", if status.health.lead.is_some() { "the leader" } else { "a follower" });
    if let Err(why) = ready(status) {
        found.add(State::Critical, format!("{name} is not ready: {why}"));
    }
    let voter = judged.voters.iter().find(|voter| voter.node == id);
    if let Some(why) = voter.and_then(|voter| voter.why_absent()) {
        found.add(State::Critical, why);
    }
    for refusal in status.health.refusals.iter() {
        found.add(State::Warning, refusal.what());
    }
    if let Some(least) = args.disk_free.filter(|least| status.disk_free_bytes < *least) {
        let (free, least) = (render::size(status.disk_free_bytes), render::size(least));
        found.add(State::Critical, format!("{name} has {free} free, less than {least}"));
    }
    if let Some(off) = render::clock_off(status.clock_off_ms) {
        found.add(State::Warning, format!("{name}: {off}"));
    }
    let lag = nodes.commit().saturating_sub(status.applied_index);
    found.at_most("lag", lag, args.lag, |value, limit| {
        format!("{name} is {value} entries behind, more than {}", limit.unwrap_or(0))
    });
    found.measure("disk_free", status.disk_free_bytes, None);
    Ok(found)
}
