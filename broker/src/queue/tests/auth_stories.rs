//! Principals, keys and owners, told one thing at a time.

use queue_protocol::error::ErrorCode;
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, Grants, KEYS_MAX, KeyId, Token};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::rights::{Need, Verb};

use super::*;
use crate::queue::{By, Denied, Standing};

/// Who changes all this in these stories: session 1, with the cluster's secret.
const ROOT: u128 = 1;

fn token(byte: u8) -> Token {
    Token::new([byte; 10], [byte; 32])
}

fn grants(texts: &[&str]) -> Grants {
    bounded(texts.iter().map(|text| text.parse().expect("a grant")))
}

fn code(result: Result<Outcome, Refusal>) -> ErrorCode {
    result.expect_err("refused").code
}

struct Story {
    broker: Broker,
    number: u64,
}

impl Story {
    fn new() -> Self {
        Self { broker: Broker::new(), number: 0 }
    }

    /// As a leader would propose it for this key, checked now.
    fn by(&self, key: u8) -> Option<By> {
        let found = self.broker.state.key(KeyId([key; 10]));
        let number = found.map_or_else(|| u64::from(key > 0) << 40, |(number, _)| number);
        Some(By { key: number, version: self.broker.state.auth_version() })
    }

    fn as_checked(&mut self, session: u128, by: Option<By>, op: Op) -> Result<Outcome, Refusal> {
        self.number += 1;
        self.again(session, self.number, by, op).result
    }

    fn again(&mut self, session: u128, number: u64, by: Option<By>, op: Op) -> Reply {
        let stamp = SessionStamp { by, ..self.broker.stamp(session, number, 1) };
        self.broker.entry(vec![Command { session: Some(stamp), op }]).replies.remove(0)
    }

    fn ask(&mut self, session: u128, key: u8, op: Op) -> Result<Outcome, Refusal> {
        let by = self.by(key);
        self.as_checked(session, by, op)
    }

    fn change_by(&mut self, key: u8, change: AuthChange, force: bool) -> Result<Outcome, Refusal> {
        let change = ChangeAuth { change, force, because: Text::default() };
        self.ask(ROOT + u128::from(key), key, Op::ChangeAuth(Box::new(change)))
    }

    fn change(&mut self, change: AuthChange) -> Result<Outcome, Refusal> {
        self.change_by(0, change, false)
    }

    fn add(&mut self, who: &str, key: u8, may: &[&str]) {
        let (name, note) = (Text::cut(who), Text::default());
        self.change(AuthChange::AddPrincipal { name, grants: grants(may), note }).expect("it is new");
        self.add_key(who, key, None, None).expect("it is new");
    }

    fn add_key(
        &mut self,
        who: &str,
        key: u8,
        ttl_ms: Option<u64>,
        others: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let (name, note, token) = (Text::cut(who), Text::default(), token(key));
        let (key, verifier) = (token.id, token.verifier());
        self.change(AuthChange::AddKey { name, key, verifier, ttl_ms, note, others_end_ms: others })
    }

    /// Ann may change this (key 7), Bob works on jobs (8), Cy pushes and manages jobs (9); logins are required.
    fn required() -> Self {
        let mut story = Self::new();
        story.broker.run(push("jobs", 3)).expect("it makes its queue");
        story.add("ann", 7, &["auth"]);
        story.add("bob", 8, &["take:jobs"]);
        story.add("cy", 9, &["push,take,manage:jobs"]);
        story.change_by(7, AuthChange::Require(true), false).expect("ann may");
        story
    }

    fn standing(&self, key: u8) -> Standing {
        self.broker.state.standing(self.by(key).expect("a key").key)
    }
}

#[test]
fn only_who_has_a_key_with_auth_requires_logins_and_the_last_one_is_not_taken_away() {
    let mut story = Story::new();
    let on = || AuthChange::Require(true);
    let change = ChangeAuth { change: on(), force: false, because: Text::default() };
    let nobody = story.as_checked(5, None, Op::ChangeAuth(Box::new(change)));
    assert_eq!(code(nobody), ErrorCode::AuthRequired, "also while logins are not required");
    assert_eq!(code(story.change(on())), ErrorCode::LastAdmin, "the secret alone would lock everybody out");
    story.add("ann", 7, &["auth"]);
    story.add("bob", 8, &["take:jobs"]);
    assert!(story.change_by(7, on(), false).is_ok());
    for change in [
        AuthChange::RevokeKey(token(7).id),
        AuthChange::RemovePrincipal(Text::cut("ann")),
        AuthChange::Disable { name: Text::cut("ann"), disabled: true },
        AuthChange::Revoke { name: Text::cut("ann"), grants: grants(&["auth"]) },
    ] {
        assert_eq!(code(story.change_by(7, change, false)), ErrorCode::LastAdmin);
    }
    assert!(story.change_by(7, AuthChange::RevokeKey(token(7).id), true).is_ok(), "by force");
    assert_eq!(story.standing(7), Standing::Unknown);
    // The secret is the way back in.
    assert!(story.add_key("ann", 6, None, None).is_ok());
    assert!(story.change(AuthChange::Require(false)).is_ok());
}

#[test]
fn from_the_entry_of_a_revocation_on_nothing_of_the_key_has_effect() {
    let mut story = Story::required();
    let before = story.by(8);
    assert_eq!(delivered(story.as_checked(80, before, lease("jobs", 1))).len(), 1);
    story.change_by(7, AuthChange::RevokeKey(token(8).id), false).expect("ann may");
    assert_eq!(code(story.as_checked(80, before, lease("jobs", 1))), ErrorCode::KeyEnded);

    // Less than before: what was checked earlier is checked again.
    let before = story.by(9);
    let less = AuthChange::Revoke { name: Text::cut("cy"), grants: grants(&["push:jobs"]) };
    story.change_by(7, less, false).expect("ann may");
    assert_eq!(code(story.as_checked(90, before, push("jobs", 1))), ErrorCode::AuthChanged);
    let now = story.by(9).expect("it is there");
    let need = |verb| [Need::Queue(verb, name("jobs"))];
    assert!(story.broker.state.permit(Some(now.key), &need(Verb::Take)).is_ok());
    let missing = story.broker.state.permit(Some(now.key), &need(Verb::Push)).expect_err("taken away");
    assert!(matches!(missing, Denied::Missing { verb: Verb::Push, .. }));
    assert_eq!(story.broker.count("jobs"), [2, 1, 0, 0], "nothing of it was done");

    // What others changed holds nobody up.
    let before = story.by(9);
    story.add_key("bob", 6, None, None).expect("it is new");
    assert!(story.as_checked(90, before, lease("jobs", 1)).is_ok());
}

#[test]
fn a_key_ends_by_the_replicated_clock_and_rotation_lets_the_others_end() {
    let mut story = Story::required();
    story.add_key("bob", 5, Some(10_000), None).expect("it is new");
    let before = story.by(5);
    assert!(story.as_checked(50, before, lease("jobs", 1)).is_ok());
    story.broker.pass_wall(10_000);
    assert_eq!(story.standing(5), Standing::Ended);
    assert_eq!(code(story.as_checked(50, before, lease("jobs", 1))), ErrorCode::KeyEnded);
    assert!(story.broker.state.has_key_ended_since(story.broker.state.wall_ms() - 1));
    // It is a comparison and not an event: a clock that is set back brings the key back.
    let to_ms = story.broker.state.wall_ms() - 5_000;
    let from_ms = story.broker.state.wall_ms();
    story.broker.wall_ms = to_ms;
    story.broker.run(Op::SetWall { from_ms, to_ms }).expect("it is where it was");
    assert!(matches!(story.standing(5), Standing::Live(_)));

    story.add_key("bob", 4, None, Some(60_000)).expect("it is new");
    assert!(matches!(story.standing(8), Standing::Live(_)), "the overlap");
    story.broker.pass_wall(60_000);
    assert_eq!(story.standing(8), Standing::Ended);
    assert!(matches!(story.standing(4), Standing::Live(_)));
}

#[test]
fn a_session_belongs_to_who_opened_it_also_for_its_recorded_answers() {
    let mut story = Story::required();
    let bob = story.by(8);
    let got = story.again(80, 1, bob, lease("jobs", 1));
    let stranger = story.by(9);
    let stolen = story.again(80, 1, stranger, lease("jobs", 1));
    assert_eq!(code(stolen.result), ErrorCode::Denied, "not even what was answered before");
    assert_eq!(code(story.again(80, 2, stranger, Op::CloseSession).result), ErrorCode::Denied);
    assert_eq!(code(story.again(80, 2, None, lease("jobs", 1)).result), ErrorCode::AuthRequired);
    let again = story.again(80, 1, bob, lease("jobs", 1));
    assert!(again.repeated && again.result == got.result, "the refusals were not recorded");
}

#[test]
fn a_lease_is_settled_by_its_owner_or_by_who_manages_the_queue() {
    let mut story = Story::required();
    story.add("dee", 3, &["take:jobs"]);
    let grants = delivered(story.ask(80, 8, lease("jobs", 3)));
    let ack = |at: usize| Op::Ack(receipts("jobs", &grants[at..=at]));
    assert_eq!(code(story.ask(30, 3, ack(0))), ErrorCode::Denied);
    let txn = super::super::command::Txn { conditions: bounded([]), steps: bounded([]) };
    let steps = bounded([super::super::command::Step::Ack(receipts("jobs", &grants[..1]))]);
    let txn = Op::Txn(Box::new(super::super::command::Txn { steps, ..txn }));
    assert_eq!(code(story.ask(30, 3, txn)), ErrorCode::Denied);
    assert_eq!(story.broker.count("jobs"), [0, 3, 0, 0]);
    assert_eq!(settled(story.ask(90, 9, ack(0))), [Settled::Ok], "cy manages jobs");
    assert_eq!(settled(story.ask(81, 8, ack(1))), [Settled::Ok], "another session of its own");
    story.add_key("bob", 2, None, None).expect("it is new");
    assert_eq!(settled(story.ask(82, 2, ack(2))), [Settled::Ok], "another key of its own");
}

#[test]
fn when_logins_begin_to_be_required_sessions_of_nobody_end_and_their_leases_are_for_all_who_take() {
    let mut story = Story::new();
    story.broker.run(push("jobs", 2)).expect("it makes its queue");
    let early = delivered(story.as_checked(60, None, lease("jobs", 1)));
    story.add("ann", 7, &["auth"]);
    story.add("bob", 8, &["take:jobs"]);
    let before = story.by(8);
    story.change_by(7, AuthChange::Require(true), false).expect("ann may");
    assert_eq!(story.broker.state.session_index(SessionId(60)), None, "it was closed");
    assert_eq!(code(story.as_checked(60, None, lease("jobs", 1))), ErrorCode::AuthRequired);
    assert_eq!(code(story.as_checked(80, before, lease("jobs", 1))), ErrorCode::AuthChanged, "not checked");
    let settles = story.ask(80, 8, Op::Ack(receipts("jobs", &early)));
    assert_eq!(settled(settles), [Settled::Ok]);
}

#[test]
fn numbers_are_never_given_again_and_limits_hold() {
    let mut story = Story::new();
    story.add("ann", 7, &["auth"]);
    let first = story.by(7).expect("it is there").key;
    let Standing::Live(ann) = story.standing(7) else { panic!("it was just made") };
    story.change_by(7, AuthChange::RemovePrincipal(Text::cut("ann")), true).expect("by force");
    story.add("ann", 7, &["auth"]);
    assert!(story.by(7).expect("it is there").key > first);
    assert!(matches!(story.standing(7), Standing::Live(again) if again > ann));
    assert_eq!(code(story.add_key("ann", 7, None, None)), ErrorCode::BadRequest, "its id is taken");
    assert_eq!(code(story.add_key("zed", 9, None, None)), ErrorCode::PrincipalNotFound);
    let again =
        AuthChange::AddPrincipal { name: Text::cut("ann"), grants: grants(&[]), note: Text::default() };
    assert_eq!(code(story.change(again)), ErrorCode::PrincipalExists);
    assert_eq!(code(story.change(AuthChange::RevokeKey(token(99).id))), ErrorCode::KeyNotFound);
    for key in 10..10 + u8::try_from(KEYS_MAX).expect("few") - 1 {
        story.add_key("ann", key, Some(1_000), None).expect("there is room");
    }
    assert_eq!(code(story.add_key("ann", 99, None, None)), ErrorCode::AuthLimit);
    story.broker.pass_wall(1_000);
    assert!(story.add_key("ann", 99, None, None).is_ok(), "those that have ended give way");
}

#[test]
fn a_name_that_may_not_be_seen_is_not_proposed() {
    let mut story = Story::required();
    story.broker.run(push("jobz", 1)).expect("it makes its queue");
    let similar = |result: Result<Outcome, Refusal>| result.expect_err("no such queue").similar;
    assert_eq!(similar(story.ask(80, 8, lease("jobx", 1))), None, "bob may look at nothing");
    let more = AuthChange::Grant { name: Text::cut("bob"), grants: grants(&["look:jobz"]) };
    story.change_by(7, more, false).expect("ann may");
    assert!(similar(story.ask(80, 8, lease("jobz1", 1))).is_some());
}
