//! What the README shows is what happens: every console block after the cluster is up is typed and compared.
//!
//! A step is a line behind a prompt: `$ ` for the system's shell, `dev:n1> ` or another name and `> ` for the shell of
//! `queued dev`; lines that begin with `> ` go on with it. The lines that follow must be shown, in order. What differs
//! from run to run may differ: times, sizes, ports, process ids and names of nodes. `[..]` in a line stands for
//! anything, a line `…` for any lines. Steps that call `cargo` or `git` and all before `cargo run … dev` are not typed.
//! In a block, ` # ` and what follows it is a remark; a status that is not 0 is shown as a last line `exit N`.

use std::path::Path;
use std::process::Command;

use harness::program::{Running, queuectl, queued};
use harness::terminal::Terminal;
use regex::Regex;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompt {
    System,
    Dev,
}

/// Something typed and what is shown then.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    prompt: Prompt,
    line: usize,
    typed: String,
    shown: Vec<String>,
}

/// The command behind a prompt.
fn behind_prompt(line: &str) -> Option<(Prompt, &str)> {
    if let Some(typed) = line.strip_prefix("$ ") {
        return Some((Prompt::System, typed));
    }
    let (prompt, typed) = line.strip_prefix("dev:")?.split_once("> ")?;
    (!prompt.is_empty()).then_some((Prompt::Dev, typed))
}

/// The steps of the console blocks of a document.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_block = false;
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = line == "```console";
            is_open = false;
        } else if in_block && let Some((prompt, typed)) = behind_prompt(line) {
            let typed = typed.split(" # ").next().unwrap_or_default().trim_end().to_owned();
            steps.push(Step { prompt, line: number + 1, typed, shown: Vec::new() });
            is_open = true;
        } else if in_block
            && is_open
            && let Some(step) = steps.last_mut()
        {
            match line.strip_prefix("> ") {
                Some(more) if step.shown.is_empty() => step.typed.push_str(&format!("\n{more}")),
                _ => step.shown.push(line.split(" # ").next().unwrap_or_default().trim_end().to_owned()),
            }
        }
    }
    let is_start = |step: &Step| step.typed.starts_with("cargo run") && step.typed.ends_with("dev");
    let start = steps.iter().position(is_start).map_or(steps.len(), |at| at + 1);
    let is_typed = |step: &Step| !["cargo ", "git "].iter().any(|word| step.typed.starts_with(word));
    steps.into_iter().skip(start).filter(is_typed).collect()
}

/// What a line of output must match: itself, except what differs from run to run.
fn pattern(line: &str) -> String {
    let volatile = Regex::new(concat!(
        r"(?P<any>\[\.\.\])",
        r"|(?P<unit>\b[0-9][0-9.,]* ?(?:ms|µs|s|m|h|d|B|KiB|MiB|GiB|TiB)\b(?: [0-9]+(?:ms|s|m|h)\b)*)",
        r"|(?P<clock>\b[0-9]{2}:[0-9]{2}:[0-9]{2})",
        r"|(?P<port>127\.0\.0\.1:[0-9]+)",
        r"|(?P<pid>\bpid [0-9]+)",
        r"|(?P<node>\bn[1-5]\b)",
        r"|(?P<indent>^ +)",
        r"|(?P<gap> {2,})",
    ))
    .expect("it is a pattern");
    let mut pattern = String::new();
    let mut at = 0;
    for found in volatile.captures_iter(line) {
        let whole = found.get(0).expect("the whole match");
        pattern.push_str(&regex::escape(&line[at..whole.start()]));
        let named = |name: &str| found.name(name).is_some();
        pattern.push_str(match () {
            () if named("any") => ".*",
            () if named("unit") => "[0-9][0-9., a-zµKMGTiB]*?",
            () if named("clock") => "[0-9:]{8}",
            () if named("port") => r"127\.0\.0\.1:[0-9]+",
            () if named("pid") => "pid [0-9]+",
            () if named("node") => "n[1-5]",
            () if named("indent") => " *",
            () => " +",
        });
        at = whole.end();
    }
    pattern + &regex::escape(line[at..].trim_end())
}

/// The pattern of all lines of a step.
fn patterns(shown: &[String]) -> String {
    let line =
        |line: &String| if line == "…" { "(?:[^\n]*\n)*?".to_owned() } else { pattern(line) + "[ \r]*\n" };
    shown.iter().map(line).collect()
}

/// Runs a step in the system's shell.
async fn in_system(step: &Step, servers: &str, dir: &Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n{}", step.typed)]).current_dir(dir).envs([
        ("PATH", format!("{}:{path}", dir.display())),
        ("QUEUECTL_SERVERS", servers.to_owned()),
        ("QUEUECTL_TIMEOUT", "30s".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ]);
    let ran = Running::start(&mut shell).end().await;
    let mut output = ran.stdout.clone();
    if ran.code != 0 {
        output.push_str(&format!("exit {}\n", ran.code));
    }
    let expected = Regex::new(&format!("^{}$", patterns(&step.shown))).expect("it is a pattern");
    let (line, typed, shown) = (step.line, &step.typed, step.shown.join("\n"));
    assert!(
        expected.is_match(&output),
        "README.md line {line}: {typed}\n--- shows\n{output}--- not\n{shown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_console_block_of_the_readme_shows_what_happens() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let steps = steps(&std::fs::read_to_string(readme).expect("there is a README"));
    assert!(!steps.is_empty(), "the README shows no cluster being used");

    let dir = tempfile::tempdir().expect("there is a temporary directory");
    std::os::unix::fs::symlink(queuectl().get_program(), dir.path().join("queuectl")).expect("it is ours");
    let mut dev = queued();
    dev.args(["dev", "--any-port"]).current_dir(dir.path());
    dev.env("XDG_STATE_HOME", dir.path()).env_remove("XDG_RUNTIME_DIR");
    let mut terminal = Terminal::start(dev);
    let (screen, _) = terminal.shows_match("dev:n[1-3]> ");
    let nodes = Regex::new(r"n[1-3] +(127\.0\.0\.1:[0-9]+)").expect("it is a pattern");
    let servers: Vec<&str> = nodes.captures_iter(&screen).map(|found| found.extract::<1>().1[0]).collect();
    assert_eq!(servers.len(), 3, "{screen}");
    for step in &steps {
        match step.prompt {
            Prompt::System => in_system(step, &servers.join(","), dir.path()).await,
            Prompt::Dev => {
                terminal.type_in(&format!("{}\r", step.typed));
                for line in step.shown.iter().filter(|line| *line != "…") {
                    terminal.shows_match(&pattern(line));
                }
            }
        }
    }
    terminal.type_in("exit\r");
    assert_eq!(terminal.ends().1, 0);
}

#[test]
fn steps_are_found_behind_the_start_of_the_cluster() {
    let text = "\
```console
$ queuectl nothing
$ cargo run --release -- dev
any screen
dev:n1> push hello \"it works\"
pushed 1 to hello (id 2)                                     2.2 ms
```
no block
$ nothing
```console
$ queuectl pop hello; echo \"exit $?\"
hello is empty   # a remark
$ cat <<E
> text
> E
text
$ cargo test
ok
```
";
    let step = |prompt, line, typed: &str, shown: &[&str]| Step {
        prompt,
        line,
        typed: typed.to_owned(),
        shown: shown.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(
        steps(text),
        [
            step(
                Prompt::Dev,
                5,
                "push hello \"it works\"",
                &["pushed 1 to hello (id 2)                                     2.2 ms"]
            ),
            step(Prompt::System, 11, "queuectl pop hello; echo \"exit $?\"", &["hello is empty"]),
            step(Prompt::System, 13, "cat <<E\ntext\nE", &["text"]),
        ]
    );
}

#[test]
fn only_what_differs_from_run_to_run_may_differ() {
    let matches =
        |line: &str, output: &str| Regex::new(&format!("^{}$", pattern(line))).unwrap().is_match(output);
    for (line, output) in [
        ("pushed 1 to hello (id 2)    2.2 ms", "pushed 1 to hello (id 2)  14.9 ms"),
        ("n1    leader  127.0.0.1:7410  81 GiB  3d 4h", "n3  leader   127.0.0.1:12001  900 MiB  5s"),
        ("  ID  lease until 14:04:22Z", "ID   lease until 09:00:01Z"),
        ("killed n1 (pid 41230)", "killed n2 (pid 7)"),
        ("cluster [..]", "cluster 7c1e"),
    ] {
        assert!(matches(line, output), "{line:?} {output:?} {}", pattern(line));
    }
    for (line, output) in [
        ("pushed 1 to hello (id 2)", "pushed 2 to hello (id 2)"),
        ("pushed 1 to hello (id 2)", "pushed 1 to hello (id 3)"),
        ("leader  n1", "follower  n1"),
        ("it works", "it works not"),
    ] {
        assert!(!matches(line, output), "{line:?} {output:?} {}", pattern(line));
    }
}
