//! `bundle`: one archive for a report of a problem: what the nodes and this machine say of themselves. No bodies of messages,
//! no headers, no secrets, and of sessions no more than tells them apart.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::aid::doctor;
use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{BundleArgs, Cmd, Line, Word};
use crate::run::commands;
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;

/// Of each file of log lines, the last of them.
const LOG_LINES: usize = 2_000;
/// No more of a file is read.
const LOG_SIZE: u64 = 4 << 20;

/// What is asked for, with the name of its file. Each is a command whose document has no body in it.
const PARTS: [(&str, &[&str]); 10] = [
    ("status.json", &["cluster", "status"]),
    ("members.json", &["cluster", "members"]),
    ("clients.json", &["cluster", "clients", "--all"]),
    ("ping.json", &["ping"]),
    ("stats.json", &["stats"]),
    ("stages.json", &["stats", "--stages"]),
    ("slow.json", &["slow"]),
    ("queues.json", &["queue", "ls"]),
    ("schedules.json", &["schedule", "ls"]),
    ("check.json", &["check", "cluster"]),
];

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: BundleArgs) -> Done {
    let now_ms = clock::unix_ms_in(Duration::ZERO);
    let stamp: String =
        clock::rfc3339(now_ms)[..19].chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    let path = args.file.unwrap_or_else(|| PathBuf::from(format!("queuectl-bundle-{stamp}.tar.gz")));
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut failed = Vec::new();
    let about = json!({"made_at": clock::rfc3339(now_ms), "queuectl": env!("CARGO_PKG_VERSION"),
        "servers": shell.reach.servers, "servers_from": shell.reach.origin,
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH});
    parts.push(("about.json".to_owned(), pretty(&about)));
    parts.push(("doctor.json".to_owned(), pretty(&doctor::report(shell).await)));
    for (name, words) in PARTS {
        shell.talk.status(Some(&format!("bundle: {}", words.join(" "))));
        match ask(shell, words).await {
            Ok(document) => parts.push((name.to_owned(), pretty(&shortened(document)))),
            Err(End::Failed(failure)) => failed.push(format!("{name}: {}", failure.message)),
            Err(end) => return Err(end),
        }
    }
    for log in &args.log {
        let lines = last_lines(log)
            .map_err(|error| Failure::io(format!("cannot read {}: {error}", log.display())))?;
        let name = log.file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy());
        parts.push((format!("logs/{name}"), lines.into_bytes()));
    }
    if !failed.is_empty() {
        parts.push(("failed.txt".to_owned(), (failed.join("\n") + "\n").into_bytes()));
    }
    shell.talk.status(None);
    write(&path, &parts, now_ms / 1_000)
        .map_err(|error| Failure::io(format!("cannot write {}: {error}", path.display())))?;
    if shell.settings.json {
        let names: Vec<&String> = parts.iter().map(|(name, _)| name).collect();
        shell
            .out
            .document(&json!({"schema": "bundle/v1", "file": path.display().to_string(), "parts": names,
            "failed": failed}));
    }
    let size: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
    let count = parts.len();
    shell.success(&format!(
        "wrote {} ({count} files, {}); no bodies, no secrets",
        path.display(),
        render::size(size as u64)
    ));
    for what in &failed {
        shell.remark(&format!("not in it: {what}"));
    }
    Ok(if failed.is_empty() { Exit::Done } else { Exit::Part })
}

/// The document of a command.
async fn ask(shell: &mut Shell, words: &[&str]) -> Result<Value, End> {
    use clap::Parser;
    let line = Line::try_parse_from(words).expect("the words above are commands");
    let Word::Cmd(cmd) = line.word else { unreachable!("the words above are commands") };
    debug_assert!(Cmd::is_read(&cmd), "a bundle changes nothing");
    let (out, kept) = shell.out.captured();
    let before = std::mem::replace(&mut shell.out, out);
    let json = std::mem::replace(&mut shell.settings.json, true);
    let done = Box::pin(commands::once(shell, cmd)).await;
    shell.settings.json = json;
    shell.out = before;
    let text = kept.text();
    match (done, serde_json::from_str(text.trim())) {
        (_, Ok(document)) => Ok(document),
        (Err(end), Err(_)) => Err(end),
        (Ok(_), Err(error)) => Err(Failure::io(format!("no document: {error}")).into()),
    }
}

/// Whoever knows a session in full could ask in its name.
fn shortened(mut document: Value) -> Value {
    const SHOWN: usize = 8;
    match &mut document {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if name == "session" => text.truncate(SHOWN),
                    other => *other = shortened(other.take()),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = shortened(value.take())),
        _ => {}
    }
    document
}

fn pretty(document: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).expect("a value is always written");
    bytes.push(b'\n');
    bytes
}

fn last_lines(path: &Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_SIZE)))?;
    let mut bytes = Vec::new();
    file.take(LOG_SIZE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("{line}\n")).collect())
}

/// A new file of this user alone.
fn write(path: &Path, parts: &[(String, Vec<u8>)], now_s: u64) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now_s);
        archive.append_data(&mut header, format!("queuectl-bundle/{name}"), &bytes[..])?;
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_command_that_reads() {
        use clap::Parser;
        for (name, words) in PARTS {
            let Word::Cmd(cmd) = Line::try_parse_from(words).expect(name).word else { panic!("{name}") };
            assert!(cmd.is_read(), "{name}");
        }
    }

    #[test]
    fn sessions_are_shortened_wherever_they_stand() {
        let long = "0123456789abcdef0123456789abcdef";
        let document = json!({"nodes": [{"clients": [{"session": long, "address": "a"}]}]});
        let short = json!({"nodes": [{"clients": [{"session": "01234567", "address": "a"}]}]});
        assert_eq!(shortened(document), short);
    }
}
