//! Examples for `--help`, one or two for each command. A test types them all against a node: ids and receipts in them stand for
//! one that the test has at hand, what is behind a `#` is for the reader.

use clap::Command;

/// The words of a command, and its examples.
type Example = (&'static [&'static str], &'static str);

const EXAMPLES: &[Example] = &[
    (
        &["push"],
        "queuectl push hello \"text\"          # one message\n\
                 queuectl push hello < file          # one message per line\n\
                 queuectl push hello --file a.png    # one message, the whole file",
    ),
    (&["pop"], "queuectl pop jobs -n 10\nqueuectl pop jobs --wait 1s          # waits for one"),
    (&["lease"], "queuectl lease jobs --for 5m\nqueuectl lease ls jobs               # who holds what"),
    (&["lease", "ls"], "queuectl lease ls jobs --limit 20"),
    (&["ack"], "queuectl ack jobs/1006/1005"),
    (
        &["nack"],
        "queuectl nack jobs/1006/1005 --delay 1m --reason \"no disk\"\n\
                 queuectl nack jobs/1006/1005 --release",
    ),
    (&["extend"], "queuectl extend jobs/1006/1005 --for 10m"),
    (&["peek"], "queuectl peek jobs -n 5 --state delayed\nqueuectl peek jobs 1006"),
    (&["explain"], "queuectl explain jobs"),
    (
        &["work"],
        "queuectl work mail --drain -- cat\n\
                 queuectl work mail --drain --parallel 4 --timeout 1m -- wc -c {}\n\
                 queuectl work jobs --max 1 --shell 'read url; echo \"$url\"'",
    ),
    (&["txn"], "queuectl txn steps.json"),
    (&["message", "show"], "queuectl message show jobs 1006"),
    (&["message", "history"], "queuectl message history jobs 1006"),
    (&["message", "position"], "queuectl message position jobs 1006"),
    (&["message", "kick"], "queuectl message kick jobs 1008        # a delayed or dead one"),
    (&["message", "cancel"], "queuectl message cancel jobs 1008      # a delayed one"),
    (&["message", "rm"], "queuectl message rm jobs 1006 --yes"),
    (&["message", "edit"], "queuectl message edit jobs 1006 --priority 9"),
    (&["message", "move"], "queuectl message move jobs 1006 --to mail"),
    (&["queue", "ls"], "queuectl queue ls --sort oldest\nqueuectl queue ls 'job*' --json"),
    (&["queue", "info"], "queuectl queue info jobs"),
    (
        &["queue", "create"],
        "queuectl queue create thumbs --max-failures 3 --lease 1m\n\
                            queuectl queue create orders --ordered on --if-not-exists",
    ),
    (&["queue", "rm"], "queuectl queue rm mail --yes"),
    (&["queue", "set"], "queuectl queue set jobs max-failures=10 ttl=1h dead-to=none"),
    (&["queue", "pause"], "queuectl queue pause jobs --pushes"),
    (&["queue", "resume"], "queuectl queue resume jobs --pushes --leases"),
    (&["queue", "purge"], "queuectl queue purge jobs --older-than 1d --dry-run"),
    (&["queue", "move"], "queuectl queue move jobs mail --limit 100"),
    (&["group", "ls"], "queuectl group ls jobs"),
    (&["group", "weight"], "queuectl group weight jobs customer-7 3"),
    (&["schedule", "ls"], "queuectl schedule ls"),
    (
        &["schedule", "add"],
        "queuectl schedule add report jobs \"build it\" --cron '0 9 * * MON-FRI' --zone Europe/Berlin\n\
                            queuectl schedule add ping jobs ping --every 5m --replace",
    ),
    (&["schedule", "rm"], "queuectl schedule rm report"),
    (&["dead", "ls"], "queuectl dead ls jobs --limit 20"),
    (&["dead", "show"], "queuectl dead show jobs 1009"),
    (
        &["dead", "retry"],
        "queuectl dead retry jobs 1009\nqueuectl dead retry jobs --all --error \"no disk\" --yes",
    ),
    (&["dead", "rm"], "queuectl dead rm jobs --all --older-than 7d --yes"),
    (&["whoami"], "queuectl whoami"),
    (&["can"], "queuectl can me push jobs                # exit 0 or 1"),
    (&["audit"], "queuectl audit --since 1d --by ann\nqueuectl audit --queue jobs --json"),
    (&["audit", "verify"], "queuectl audit verify                # exit 0 or 1"),
    (&["auth", "status"], "queuectl auth status --secret-file /var/lib/queued/SECRET"),
    (&["auth", "on"], "queuectl auth on --token-file ann.token --because \"ticket 7\" --yes"),
    (&["auth", "off"], "queuectl auth off --secret-file /var/lib/queued/SECRET --yes"),
    (&["principal", "ls"], "queuectl principal ls --secret-file /var/lib/queued/SECRET"),
    (&["principal", "show"], "queuectl principal show ann --secret-file /var/lib/queued/SECRET"),
    (
        &["principal", "add"],
        "queuectl principal add ann --grant admin --secret-file /var/lib/queued/SECRET\n\
                  queuectl principal add billing --grant push:orders.* --token-file ann.token",
    ),
    (&["principal", "rm"], "queuectl principal rm billing --token-file ann.token --yes"),
    (&["principal", "grant"], "queuectl principal grant billing look:* --token-file ann.token"),
    (&["principal", "revoke"], "queuectl principal revoke billing push:orders.* --token-file ann.token"),
    (&["principal", "disable"], "queuectl principal disable billing --token-file ann.token"),
    (&["key", "ls"], "queuectl key ls --token-file ann.token"),
    (&["key", "add"], "queuectl key add ann --out ann.token --secret-file /var/lib/queued/SECRET"),
    (&["key", "rotate"], "queuectl key rotate billing --overlap 7d --token-file ann.token"),
    (&["key", "revoke"], "queuectl key revoke aaaqeaydaudaocaj --token-file ann.token --yes"),
    (&["cluster", "status"], "queuectl cluster status\nqueuectl cluster status --watch=5s"),
    (&["cluster", "members"], "queuectl cluster members"),
    (&["cluster", "clients"], "queuectl cluster clients --all"),
    (&["cluster", "wait"], "queuectl cluster wait --for voters=1 --timeout 30s"),
    (&["cluster", "transfer"], "queuectl cluster transfer n2"),
    (&["cluster", "add"], "queuectl cluster add 10.0.0.4:7410"),
    (&["cluster", "promote"], "queuectl cluster promote n4"),
    (&["cluster", "remove"], "queuectl cluster remove n4 --rotate --yes"),
    (&["cluster", "replace"], "queuectl cluster replace n3 10.0.0.4:7410 --yes"),
    (&["cluster", "set-address"], "queuectl cluster set-address n3 10.0.0.9:7410"),
    (
        &["cluster", "drain"],
        "queuectl cluster drain n1              # before a restart\nqueuectl cluster drain n1 --undo",
    ),
    (&["cluster", "rotate-secret"], "queuectl cluster rotate-secret"),
    (
        &["cluster", "log"],
        "queuectl cluster log n1 debug --for 2m\nqueuectl cluster log n1 settings     # back at once",
    ),
    (&["slow"], "queuectl slow"),
    (
        &["cluster", "tls-forget"],
        "queuectl cluster tls-forget n3      # its tls.mode was set to off on purpose",
    ),
    (&["cluster", "upgrade"], "queuectl cluster upgrade"),
    (&["cluster", "safe-to-stop"], "queuectl cluster safe-to-stop n1"),
    (&["check", "cluster"], "queuectl check cluster --voters 1"),
    (&["check", "queue"], "queuectl check queue jobs --ready 10000,100000 --oldest 5m"),
    (&["check", "node"], "queuectl check node n1 --disk-free 10MiB"),
    (&["stats"], "queuectl stats --watch=1s\nqueuectl stats --stages"),
    (&["top"], "queuectl top --sort in --filter job\nqueuectl top --json -n 1 --every 200ms"),
    (
        &["bench"],
        "queuectl bench push --count 1000 --warmup 100ms\n\
                  queuectl bench roundtrip --duration 1s --warmup 100ms --rate 200",
    ),
    (&["ping"], "queuectl ping"),
    (&["doctor"], "queuectl doctor"),
    (&["bundle"], "queuectl bundle report.tar.gz"),
    (&["errors"], "queuectl errors queue_full"),
    (&["schema"], "queuectl schema message\nqueuectl schema                        # lists the documents"),
    (&["version"], "queuectl version --json"),
    (&["run"], "queuectl run setup.txt --keep-going"),
    (&["completions"], "queuectl completions bash              # source <(queuectl completions bash)"),
    (&["context", "ls"], "queuectl context ls"),
    (&["context", "add"], "queuectl context add prod mq1,mq2,mq3:7420 --replace"),
    (&["context", "use"], "queuectl context use prod"),
    (&["context", "rm"], "queuectl context rm prod"),
    (&["help"], "queuectl help queue create"),
];

/// The tree with its examples, for whoever asks for help.
pub(crate) fn with_examples(tree: Command) -> Command {
    EXAMPLES.iter().fold(tree, |tree, (words, text)| add(tree, words, text))
}

fn add(command: Command, words: &[&str], text: &str) -> Command {
    let Some((first, rest)) = words.split_first() else {
        let title = if text.contains('\n') { "Examples:" } else { "Example:" };
        let examples: String = text.lines().map(|line| format!("\n  {line}")).collect();
        let before = command.get_after_help().map_or_else(String::new, |help| format!("{help}\n\n"));
        return command.after_help(format!("{before}{title}{examples}"));
    };
    if command.find_subcommand(first).is_none() {
        // The shell and the command line differ in a few words.
        return command;
    }
    command.mut_subcommand(first, |command| add(command, rest, text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::grammar::{Cli, Line};

    #[test]
    fn every_command_that_is_shown_has_an_example() {
        fn walk(command: &Command, path: &mut Vec<String>, missing: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                path.push(sub.get_name().to_owned());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                let is_leaf = sub.get_subcommands().next().is_none();
                if is_leaf && !help.contains("Example") {
                    missing.push(path.join(" "));
                }
                walk(sub, path, missing);
                path.pop();
            }
        }
        let mut missing = Vec::new();
        walk(&with_examples(Cli::command()), &mut Vec::new(), &mut missing);
        missing.retain(|path| path != "repl");
        assert!(missing.is_empty(), "{missing:?}");
        let shell = with_examples(Line::command());
        assert!(shell.find_subcommand("push").is_some_and(|push| push.get_after_help().is_some()));
    }

    #[test]
    fn help_fits_80_columns_whatever_the_environment() {
        fn walk(command: &mut Command, wide: &mut Vec<String>) {
            let text = command.clone().term_width(80).render_long_help().to_string();
            let lines =
                text.lines().filter(|line| line.chars().count() > 80 && !line.starts_with("  queuectl"));
            wide.extend(lines.map(|line| format!("{}: {line}", command.get_name())));
            command.get_subcommands_mut().for_each(|sub| walk(sub, wide));
        }
        let mut wide = Vec::new();
        let mut tree = with_examples(Cli::command());
        tree.build();
        walk(&mut tree, &mut wide);
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
