//! TLS between two ends of a pipe: whom a dialer trusts and why not, what both ends know of their channel, and that nobody
//! falls back to plain.
#![cfg(feature = "tls")]

use std::path::Path;
use std::sync::Arc;

use queue_protocol::client::tls::{
    ALPN, Pin, PlainRefusal, Trust, Untrusted, accept, connect, name_of, pki_types, provider,
};
use queue_protocol::client::{PLAIN_CHANNEL, Stream};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::io::Outbox;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Who signs, and the file that clients are given.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("ring makes keys");
        let pem = params.self_signed(&key).expect("it is one").pem();
        Self { params, key, pem }
    }

    fn trusted(&self, dir: &Path) -> Trust {
        let file = dir.join("ca.crt");
        std::fs::write(&file, &self.pem).expect("it is ours");
        Trust::Authorities(file)
    }
}

/// What is right about a server's certificate unless it is changed.
fn server(host: &str) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).expect("it is a name");
    params.distinguished_name.push(DnType::CommonName, host);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// How a server is configured that shows a certificate, signed by itself or by an authority; and the pin of its key.
fn serving(params: &CertificateParams, by: Option<&Authority>) -> (Arc<ServerConfig>, Pin) {
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = match by {
        Some(authority) => params.signed_by(&key, &Issuer::from_params(&authority.params, &authority.key)),
        None => params.self_signed(&key),
    };
    let certificate = certificate.expect("it is one").der().clone();
    let pin = Pin::of(&certificate).expect("it is one");
    let key = pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("it is one");
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let config = config.expect("ring speaks it").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).expect("they belong together");
    config.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(config), pin)
}

type Ends = (Box<dyn Stream>, Box<dyn Stream>);

/// Both ends of a connection to `address`.
async fn meet(config: Arc<ServerConfig>, trust: &Trust, address: &str) -> std::io::Result<Ends> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let accepting = tokio::spawn(accept(config, Box::new(far), &[], [7; 32]));
    let config = Arc::new(trust.config()?);
    let near = connect(config, name_of(address)?, Box::new(near)).await?;
    Ok((near, accepting.await.expect("it does not panic")?))
}

async fn refused(config: Arc<ServerConfig>, trust: &Trust, address: &str) -> Untrusted {
    let Err(error) = meet(config, trust, address).await else { panic!("it was trusted") };
    Untrusted::of(&error).unwrap_or_else(|| panic!("{error} is no distrust")).clone()
}

#[tokio::test]
async fn each_reason_not_to_trust_has_its_own_text() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let (authority, other) = (Authority::new(), Authority::new());
    let trust = authority.trusted(dir.path());
    let changed = |change: fn(&mut CertificateParams)| {
        let mut params = server("mq1");
        change(&mut params);
        params
    };
    let expired = changed(|params| params.not_after = date_time_ymd(2020, 1, 2));
    let early = changed(|params| params.not_before = date_time_ymd(2090, 1, 2));
    let purpose = changed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let nameless = changed(|params| params.subject_alt_names.clear());
    let authority_itself = changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let cases = [
        (
            server("mq1"),
            Some(&other),
            "mq1:1",
            "its certificate was not issued by an authority that is trusted here",
        ),
        (server("mq1"), None, "mq1:1", "its certificate is self-signed: no authority vouches for it"),
        (authority_itself, None, "mq1:1", "its certificate is self-signed: no authority vouches for it"),
        (server("mq1"), Some(&authority), "mq2:1", "its certificate is not for mq2, but for mq1"),
        (server("mq1"), Some(&authority), "127.0.0.1:1", "its certificate is not for 127.0.0.1, but for mq1"),
        (
            server("127.0.0.1"),
            Some(&authority),
            "[::1]:1",
            "its certificate is not for ::1, but for 127.0.0.1",
        ),
        (nameless, Some(&authority), "mq1:1", "its certificate is not for mq1, but for no name at all"),
        (
            expired,
            Some(&authority),
            "mq1:1",
            "its certificate has expired: it was valid until 2020-01-02T00:00:00Z",
        ),
        (
            early,
            Some(&authority),
            "mq1:1",
            "its certificate is not valid yet: it begins at 2090-01-02T00:00:00Z",
        ),
        (purpose, Some(&authority), "mq1:1", "its certificate is not for servers"),
    ];
    for (params, by, address, text) in cases {
        let (config, _) = serving(&params, by);
        assert_eq!(refused(config, &trust, address).await.to_string(), text);
    }
}

#[tokio::test]
async fn whoever_is_trusted_shares_a_channel_that_no_other_connection_has() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let authority = Authority::new();
    let (config, pin) = serving(&server("127.0.0.1"), Some(&authority));
    let (own, own_pin) = serving(&server("elsewhere"), None);
    let trust = authority.trusted(dir.path());
    let file = dir.path().join("ca.crt");
    let mut channels = vec![PLAIN_CHANNEL];
    for (config, trust) in [
        (&config, &trust),
        (&config, &Trust::Pin(pin)),
        (&config, &Trust::Anybody),
        (&own, &Trust::Own { key: own_pin, authorities: None }),
        (&config, &Trust::Own { key: own_pin, authorities: Some(file) }),
    ] {
        let (mut near, mut far) =
            meet(Arc::clone(config), trust, "127.0.0.1:1").await.expect("it is trusted");
        assert_eq!(near.channel(), far.channel());
        assert!(!channels.contains(&near.channel()));
        channels.push(near.channel());
        let sent: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            near.write_all(&sent).await.expect("it is read");
            near.shutdown().await.expect("it is open");
        });
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.expect("it ends in order");
        assert!(read == expected, "{} bytes of {}", read.len(), expected.len());
        sending.await.expect("it does not panic");
    }
    let (config, seen) = serving(&server("127.0.0.1"), Some(&authority));
    let other = refused(config, &Trust::Pin(pin), "127.0.0.1:1").await;
    assert_eq!(other, Untrusted::Pin { seen, pinned: pin });
    let other = refused(own, &Trust::Own { key: pin, authorities: None }, "127.0.0.1:1").await;
    assert_eq!(other, Untrusted::Pin { seen: own_pin, pinned: pin });
}

#[tokio::test]
async fn an_end_that_is_cut_off_without_a_goodbye_ends_like_any_other() {
    let (config, _) = serving(&server("mq1"), None);
    let (near, mut far) = meet(config, &Trust::Anybody, "mq1:1").await.expect("anybody is trusted");
    drop(near);
    assert_eq!(far.read(&mut [0; 8]).await.expect("it is an end"), 0);
}

#[tokio::test]
async fn a_refusal_in_the_clear_is_told_and_anything_else_is_no_node() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let trust = Authority::new().trusted(dir.path());
    let refusal = Error::refused(ErrorCode::TlsOff, "this node speaks no TLS");
    let mut outbox = Outbox::new();
    outbox.push_message(0, &HelloMessage::Refused(refusal.clone()), &[]).expect("it fits");
    let mut bytes = Vec::new();
    outbox.write_to(&mut bytes).await.expect("memory takes all");
    // However it is cut into pieces, and whatever else answers.
    for piece in [1, 2, 3, 7, bytes.len()] {
        assert_eq!(PlainRefusal::of(&answered(&trust, &bytes, piece).await), Some(&refusal), "{piece}");
    }
    for (other, piece) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], 9), (b"", 1), (b"x", 1), (&bytes[..20], 20)]
    {
        let error = answered(&trust, other, piece).await;
        assert!(PlainRefusal::of(&error).is_none() && Untrusted::of(&error).is_none(), "{error}");
    }
    // An alert is TLS, and a reason not to trust.
    let error = answered(&trust, &[21, 3, 3, 0, 2, 2, 40], 7).await;
    assert!(Untrusted::of(&error).is_some_and(|why| why.to_string().starts_with("TLS failed: ")), "{error}");
}

/// What comes of a dial that is answered with these bytes.
async fn answered(trust: &Trust, bytes: &[u8], piece: usize) -> std::io::Error {
    let (near, mut far) = tokio::io::duplex(1 << 12);
    let pieces: Vec<Vec<u8>> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    let answering = tokio::spawn(async move {
        let mut hello = [0; 3];
        far.read_exact(&mut hello).await.expect("a hello of TLS comes");
        for piece in pieces {
            // Whoever has heard enough is gone.
            if far.write_all(&piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _gone = far.shutdown().await;
        let _rest = far.read_to_end(&mut Vec::new()).await;
    });
    let config = Arc::new(trust.config().expect("the file is there"));
    let name = name_of("mq1:1").expect("it is a name");
    let error = connect(config, name, Box::new(near)).await.err().expect("that is no TLS");
    answering.await.expect("it does not panic");
    error
}

#[test]
fn the_file_of_authorities_is_named_when_it_cannot_be_used() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let file = dir.path().join("ca.crt");
    let trust = Trust::Authorities(file.clone());
    let why = || trust.config().expect_err("it cannot be used").to_string();
    assert!(why().contains("ca.crt: "), "{}", why());
    for (text, expected) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nx\n", "is not PEM")]
    {
        std::fs::write(&file, text).expect("it is ours");
        assert!(why().contains("ca.crt: ") && why().contains(expected), "{}", why());
    }
}
