//! Principals, keys and logins.

use queue_protocol::names::Key;
use queue_protocol::wire::audit::{Actor, Audit, AuditList, AuditRecord};
use queue_protocol::wire::auth::{
    AuthChange, Can, CanView, ChangeAuth, KeyId, KeyView, LoginTranscript, PrincipalList, PrincipalView,
    Principals, Token, WhoamiView,
};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::frame::Frame;
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::request::{Consistency, Request};
use queue_protocol::wire::requests::Answer;
use queue_protocol::wire::rights::{Grant, Verb};

use super::{list, queue, text};

/// The token `qk1_…` of these vectors: the key `0123456789`, and a secret of 32 sevens.
pub(super) fn token() -> Token {
    Token::new(*b"0123456789", [7; 32])
}

fn grants() -> Vec<Grant> {
    ["push,take:jobs*", "cluster,auth"].map(|grant| grant.parse().expect("a grant")).into()
}

/// The steps of a login over these frames, on a connection without TLS.
pub(super) fn steps(hello: &HelloMessage, accepted: &HelloMessage) -> [HelloMessage; 2] {
    let login = LoginTranscript::new(&Frame::of(0, hello), &Frame::of(0, accepted), &[0; 32]);
    let proven = token().prove(&login);
    let shown = token().verifier().check(&login, &proven.proof).expect("it has the key");
    assert!(token().knows(&login, &shown));
    [HelloMessage::Login(Box::new(proven)), HelloMessage::LoggedIn(shown)]
}

pub(super) fn requests() -> Vec<(&'static str, Request)> {
    let (name, key) = (text("ann"), token().id);
    let change =
        |change| Request::ChangeAuth(Box::new(ChangeAuth { change, force: false, because: text("asked") }));
    let add_key = AuthChange::AddKey {
        name: text("ann"),
        key,
        verifier: token().verifier(),
        ttl_ms: Some(7_776_000_000),
        note: text("laptop"),
        others_end_ms: Some(604_800_000),
    };
    vec![
        ("", Request::Whoami),
        ("", Request::Can(Can { name: Some(text("ann")), verb: Verb::Push, queue: Some(queue()) })),
        ("", Request::Principals(Principals { only: None, after: Some(text("ann")) })),
        ("/require", change(AuthChange::Require(true))),
        (
            "/add_principal",
            change(AuthChange::AddPrincipal { name, grants: list(grants()), note: text("billing") }),
        ),
        ("/remove_principal", change(AuthChange::RemovePrincipal(text("ann")))),
        ("/grant", change(AuthChange::Grant { name: text("ann"), grants: list(grants()) })),
        ("/revoke", change(AuthChange::Revoke { name: text("ann"), grants: list(grants()) })),
        ("/disable", change(AuthChange::Disable { name: text("ann"), disabled: true })),
        ("/add_key", change(add_key)),
        ("/revoke_key", change(AuthChange::RevokeKey(key))),
        ("", Request::Audit(audit())),
    ]
}

pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    let key = KeyView {
        id: token().id,
        made_ms: 1_800_000_000_000,
        ends_ms: Some(1_807_776_000_000),
        used_ms: None,
        note: text("laptop"),
    };
    let who = PrincipalView {
        name: text("ann"),
        number: 3,
        note: text("billing"),
        disabled: false,
        grants: list(grants()),
        keys: list(vec![key]),
    };
    let all = PrincipalList { required: true, version: 9, count: 1, admins: 1, principals: list(vec![who]) };
    let whoami = WhoamiView {
        required: true,
        principal: Some(text("ann")),
        key: Some(token().id),
        ends_ms: None,
        grants: list(grants()),
    };
    let root = WhoamiView {
        required: false,
        principal: None,
        key: Some(KeyId::SECRET),
        ends_ms: None,
        grants: list(Vec::new()),
    };
    let can = CanView { name: Text::cut("ann"), by: grants().pop(), allowed: true };
    vec![
        ("", Answer::Whoami(Box::new(whoami))),
        ("/secret", Answer::Whoami(Box::new(root))),
        ("", Answer::Can(can)),
        ("", Answer::Principals(Box::new(all))),
        ("", Answer::AuthChanged(10)),
        ("", Answer::Audited(Box::new(audited()))),
    ]
}

fn audit() -> Audit {
    let consistency = Consistency::Linearizable;
    Audit { after: 3, since_ms: 1_800_000_000_000, by: Some(text("ann")), queue: Some(queue()), consistency }
}

/// The first two records of a journal: what the nodes did, and what somebody did.
fn audited() -> AuditList {
    let founded = AuditRecord {
        number: 1,
        index: 2,
        at_ms: 1_800_000_000_000,
        actor: Actor::Nodes,
        source: None,
        act: text("found_cluster"),
        queue: None,
        subject: None,
        detail: text(""),
        because: text(""),
        hash: [0; 32],
    };
    let founded = AuditRecord { hash: founded.hash_behind(&[0; 32]), ..founded };
    let source = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
    let subject: Key = "eu".parse().expect("a key");
    let weighed = AuditRecord {
        number: 2,
        index: 9,
        at_ms: 1_800_000_000_001,
        actor: Actor::Principal { name: text("ann"), key: token().id },
        source: Some(source),
        act: text("weigh_group"),
        queue: Some(queue()),
        subject: Some(subject),
        detail: text("weight 3"),
        because: text("asked"),
        hash: [0; 32],
    };
    let weighed = AuditRecord { hash: weighed.hash_behind(&founded.hash), ..weighed };
    AuditList { records: list(vec![founded, weighed]), upto: 2, last: 2, first: 1, before: [0; 32], cut: 0 }
}
