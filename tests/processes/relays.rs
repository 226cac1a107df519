//! Somebody between two nodes: passes their proofs on, with a certificate of his own for each side, in the clear, or later. And
//! somebody who says for a node that it speaks no TLS any more.

use std::sync::{Arc, Mutex};

use harness::cluster::Cluster;
use harness::impostor::Impostor;
use harness::program::Running;
use harness::{LIMIT, until};
use queue_broker::mutants::{self, Mutant};
use queue_protocol::client::tls::{Trust, connect, name_of, provider};
use queue_protocol::client::{Dial as _, TcpDial};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::attacks::facts;
use crate::tls::{Certificates, cluster};

/// Between whoever dials it and one node.
struct Relay {
    address: String,
    /// What it was sent by those who dialed, as it could read it.
    read: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    /// Passes everything on; with `tls` it ends TLS on both sides, with a certificate that is valid as any.
    async fn to(target: &str, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let read = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (target, heard) = (target.to_owned(), Arc::clone(&read));
        let acceptor = tls.then(acceptor);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, heard, acceptor) = (target.clone(), Arc::clone(&heard), acceptor.clone());
                tokio::spawn(async move {
                    let far = TcpDial::default().dial(&target).await?;
                    match acceptor {
                        None => pass_on(near, far, &heard).await,
                        Some(acceptor) => {
                            let far =
                                connect(Arc::new(Trust::Anybody.config()?), name_of(&target)?, far).await?;
                            pass_on(acceptor.accept(near).await?, far, &heard).await
                        }
                    }
                });
            }
        });
        Self { address, read }
    }

    /// What was read of the connection that began first.
    fn first(&self) -> Vec<u8> {
        self.read.lock().expect("nobody panicked").first().cloned().unwrap_or_default()
    }
}

fn acceptor() -> TlsAcceptor {
    let key = KeyPair::generate().expect("ring makes keys");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("it is an address");
    let certificate = params.self_signed(&key).expect("ring signs").der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let config = config.expect("ring has it").with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

async fn pass_on(
    near: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
    heard: &Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let at = {
        let mut heard = heard.lock().expect("nobody panicked");
        heard.push(Vec::new());
        heard.len() - 1
    };
    let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
        (tokio::io::split(near), tokio::io::split(far));
    let back = tokio::io::copy(&mut far_read, &mut near_write);
    let there = async {
        let mut bytes = [0; 4 << 10];
        loop {
            let size = near_read.read(&mut bytes).await?;
            if size == 0 {
                return Ok(());
            }
            heard.lock().expect("nobody panicked")[at].extend_from_slice(&bytes[..size]);
            far_write.write_all(&bytes[..size]).await?;
        }
    };
    tokio::select! {
        copied = back => copied.map(drop),
        done = there => done,
    }
}

/// A node that waits to be taken in, with the settings of the cluster.
async fn waiting(cluster: &mut Cluster) -> (usize, Running) {
    let n = cluster.new_node();
    let mut join = cluster.queued("join", n);
    let joining = Running::start(join.arg("--secret-file").arg(cluster.secret_file(0)));
    until("the node listens", LIMIT, async || TcpStream::connect(cluster.address(n)).await.map(drop)).await;
    (n, joining)
}

/// Attack 1: a client has a node taken in through an address of its own, passes the proofs on, and changes what it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_before_a_node_that_waits_is_taken_for_no_node_over_tls_and_for_it_in_the_clear() {
    let certificates = Certificates::new().await;
    let mut secured = cluster(1, &certificates, "require").await;
    let (n2, _joining) = waiting(&mut secured).await;
    let relay = Relay::to(secured.address(n2), true).await;
    let ran = secured.ctl(&["cluster", "add", &relay.address, "--timeout", "20s"]).await.expect(69);
    ran.says("proved another secret");
    assert!(!relay.first().is_empty(), "it has read what was said over its two connections");
    // What it could not end is TLS that goes through it untouched: then it has read nothing.
    let blind = Relay::to(secured.address(n2), false).await;
    secured.ctl(&["cluster", "add", &blind.address, "--learner", "--timeout", "20s"]).await.expect(0);
    let read = blind.first();
    assert!(read.starts_with(&[0x16, 0x03]), "it is TLS");
    assert!(!read.windows(9).any(|part| part == b"127.0.0.1"), "it reads where the leader is");

    // In the clear nothing stops it, as the README says.
    let mut plain = Cluster::start_with(1, &[]).await;
    let (n2, _joining) = waiting(&mut plain).await;
    let relay = Relay::to(plain.address(n2), false).await;
    plain.ctl(&["cluster", "add", &relay.address, "--learner", "--timeout", "20s"]).await.expect(0);
    let read = relay.first();
    assert!(
        read.windows(9).any(|part| part == b"127.0.0.1"),
        "it reads where the leader is, and could change it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_man_in_the_middle_with_two_certificates_gets_no_proof_through_and_no_proof_counts_twice() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "optional").await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    let (n4, _) = cluster.take_in(&["cluster", "add", "--learner"]).await;
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
    cluster.kill(n4);
    let (_, status) = cluster.leader().await;
    let member = Impostor::of(cluster.data_dir(n4), facts(status.term));
    until("the learner is gone", LIMIT, async || {
        let status = cluster.ctl(&["cluster", "status"]).await;
        if status.stdout.contains("UNREACHABLE") { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    for n in 0..3 {
        let between = Relay::to(cluster.address(n), true).await;
        let refused = member.dial_secured(&between.address).await.err().expect("it is between");
        assert!(refused.contains("not_permitted: the cluster's secret was not proved"), "{refused}");
        // Who passes TLS on as it is is no more than a wire.
        let wire = Relay::to(cluster.address(n), false).await;
        let line = member.dial_secured(&wire.address).await;
        assert!(line.is_ok(), "{:?}", line.err());
    }

    // What a member said in the clear, said again: to the same node, and to another one.
    let relay = Relay::to(cluster.address(0), false).await;
    drop(member.dial(&relay.address).await.expect("nothing was changed"));
    let said = relay.first();
    for n in 0..3 {
        let mut again = TcpStream::connect(cluster.address(n)).await.expect("it listens");
        again.write_all(&said).await.expect("it is open");
        let mut answered = Vec::new();
        let read = timeout(LIMIT, again.read_to_end(&mut answered)).await.expect("it ends");
        // It may end with a reset: what was behind the proof was not read.
        let text = String::from_utf8_lossy(&answered);
        assert!(text.contains("the cluster's secret was not proved"), "{read:?}: {text}");
        // Its own words, thrown back at it.
        let mut mirror = TcpStream::connect(cluster.address(n)).await.expect("it listens");
        mirror.write_all(&answered).await.expect("it is open");
        let mut refused = Vec::new();
        let _ = timeout(LIMIT, mirror.read_to_end(&mut refused)).await.expect("it ends");
        assert!(!refused.is_empty(), "a greeting of the other side is refused with a text");
    }
    cluster.ctl(&["push", "jobs", "x"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_spoken_tls_is_not_dialed_in_the_clear_before_it_is_forgotten() {
    let reached = async |env: &[(&str, &str)]| {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let config = dir.path().join("queued.toml");
        let path = config.to_str().expect("it is text").to_owned();
        let write =
            |mode: &str| std::fs::write(&config, format!("[tls]\nmode = \"{mode}\"\n")).expect("ours");
        write("optional");
        let mut cluster = Cluster::start_with(3, &[&[("QUEUED_CONFIG", &*path)], env].concat()).await;
        cluster.transfer(0).await;
        cluster.ctl(&["push", "--create", "q", "x"]).await.expect(0);
        cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
        // Only the next start of n3 reads it: nobody sends a SIGHUP, and its own mode is what it starts with.
        cluster.kill(2);
        write("off");
        cluster.start_node(2);
        until("n3 answers", LIMIT, async || cluster.status(2).await.map(drop)).await;
        write("optional");
        cluster.ctl(&["push", "q", "y"]).await.expect(0);
        let mut is_kept_out = false;
        until("n3 is reached, or refused for what was seen", LIMIT, async || {
            let (leader, third) = (cluster.status(0).await?, cluster.status(2).await?);
            is_kept_out = cluster.log_of(0).contains("is not dialed in the clear");
            let is_reached = third.applied_index >= leader.commit_index;
            if is_kept_out || is_reached { Ok(()) } else { Err(format!("{third:?}")) }
        })
        .await;
        cluster
            .ctl(&["cluster", "tls-forget", "n3", "--timeout", "20s"])
            .await
            .expect(0)
            .prints("in the clear again");
        cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
        !is_kept_out
    };
    assert!(!reached(&[]).await, "it was dialed in the clear");
    let mutant = (mutants::VARIABLE, Mutant::TlsForgotten.name());
    assert!(reached(&[mutant]).await, "the planted bug is noticed");
}
