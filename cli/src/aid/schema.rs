//! `schema`: the JSON Schema of every document that `--json` gives. Tests hold every document that they see against it.
//!
//! They are written in the language of [`queue_json::schema`].

use queue_json::schema::{self as language, Others};
use serde_json::{Map, Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::SETTINGS;
use crate::shell::Shell;

/// Documents: each has its name and version in `schema`.
const DOCUMENTS: &[(&str, &str)] = &[
    ("ack", "results:[settled] elapsed_ms:n"),
    (
        "audit",
        "number:i index:s at:t actor:=nodes|anybody|secret|principal principal:s~ key:s~ from:s~ act:s queue:s~ subject:s~ detail:s because:s hash:s",
    ),
    ("audit_verify", "sound:b nodes:[audit_node]"),
    ("auth", "required:b version:i"),
    ("auth_status", "required:b version:i principals:i admins:i"),
    (
        "bench",
        "kind:=push|pop|roundtrip complete:b config:bench_config server:bench_server messages:i elapsed_ms:n msgs_per_s:i bytes_per_s:i latency_us:latency errors:bench_errors verify:verified~ processes:[process] cpu_s_per_million:n~ client_cpu_s_per_million:n~ histogram_us:[[i]]",
    ),
    ("bundle", "file:s parts:[s] failed:[s]"),
    ("can", "principal:s verb:s queue:s~ allowed:b by:s~"),
    ("check", "what:s state:s text:s findings:[finding] measures:any"),
    ("clients", "nodes:[clients_node]"),
    (
        "cluster",
        "cluster_id:s~ term:s~ leader:s~ feature_level:i~ quorum:quorum writable:b spare:i~ healthy:b verdict:s refusals:[refusal] paused_queues:i nodes:[node]",
    ),
    ("cluster_upgraded", "feature_level:i elapsed_ms:n"),
    ("context_add", "name:s"),
    ("context_list", "file:s~ contexts:[context]"),
    ("context_rm", "name:s"),
    ("context_use", "name:s"),
    ("dead_retry", "queue:s to?:s~ messages:i skipped:i dry_run?:b elapsed_ms:n"),
    ("dead_rm", "queue:s to?:s~ messages:i skipped:i dry_run?:b elapsed_ms:n"),
    ("doctor", "healthy:b checks:[doctor_check]"),
    ("error", "code:s message:s facts:[s] hint:s~ retryable:b applied:=no|unknown exit:i details:any"),
    ("errors", "errors:[error_code]"),
    ("explain", "queue:s id:s~ holds:[any] ahead:i~ waiting:i clock_off_ms:i push_refusals:[refusal]"),
    ("extend", "results:[settled] elapsed_ms:n"),
    ("group_list", "queue:s groups:[group] next?:s"),
    ("group_weight", "queue:s group:s weight:i~ weight_before:i~"),
    ("history", "queue:s id:s history:[event] complete_since:t state:s gone?:gone"),
    ("key_add", "principal:s key:s token:s~ file:s~"),
    ("key_list", "keys:[key]"),
    ("key_revoke", "key:s"),
    ("member_added", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("member_drained", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("member_moved", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("member_promoted", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("member_removed", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("member_replaced", "id:s name:s address:s voter:b elapsed_ms:n"),
    ("log", "node:s level:s settings:s left_ms:i~"),
    ("members", "members:[member]"),
    (
        "message",
        "queue:s id:s state?:=ready|leased|delayed|dead receipt?:s attempt?:i attempts?:i failures:i releases?:i priority:i enqueued_at:t lease_expires_at?:t ready_at?:t due_in_ms?:i lease_left_ms?:i died_at?:t expires_at?:t history?:[event] holder?:holder token?:s reason?:s last_error?:s checkpoint?:s checkpoint_base64?:s epoch?:s group?:s headers:map body?:s body_base64?:s next?:s age_ms?:i~",
    ),
    ("message_edit", "queue:s messages:[edited] elapsed_ms:n"),
    ("nack", "results:[settled] elapsed_ms:n"),
    ("ping", "nodes:[pinged]"),
    ("pop_discard", "queue:s messages:i"),
    ("position", "queue:s id:s ahead:i~ holds:[any] age_ms?:i~"),
    ("principal", "principal:principal_view"),
    ("principal_add", "name:s"),
    ("principal_disable", "name:s"),
    ("principal_grant", "name:s"),
    ("principal_list", "required:b principals:[principal_view]"),
    ("principal_revoke", "name:s"),
    ("principal_rm", "name:s"),
    (
        "push",
        "queue:s count:i deduplicated:i ids?:[s] first_id?:s last_id?:s leader:s~ redirects:i elapsed_ms:n",
    ),
    (
        "queue",
        "name:s ready:i leased:i delayed:i dead:i bytes:i oldest_ready_age_ms:i~ next_due_in_ms:i~ pushed_total:i leased_total:i acked_total:i waiting:i version:i pushes_paused:b leases_paused:b full:b blocked:b state:s settings:settings age_ms?:i~",
    ),
    ("queue_create", "queue:s created:b differs:[differs] elapsed_ms:n"),
    ("queue_list", "queues:[queue] next?:s age_ms?:i~"),
    ("queue_move", "queue:s to:s~ messages:i skipped:i dry_run:b elapsed_ms:n"),
    ("queue_pause", "queue:s version:i elapsed_ms:n"),
    ("queue_purge", "queue:s to:s~ messages:i skipped:i dry_run:b elapsed_ms:n"),
    ("queue_resume", "queue:s version:i elapsed_ms:n"),
    ("queue_rm", "queue:s messages:i elapsed_ms:n"),
    ("queue_set", "queue:s version:i elapsed_ms:n"),
    ("safe_to_stop", "node:s safe:b reason:s"),
    ("schedule_add", "name:s replaced:b"),
    ("schedule_list", "schedules:[any] next?:s"),
    ("schedule_rm", "name:s"),
    ("schema_list", "documents:[s]"),
    ("secret_rotated", "generation:i fingerprint:s left_out:[s] elapsed_ms:n"),
    ("slow", "nodes:[slow_node]"),
    ("stages", "stages:[stage]"),
    (
        "stats",
        "queues:i ready:i leased:i delayed:i dead:i bytes:i sessions:i pushed_total:i leased_total:i acked_total:i connections:i waiting:i",
    ),
    ("tls_forgotten", "node:s nodes:i elapsed_ms:n"),
    ("top", "at:t error:s~ cluster:cluster~ in_per_s:n out_per_s:n queues:[top_queue]"),
    ("transfer", "leader:s term:s elapsed_ms:n"),
    ("txn", "steps:[step]"),
    ("version", "version:s"),
    ("wait", "leader:s~ members:i heard:i voters:counting writable:b elapsed_ms:n"),
    ("whoami", "required:b principal:s~ key:s~ secret:b key_until:t~ grants:[s]"),
    (
        "work",
        "event:s queues?:[s] parallel?:i queue?:s id?:s token?:s attempt?:i ran_ms?:n why?:s~ error?:s~ from?:s to?:s term?:s running?:i ok?:i retried?:i dead?:i given_back?:i lost?:i ready?:i leased?:i delayed?:i next_due_in_ms?:i~ elapsed_ms?:n",
    ),
];

/// Objects inside of documents.
const SHAPES: &[(&str, &str)] = &[
    ("audit_node", "node:s records:i edited:i~ error:s~"),
    (
        "bench_config",
        "clients:i in_flight:i worker:b queues:i groups:i~ connections:i size_bytes:i batch:i rate:i~",
    ),
    ("bench_errors", "redirects:i"),
    ("bench_server", "version:s nodes:i"),
    (
        "client",
        "connection:s program:s version:s address:s session:s connected_ms:i in_flight:i leased:i parked:i parked_on:[s]",
    ),
    ("client_name", "program:s version:s address:s connected:b"),
    ("clients_node", "node:s reachable:b clients?:[client] error?:s"),
    ("connections", "max:i asked:i"),
    (
        "context",
        "name:s current:b servers:[s] tls:b tls_ca:s~ tls_pin:s~ token_file:s~ token_command:s~ error:s~",
    ),
    ("counting", "counting:i of:i"),
    ("differs", "setting:s asked:any has:any"),
    ("doctor_check", "name:s status:=ok|warn|fail what:s do:s~"),
    ("edited", "id:s result:=done|gone|leased|already_ready|skipped"),
    ("error_code", "code:s number:i~ exit:i meaning:s do:s"),
    ("event", "at:t attempts:i what:s reason?:s from?:s"),
    ("feature_levels", "min:i max:i"),
    ("finding", "state:s text:s"),
    ("gone", "how:s at:t enqueued_at:t attempts:i failures:i releases:i"),
    ("group", "group:s weight:i own_weight:b ready:i leased:i waiting:i dead:i held:s~"),
    ("holder", "session:s~ since:t held_ms:i client:client_name~"),
    ("key", "key:s principal:s made:t until:t~ used:t~ note:s"),
    ("latency", "min:i p50:i p90:i p99:i p99_9:i p99_99:i max:i"),
    ("log_levels", "level:s settings:s left_ms:i~"),
    ("member", "id:s name:s address:s voter:b matched:s~"),
    (
        "node",
        "id:s raft_id:s~ role:s voter:b reachable:b counts:b~ why:s~ client:s error?:s drained?:b changing?:b term?:s last?:s commit?:s applied?:s snapshot?:s purged?:s lag?:i rtt_ms?:n disk_free_bytes?:i connections?:connections uptime_ms?:i clock_off_ms?:i version?:s tls?:tls secret?:secret log?:log_levels feature_levels?:feature_levels",
    ),
    ("pinged", "id:s client:s reachable:b rtt_ms?:[n] error?:s"),
    ("principal_view", "name:s number:i note:s disabled:b grants:[s] keys:[key]"),
    ("process", "client:s pid:i cpu_s:n resident_bytes:i"),
    ("quorum", "need:i have:i of:i"),
    ("refusal", "code:s message:s"),
    ("rotation", "generation:i fingerprint:s phase:=spreading|switching|dropping waits_for:[s] left_out:[s]"),
    ("secret", "generation:i fingerprint:s rotation:rotation~"),
    ("settled", "receipt:s id:s result:s"),
    ("slow_node", "node:s reachable:b threshold_ms?:i total?:i requests?:[slow_request] error?:s"),
    ("slow_request", "at:t request:s queue:s~ client:s took_us:i code:s~ stages_us:stages_us"),
    ("stage", "stage:s count:i mean_us:n p50_us:n p90_us:n p99_us:n p999_us:n max_us:n"),
    ("step", "ids?:[s] deduplicated?:i lease_clock_deadline_ms?:i"),
    ("tls", "mode:=off|optional|require certificate_until:t~ alarm:s~"),
    (
        "top_queue",
        "name:s ready:i leased:i delayed:i dead:i oldest_ready_ms:i~ in_per_s:n~ out_per_s:n~ waiting:i",
    ),
    ("verified", "lost:i duplicated:i out_of_order:i~"),
];

/// Runs `schema`.
pub(crate) fn run(shell: &mut Shell, name: Option<&str>) -> Done {
    let Some(name) = name else {
        let names: Vec<String> = DOCUMENTS.iter().map(|(name, _)| format!("{name}/v1")).collect();
        if shell.settings.json {
            shell.out.document(&json!({"schema": "schema_list/v1", "documents": names}));
        } else {
            shell.out.add(names.iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes());
        }
        return Ok(Exit::Done);
    };
    let bare = name.split('/').next().unwrap_or_default();
    let Some(schema) = schema(bare) else {
        let message = format!("no document \"{name}\"");
        return Err(Failure::new("usage", Exit::Usage, message).hint("`queuectl schema` lists them").into());
    };
    let mut text = serde_json::to_string_pretty(&schema).expect("a value is always written");
    text.push('\n');
    shell.out.add(text.as_bytes());
    Ok(Exit::Done)
}

/// The schema of a document; `None` if there is none of that name.
pub(crate) fn schema(name: &str) -> Option<Value> {
    let (name, fields) = DOCUMENTS.iter().find(|(known, _)| *known == name)?;
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{name}/v1"),
    });
    let body = object(fields, Some(&format!("{name}/v1")));
    let (Value::Object(schema), Value::Object(body)) = (&mut schema, body) else { return None };
    schema.extend(body);
    Some(Value::Object(schema.clone()))
}

/// An object of these fields. What is not named may come in a later version.
fn object(fields: &str, document: Option<&str>) -> Value {
    let any = fields == "any";
    let mut object = language::object(if any { "" } else { fields }, Others::Allowed, &shape);
    if let Some(document) = document {
        object["properties"]["schema"] = json!({"const": document});
        object["required"].as_array_mut().expect("it is a list").insert(0, "schema".into());
    }
    if any {
        object["x-any"] = true.into();
    }
    object
}

/// What a name stands for inside of a document.
fn shape(name: &str) -> Option<Value> {
    if name == "settings" {
        let names = SETTINGS.iter().map(|setting| setting.json);
        let properties: Map<String, Value> = names.clone().map(|name| (name.to_owned(), json!({}))).collect();
        return Some(
            json!({"type": "object", "properties": properties, "required": names.collect::<Vec<_>>()}),
        );
    }
    if name == "stages_us" {
        return Some(json!({"type": "object", "additionalProperties": {"type": "integer"}}));
    }
    let (name, fields) = SHAPES.iter().chain(DOCUMENTS).find(|(known, _)| *known == name)?;
    // Only a document that is shown whole inside of another has its name in it.
    let document = (*name == "cluster").then(|| format!("{name}/v1"));
    Some(object(fields, document.as_deref()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn named(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("the source is there") {
            let path = entry.expect("the source is there").path();
            if path.is_dir() {
                named(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("the source is there");
            for (at, _) in text.match_indices("/v1\"") {
                let begin = text[..at].rfind('"').map_or(0, |quote| quote + 1);
                let name = &text[begin..at];
                if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                    found.insert(name.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_document_that_the_source_names_has_a_schema_and_each_schema_is_of_one() {
        let mut found = BTreeSet::new();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        named(&here.join("src"), &mut found);
        named(&here.join("../protocol/json/src"), &mut found);
        let known: BTreeSet<String> = DOCUMENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, known);
        for (name, _) in DOCUMENTS {
            assert_eq!(schema(name).expect("it is known")["title"], format!("{name}/v1"));
        }
        for (name, fields) in SHAPES {
            assert!(object(fields, None).is_object(), "{name}");
        }
    }
}
