//! One line after the other: words that only the shell has, pipes, and the commands of the tree.

use std::future::Future;
use std::process::Stdio;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use queue_protocol::names::QueueName;

use super::Extra;
use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{Cmd, DeadCmd, Line, Setting, Settings, Switch, Word, with_examples};
use crate::run::commands;
use crate::run::misuse;
use crate::run::words::{self, Words};
use crate::shell::{Mode, Shell};
use crate::terminal::output::Output;
use crate::terminal::stop::Stopper;

/// What comes after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next line; this one ended so.
    Line(Exit),
    /// Nothing: `exit` was typed.
    Leave,
}

/// The state between lines.
pub(crate) struct Session {
    pub(crate) shell: Shell,
    pub(crate) queue: Option<QueueName>,
    /// What was typed, for `history`.
    pub(crate) history: Vec<String>,
    base: Settings,
    stopper: Stopper,
    extra: Option<Arc<dyn Extra>>,
}

impl Session {
    /// Before the first line; the shell's settings are those of every line.
    pub(crate) fn new(shell: Shell, stopper: Stopper, extra: Option<Arc<dyn Extra>>) -> Self {
        let base = shell.settings.clone();
        Self { shell, queue: None, history: Vec::new(), base, stopper, extra }
    }

    /// Runs a line and reports what went wrong.
    pub(crate) async fn run(&mut self, text: &str) -> Next {
        if self.shell.mode == Mode::Interactive {
            self.stopper.reset();
        }
        self.shell.begin(self.base.clone());
        let done = match text.trim_start().strip_prefix('!') {
            Some(command) => self.system(command).await.map(Next::Line),
            None => match words::split(text) {
                Ok(words) => self.words(words).await,
                Err(words::Unfinished) => Err(Failure::usage("a quote is not closed").into()),
            },
        };
        match done {
            Ok(next) => next,
            Err(end) => {
                self.shell.report(&end);
                Next::Line(end.exit())
            }
        }
    }

    /// Runs a command of the system's shell, on this terminal.
    async fn system(&mut self, command: &str) -> Done {
        let child = tokio::process::Command::new("sh").arg("-c").arg(command).status();
        let status = self.or_stopped(child).await?;
        let status = status.map_err(|error| Failure::io(format!("cannot run sh: {error}")))?;
        Ok(if status.success() { Exit::Done } else { Exit::No })
    }

    async fn or_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut stop = self.shell.stop.clone();
        tokio::select! {
            biased;
            done = work => Ok(done),
            exit = stop.wait() => Err(End::Quiet(exit)),
        }
    }

    async fn words(&mut self, words: Words) -> Result<Next, End> {
        let Some(first) = words.words.first() else {
            return match words.pipe {
                None => Ok(Next::Line(Exit::Done)),
                Some(_) => Err(Failure::usage("nothing before the |").into()),
            };
        };
        let Some(pipe) = words.pipe else {
            return self.word(&words.words).await;
        };
        if pipe.is_empty() {
            return Err(Failure::usage(format!("nothing behind the | after {first}")).into());
        }
        self.piped(&words.words, &pipe).await
    }

    /// Runs a command with its output going into one of the system's shell.
    async fn piped(&mut self, words: &[String], pipe: &str) -> Result<Next, End> {
        let child = std::process::Command::new("sh").arg("-c").arg(pipe).stdin(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Failure::io(format!("cannot run sh: {error}")))?;
        let stdin = child.stdin.take().expect("asked for above");
        let stdout = std::mem::replace(&mut self.shell.out, Output::to(stdin));
        let next = self.word(words).await;
        // With the output goes the pipe, which tells the other end that this was all.
        self.shell.out = stdout;
        let waited = tokio::task::spawn_blocking(move || child.wait());
        self.or_stopped(waited).await?.ok();
        match next {
            // The other end had enough: that is its right.
            Err(End::Quiet(Exit::ReaderGone)) => Ok(Next::Line(Exit::Done)),
            next => next,
        }
    }

    async fn word(&mut self, words: &[String]) -> Result<Next, End> {
        let extra = self.extra.clone().filter(|extra| words.first().is_some_and(|word| word == extra.word()));
        if let Some(extra) = extra {
            return self.extra(&*extra, words).await;
        }
        let line = match parse(words, self.queue.as_ref()) {
            Ok(line) => line,
            Err(error) => return self.explain(&error).await,
        };
        self.shell.begin(self.merge(line.settings));
        match line.word {
            Word::Cmd(cmd) => commands::run(&mut self.shell, cmd).await.map(Next::Line),
            Word::Exit => Ok(Next::Leave),
            Word::Use { queue } => {
                self.queue = queue;
                Ok(Next::Line(Exit::Done))
            }
            Word::Set { what, value } => {
                let on = value == Switch::On;
                match what {
                    Setting::Json => self.base.json = on,
                    Setting::Timing => self.shell.timing = on,
                }
                Ok(Next::Line(Exit::Done))
            }
            Word::History => {
                for (number, line) in self.history.iter().enumerate() {
                    self.shell.out.add(format!("{:5}  {line}\n", number + 1).as_bytes());
                }
                self.flushed().await
            }
            Word::Help { words } => self.help(&words).await,
        }
    }

    /// Options on a line add to those of the shell.
    fn merge(&self, line: Settings) -> Settings {
        Settings {
            timeout: line.timeout.or(self.base.timeout),
            json: line.json || self.base.json,
            yes: line.yes || self.base.yes,
            quiet: line.quiet || self.base.quiet,
            verbose: line.verbose.max(self.base.verbose),
            watch: line.watch.or(self.base.watch),
            color: self.base.color,
        }
    }

    async fn flushed(&mut self) -> Result<Next, End> {
        self.shell.out.flush().await?;
        Ok(Next::Line(Exit::Done))
    }

    async fn extra(&mut self, extra: &dyn Extra, words: &[String]) -> Result<Next, End> {
        let text = match self.or_stopped(extra.run(words[1..].to_vec())).await? {
            Ok(text) => text,
            Err(text) => {
                self.shell.talk.line(text.trim_end());
                return Ok(Next::Line(Exit::No));
            }
        };
        self.shell.out.add(text.as_bytes());
        if !text.is_empty() && !text.ends_with('\n') {
            self.shell.out.add(b"\n");
        }
        self.flushed().await
    }

    /// What clap has to say about a line.
    async fn explain(&mut self, error: &clap::Error) -> Result<Next, End> {
        if !error.use_stderr() {
            self.shell.out.add(unnamed(error.render().to_string()).as_bytes());
            return self.flushed().await;
        }
        match misuse::failure(error) {
            Some(failure) => Err(failure.into()),
            None => {
                let text = unnamed(error.render().to_string());
                self.shell.talk.line(text.trim_end());
                Ok(Next::Line(Exit::Usage))
            }
        }
    }

    async fn help(&mut self, words: &[String]) -> Result<Next, End> {
        if let Some(extra) =
            self.extra.clone().filter(|extra| words.first().is_some_and(|w| w == extra.word()))
        {
            self.shell.out.add(extra_help(&*extra).as_bytes());
            return self.flushed().await;
        }
        let mut command = tree();
        if words.is_empty() {
            let mut text = overview(&mut command);
            if let Some(extra) = &self.extra {
                text.push_str(&extra_help(&**extra));
            }
            self.shell.out.add(text.as_bytes());
            return self.flushed().await;
        }
        let mut at = &mut command;
        for word in words {
            at = at.find_subcommand_mut(word).ok_or_else(|| {
                Failure::usage(format!("no command \"{}\"", words.join(" ")))
                    .hint("`help` lists the commands")
            })?;
        }
        let text = unnamed(at.render_long_help().to_string());
        self.shell.out.add(text.as_bytes());
        self.flushed().await
    }
}

/// The tree of the shell, built.
pub(crate) fn tree() -> clap::Command {
    let mut command = with_examples(Line::command());
    command.build();
    command
}

/// Text of clap about a program without a name, whose place it leaves empty.
fn unnamed(text: String) -> String {
    text.replace("Usage:  ", "Usage: ")
}

/// All commands, and what only the shell has.
fn overview(command: &mut clap::Command) -> String {
    let mut text = command.render_help().to_string().trim_end().to_owned();
    text.push_str("\n\n  !COMMAND         Run COMMAND in the system's shell\n");
    text.push_str("  … | COMMAND      Pipe the output into COMMAND\n");
    text.push_str("\n`help COMMAND` explains one. Tab completes, Ctrl-R searches, Ctrl-D leaves.\n");
    text
}

fn extra_help(extra: &dyn Extra) -> String {
    let rows = extra.help();
    let width = rows.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0);
    let rows: String = rows.iter().map(|(usage, what)| format!("  {usage:width$}  {what}\n")).collect();
    format!("\n{rows}")
}

/// Parses a line; where a queue is in use, it stands in for one that is not named. `push` then takes bodies only.
fn parse(words: &[String], queue: Option<&QueueName>) -> Result<Line, clap::Error> {
    let Some(queue) = queue else { return Line::try_parse_from(words) };
    let inserted = || -> Option<Vec<String>> {
        let at = match words.first()?.as_str() {
            "queue" | "dead" | "dlq" | "message" => 2,
            "lease" | "reserve" if words.get(1).is_some_and(|word| word == "ls") => 2,
            _ => 1,
        };
        let (head, tail) = words.split_at_checked(at)?;
        Some([head, &[queue.to_string()], tail].concat())
    };
    let retry = |words: Option<Vec<String>>, otherwise| match words.map(Line::try_parse_from) {
        Some(Ok(line)) => Ok(line),
        Some(Err(error)) if error.kind() == clap::error::ErrorKind::DisplayHelp => Err(error),
        _ => otherwise,
    };
    if matches!(words.first().map(String::as_str), Some("push" | "put" | "enqueue")) {
        return match inserted() {
            Some(words) => Line::try_parse_from(words),
            None => Line::try_parse_from(words),
        };
    }
    let mut parsed = Line::try_parse_from(words);
    if let Ok(line) = &mut parsed {
        let number = |name: &QueueName| name.as_str().bytes().all(|byte| byte.is_ascii_digit());
        match &mut line.word {
            Word::Cmd(Cmd::Stats(args)) => {
                args.queue.get_or_insert_with(|| queue.clone());
            }
            Word::Cmd(Cmd::Dead(DeadCmd::Ls { queue: named, .. })) => {
                named.get_or_insert_with(|| queue.clone());
            }
            // `peek 12` means message 12, as there is a queue already.
            Word::Cmd(Cmd::Peek(args)) if args.id.is_none() && number(&args.queue) => {
                return retry(inserted(), parsed);
            }
            Word::Cmd(Cmd::Explain(args)) if args.id.is_none() && number(&args.queue) => {
                return retry(inserted(), parsed);
            }
            Word::Cmd(Cmd::Dead(DeadCmd::Retry { which, .. })) if number(&which.queue) => {
                return retry(inserted(), parsed);
            }
            Word::Cmd(Cmd::Message(cmd)) if number(cmd.queue()) => {
                return retry(inserted(), parsed);
            }
            _ => {}
        }
        return parsed;
    }
    let words_of = |at: usize| words.get(at).map(String::as_str);
    let destroys = matches!(
        (words_of(0), words_of(1)),
        (Some("queue"), Some("rm" | "purge")) | (Some("dead" | "dlq"), Some("rm"))
    );
    if destroys { parsed } else { retry(inserted(), parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::QueueCmd;

    /// The queue that a command is about, where it has one.
    fn queue_of(line: &Line) -> Option<&str> {
        match &line.word {
            Word::Cmd(Cmd::Push(args)) => Some(args.queue.as_str()),
            Word::Cmd(Cmd::Pop(args)) => Some(args.queue.as_str()),
            Word::Cmd(Cmd::Lease(args)) => args.take.as_ref().map(|take| take.queue.as_str()),
            Word::Cmd(Cmd::Peek(args)) => Some(args.queue.as_str()),
            Word::Cmd(Cmd::Explain(args)) => Some(args.queue.as_str()),
            Word::Cmd(Cmd::Stats(args)) => args.queue.as_ref().map(QueueName::as_str),
            Word::Cmd(Cmd::Queue(QueueCmd::Info { queue, .. })) => Some(queue.as_str()),
            Word::Cmd(Cmd::Dead(DeadCmd::Ls { queue, .. })) => queue.as_ref().map(QueueName::as_str),
            Word::Cmd(Cmd::Dead(DeadCmd::Retry { which, .. })) => Some(which.queue.as_str()),
            Word::Cmd(Cmd::Message(cmd)) => Some(cmd.queue().as_str()),
            _ => None,
        }
    }

    fn parsed(line: &str, queue: Option<&str>) -> Result<Line, clap::Error> {
        let words = words::split(line).unwrap().words;
        parse(&words, queue.map(|name| name.parse().unwrap()).as_ref())
    }

    #[test]
    fn a_queue_in_use_stands_in_where_none_is_named() {
        for (line, queue) in [
            ("push hello", "jobs"),
            ("pop", "jobs"),
            ("pop -n 5", "jobs"),
            ("pop other", "other"),
            ("lease --for 30s", "jobs"),
            ("peek", "jobs"),
            ("peek 12", "jobs"),
            ("peek other", "other"),
            ("stats", "jobs"),
            ("stats other", "other"),
            ("queue info", "jobs"),
            ("dead ls", "jobs"),
            ("dead retry 12", "jobs"),
            ("dead retry --all", "jobs"),
            ("dead retry other 12", "other"),
            ("message show 12", "jobs"),
            ("message kick 12 13", "jobs"),
            ("message kick other 13", "other"),
        ] {
            let line_parsed = parsed(line, Some("jobs")).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(queue_of(&line_parsed), Some(queue), "{line}");
        }
    }

    #[test]
    fn what_destroys_names_its_queue() {
        for line in ["queue rm", "queue purge", "queue rm --yes", "dead rm --all"] {
            assert!(parsed(line, Some("jobs")).is_err(), "{line}");
        }
    }

    #[test]
    fn without_a_queue_in_use_it_must_be_named() {
        assert!(parsed("pop", None).is_err());
        assert_eq!(queue_of(&parsed("peek 12", None).unwrap()), Some("12"));
    }

    #[test]
    fn the_overview_lists_commands_and_the_words_of_the_shell() {
        let text = overview(&mut tree());
        for word in ["push", "pop", "queue", "cluster", "use", "set", "history", "exit", "!COMMAND"] {
            assert!(
                text.lines().any(|line| line.trim_start().starts_with(word)),
                "{word} is missing:\n{text}"
            );
        }
        for word in ["release", "status", "completions"] {
            assert!(!text.lines().any(|line| line.trim_start().starts_with(word)), "{word}:\n{text}");
        }
    }

    #[test]
    fn usage_in_the_shell_does_not_name_the_program() {
        let error = unnamed(parsed("push jobs x --nope", None).unwrap_err().render().to_string());
        assert!(error.contains("Usage: push "), "{error}");
        let help = unnamed(tree().find_subcommand_mut("push").unwrap().render_long_help().to_string());
        assert!(help.contains("Usage: push "), "{help}");
    }
}
