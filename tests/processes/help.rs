//! Help that is true: every example runs, and the words around the cluster do what they say.

use std::path::Path;
use std::process::Command;

use harness::cluster::Cluster;
use harness::program::{Ran, queuectl, run};

/// Commands whose examples need another cluster than the one that the test has: they are understood, and reach nobody.
const ELSEWHERE: [&str; 23] = [
    "cluster transfer",
    "cluster add",
    "cluster promote",
    "cluster remove",
    "cluster replace",
    "cluster set-address",
    "cluster drain",
    "cluster safe-to-stop",
    "cluster tls-forget",
    "auth status",
    "auth on",
    "auth off",
    "principal ls",
    "principal show",
    "principal add",
    "principal rm",
    "principal grant",
    "principal revoke",
    "principal disable",
    "key ls",
    "key add",
    "key rotate",
    "key revoke",
];

/// The lines of `--help` under this title.
fn section<'a>(help: &'a str, title: &str) -> Vec<&'a str> {
    let lines = help.lines().skip_while(|line| !line.starts_with(title)).skip(1);
    lines.take_while(|line| line.starts_with("  ")).collect()
}

/// Every command that help shows, with its examples.
async fn examples(words: &mut Vec<String>, found: &mut Vec<(String, String)>) {
    let mut command = queuectl();
    let help = run(command.args(&*words).arg("--help"), b"").await.expect(0).stdout;
    let lines = section(&help, "Example").into_iter().map(str::trim).filter(|line| line.contains("queuectl"));
    found.extend(lines.map(|line| (words.join(" "), line.to_owned())));
    let subcommands: Vec<String> = section(&help, "Commands:")
        .into_iter()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    for subcommand in subcommands {
        words.push(subcommand);
        Box::pin(examples(words, found)).await;
        words.pop();
    }
}

async fn shell(cluster: &Cluster, dir: &Path, text: &str) -> Ran {
    let mut command: Command = cluster.queuectl();
    let program = command.get_program().to_owned();
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).expect("made");
    let _ = std::os::unix::fs::symlink(program, bin.join("queuectl"));
    let path = std::env::var("PATH").unwrap_or_default();
    command = {
        let mut shell = Command::new("sh");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    };
    command.args(["-c", text]).current_dir(dir).env("PATH", format!("{}:{path}", bin.display()));
    command.env("QUEUECTL_SERVERS", cluster.servers()).env("XDG_CONFIG_HOME", dir.join("config"));
    run(&mut command, b"").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_every_help_runs() {
    let cluster = Cluster::start_with(1, &[]).await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "a\nb\n").expect("written");
    std::fs::write(dir.path().join("a.png"), "png").expect("written");
    std::fs::write(dir.path().join("setup.txt"), "queue create setup --if-not-exists\n# a comment\n")
        .expect("written");
    std::fs::write(dir.path().join("steps.json"), "{\"do\": [{\"push\": \"jobs\", \"body\": \"x\"}]}")
        .expect("written");
    std::fs::create_dir(dir.path().join("config")).expect("made");
    let mut found = Vec::new();
    examples(&mut Vec::new(), &mut found).await;
    assert!(found.len() > 60, "{found:#?}");
    let prepare = "for q in jobs mail hello; do queuectl queue create $q --if-not-exists -q; done
        queuectl queue resume jobs --pushes --leases -q
        queuectl schedule add report jobs x --every 1h --replace -q
        queuectl context add prod mq1 --replace -q
        queuectl queue purge jobs --yes -q
        queuectl push jobs dead -q && queuectl nack $(queuectl lease jobs --json | sed 's/.*\"receipt\":\"\\([^\"]*\\).*/\\1/') --reject -q
        queuectl push jobs leased -q --json | sed 's/.*//'
        queuectl lease jobs --json
        queuectl push jobs ready --json
        queuectl push jobs later --delay 1h --json
        queuectl dead ls jobs --json";
    for (command, example) in found {
        let more = if command == "schedule add" { "\nqueuectl schedule rm report -q" } else { "" };
        let state = shell(&cluster, dir.path(), &format!("{prepare}{more}")).await.expect(0);
        let documents: Vec<serde_json::Value> =
            state.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of = |k: usize| &documents[k];
        let receipt = of(0)["receipt"].as_str().expect("a lease");
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let (ready, later, dead) = (text(&of(1)["ids"][0]), text(&of(2)["ids"][0]), text(&of(3)["id"]));
        let line = example
            .replace("jobs/1006/1005", receipt)
            .replace("1006", &ready)
            .replace("1008", &later)
            .replace("1009", &dead);
        // It would never end.
        let line: String = line.split(" --watch=").next().unwrap_or_default().to_owned();
        if ELSEWHERE.iter().any(|other| command == *other) {
            let secret = format!("--secret-file {}", cluster.secret_file(0).display());
            let line = line.replace("--secret-file /var/lib/queued/SECRET", &secret);
            let line = line.replace("--token-file ann.token", &secret);
            let line = line.replace("queuectl ", "queuectl -s 127.0.0.1:1 --no-wait ");
            shell(&cluster, dir.path(), &line).await.expect(69);
        } else {
            let ran = shell(&cluster, dir.path(), &line).await;
            assert_eq!(ran.code, 0, "`{line}`\n{ran}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_stands_for_servers_and_its_file_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start_with(1, &[]).await;
    let home = tempfile::tempdir().expect("a directory");
    let ctl = async |words: &[&str]| {
        let mut command = queuectl();
        command.args(words).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        run(&mut command, b"").await
    };
    assert_eq!(ctl(&["context", "ls"]).await.expect(0).stdout, "");
    ctl(&["context", "add", "away", "127.0.0.1:1"]).await.expect(0);
    ctl(&["context", "add", "test", cluster.address(0)]).await.expect(0);
    ctl(&["context", "add", "test", "x"]).await.expect(73).says("--replace");
    let file = home.path().join(".config/queuectl/config.toml");
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    ctl(&["--no-wait", "ping"]).await.expect(69);
    assert!(ctl(&["--context", "test", "ping"]).await.expect(0).stdout.contains("n1"));
    ctl(&["context", "use", "test"]).await.expect(0);
    ctl(&["ping"]).await.expect(0);
    let listed = ctl(&["context", "ls", "--json"]).await.expect(0).json();
    assert_eq!(
        (&listed["contexts"][1]["name"], &listed["contexts"][1]["current"]),
        (&"test".into(), &true.into())
    );
    // What is trusted is kept with the servers, and checked first.
    let pin = format!("sha256:{}", "ab".repeat(32));
    ctl(&["context", "add", "secure", cluster.address(0), "--tls-ca", "/nowhere.pem"])
        .await
        .expect(78)
        .says("/nowhere.pem");
    ctl(&["context", "add", "secure", cluster.address(0), "--tls-pin", &pin]).await.expect(0);
    ctl(&["--context", "secure", "ping"]).await.expect(77).says("tls_off");
    ctl(&["context", "add", "secure", cluster.address(0), "--replace"]).await.expect(0);
    ctl(&["--context", "secure", "ping"]).await.expect(77).says("tls_off");
    assert!(ctl(&["context", "ls"]).await.expect(0).stdout.contains("sha256:abababababab…"));
    ctl(&["context", "rm", "secure"]).await.expect(0);
    ctl(&["context", "use", "nobody"]).await.expect(78).says("context_not_found");
    ctl(&["context", "rm", "test"]).await.expect(0);
    assert_eq!(
        ctl(&["context", "ls", "--json"]).await.expect(0).json()["contexts"].as_array().map(Vec::len),
        Some(1)
    );
    std::fs::write(&file, "current = \n").expect("written");
    ctl(&["ping"]).await.expect(78).says("line 1");
    // Without a home there is nothing to make.
    let mut command = queuectl();
    command.args(["context", "add", "x", "y"]).env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    run(&mut command, b"").await.expect(78).says("HOME");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_bundle_errors_top_and_watch_say_what_there_is() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["push", "jobs", "very secret body", "--create"]).await.expect(0);
    let ran = cluster.ctl(&["doctor"]).await.expect(0);
    for word in ["config", "limits", "clock", "versions", "cluster", "n1 at 127.0.0.1"] {
        assert!(ran.stdout.contains(word), "{word} is not in\n{ran}");
    }
    let mut away = cluster.queuectl();
    let ran = run(away.args(["-s", "127.0.0.1:1,no.such.name.invalid", "doctor"]), b"").await.expect(1);
    assert!(ran.stdout.contains("FAIL") && ran.stdout.contains("is `queued` running there"), "{ran}");
    assert!(ran.stdout.contains("cannot be resolved"), "{ran}");
    cluster.ctl(&["doctor", "--json"]).await.expect(0);

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("b.tar.gz").display().to_string();
    let log = dir.path().join("n1.log");
    std::fs::write(&log, "a line of a log\n").expect("written");
    let log = log.display().to_string();
    cluster.ctl(&["bundle", &file, "--log", &log, "--json"]).await.expect(0);
    cluster.ctl(&["bundle", &file]).await.expect(74).says("cannot write");
    let mut unpack = Command::new("tar");
    let text = run(unpack.args(["-xzOf", &file]), b"").await.expect(0).stdout;
    for word in ["cluster/v1", "queue_list/v1", "clients/v1", "doctor/v1", "a line of a log", "\"jobs\""] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let secret = std::fs::read_to_string(cluster.secret_file(0)).expect("it is there");
    assert!(!text.contains("very secret") && !text.contains(secret.trim()), "{text}");
    let mut list = Command::new("tar");
    let names = run(list.args(["-tzvf", &file]), b"").await.expect(0).stdout;
    assert!(names.lines().all(|line| line.starts_with("-rw------- ")), "{names}");

    let all = cluster.ctl(&["errors", "--json"]).await.expect(0).json();
    assert!(all["errors"].as_array().is_some_and(|all| all.len() > 55), "{all}");
    let one = cluster.ctl(&["errors", "error[queue_full]:"]).await.expect(0).stdout;
    assert!(one.contains("raise max-messages"), "{one}");
    cluster.ctl(&["errors", "nonsense"]).await.expect(2);

    let top = cluster.ctl(&["top", "--json", "-n", "2", "--every", "200ms"]).await.expect(0).stdout;
    assert_eq!(top.lines().count(), 2, "{top}");
    let top = cluster.ctl(&["top", "--every", "200ms"]).await.expect(0).stdout;
    assert!(top.contains("leader n1") && top.contains("OUT/s") && top.contains("jobs"), "{top}");
    cluster.ctl(&["push", "jobs", "x", "--watch"]).await.expect(2).says("only read");
    // It goes on until nobody reads any more.
    let dir = tempfile::tempdir().expect("a directory");
    let ran =
        shell(&cluster, dir.path(), "queuectl queue ls --json --watch=100ms | head -n 3").await.expect(0);
    assert_eq!(ran.stdout.matches("queue_list/v1").count(), 3, "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_use_is_told_as_every_error_is_and_help_can_be_asked_by_word() {
    let ctl = async |words: &[&str]| run(queuectl().args(words), b"").await;
    ctl(&["pop", "jobs", "--fast"]).await.expect(2).says("error[usage]: unexpected argument '--fast' found");
    let json = ctl(&["pop", "jobs", "--fast", "--json"]).await.expect(2);
    assert!(json.stderr.starts_with("{\"schema\":\"error/v1\",\"code\":\"usage\""), "{json}");
    let help = ctl(&["help", "queue", "create"]).await.expect(0).stdout;
    assert_eq!(help, ctl(&["queue", "create", "--help"]).await.expect(0).stdout);
    assert!(help.contains("Usage: queuectl queue create "), "{help}");
    ctl(&["help", "nonsense"]).await.expect(2).says("queuectl help");
    let mut other = queuectl();
    other
        .args(["help", "pop"])
        .env("QUEUECTL_SERVERS", "x:1")
        .env("QUEUECTL_OUTPUT", "json")
        .env("COLUMNS", "40");
    let plain = ctl(&["help", "pop"]).await.expect(0).stdout;
    let usage = |text: &str| text.lines().find(|line| line.starts_with("Usage")).map(str::to_owned);
    assert_eq!(usage(&run(&mut other, b"").await.expect(0).stdout), usage(&plain));
}
