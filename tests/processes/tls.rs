//! TLS of real nodes: whom they serve, what others are told, certificates that change, and a plain cluster that becomes one
//! with TLS, under load.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use harness::bodies::{drain, sorted};
use harness::cluster::Cluster;
use harness::http::http;
use harness::program::{Ran, queuectl, queued, run};
use harness::{LIMIT, free_port, until};
use queue_protocol::client::tls::pki_types::PrivateKeyDer;
use queue_protocol::client::tls::pki_types::pem::PemObject as _;
use queue_protocol::client::tls::{ALPN, ServerConfig, Trust, certificates, connect, name_of, provider};
use queue_protocol::client::{Dial as _, TcpDial};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::members::{QUEUE, keep_pushing, more_are_accepted};

/// A directory with an authority, and a certificate for `127.0.0.1`.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) async fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("there is a temporary directory"));
        this.cert(&["ca"]).await.expect(0);
        this.cert(&["node", "mq", "--host", "127.0.0.1"]).await.expect(0);
        this
    }

    /// Runs `queued cert` there.
    async fn cert(&self, words: &[&str]) -> Ran {
        run(queued().arg("cert").args(words).current_dir(self.0.path()), b"").await
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_str().expect("it is text").to_owned()
    }

    /// How a server shows the certificate of the nodes.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let chain = certificates(&self.file("mq.crt")).expect("it was made");
        let key = PrivateKeyDer::from_pem_file(self.file("mq.key")).expect("it was made");
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.expect("there are some").with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.expect("they belong together");
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config)
    }

    /// Puts another pair in the place of one, each file at once.
    fn replace(&self, of: &str, by: &str) {
        for kind in ["crt", "key"] {
            std::fs::rename(self.file(&format!("{by}.{kind}")), self.file(&format!("{of}.{kind}")))
                .expect("ours");
        }
    }
}

/// So many nodes with that certificate, in this mode.
pub(crate) async fn cluster(count: usize, certificates: &Certificates, mode: &str) -> Cluster {
    let [ca, cert, key] = ["ca.crt", "mq.crt", "mq.key"].map(|name| certificates.path(name));
    let env = [
        ("QUEUED_TLS_MODE", mode),
        ("QUEUED_TLS_CERT", &*cert),
        ("QUEUED_TLS_KEY", &*key),
        ("QUEUED_TLS_CA", &*ca),
    ];
    Cluster::start_with(count, &env).await
}

/// `queuectl` with these words about TLS, and none in its environment.
async fn ctl(servers: &str, tls: &[&str], words: &[&str]) -> Ran {
    let mut command = queuectl();
    command.env("QUEUECTL_SERVERS", servers).args(tls).args(words);
    run(command.env("QUEUECTL_TIMEOUT", "5s"), b"").await
}

fn hang_up(cluster: &Cluster, n: usize) {
    let pid = i32::try_from(cluster.pid(n)).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::HUP).expect("it runs");
}

async fn says(cluster: &Cluster, n: usize, text: &str, count: usize) {
    until(text, LIMIT, async || {
        let log = cluster.log_of(n);
        if log.matches(text).count() >= count { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_require_tls_serve_those_that_trust_them_and_nobody_in_the_clear() {
    let certificates = Certificates::new().await;
    let other = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.ctl(&["push", "--create", "q", "x"]).await.expect(0);
    let (servers, ca) = (cluster.servers(), certificates.path("ca.crt"));

    let plain = ctl(&servers, &[], &["push", "q", "y"]).await.expect(77);
    plain.says("error[tls_required]: this node speaks TLS only: its tls.mode is require").says("--tls-ca");
    ctl(&servers, &[], &["cluster", "status"]).await.expect(77).says("error[tls_required]");
    let doctor = ctl(&servers, &["--tls-ca", &ca], &["doctor"]).await.expect(0).stdout;
    assert!(doctor.matches("protocol 1, TLS, ").count() == 3 && !doctor.contains("FAIL"), "{doctor}");
    let doctor = ctl(&servers, &[], &["doctor"]).await.expect(1).stdout;
    assert!(doctor.contains("this node speaks TLS only") && doctor.contains("→ add `--tls`"), "{doctor}");
    let doctor = ctl(&servers, &["--tls-ca", &other.path("ca.crt")], &["doctor"]).await.expect(1).stdout;
    assert!(doctor.contains("FAIL") && doctor.contains("was not issued by an authority"), "{doctor}");
    let stranger = ctl(&servers, &["--tls-ca", &other.path("ca.crt")], &["push", "q", "y"]).await.expect(77);
    stranger.says("error[tls]: ").says("its certificate was not issued by an authority that is trusted here");
    let port = cluster.address(0).rsplit_once(':').expect("it has a port").1.to_owned();
    let named =
        ctl(&format!("localhost:{port}"), &["--tls-ca", &ca], &["cluster", "status"]).await.expect(77);
    named.says("its certificate is not for localhost, but for 127.0.0.1");
    ctl(&servers, &["--tls"], &["push", "q", "y"]).await.expect(77).says("was not issued by an authority");
    let shown = certificates.cert(&["show", "mq.crt"]).await.expect(0).stdout;
    let pin = shown.lines().find_map(|line| line.strip_prefix("pin ")).expect("it has one").trim();
    ctl(&servers, &["--tls-pin", pin], &["push", "q", "y"]).await.expect(0);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let wrong = ctl(&servers, &["--tls-pin", &wrong], &["push", "q", "y"]).await.expect(77);
    wrong.says(&format!("its key is {pin}, not sha256:0000"));
    // Nobody there is another thing than nobody to trust.
    let nobody = format!("127.0.0.1:{}", free_port());
    ctl(&nobody, &["--tls-ca", &ca], &["push", "q", "y"]).await.expect(69).says("error[unreachable]");

    let status = cluster.ctl(&["cluster", "status"]).await.expect(0).stdout;
    assert!(status.contains("CERT UNTIL") && status.matches("require").count() == 3, "{status}");
    let (leader, before) = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader_above(before.term).await;
    cluster.ctl(&["push", "q", "z"]).await.expect(0);
    cluster.restart(leader).await;
    let bodies = sorted(&drain(&cluster.client(), "q").await);
    assert_eq!(bodies, ["x", "y", "z"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_tls_says_so_and_nobody_who_wants_tls_goes_on_without_it() {
    let certificates = Certificates::new().await;
    let cluster = Cluster::start_with(1, &[]).await;
    let (servers, ca) = (cluster.servers(), certificates.path("ca.crt"));
    let ran = ctl(&servers, &["--tls-ca", &ca], &["push", "--create", "q", "x"]).await.expect(77);
    ran.says("error[tls_off]: this node speaks no TLS: its tls.mode is off");
    let doctor = ctl(&servers, &["--tls-ca", &ca], &["doctor"]).await.expect(1).stdout;
    assert!(doctor.contains("its tls.mode is off"), "{doctor}");
    ctl(&servers, &["--tls-ca", "/nowhere"], &["queue", "ls"]).await.expect(78).says("/nowhere");
    let queues = ctl(&servers, &[], &["queue", "ls", "--json"]).await.expect(0).stdout;
    assert!(!queues.contains("\"q\""), "{queues}");
}

/// Puts a certificate with these years, signed by a new authority or by itself, in the place of the node's; gives the file of
/// whom clients may trust.
fn issue(certificates: &Certificates, years: [i32; 2], is_self_signed: bool) -> String {
    let failed = "ring makes keys and signs";
    let [authority_key, key] = [(); 2].map(|()| KeyPair::generate().expect(failed));
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("it is an address");
    [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 2));
    let trusted = authority.self_signed(&authority_key).expect(failed).pem();
    let issued = match is_self_signed {
        true => params.self_signed(&key),
        false => params.signed_by(&key, &Issuer::from_params(&authority, &authority_key)),
    };
    for (name, text) in
        [("made.crt", trusted), ("mq.crt", issued.expect(failed).pem()), ("mq.key", key.serialize_pem())]
    {
        std::fs::write(certificates.file(name), text).expect("ours");
    }
    certificates.path("made.crt")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_expired_or_vouches_for_itself_is_told_with_its_reason() {
    let certificates = Certificates::new().await;
    let made = issue(&certificates, [2019, 2020], false);
    // It starts all the same: its peers do not look at the certificate.
    let (cert, key) = (certificates.path("mq.crt"), certificates.path("mq.key"));
    let env = [("QUEUED_TLS_MODE", "optional"), ("QUEUED_TLS_CERT", &*cert), ("QUEUED_TLS_KEY", &*key)];
    let cluster = Cluster::start_with(1, &env).await;
    let servers = cluster.servers();
    let ran = ctl(&servers, &["--tls-ca", &made], &["queue", "ls"]).await.expect(77);
    ran.says("error[tls]: ").says("its certificate has expired: it was valid until 2020-01-02T00:00:00Z");
    let status = ctl(&servers, &[], &["cluster", "status"]).await.expect(0);
    assert!(
        status.stdout.contains("warning: TLS of n1: ") && status.stdout.contains("2020-01-02"),
        "{status}"
    );
    let made = issue(&certificates, [2019, 2099], true);
    hang_up(&cluster, 0);
    says(&cluster, 0, "SIGHUP: tls.mode is optional", 1).await;
    let ran = ctl(&servers, &["--tls-ca", &made], &["queue", "ls"]).await.expect(77);
    ran.says("its certificate is self-signed: no authority vouches for it");
    let early = issue(&certificates, [2090, 2099], false);
    hang_up(&cluster, 0);
    says(&cluster, 0, "cannot be used: the certificate stays", 1).await;
    ctl(&servers, &["--tls-ca", &early], &["queue", "ls"]).await.expect(77).says("self-signed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_others_may_read_and_a_pair_that_does_not_belong_together_start_no_node() {
    let certificates = Certificates::new().await;
    certificates.cert(&["node", "other", "--host", "127.0.0.1"]).await.expect(0);
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let data = home.path().join("n1").to_str().expect("it is text").to_owned();
    let listen = format!("127.0.0.1:{}", free_port());
    run(queued().args(["init", "--data-dir", &data, "--listen", &listen]), b"").await.expect(0);
    let serve = async |words: &[&str]| {
        let mut serve = queued();
        serve.args(["serve", "--data-dir", &data, "--listen", &listen, "--tls-mode", "require"]).args(words);
        run(&mut serve, b"").await
    };
    let (cert, key) = (certificates.path("mq.crt"), certificates.path("mq.key"));
    let other = certificates.path("other.key");
    let ran = serve(&["--tls-cert", &cert, "--tls-key", &other]).await.expect(78);
    ran.says("error[tls]").says("the key is not that of the certificate");
    serve(&["--tls-cert", &cert]).await.expect(78).says("tls.cert needs tls.key");
    serve(&["--tls-cert", &key, "--tls-key", &key]).await.expect(78).says("holds no certificate in PEM");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("ours");
    let ran = serve(&["--tls-cert", &cert, "--tls-key", &key]).await.expect(78);
    ran.says("can be read by other users of this machine (mode 0640)").says(&format!("chmod go= {key}"));
    for file in ["ca.key", "other.key"] {
        let mode = std::fs::metadata(certificates.file(file)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    certificates.cert(&["ca"]).await.expect(78).says("ca.key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_pushes_and_a_bad_one_changes_nothing() {
    let certificates = Certificates::new().await;
    let cluster = cluster(1, &certificates, "require").await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    certificates.cert(&["node", "new", "--host", "127.0.0.1", "--days", "20"]).await.expect(0);
    certificates.replace("mq", "new");
    hang_up(&cluster, 0);
    says(&cluster, 0, "SIGHUP: tls.mode is require", 1).await;
    let shown = certificates.cert(&["show", "mq.crt"]).await.expect(0).stdout;
    let until_day = shown.split(" to ").nth(1).expect("it has an end")[..10].to_owned();
    let status = cluster.ctl(&["cluster", "status"]).await.expect(0).stdout;
    assert!(status.contains(&until_day), "{status}");

    // Looked at without being told, a half-written file and the key of another one change nothing and are told.
    std::fs::write(certificates.file("mq.crt"), "-----BEGIN CERTIFICATE-----\nMII").expect("ours");
    until("the alarm is shown", LIMIT, async || {
        let status = cluster.ctl(&["cluster", "status"]).await.expect(0);
        if status.stdout.contains("warning: TLS of n1: ") { Ok(()) } else { Err(status) }
    })
    .await;
    says(&cluster, 0, "were changed and cannot be used: the certificate stays", 1).await;
    certificates.cert(&["node", "third", "--host", "127.0.0.1"]).await.expect(0);
    std::fs::rename(certificates.file("third.crt"), certificates.file("mq.crt")).expect("ours");
    hang_up(&cluster, 0);
    says(&cluster, 0, "the key is not that of the certificate", 1).await;
    std::fs::rename(certificates.file("third.key"), certificates.file("mq.key")).expect("ours");
    hang_up(&cluster, 0);
    says(&cluster, 0, "SIGHUP: tls.mode is require", 2).await;
    let status = cluster.ctl(&["cluster", "status"]).await.expect(0).stdout;
    assert!(!status.contains("warning: TLS") && !status.contains(&until_day), "{status}");
    more_are_accepted(&accepted).await;
    pushing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_cluster_becomes_one_with_tls_under_pushes_and_loses_nothing() {
    let certificates = Certificates::new().await;
    let config = certificates.file("queued.toml");
    let write = |mode: &str| {
        let text = format!(
            "[tls]\nmode = \"{mode}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            certificates.path("mq.crt"),
            certificates.path("mq.key")
        );
        std::fs::write(&config, text).expect("ours");
    };
    write("off");
    let (path, ca) = (certificates.path("queued.toml"), certificates.path("ca.crt"));
    let cluster = Cluster::start_with(3, &[("QUEUED_CONFIG", &*path), ("QUEUED_TLS_CA", &*ca)]).await;
    let servers = cluster.servers();
    ctl(&servers, &[], &["queue", "create", QUEUE]).await.expect(0);
    // Plain now, and over TLS as soon as it must.
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    for mode in ["optional", "require"] {
        write(mode);
        for n in 0..3 {
            hang_up(&cluster, n);
            says(&cluster, n, &format!("SIGHUP: tls.mode is {mode}"), 1).await;
            more_are_accepted(&accepted).await;
        }
        if mode == "optional" {
            ctl(&servers, &[], &["queue", "ls"]).await.expect(0);
            ctl(&servers, &["--tls-ca", &ca], &["queue", "ls"]).await.expect(0);
        }
    }
    ctl(&servers, &[], &["queue", "ls"]).await.expect(77).says("error[tls_required]");
    more_are_accepted(&accepted).await;
    // Peers too: whoever leads next reaches the others by TLS.
    let (leader, _) = cluster.leader().await;
    cluster.transfer((leader + 1) % 3).await;
    more_are_accepted(&accepted).await;
    pushing.abort();
    let _ended = pushing.await;
    let accepted = sorted(&accepted.lock().expect("nobody panicked").clone());
    let mut stored = sorted(&drain(&cluster.client(), QUEUE).await);
    let count = stored.len();
    stored.dedup();
    assert_eq!(stored.len(), count, "something was stored twice");
    let lost: Vec<&String> = accepted.iter().filter(|body| !stored.contains(body)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_served_over_tls_and_the_gateway_checks_the_leader() {
    let (certificates, stranger) = (Certificates::new().await, Certificates::new().await);
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.serve_http().await;
    cluster.ctl(&["queue", "create", "default"]).await.expect(0);
    let send =
        "POST /send HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    for n in 0..3 {
        let sent = https(cluster.http(n), certificates.file("ca.crt"), send).await.expect("it is trusted");
        assert!(sent.starts_with("HTTP/1.1 201 "), "{sent}");
        let other =
            https(cluster.http(n), stranger.file("ca.crt"), send).await.expect_err("it is not trusted");
        assert!(other.to_string().contains("was not issued by an authority"), "{other}");
        let plain = http(cluster.http(n), "GET", "/livez", &[], "").await;
        assert!(plain.status == 426, "{plain:?}");
    }
    let bodies = sorted(&drain(&cluster.client(), "default").await);
    assert_eq!(bodies.len(), 3, "{bodies:?}");
    let wrong = http(cluster.address(0), "GET", "/", &[], "").await;
    assert!(wrong.status == 400 && wrong.body.contains("https://"), "{wrong:?}");
}

/// What is answered to a request over HTTPS.
async fn https(address: &str, ca: PathBuf, request: &str) -> std::io::Result<String> {
    let mut config = Trust::Authorities(ca).config()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpDial::default().dial(address).await?;
    let mut stream = connect(Arc::new(config), name_of(address)?, stream).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dev_cluster_with_tls_gives_its_command_what_it_needs() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let script = "test -n \"$QUEUECTL_TLS_CA\" && queuectl push a x --create && [ \"$(queuectl pop a)\" = x ] && \
                  ! QUEUECTL_TLS_CA= queuectl queue ls && \
                  for at in $(echo $QUEUE_HTTP | tr , ' '); do echo \"HTTP of a node: $at\" >&2; done";
    let mut command = queued();
    command.args(["dev", "--any-port", "--tls", "--", "sh", "-c", script]);
    command.env("TMPDIR", dir.path()).env_remove("XDG_RUNTIME_DIR");
    let ran = run(&mut command, b"").await.expect(0);
    let ran = ran.says("TLS, no login").says("from elsewhere: queuectl -s 127.0.0.1:").says("--tls-ca ");
    let ran = ran.says("error[tls_required]");
    assert_eq!(ran.stderr.matches("HTTP of a node: 127.0.0.1:").count(), 3, "{}", ran.stderr);
}
