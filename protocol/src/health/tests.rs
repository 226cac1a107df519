//! The judgement, case by case.

use super::*;
use crate::names::ClusterId;
use crate::wire::level::{Level, Levels};
use crate::wire::response::{LeaderView, MemberView, Role};

const TERM: u64 = 7;

fn name(node: u64) -> String {
    format!("n{node}")
}

fn leader_view(node: u64, term: u64) -> LeaderView {
    LeaderView { node: NodeId(node), name: Text::cut(name(node)), address: Text::cut("a:1"), term }
}

fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal { code, message: Text::cut(message) }
}

/// What node `node` of `of` says: in a term, following a leader, hearing all the others.
fn said(node: u64, of: u64, leader: Option<u64>) -> StatusView {
    let member = |node| MemberView {
        node: NodeId(node),
        name: Text::cut(name(node)),
        address: Text::cut("a:1"),
        voter: true,
        matched_index: Some(500),
    };
    let contact = |node| Contact {
        node: NodeId(node),
        heard_ms: Some(90),
        behind_ms: Some(0),
        refused: None,
        refuses: None,
    };
    let leads = leader == Some(node);
    let lead = LeadView { ready: true, quorum_ms: Some(90), lease_ms: 1_000, commit_behind_ms: 0 };
    let contacts = (1..=of).filter(|other| *other != node).map(contact).collect();
    StatusView {
        cluster: ClusterId(1),
        node: NodeId(node),
        name: Text::cut(name(node)),
        role: if leads { Role::Leader } else { Role::Follower },
        term: TERM,
        leader: leader.map(|leader| leader_view(leader, TERM)),
        last_index: 500,
        commit_index: 500,
        applied_index: 500,
        snapshot_index: 0,
        purged_index: 0,
        disk_free_bytes: 0,
        uptime_ms: 0,
        version: Text::cut("0"),
        drained: false,
        level: Level::FIRST,
        levels: Levels::OURS,
        members: Bounded::new((1..=of).map(member).collect()).unwrap(),
        changing: false,
        clock_off_ms: 0,
        connections_max: 1,
        connections_asked: 1,
        tls: crate::wire::security::TlsView::default(),
        secret: crate::wire::security::SecretView::default(),
        log: crate::wire::logs::LogView::default(),
        health: HealthView {
            lead: leads.then_some(lead),
            contacts: Bounded::new(contacts).unwrap(),
            ..HealthView::default()
        },
    }
}

/// All of `of` nodes, led by the first.
fn all(of: u64) -> Vec<StatusView> {
    (1..=of).map(|node| said(node, of, Some(1))).collect()
}

fn of(said: &[StatusView]) -> Judgement {
    judge(&said.iter().collect::<Vec<_>>())
}

/// Changes what one says of its way to another.
fn about(status: &mut StatusView, node: u64, change: impl FnOnce(&mut Contact)) {
    let mut contacts = status.health.contacts.to_vec();
    change(contacts.iter_mut().find(|contact| contact.node == NodeId(node)).expect("a member"));
    status.health.contacts = Bounded::new(contacts).unwrap();
}

fn without(judged: &Judgement, node: u64) -> Result<String, String> {
    judged.without(NodeId(node), &name(node))
}

#[test]
fn a_whole_cluster_survives_the_loss_of_as_many_as_a_majority_can_spare() {
    for (nodes, words) in [
        (1, "quorum 1 of 1: works, without any spare"),
        (2, "quorum 2 of 2: works, but one more loss stops writes"),
        (3, "quorum 3 of 3: works, and survives the loss of one"),
        (5, "quorum 5 of 5: works, and survives the loss of 2"),
        (64, "quorum 64 of 64: works, and survives the loss of 31"),
    ] {
        let judged = of(&all(nodes));
        assert_eq!(judged.verdict(), words);
        assert!(judged.is_writable() && judged.troubles().is_empty(), "{nodes}");
    }
    assert_eq!(without(&of(&all(3)), 3), Ok("stopping n3 leaves 2 of 3".into()));
    assert_eq!(without(&of(&all(3)), 1), Ok("stopping n1 leaves 2 of 3".into()));
}

#[test]
fn who_answers_counts_for_nothing_without_a_leader_that_a_majority_follows() {
    // All three answer, and none reaches another.
    let mut apart: Vec<StatusView> = (1..=3).map(|node| said(node, 3, None)).collect();
    let words =
        "no quorum as seen from n1, n2 and n3: no node leads with 2 of 3 voters; nothing can be written";
    assert_eq!(of(&apart).verdict(), words);
    // One leads still, and nobody has followed it for longer than its lease.
    apart[0] = StatusView { leader: None, ..said(1, 3, Some(1)) };
    apart[0].health.lead.as_mut().unwrap().quorum_ms = Some(1_001);
    let judged = of(&apart);
    assert_eq!((judged.verdict().as_str(), judged.leader.clone(), judged.quorum()), (words, None, (0, 2, 3)));
    assert!(!judged.works() && without(&judged, 2).is_err() && judged.heard.is_empty());
    apart[0].health.lead.as_mut().unwrap().quorum_ms = None;
    assert!(!of(&apart).works());
    assert_eq!(of(&[]).verdict(), "no node answers");
}

#[test]
fn the_leader_of_the_highest_term_that_a_majority_follows_is_believed() {
    let mut both = all(3);
    both[1] = StatusView { term: 9, leader: Some(leader_view(2, 9)), ..said(2, 3, Some(2)) };
    assert_eq!(of(&both).leader, Some(leader_view(2, 9)));
    both[1].health.lead.as_mut().unwrap().quorum_ms = Some(9_000);
    assert_eq!(of(&both).leader, Some(leader_view(1, TERM)), "a term alone makes no leader");
}

#[test]
fn a_leader_that_only_others_hear_is_named_and_nothing_works_from_here() {
    let judged = of(&all(3)[1..]);
    assert_eq!(judged.verdict(), "the leader n1 at a:1 does not answer here, though n2 and n3 hear it");
    assert!(!judged.works() && judged.leader.is_none());
}

#[test]
fn voters_that_are_silent_refused_or_behind_do_not_count_and_the_reason_is_told() {
    type Change = fn(&mut Contact);
    let cases: [(Change, &str); 6] = [
        (|contact| contact.heard_ms = Some(12_340), "the leader has not heard it for 12.3 s"),
        (|contact| contact.heard_ms = None, "the leader has not heard it yet"),
        (
            |contact| {
                contact.refused =
                    Some(refusal(ErrorCode::StoreRefused, "n3 is refused: its log ends at entry 9. End it"));
            },
            "it is refused: its log ends at entry 9",
        ),
        (
            |contact| {
                contact.refuses = Some(refusal(ErrorCode::DiskReserve, "the disk of n3 is full. Free space"));
            },
            "it does not let the leader in: the disk of n3 is full",
        ),
        (|contact| contact.behind_ms = Some(BEHIND_MS_MAX + 1), "it is 3.0 s or 0 entries behind"),
        (|contact| contact.behind_ms = None, "it is 0 entries behind"),
    ];
    for (change, why) in cases {
        let mut said = all(3);
        about(&mut said[0], 3, change);
        let judged = of(&said);
        assert_eq!(judged.verdict(), "quorum 2 of 3: works, but one more loss stops writes");
        let why = format!("n3 does not count: {why}");
        assert_eq!(judged.troubles(), [&*why]);
        assert_eq!(without(&judged, 2), Err(format!("{why}, stopping n2 leaves 1 of 3")));
        assert_eq!(without(&judged, 3), Ok("stopping n3 leaves 2 of 3".into()), "it does not count anyway");
    }
    let mut said = all(3);
    let mut members = said[0].members.to_vec();
    members[2].matched_index = Some(0);
    said[0].members = Bounded::new(members).unwrap();
    assert_eq!(of(&said).quorum(), (3, 2, 3), "few entries are soon made up for");
    said[0].last_index = BEHIND_ENTRIES_MAX + 1;
    assert_eq!(of(&said).troubles(), ["n3 does not count: it is 0.0 s or 1001 entries behind"]);
}

#[test]
fn the_loss_of_the_leader_is_survived_only_by_voters_that_hear_each_other() {
    let mut said = all(3);
    about(&mut said[1], 3, |contact| contact.heard_ms = Some(PONG_MS_MAX + 1));
    assert_eq!(of(&said).spare(), 1, "n3 hears n2");
    about(&mut said[2], 2, |contact| contact.refuses = Some(refusal(ErrorCode::StoreRefused, "no")));
    let judged = of(&said);
    assert_eq!(judged.verdict(), "quorum 3 of 3: works, but one more loss stops writes");
    assert!(
        judged.troubles()[0].starts_with("without n1 the others could not go on"),
        "{:?}",
        judged.troubles()
    );
    assert!(without(&judged, 1).unwrap_err().ends_with("stopping n1 leaves 2 of 3"));
    assert!(without(&judged, 2).is_ok() && without(&judged, 3).is_ok());
    // Of five, two may be lost only if any three of the others could go on.
    let mut said = all(5);
    for (one, other) in [(2, 3), (3, 2), (3, 4), (4, 3), (2, 4), (4, 2)] {
        about(&mut said[one - 1], other as u64, |contact| contact.heard_ms = None);
    }
    let judged = of(&said);
    assert_eq!((judged.spare(), judged.needed()), (1, None));
    assert!(judged.is_writable());
}

#[test]
fn nothing_survives_a_loss_while_the_members_change() {
    let mut said = all(3);
    said[0].changing = true;
    let judged = of(&said);
    let words = "quorum 3 of 3: works, but no node may be lost while the members are being changed";
    assert_eq!((judged.verdict().as_str(), judged.spare()), (words, 0));
    assert!(without(&judged, 3).unwrap_err().starts_with("the members are being changed"));
}

#[test]
fn what_refuses_pushes_is_named_and_what_refuses_leases_alone_leaves_pushes() {
    let mut said = all(3);
    let low = refusal(
        ErrorCode::DiskReserve,
        "n1 refuses pushes: the disk of n2 has 3.0 MiB free. Nothing was stored",
    );
    said[0].health.refusals = Bounded::new(vec![low]).unwrap();
    said[0].health.paused_count = 2;
    let judged = of(&said);
    let words = "quorum 3 of 3: pushes are refused, all else works, and survives the loss of one";
    assert_eq!(judged.verdict(), words);
    assert_eq!(judged.troubles(), ["n1 refuses pushes: the disk of n2 has 3.0 MiB free"]);
    assert_eq!(judged.remarks(), ["pushes to 2 queues are paused"]);
    assert!(judged.works() && !judged.is_writable());
    let differ = refusal(ErrorCode::StatesDiffer, "nodes have different states. Nothing was changed");
    said[0].health.refusals = Bounded::new(vec![differ]).unwrap();
    let judged = of(&said);
    assert!(judged.is_writable());
    assert_eq!(judged.troubles(), ["nodes have different states"]);
    assert!(judged.verdict().starts_with("quorum 3 of 3: pushes work, nothing is leased, "));
}

#[test]
fn a_leader_that_does_not_commit_does_not_work() {
    let mut said = all(3);
    said[0].health.lead.as_mut().unwrap().commit_behind_ms = BEHIND_MS_MAX + 1;
    assert_eq!(of(&said).verdict(), "quorum 3 of 3: nothing was committed for 3.0 s, a disk may hang");
    said[0].health.lead.as_mut().unwrap().ready = false;
    assert_eq!(of(&said).writes, Writes::NotYet);
    assert!(!of(&said).works());
}

#[test]
fn a_node_is_ready_whatever_refuses_pushes_and_not_if_it_hears_no_leader_is_drained_or_refused() {
    let mut follower = said(2, 3, Some(1));
    assert_eq!(ready(&follower), Ok(()));
    follower.health.refusals = Bounded::new(vec![refusal(ErrorCode::DiskReserve, "its disk")]).unwrap();
    about(&mut follower, 3, |contact| {
        contact.refuses = Some(refusal(ErrorCode::DiskReserve, "the disk of n3 is full"));
    });
    assert_eq!(ready(&follower), Ok(()));
    about(&mut follower, 3, |contact| {
        contact.refuses = Some(refusal(ErrorCode::StoreRefused, "n2 is refused"));
    });
    assert_eq!(ready(&follower), Err("n3 does not let it in: n2 is refused".into()));
    assert_eq!(ready(&said(2, 3, None)), Err("it hears no leader".into()));
    assert!(ready(&StatusView { drained: true, ..said(2, 3, Some(1)) }).is_err());
    let mut leader = said(1, 3, Some(1));
    assert_eq!(ready(&leader), Ok(()));
    leader.health.lead.as_mut().unwrap().quorum_ms = Some(5_000);
    assert!(ready(&leader).unwrap_err().contains("no majority"));
}
