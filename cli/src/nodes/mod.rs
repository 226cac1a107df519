//! What every node says of itself, put side by side. A node that does not answer is a row too.

pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod logs;
pub(crate) mod members;
pub(crate) mod secret;

pub(crate) mod show;
mod warnings;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::health::{Judgement, judge};
use queue_protocol::names::NodeId;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{MemberView, Role, StatusView};
use tokio::time::{Instant, timeout};

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::WaitFor;
use crate::show::render;

/// How long one node may take; a cluster with a dead machine in it must not look slow.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// One node's answer.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it was asked.
    pub(crate) address: String,
    /// As a member knows it; `None` if no member does.
    pub(crate) member: Option<MemberView>,
    /// What it says, and the round trip; or why it does not.
    pub(crate) status: Result<(Box<StatusView>, Duration), String>,
}

impl Node {
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.status
            .as_ref()
            .ok()
            .map(|(status, _)| status.node)
            .or(self.member.as_ref().map(|member| member.node))
    }

    /// Its name, or its address if nobody knows its name.
    pub(crate) fn name(&self) -> String {
        match (&self.status, &self.member) {
            (Ok((status, _)), _) => status.name.to_string(),
            (Err(_), Some(member)) => member.name.to_string(),
            (Err(_), None) => self.address.clone(),
        }
    }

    fn is_voter(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.voter)
    }
}

/// Every node that is a member or answered, members by number first.
#[derive(Clone, Debug)]
pub(crate) struct Nodes(Vec<Node>);

/// Asks the servers, and then the members they name.
///
/// # Errors
/// `unreachable` with the reason of each if none answers.
pub(crate) async fn gather(client: &Client, servers: &[String], limit: Duration) -> Result<Nodes, Failure> {
    let limit = limit.min(NODE_TIMEOUT);
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let first: Vec<String> =
        servers.iter().filter(|server| asked.insert((*server).clone())).cloned().collect();
    let asked_first = join_all(first.into_iter().map(|address| ask(client, address, limit))).await;
    let (mut nodes, distrusts): (Vec<_>, Vec<_>) = asked_first.into_iter().unzip();
    if nodes.iter().all(|node| node.status.is_err()) {
        if let Some(distrust) = distrusts.into_iter().flatten().next() {
            return Err(distrust);
        }
        let reasons: Vec<String> = nodes
            .iter()
            .map(|node| format!("{} {}", node.address, node.status.as_ref().err().map_or("", String::as_str)))
            .collect();
        let servers = if reasons.len() == 1 { "the server did not answer" } else { "no server answered" };
        let failure =
            Failure::new("unreachable", Exit::Unreachable, format!("{servers}: {}", reasons.join(", ")));
        return Err(
            Failure { retryable: true, ..failure }.hint("is it running? `queued dev` starts a local cluster")
        );
    }
    let members = newest_members(&nodes);
    let more: Vec<String> = members
        .iter()
        .filter(|member| !nodes.iter().any(|node| node.status.is_ok() && node.id() == Some(member.node)))
        .map(|member| member.address.to_string())
        .filter(|address| asked.insert(address.clone()))
        .collect();
    let asked_more = join_all(more.into_iter().map(|address| ask(client, address, limit))).await;
    nodes.extend(asked_more.into_iter().map(|(node, _)| node));
    Ok(arrange(nodes, newest_members))
}

/// Asks a node; if TLS is between this and it, how that is told.
async fn ask(client: &Client, address: String, limit: Duration) -> (Node, Option<Failure>) {
    let (began, mut distrust) = (Instant::now(), None);
    let status = match timeout(limit, client.ask_node(&address, ask::Status)).await {
        Ok(Ok(answered)) => {
            // The first request may have paid for the connection; a ping measures the way alone.
            let whole = began.elapsed();
            let ping = timeout(limit, client.ping(&address)).await.ok().and_then(Result::ok);
            Ok((answered.answer, ping.unwrap_or(whole)))
        }
        Ok(Err(error)) => {
            let why = reason(&address, &error);
            let failure = Failure::of(error, None);
            distrust = (failure.exit == Exit::Denied).then_some(failure);
            Err(why)
        }
        Err(_) => Err(format!("timed out after {}", humantime::format_duration(limit))),
    };
    (Node { address, member: None, status }, distrust)
}

/// Why a node did not answer, without the address that stands beside it.
pub(crate) fn reason(address: &str, error: &ClientError) -> String {
    let text = match error {
        ClientError::Refused(error) | ClientError::Incompatible(error) => error.message.to_string(),
        ClientError::Unavailable { what, .. }
        | ClientError::Unknown { what }
        | ClientError::Untrusted { what } => what.clone(),
    };
    match text.split_once(address) {
        Some((_, rest)) => rest.trim_start_matches([':', ' ']).to_owned(),
        None => text,
    }
}

/// The membership as the node with the newest term and the most applied knows it.
fn newest_members(nodes: &[Node]) -> Vec<MemberView> {
    let newest = nodes.iter().filter_map(|node| node.status.as_ref().ok()).max_by_key(|(status, _)| {
        let leads = status.role == Role::Leader;
        (status.term, leads, status.applied_index)
    });
    newest.map(|(status, _)| status.members.to_vec()).unwrap_or_default()
}

/// One node for each member and for each stranger that answered.
fn arrange(asked: Vec<Node>, newest_members: impl Fn(&[Node]) -> Vec<MemberView>) -> Nodes {
    let mut members = newest_members(&asked);
    members.sort_by_key(|member| member.node);
    let mut nodes: Vec<Node> = members
        .into_iter()
        .map(|member| {
            let own = |node: &&Node| node.status.as_ref().is_ok_and(|(status, _)| status.node == member.node);
            // While a member is replaced at its own address, another one answers there.
            let at = |node: &&Node| node.address == *member.address && node.status.is_err();
            let status =
                asked.iter().find(own).or_else(|| asked.iter().find(at)).map(|node| node.status.clone());
            let status = status.unwrap_or_else(|| Err("another node answers there".to_owned()));
            Node { address: member.address.to_string(), member: Some(member), status }
        })
        .collect();
    let known: Vec<Option<NodeId>> = nodes.iter().map(Node::id).collect();
    nodes.extend(asked.into_iter().filter(|node| node.status.is_ok() && !known.contains(&node.id())));
    let mut seen = BTreeSet::new();
    nodes.retain(|node| node.id().is_none_or(|id| seen.insert(id)));
    Nodes(nodes)
}

impl Nodes {
    /// All rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.iter()
    }

    /// The members, by number.
    pub(crate) fn members(&self) -> Vec<MemberView> {
        self.0.iter().filter_map(|node| node.member.clone()).collect()
    }

    fn answers(&self) -> impl Iterator<Item = &StatusView> {
        self.0.iter().filter_map(|node| node.status.as_ref().ok().map(|(status, _)| &**status))
    }

    /// How the cluster is, as far as those who answered can tell.
    pub(crate) fn judge(&self) -> Judgement {
        judge(&self.answers().collect::<Vec<_>>())
    }

    /// Members that answer here, and all.
    pub(crate) fn reachable(&self) -> (usize, usize) {
        let members = || self.0.iter().filter(|node| node.member.is_some());
        (members().filter(|node| node.status.is_ok()).count(), members().count())
    }

    pub(crate) fn commit(&self) -> u64 {
        self.answers().map(|status| status.commit_index).max().unwrap_or(0)
    }

    /// Whether what `cluster wait` waits for is there.
    pub(crate) fn is(&self, what: WaitFor) -> bool {
        let judged = self.judge();
        let ((voters, ..), (have, of)) = (judged.quorum(), self.reachable());
        let applied = |index| have == of && self.answers().all(|status| status.applied_index >= index);
        judged.works()
            && match what {
                WaitFor::Leader | WaitFor::Quorum => true,
                WaitFor::Writable => judged.is_writable(),
                WaitFor::Voters(count) => voters >= count,
                WaitFor::Members(count) => judged.heard.len() >= count,
                WaitFor::Applied(index) => applied(index.unwrap_or_else(|| self.commit())),
            }
    }

    /// `leader n2, 3 of 3 voters`
    pub(crate) fn summary(&self) -> String {
        let judged = self.judge();
        let (have, _, of) = judged.quorum();
        match &judged.leader {
            Some(leader) if judged.is_writable() => format!("leader {}, {have} of {of} voters", leader.name),
            _ => judged.verdict(),
        }
    }

    /// Why a new member does not vote yet.
    pub(crate) fn behind(&self, member: &MemberView) -> String {
        let name = &*member.name;
        let Some(node) = self.0.iter().find(|node| node.id() == Some(member.node)) else {
            return format!("{name} is no member yet");
        };
        let commit = self.commit();
        let matched = node.member.as_ref().and_then(|member| member.matched_index);
        match (&node.status, matched) {
            (Err(why), _) => format!("{name} does not answer at {}: {why}", node.address),
            (Ok(_), Some(0)) => {
                format!("the leader does not reach {name} at {}; both say why in their logs", node.address)
            }
            (Ok((status, _)), matched) => {
                let has = matched.map_or(status.last_index, |matched| matched.max(status.last_index));
                format!("{name} has {} of {} entries", render::count(has.min(commit)), render::count(commit))
            }
        }
    }

    /// The level the cluster is at: nobody who answers knows of a higher one.
    fn level(&self) -> Option<Level> {
        self.answers().map(|status| status.level).max()
    }

    /// The cluster's feature level, and what could be done about it.
    pub(crate) fn feature_level(&self) -> String {
        let Some(level) = self.level() else { return "feature level unknown".into() };
        let highest = self.answers().map(|status| status.levels.max).min().unwrap_or(level);
        let (have, of) = self.reachable();
        if have == of && highest > level {
            format!("feature level {level}; all nodes speak {highest}: `queuectl cluster upgrade`")
        } else {
            format!("feature level {level}")
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use queue_protocol::error::ErrorCode;
    use queue_protocol::health::{Contact, HealthView, LeadView, Refusal};
    use queue_protocol::names::ClusterId;
    use queue_protocol::wire::bounded::{Bounded, Text};
    use queue_protocol::wire::level::Levels;
    use queue_protocol::wire::response::LeaderView;
    use serde_json::json;

    use super::*;

    fn member(id: u64) -> MemberView {
        MemberView {
            node: NodeId(id),
            name: Text::cut(format!("n{id}")),
            address: Text::cut(format!("10.0.0.{id}:7410")),
            voter: true,
            matched_index: Some(48_211),
        }
    }

    fn contact(node: u64, heard_ms: Option<u64>) -> Contact {
        Contact { node: NodeId(node), heard_ms, behind_ms: Some(0), refused: None, refuses: None }
    }

    /// A leader that hears these, or a follower that does.
    fn health(leads: bool, heard: &[u64]) -> HealthView {
        let lead = LeadView { ready: true, quorum_ms: Some(80), lease_ms: 1_000, commit_behind_ms: 0 };
        let contacts = (1..=3).map(|node| contact(node, heard.contains(&node).then_some(120))).collect();
        let contacts = Bounded::new(contacts).unwrap();
        HealthView { lead: leads.then_some(lead), contacts, ..HealthView::default() }
    }

    fn status(id: u64, role: Role, term: u64, leader: Option<u64>, applied: u64) -> StatusView {
        StatusView {
            cluster: ClusterId(0x7c1e),
            node: NodeId(id),
            name: Text::cut(format!("n{id}")),
            role,
            term,
            leader: leader.map(|id| LeaderView {
                node: NodeId(id),
                name: Text::cut(format!("n{id}")),
                address: Text::cut(format!("10.0.0.{id}:7410")),
                term,
            }),
            last_index: 48_211,
            commit_index: applied,
            applied_index: applied,
            snapshot_index: 0,
            purged_index: 0,
            disk_free_bytes: 86_973_087_744,
            uptime_ms: 273_600_000,
            version: Text::cut("0.4.1"),
            drained: false,
            level: Level(1),
            levels: Levels { min: Level(1), max: Level(u32::try_from(id.min(2)).unwrap()) },
            members: vec![member(1), member(2), member(3)].try_into().unwrap(),
            changing: false,
            clock_off_ms: 0,
            connections_max: 10_000,
            connections_asked: 10_000,
            tls: queue_protocol::wire::security::TlsView::default(),
            secret: queue_protocol::wire::security::SecretView::default(),
            log: queue_protocol::wire::logs::LogView::default(),
            health: health(role == Role::Leader, &[1, 2, 3]),
        }
    }

    fn answered(status: StatusView) -> Node {
        Node {
            address: format!("10.0.0.{}:7410", status.node),
            member: None,
            status: Ok((Box::new(status), Duration::from_micros(310))),
        }
    }

    fn up(id: u64, role: Role, term: u64, leader: Option<u64>, applied: u64) -> Node {
        answered(status(id, role, term, leader, applied))
    }

    fn down(id: u64) -> Node {
        Node {
            address: format!("10.0.0.{id}:7410"),
            member: None,
            status: Err("connect: timed out after 2s".into()),
        }
    }

    pub(crate) fn one_down() -> Nodes {
        let leader = status(1, Role::Leader, 7, Some(1), 48_211);
        let leader = StatusView { health: health(true, &[2]), ..leader };
        let asked = vec![down(3), up(2, Role::Follower, 7, Some(1), 48_200), answered(leader)];
        arrange(asked, newest_members)
    }

    #[test]
    fn the_table_has_a_row_for_the_node_that_does_not_answer() {
        assert_eq!(
            one_down().table(None),
            "NODE  ROLE         CLIENT ADDRESS  TERM  COMMIT  APPLIED  LAG    RTT  DISK FREE  UPTIME  VERSION\n\
             n1    leader       10.0.0.1:7410      7  48,211   48,211    0  0.3ms     81 GiB   3d 4h  0.4.1\n\
             n2    follower     10.0.0.2:7410      7  48,200   48,200   11  0.3ms     81 GiB   3d 4h  0.4.1\n\
             n3    UNREACHABLE  10.0.0.3:7410      ?       ?        ?    ?      -          ?       ?  ?\n"
        );
        assert_eq!(one_down().judge().verdict(), "quorum 2 of 3: works, but one more loss stops writes");
        assert_eq!(one_down().judge().troubles(), ["n3 does not count: the leader has not heard it yet"]);
        assert_eq!(one_down().summary(), "leader n1, 2 of 3 voters");
        assert_eq!(one_down().feature_level(), "feature level 1");
    }

    #[test]
    fn a_refused_node_and_a_leader_that_nobody_follows_are_shown_as_what_they_are() {
        let mut leader = status(1, Role::Leader, 7, Some(1), 48_211);
        let refusal = Refusal {
            code: ErrorCode::StoreRefused,
            message: Text::cut("n2 is refused: its log ends at entry 9. Nothing was changed"),
        };
        let mut contacts = leader.health.contacts.to_vec();
        contacts[1].refused = Some(refusal);
        leader.health.contacts = Bounded::new(contacts).unwrap();
        let asked =
            vec![answered(leader), up(2, Role::Candidate, 7, None, 9), up(3, Role::Follower, 7, Some(1), 9)];
        let nodes = arrange(asked.clone(), newest_members);
        assert!(nodes.table(None).contains("n2    REFUSED "), "{}", nodes.table(None));
        let why = "n2 does not count: it is refused: its log ends at entry 9";
        assert_eq!(nodes.judge().troubles(), [why]);
        let document = nodes.document();
        assert_eq!(document["quorum"], json!({"need": 2, "have": 2, "of": 3}));
        assert_eq!(
            (&document["nodes"][1]["counts"], &document["nodes"][1]["why"]),
            (&json!(false), &json!(why))
        );
        assert_eq!((&document["nodes"][0]["counts"], &document["healthy"]), (&json!(true), &json!(false)));

        let mut silent = status(1, Role::Leader, 7, None, 48_211);
        silent.health.lead.as_mut().unwrap().quorum_ms = Some(4_000);
        let nodes = arrange(vec![answered(silent), asked[1].clone(), down(3)], newest_members);
        assert!(nodes.table(None).contains("n1    no quorum "), "{}", nodes.table(None));
        let document = nodes.document();
        assert_eq!((&document["leader"], &document["writable"]), (&json!(null), &json!(false)));
        assert_eq!(document["quorum"], json!({"need": 2, "have": 0, "of": 3}));
        assert_eq!(nodes.summary(), document["verdict"].as_str().unwrap());
    }

    #[test]
    fn the_document_names_the_node_that_does_not_answer() {
        let document = one_down().document();
        assert_eq!(document["quorum"], json!({"need": 2, "have": 2, "of": 3}));
        assert_eq!((&document["leader"], &document["term"]), (&json!("n1"), &json!("7")));
        assert_eq!((&document["healthy"], &document["writable"]), (&json!(false), &json!(true)));
        let why = "n3 does not count: the leader has not heard it yet";
        let n3 = json!({"id": "n3", "raft_id": "3", "role": "unknown", "voter": true, "reachable": false,
            "counts": false, "why": why, "client": "10.0.0.3:7410", "error": "connect: timed out after 2s"});
        assert_eq!(document["nodes"][2], n3);
        assert!(document.to_string().starts_with(r#"{"schema":"cluster/v1","#));
    }

    #[test]
    fn a_level_that_all_nodes_speak_is_offered() {
        let asked = vec![up(2, Role::Leader, 7, Some(2), 5), up(3, Role::Follower, 7, Some(2), 5)];
        let mut members = vec![member(2), member(3)];
        let offered = arrange(asked.clone(), |_| members.clone()).feature_level();
        assert_eq!(offered, "feature level 1; all nodes speak 2: `queuectl cluster upgrade`");
        members.push(member(4));
        assert_eq!(arrange(asked, |_| members.clone()).feature_level(), "feature level 1");
    }

    #[test]
    fn waiting_looks_at_the_leader_at_whom_it_hears_and_at_what_is_applied() {
        let all = |applied| {
            let asked = vec![
                up(1, Role::Leader, 7, Some(1), 9),
                up(2, Role::Follower, 7, Some(1), applied),
                up(3, Role::Follower, 7, Some(1), 9),
            ];
            arrange(asked, newest_members)
        };
        for what in
            [WaitFor::Leader, WaitFor::Quorum, WaitFor::Writable, WaitFor::Voters(3), WaitFor::Members(3)]
        {
            assert!(all(8).is(what), "{what:?}");
        }
        let (applied, eight) = (WaitFor::Applied(None), WaitFor::Applied(Some(8)));
        assert!(!all(8).is(applied) && all(8).is(eight) && !all(7).is(eight) && all(9).is(applied));
        assert!(one_down().is(WaitFor::Voters(2)) && !one_down().is(WaitFor::Voters(3)));
        assert!(one_down().is(WaitFor::Members(2)) && !one_down().is(WaitFor::Members(3)));
        assert!(!one_down().is(applied));
        let electing =
            vec![up(1, Role::Candidate, 9, None, 5), up(2, Role::Follower, 8, Some(3), 5), down(3)];
        let nodes = arrange(electing, newest_members);
        assert_eq!((nodes.judge().leader, nodes.is(WaitFor::Leader)), (None, false));
    }

    #[test]
    fn why_a_new_member_does_not_vote_is_said() {
        let mut asked =
            vec![up(1, Role::Leader, 7, Some(1), 1_200), up(2, Role::Learner, 7, Some(1), 9), down(3)];
        let matched = |asked: &mut Vec<Node>, index| {
            let Ok((leader, _)) = &mut asked[0].status else { panic!("it answers") };
            let mut members = leader.members.to_vec();
            members[1].matched_index = Some(index);
            leader.members = members.try_into().unwrap();
        };
        let behind = |asked: &[Node], id| arrange(asked.to_vec(), newest_members).behind(&member(id));
        assert_eq!(behind(&asked, 3), "n3 does not answer at 10.0.0.3:7410: connect: timed out after 2s");
        assert_eq!(behind(&asked, 4), "n4 is no member yet");
        matched(&mut asked, 0);
        assert_eq!(
            behind(&asked, 2),
            "the leader does not reach n2 at 10.0.0.2:7410; both say why in their logs"
        );
        matched(&mut asked, 1_100);
        if let Ok((status, _)) = &mut asked[1].status {
            status.last_index = 1_150;
        }
        assert_eq!(behind(&asked, 2), "n2 has 1,150 of 1,200 entries");
    }

    #[test]
    fn a_reason_does_not_repeat_the_address() {
        let error = ClientError::Unavailable {
            what: "none of 1 servers answered: 10.0.0.1:7410: connection refused".into(),
            reached: false,
            leader: None,
        };
        assert_eq!(reason("10.0.0.1:7410", &error), "connection refused");
    }
}
