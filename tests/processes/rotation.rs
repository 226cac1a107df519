//! The cluster's secret is rotated: under pushes, with nodes that die at each phase, with one that is away; what was proved
//! with the old one ends, and a removed node is out for good.

use std::path::Path;
use std::time::Duration;

use harness::bodies::{drain, sorted};
use harness::cluster::Cluster;
use harness::dial::{client_over, trusting};
use harness::impostor::Impostor;
use harness::program::run;
use harness::{LIMIT, until};
use queue_broker::mutants::{self, Mutant};
use queue_protocol::wire::peer::{AskSecret, PeerRequest, PeerResponse};
use queue_protocol::wire::request::Request;
use queue_protocol::wire::security::{RotationPhase, SecretView};

use crate::attacks::facts;
use crate::members::{QUEUE, keep_pushing, more_are_accepted};
use crate::tls::{Certificates, cluster};

const PHASES: [RotationPhase; 3] =
    [RotationPhase::Spreading, RotationPhase::Switching, RotationPhase::Dropping];
/// How long a rotation may take that a node was killed in.
const ROTATED_WITHIN: Duration = Duration::from_secs(60);

/// Until these nodes use that generation and nothing of another one counts.
async fn rotated(cluster: &Cluster, nodes: &[usize], generation: u32) -> Vec<SecretView> {
    let mut views = Vec::new();
    for n in nodes {
        until(
            &format!("{} is through with rotation {generation}", cluster.name(*n)),
            ROTATED_WITHIN,
            async || {
                let secret = cluster.status(*n).await?.secret;
                if secret.generation == generation && secret.rotation.is_none() {
                    Ok(())
                } else {
                    Err(format!("{secret:?}"))
                }
            },
        )
        .await;
        views.push(cluster.status(*n).await.expect("it answered").secret);
    }
    assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "{views:?}");
    views
}

fn files(dir: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it is read").file_name());
    let names = names.map(|name| name.into_string().expect("a name of ours"));
    sorted(&names.filter(|name| name.starts_with("SECRET")).collect::<Vec<_>>())
}

fn secret(cluster: &Cluster, n: usize) -> String {
    std::fs::read_to_string(cluster.secret_file(n)).expect("it is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_pushes_gives_every_member_another_secret_and_ends_what_the_old_one_proved() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (n4, _) = cluster.take_in(&["cluster", "add", "--learner"]).await;
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
    cluster.kill(n4);
    let (leader, status) = cluster.leader().await;
    let thief = Impostor::of(cluster.data_dir(n4), facts(status.term));
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;

    let removed = cluster.ctl(&["cluster", "remove", "n4", "--yes"]).await.expect(0);
    removed.says("n4 still has the cluster's secret: queuectl cluster rotate-secret");
    // Of no member it is refused; a node that asks to join needs only the secret.
    let refused = thief.dial_secured(cluster.address(leader)).await.err().expect("it was removed");
    assert!(refused.contains("removed"), "{refused}");
    let mut joining = thief.clone();
    joining.id.node = queue_protocol::wire::hello::JOINING;
    joining.shows = false;
    let mut line = joining.dial_secured(cluster.address(leader)).await.expect("it has the secret");
    assert!(!line.ends(Duration::from_millis(300)).await, "nothing has happened yet");

    let before = secret(&cluster, 0);
    let ran = cluster.ctl(&["cluster", "rotate-secret", "--timeout", "60s"]).await.expect(0);
    ran.prints("the cluster's secret is number 2 now, fingerprint ");
    assert!(line.ends(Duration::from_secs(3)).await, "what was proved with the old secret goes on");
    let refused = joining.dial_secured(cluster.address(leader)).await.err().expect("its secret is old");
    assert!(refused.contains("the cluster's secret was not proved"), "{refused}");
    rotated(&cluster, &[0, 1, 2], 2).await;
    for n in 0..3 {
        assert_ne!(secret(&cluster, n), before);
        assert_eq!(
            (secret(&cluster, n), files(cluster.data_dir(n))),
            (secret(&cluster, 0), vec!["SECRET".to_owned()])
        );
    }
    // A new node comes with the new one alone.
    let n5 = cluster.new_node();
    let mut join = cluster.queued("join", n5);
    join.args(["--at", cluster.address(0), "--secret-file"]).arg(cluster.secret_file(n4));
    run(&mut join, b"").await.expect(77);
    let mut join = cluster.queued("join", n5);
    join.args(["--at", cluster.address(0), "--secret-file"]).arg(cluster.secret_file(0));
    run(&mut join, b"").await.expect(0);
    cluster.start_node(n5);
    cluster.ctl(&["cluster", "wait", "--for", "voters=4", "--timeout", "60s"]).await.expect(0);
    let ran =
        cluster.ctl(&["cluster", "remove", "n5", "--rotate", "--yes", "--timeout", "60s"]).await.expect(0);
    ran.prints("the cluster's secret is number 3 now");
    for n in 0..3 {
        cluster.kill(n);
        cluster.restart(n).await;
    }
    rotated(&cluster, &[0, 1, 2], 3).await;

    more_are_accepted(&accepted).await;
    assert!(!pushing.is_finished(), "a push failed");
    pushing.abort();
    let _ended = pushing.await;
    let accepted = accepted.lock().expect("nobody panicked").clone();
    nothing_is_lost_or_doubled(&cluster, &accepted).await;
}

async fn nothing_is_lost_or_doubled(cluster: &Cluster, accepted: &[String]) {
    let mut stored = sorted(&drain(&cluster.client(), QUEUE).await);
    let count = stored.len();
    stored.dedup();
    assert_eq!(stored.len(), count, "something was stored twice");
    let lost: Vec<&String> = accepted.iter().filter(|body| stored.binary_search(body).is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Begins a rotation, and kills the leader or a follower when it is in that phase; then all come through.
async fn killed_at(
    cluster: &mut Cluster,
    ca: &Path,
    phase: RotationPhase,
    leads: bool,
    generation: u32,
) -> bool {
    let (leader, status) = cluster.leader().await;
    let client = client_over(
        trusting(Some(ca.to_owned())),
        vec![cluster.address(leader).to_owned()],
        Duration::from_secs(5),
    );
    let asking = tokio::spawn(async move {
        // What comes of it the nodes say.
        let _ = client.call(Request::RotateSecret(false), Vec::new()).await;
    });
    let victim = if leads { leader } else { (leader + 1) % 3 };
    let mut was_seen = false;
    until("the rotation has begun", LIMIT, async || {
        let secret = cluster.status(leader).await?.secret;
        was_seen = secret.rotation.as_ref().is_some_and(|rotation| rotation.phase == phase);
        let is_over = secret.generation >= generation && secret.rotation.is_none();
        if was_seen || is_over { Ok(()) } else { Err(format!("{secret:?}")) }
    })
    .await;
    cluster.kill(victim);
    if leads {
        cluster.leader_above(status.term).await;
    }
    cluster.restart(victim).await;
    asking.abort();
    was_seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_goes_on_whoever_is_killed_at_whichever_phase() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    let ca = certificates.file("ca.crt");
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    let (mut generation, mut seen) = (1, 0);
    for leads in [true, false] {
        for phase in PHASES {
            seen += usize::from(killed_at(&mut cluster, &ca, phase, leads, generation + 1).await);
            // One that was only begun by a leader that died at once may have taken no place in the log.
            let reached = through(&cluster).await;
            assert!(reached >= generation, "{reached} after {generation}");
            generation = reached;
            rotated(&cluster, &[0, 1, 2], generation).await;
            more_are_accepted(&accepted).await;
            assert!(!pushing.is_finished(), "a push failed at {phase:?}");
        }
    }
    assert!(seen >= 4, "only {seen} of six were killed in the phase that was meant");
    assert!(generation >= 6, "{generation}");
    pushing.abort();
    let _ended = pushing.await;
    let accepted = accepted.lock().expect("nobody panicked").clone();
    nothing_is_lost_or_doubled(&cluster, &accepted).await;
}

/// Until no rotation is under way; the generation then.
async fn through(cluster: &Cluster) -> u32 {
    let mut generation = 0;
    until("no rotation is under way", ROTATED_WITHIN, async || {
        let (_, status) = cluster.leader().await;
        generation = status.secret.generation;
        if status.secret.rotation.is_none() { Ok(()) } else { Err(format!("{:?}", status.secret)) }
    })
    .await;
    generation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_away_is_waited_for_or_left_out_and_comes_back_with_a_copied_secret() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.transfer(0).await;
    cluster.ctl(&["push", "--create", "q", "x"]).await.expect(0);
    cluster.kill(2);
    until("n3 is missed", LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "rotate-secret", "--timeout", "5s"]).await;
        if ran.stderr.contains("n3 does not answer") { Ok(()) } else { Err(ran.to_string()) }
    })
    .await;
    assert_eq!(cluster.status(0).await.expect("it answers").secret.generation, 1);
    let ran =
        cluster.ctl(&["cluster", "rotate-secret", "--force", "--yes", "--timeout", "60s"]).await.expect(0);
    ran.prints("the cluster's secret is number 2 now").says("n3 was left out: copy the SECRET file");
    rotated(&cluster, &[0, 1], 2).await;
    // With the old one it gets nowhere.
    cluster.start_node(2);
    until("n3 is refused", LIMIT, async || {
        let log = cluster.log_of(2);
        if log.contains("the cluster's secret was not proved") { Ok(()) } else { Err(log) }
    })
    .await;
    let status = cluster.ctl(&["cluster", "status"]).await.stdout;
    assert!(status.contains("n3 has secret number 1, and the cluster is at number 2"), "{status}");
    cluster.kill(2);
    std::fs::copy(cluster.secret_file(0), cluster.secret_file(2)).expect("ours");
    cluster.start_node(2);
    rotated(&cluster, &[0, 1, 2], 2).await;
    // It has the admission key of that generation, too: it takes others in.
    cluster.transfer(2).await;
    cluster.take_in(&["cluster", "add"]).await;
    cluster.ctl(&["cluster", "rotate-secret", "--timeout", "60s"]).await.expect(0);
    rotated(&cluster, &[0, 1, 2, 3], 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_do_not_change_while_two_secrets_count() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.transfer(0).await;
    let rotating = client_over(
        trusting(Some(certificates.file("ca.crt"))),
        vec![cluster.address(0).to_owned()],
        Duration::from_secs(5),
    );
    rotating.call(Request::RotateSecret(false), Vec::new()).await.expect("all answer");
    // It cannot be through with it: that takes more looks than this.
    cluster.kill(2);
    until("the rotation waits for n3, or is over", LIMIT, async || {
        let secret = cluster.status(0).await?.secret;
        let waits = secret.rotation.as_ref().is_none_or(|rotation| rotation.waits_for.len() == 1);
        if waits { Ok(()) } else { Err(format!("{secret:?}")) }
    })
    .await;
    let is_open = |secret: &SecretView| {
        secret.rotation.as_ref().is_some_and(|rotation| rotation.phase != RotationPhase::Dropping)
    };
    if is_open(&cluster.status(0).await.expect("it answers").secret) {
        let ran = cluster.ctl(&["cluster", "remove", "n3", "--yes", "--timeout", "3s"]).await;
        let ran = ran.says("the cluster's secret is being rotated").says("it waits for n3");
        assert_ne!(ran.code, 0);
        let status = cluster.ctl(&["cluster", "status"]).await.stdout;
        assert!(status.contains("waits for n3"), "{status}");
        let ran = cluster.ctl(&["cluster", "rotate-secret", "--force", "--yes", "--timeout", "60s"]).await;
        ran.expect(0);
    }
    cluster.ctl(&["cluster", "remove", "n3", "--yes", "--timeout", "20s"]).await.expect(0);
    rotated(&cluster, &[0, 1], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_go_over_secured_links_to_members_alone() {
    let plain = Cluster::start().await;
    let ran = plain.ctl(&["cluster", "rotate-secret", "--timeout", "5s"]).await.expect(77);
    ran.says("secrets travel over TLS only").says("in the clear").says("Nothing was changed");
    for n in 0..3 {
        assert_eq!(files(plain.data_dir(n)), ["SECRET"]);
    }
    drop(plain);
    // A cluster of one tells nobody.
    let alone = Cluster::start_with(1, &[]).await;
    alone.ctl(&["cluster", "rotate-secret", "--timeout", "20s"]).await.expect(0);
    rotated(&alone, &[0], 2).await;
    drop(alone);

    let asked = async |env: &[(&str, &str)], secured: bool| {
        let mut cluster = Cluster::start_with(2, &[&[("QUEUED_TLS_MODE", "optional")], env].concat()).await;
        cluster.transfer(0).await;
        let (_, status) = cluster.leader().await;
        let thief = Impostor::of(cluster.data_dir(1), facts(status.term));
        cluster.kill(1);
        let admission = thief.admission.verifying_key().to_bytes();
        let ask = PeerRequest::AskSecret(AskSecret { generation: 1, admission });
        let mut line = None;
        until("n2 is missed", LIMIT, async || {
            let address = cluster.address(0);
            let dialed = if secured { thief.dial_secured(address).await } else { thief.dial(address).await };
            line = Some(dialed?);
            Ok::<(), String>(())
        })
        .await;
        line.expect("it was let in").ask(&ask, Vec::new()).await.expect("it is answered")
    };
    let refused = asked(&[], false).await;
    let PeerResponse::Failed(error) = refused else { panic!("it was given: {refused:?}") };
    assert!(error.message.contains("secrets travel over TLS only"), "{error}");
    assert!(matches!(asked(&[], true).await, PeerResponse::Secret(_)), "a member gets what it lacks");
    let mutant = (mutants::VARIABLE, Mutant::SecretOverPlainLink.name());
    assert!(matches!(asked(&[mutant], false).await, PeerResponse::Secret(_)), "the planted bug is noticed");
}
