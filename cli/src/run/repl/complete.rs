//! What the line editor knows of the language: completion, hints, colours, and when a line goes on.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::Arc;

use clap::Command;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::Extra;
use super::session::tree;
use crate::grammar::Line;
use crate::run::words;

/// The helper of the line editor.
pub(crate) struct Assistant {
    tree: Command,
    color: bool,
    extra: Option<Arc<dyn Extra>>,
    active: bool,
    history: HistoryHinter,
}

impl Assistant {
    /// For the tree of the shell.
    pub(crate) fn new(color: bool, extra: Option<Arc<dyn Extra>>) -> Self {
        Self { tree: tree(), color, extra, active: true, history: HistoryHinter::new() }
    }

    /// A command is read, or the answer to a question, for which there is no help.
    pub(crate) fn set_active(&mut self, active: bool) {
        self.active = active;
    }

    fn knows(&self, word: &str) -> bool {
        self.tree.find_subcommand(word).is_some()
            || self.extra.as_ref().is_some_and(|extra| extra.word() == word)
    }

    /// What may stand where the line ends, and where it begins.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = word_start(line);
        let current = &line[start..];
        let Ok(before) = words::split(&line[..start]) else { return (start, Vec::new()) };
        if before.pipe.is_some() {
            return (start, Vec::new());
        }
        if let (Some(extra), Some(first)) = (&self.extra, before.words.first())
            && first == extra.word()
        {
            let rest: Vec<&str> = before.words[1..].iter().map(String::as_str).chain([current]).collect();
            let found = extra.complete(&rest).into_iter().filter(|word| word.starts_with(current));
            return (start, found.collect());
        }
        let index = before.words.len();
        let args: Vec<OsString> =
            before.words.into_iter().map(OsString::from).chain([OsString::from(current)]).collect();
        let mut command = <Line as clap::CommandFactory>::command();
        let found = clap_complete::engine::complete(&mut command, args, index, None).unwrap_or_default();
        let mut found: Vec<String> = found
            .iter()
            .filter(|candidate| !candidate.is_hide_set())
            .filter_map(|candidate| candidate.get_value().to_str().map(str::to_owned))
            .filter(|word| current.starts_with('-') || !word.starts_with('-'))
            .collect();
        if let Some(extra) =
            self.extra.as_ref().filter(|extra| index == 0 && extra.word().starts_with(current))
        {
            found.push(extra.word().to_owned());
        }
        (start, found)
    }

    /// The positional arguments that are still to come, once a space shows that the last word is whole.
    fn usage_hint(&self, line: &str) -> Option<String> {
        let words = words::split(line).ok().filter(|words| words.pipe.is_none())?.words;
        let (mut command, mut rest) = (&self.tree, words.as_slice());
        while let Some(sub) = rest.first().and_then(|word| command.find_subcommand(word)) {
            (command, rest) = (sub, &rest[1..]);
        }
        if !line.ends_with(' ') || rest.len() == words.len() || rest.iter().any(|word| word.starts_with('-'))
        {
            return None;
        }
        if command.has_subcommands() && command.get_positionals().next().is_none() {
            return rest.is_empty().then(|| "<command>".to_owned());
        }
        let usage: Vec<String> = command
            .get_positionals()
            .skip(rest.len())
            .map(|arg| {
                let name = arg
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map_or_else(|| arg.get_id().as_str().to_lowercase(), |name| name.to_lowercase());
                if arg.is_required_set() { format!("<{name}>") } else { format!("[{name}]") }
            })
            .collect();
        if usage.is_empty() { None } else { Some(usage.join(" ")) }
    }
}

/// Where the word at the end of the line begins.
fn word_start(line: &str) -> usize {
    line.rfind([' ', '\t', '\n', '|']).map_or(0, |at| at + 1)
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if !self.active {
            return Ok((pos, Vec::new()));
        }
        let (start, found) = self.candidates(&line[..pos]);
        let only = found.len() == 1;
        let pairs = found.into_iter().map(|word| {
            let replacement = if only { format!("{word} ") } else { word.clone() };
            Pair { display: word, replacement }
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, ctx: &Context<'_>) -> Option<String> {
        if !self.active || pos < line.len() || line.is_empty() {
            return None;
        }
        self.usage_hint(line).or_else(|| self.history.hint(line, pos, ctx))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        let word = line.split_whitespace().next().unwrap_or_default();
        if !self.color || !self.active || word.is_empty() || word.starts_with(['!', '#']) {
            return Cow::Borrowed(line);
        }
        let at = line.find(word).unwrap_or(0);
        let begun =
            line.trim_start() == word && self.tree.get_subcommands().any(|c| c.get_name().starts_with(word));
        let color = match (self.knows(word), begun) {
            (true, _) => "\x1b[32m",
            (false, true) => "",
            (false, false) => "\x1b[31m",
        };
        Cow::Owned(format!("{}{color}{word}\x1b[0m{}", &line[..at], &line[at + word.len()..]))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.color { Cow::Owned(format!("\x1b[2m{hint}\x1b[0m")) } else { Cow::Borrowed(hint) }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color && self.active
    }
}

impl Validator for Assistant {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on =
            self.active && !ctx.input().trim_start().starts_with('!') && words::split(ctx.input()).is_err();
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::grammar::live;

    struct Dev;

    impl Extra for Dev {
        fn word(&self) -> &str {
            "dev"
        }
        fn help(&self) -> Vec<(String, String)> {
            vec![("dev kill NODE".into(), "Kill a node".into())]
        }
        fn complete(&self, words: &[&str]) -> Vec<String> {
            match words {
                [_] => vec!["kill".into(), "pause".into()],
                ["kill", _] => vec!["leader".into(), "n1".into()],
                _ => Vec::new(),
            }
        }
        fn run(&self, _: Vec<String>) -> BoxFuture<'_, Result<String, String>> {
            Box::pin(async { Ok(String::new()) })
        }
    }

    fn found(line: &str) -> Vec<String> {
        live::set_source(Box::new(|kind| match kind {
            live::Kind::Queues => vec!["jobs".into(), "journal".into(), "emails".into()],
            live::Kind::Nodes => vec!["n1".into()],
            live::Kind::Receipts => vec!["#1".into()],
        }));
        Assistant::new(false, Some(Arc::new(Dev))).candidates(line).1
    }

    #[test]
    fn commands_queues_and_receipts_complete() {
        assert_eq!(found("pus"), ["push"]);
        assert_eq!(found("push j"), ["jobs", "journal"]);
        assert_eq!(found("push jo"), ["jobs", "journal"]);
        assert_eq!(found("queue in"), ["info"]);
        assert_eq!(found("ack "), ["#1"]);
        assert_eq!(found("cluster transfer "), ["n1"]);
        assert!(found("pop jobs --w").contains(&"--wait".to_owned()));
        assert!(found("").contains(&"push".to_owned()) && found("").contains(&"dev".to_owned()));
        assert_eq!(found("peek jobs | j"), [""; 0]);
    }

    #[test]
    fn words_of_the_host_complete_too() {
        assert_eq!(found("de"), ["dead", "dev"]);
        assert_eq!(found("dev k"), ["kill"]);
        assert_eq!(found("dev kill l"), ["leader"]);
    }

    #[test]
    fn hints_are_the_arguments_still_to_come() {
        let assistant = Assistant::new(false, None);
        let hint = |line: &str| assistant.usage_hint(line);
        assert_eq!(hint("push ").as_deref(), Some("<queue> [body]"));
        assert_eq!(hint("push jobs ").as_deref(), Some("[body]"));
        assert_eq!(hint("queue ").as_deref(), Some("<command>"));
        assert_eq!(hint("queue info ").as_deref(), Some("<queue>"));
        for line in ["push", "pop jobs ", "nothing ", "push --create ", "peek jobs | "] {
            assert_eq!(hint(line), None, "{line}");
        }
    }
}
