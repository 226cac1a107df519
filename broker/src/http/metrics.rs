//! `/metrics`: what this node knows of itself; what is replicated is told by the leader alone, so that sums over all nodes
//! are right. Nothing is gathered but when it is asked for.

use std::io::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus_client::registry::Unit;
use queue_protocol::names::NodeId;
use queue_protocol::wire::response::{Role, StatusView, WriteStage};
use queue_protocol::wire::security::Secured;

use super::answers::with_type;
use super::health;
use super::machine::{self, float};
use super::page::{Format, Labels, Page, Samples, Spread};
use super::queues;
use super::serve::App;

/// Bounds of the durations of stages, in microseconds.
const BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// All of it.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let mut page = Page::default();
    let turn = app.pulse.turn().await;
    let status = app.site.consensus.status();
    about(&mut page, &app, &status);
    raft(&mut page, &app, &status);
    storage(&mut page, &app, &status);
    stages(&mut page, &app);
    clients(&mut page, &app);
    if let Some(turn) = turn {
        let help = "How long the thread of Raft took to turn at this scrape";
        page.gauge("queued_raft_thread_turn", Some(Unit::Seconds), help, turn.as_secs_f64());
    }
    if health::leads(&app.site.consensus, &status) {
        audit(&mut page, &app);
        queues::add(&mut page, &app.chosen, &app.site.consensus, &app.site.server).await;
    }
    machine::add(&mut page, app.site.consensus.outside().clock.wall_ms());
    let accepts = |what, word| {
        let value = headers.get(what).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(word))
    };
    let (kind, format) = if accepts(header::ACCEPT, "application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::Open)
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", Format::Plain)
    };
    let text = page.write(format);
    // Prometheus always asks for it. What says `gzip;q=0` gets it all the same: nobody does.
    let packed = accepts(header::ACCEPT_ENCODING, "gzip");
    let body = if packed { gzip(text.as_bytes()).into() } else { text.into() };
    let mut response = with_type(StatusCode::OK, kind, body);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if packed {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text).and_then(|()| packed.finish()).expect("memory takes all")
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn seconds(ms: u64) -> f64 {
    float(ms) / 1_000.0
}

fn about(page: &mut Page, app: &App, status: &StatusView) {
    let labels: Labels = vec![
        ("cluster", status.cluster.to_string()),
        ("name", status.name.to_string()),
        ("node", status.node.to_string()),
        ("version", status.version.to_string()),
    ];
    let help = "Which node this is; always 1";
    page.add("queued_node_info", None, help, Samples::Gauge(vec![(labels, 1.0)]));
    let ready = queue_protocol::health::ready(status).is_ok() && !*app.stop.borrow();
    page.gauge("queued_ready", None, "Clients should be sent here, as /readyz says: 1, else 0", truth(ready));
    page.gauge(
        "queued_drained",
        None,
        "It was drained and does not want to lead: 1, else 0",
        truth(status.drained),
    );
    #[expect(clippy::cast_precision_loss, reason = "a float by design")]
    let off = status.clock_off_ms as f64 / 1_000.0;
    let help = "How far its clock is ahead of the cluster's time of day";
    page.gauge("queued_clock_offset", Some(Unit::Seconds), help, off);
    let help = "Connections in the clear are refused (tls.mode = require): 1, else 0";
    page.gauge("queued_tls_required", None, help, truth(status.tls.mode == Secured::Require));
    let help =
        "Something is wrong with the certificate or its files, see `queuectl cluster status`: 1, else 0";
    page.gauge("queued_tls_alarm", None, help, truth(status.tls.alarm.is_some()));
    if let Some(until_ms) = status.tls.until_ms {
        let help = "When the certificate ends, Unix time";
        page.gauge("queued_tls_certificate_end", Some(Unit::Seconds), help, float(until_ms / 1_000));
    }
    let failures = app.site.consensus.outside().net.tls().failures();
    let help = "Changed files of TLS that could not be used";
    page.counter("queued_tls_reload_failures", None, help, float(failures));
}

fn raft(page: &mut Page, app: &App, status: &StatusView) {
    let roles = [
        ("leader", Role::Leader),
        ("follower", Role::Follower),
        ("candidate", Role::Candidate),
        ("learner", Role::Learner),
    ];
    let roles = roles.map(|(word, role)| (vec![("role", word.to_owned())], truth(status.role == role)));
    page.add("queued_raft_role", None, "What it does: 1 for its role", Samples::Gauge(roles.to_vec()));
    let hears = status.leader.is_some();
    page.gauge(
        "queued_raft_leader_known",
        None,
        "It leads with a majority, or hears who does: 1, else 0",
        truth(hears),
    );
    let leads = health::leads(&app.site.consensus, status);
    page.gauge(
        "queued_raft_leads",
        None,
        "It leads with a majority, has applied everything before and serves: 1, else 0",
        truth(leads),
    );
    for (name, help, value) in [
        ("queued_raft_term", "Its term", status.term),
        ("queued_raft_last_index", "Last entry of its log", status.last_index),
        ("queued_raft_commit_index", "Highest entry that it knows to be committed", status.commit_index),
        ("queued_raft_applied_index", "Highest entry that it has applied", status.applied_index),
        ("queued_raft_snapshot_index", "Entry of its newest snapshot", status.snapshot_index),
        ("queued_raft_purged_index", "Entry up to which its log is purged", status.purged_index),
    ] {
        page.gauge(name, None, help, float(value));
    }
    let Some(lead) = status.health.lead else { return };
    let voters = status.members.iter().filter(|member| member.voter).count();
    page.gauge("queued_raft_voters", None, "Members that vote", float(voters as u64));
    let heard = status.members.iter().filter(|member| member.voter).filter(|member| {
        let contact = status.health.contacts.iter().find(|contact| contact.node == member.node);
        let heard = contact.and_then(|contact| contact.heard_ms).is_some_and(|ms| ms <= lead.lease_ms);
        member.node == status.node || heard
    });
    let help = "Voters that the leader hears, itself included";
    page.gauge("queued_raft_voters_heard", None, help, float(heard.count() as u64));
    let help = "Everything that its log held so long ago is committed";
    page.gauge("queued_raft_commit_behind", Some(Unit::Seconds), help, seconds(lead.commit_behind_ms));
    let name = |node: NodeId| {
        let member = status.members.iter().find(|member| member.node == node);
        member.map_or_else(|| node.to_string(), |member| member.name.to_string())
    };
    let behind = status
        .health
        .contacts
        .iter()
        .filter_map(|contact| Some((vec![("member", name(contact.node))], seconds(contact.behind_ms?))));
    let help = "By how much time a member's disk is behind the log of the leader";
    page.add("queued_raft_member_behind", Some(Unit::Seconds), help, Samples::Gauge(behind.collect()));
}

fn audit(page: &mut Page, app: &App) {
    let ((told, cut), by_secret_ms) =
        app.site.consensus.read(|state, _| (state.audited(), state.changed_by_secret_ms()));
    page.counter(
        "queued_audit_records",
        None,
        "Administrative changes that the journal tells of",
        float(told),
    );
    let help = "Records of the journal that were forgotten before their time, for want of room";
    page.counter("queued_audit_cut", None, help, float(cut));
    // Where nobody logs in it is nobody's key.
    let by_secret_ms = by_secret_ms.filter(|_| app.site.consensus.rights().required);
    let help =
        "When something was changed last by the cluster's secret in place of a key, Unix time; 0 is never";
    page.gauge(
        "queued_audit_secret_used",
        Some(Unit::Seconds),
        help,
        float(by_secret_ms.unwrap_or(0) / 1_000),
    );
}

fn storage(page: &mut Page, app: &App, status: &StatusView) {
    let consensus = &app.site.consensus;
    let help = "Free bytes of the disk of its data";
    page.gauge("queued_disk_free", Some(Unit::Bytes), help, float(status.disk_free_bytes));
    let help = "Free bytes below which pushes are refused";
    page.gauge("queued_disk_reserve", Some(Unit::Bytes), help, float(consensus.reserve_bytes()));
    let refuses =
        [("pushes", consensus.refuse_push().is_some()), ("leases", consensus.refuse_lease().is_some())];
    let refuses = refuses.map(|(what, is)| (vec![("what", what.to_owned())], truth(is)));
    let help = "It refuses them whatever the queue, or would if it led: 1, else 0";
    page.add("queued_refuses", None, help, Samples::Gauge(refuses.to_vec()));
    let usage = consensus.log().usage();
    let kinds = [("used", usage.segments), ("spare", usage.spares)];
    let kinds = kinds.map(|(kind, count)| (vec![("kind", kind.to_owned())], float(count)));
    page.add("queued_log_segments", None, "Files of the log", Samples::Gauge(kinds.to_vec()));
    let help = "Bytes of the files of the log that hold something";
    page.gauge("queued_log_size", Some(Unit::Bytes), help, float(usage.bytes));
}

fn stages(page: &mut Page, app: &App) {
    let stages = app.site.consensus.log().stages();
    let bounds = BOUNDS_US.map(|us| us * 1_000);
    let spreads = WriteStage::ALL.iter().map(|stage| {
        let spread = stages.spread(*stage, &bounds);
        let mut buckets: Vec<(f64, u64)> =
            BOUNDS_US.iter().zip(&spread.counts).map(|(us, count)| (float(*us) / 1e6, *count)).collect();
        buckets.push((f64::INFINITY, spread.count - spread.counts.iter().sum::<u64>()));
        let label = vec![("stage", stage.as_str().to_owned())];
        (label, Spread { sum: spread.sum_seconds, count: spread.count, buckets })
    });
    let help = "Where the time of writes goes, by stage";
    page.add("queued_write_stage", Some(Unit::Seconds), help, Samples::Histogram(spreads.collect()));
}

fn clients(page: &mut Page, app: &App) {
    let figures = app.site.server.figures();
    let kinds = [("client", figures.clients), ("peer", figures.peers), ("http", app.connections.count())];
    let kinds = kinds.map(|(kind, count)| (vec![("kind", kind.to_owned())], float(count as u64)));
    page.add("queued_connections", None, "Connections that are open", Samples::Gauge(kinds.to_vec()));
    let help = "Connections of clients that it takes at a time";
    page.gauge("queued_client_connections_max", None, help, float(figures.clients_max as u64));
    let help = "Leases and pops that wait here";
    page.gauge("queued_waiting_consumers", None, help, float(app.site.server.waiting(None) as u64));
    let help = "Memory that requests of clients hold";
    page.gauge("queued_client_memory_used", Some(Unit::Bytes), help, float(figures.memory_used as u64));
    let help = "Memory that requests of clients may hold";
    page.gauge("queued_client_memory_max", Some(Unit::Bytes), help, float(figures.memory_max as u64));
    page.counter("queued_slow_requests", None, "Requests that took this node long", float(figures.slow));
    let refused =
        figures.refused.iter().map(|(why, count)| (vec![("why", (*why).to_owned())], float(*count)));
    let http = app.figures.refusals();
    let http = http.iter().map(|(why, count)| (vec![("why", format!("http_{why}"))], float(*count)));
    let help = "Connections and requests refused, by reason";
    page.add("queued_refused", None, help, Samples::Counter(refused.chain(http).collect()));
    let answered = app.figures.answers();
    let answered = answered.into_iter().map(|((method, route, code), count)| {
        let labels = vec![("code", code.to_string()), ("method", method.to_owned()), ("route", route)];
        (labels, float(count))
    });
    page.add(
        "queued_http_requests",
        None,
        "Requests over HTTP that were answered",
        Samples::Counter(answered.collect()),
    );
}
