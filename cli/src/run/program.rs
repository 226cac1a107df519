//! The program: from its arguments to its exit code.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::aid::context;
use crate::aid::schema;
use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::live;
use crate::grammar::{
    Cli, Cmd, Color, Completions, Settings, Top, json_by_environment, of_process, with_examples,
};
use crate::run::batch;
use crate::run::commands;
use crate::run::misuse;
use crate::run::repl::{self, ShellOptions};
use crate::shell::{Input, Shell};
use crate::terminal;
use crate::terminal::output::{Output, Talk};
use crate::terminal::stop::{self, Second};

/// The variable that asks for completion instead of a run.
const COMPLETE: &str = "COMPLETE";

/// Runs the program with its arguments, the first being its name, and returns its exit code. Makes a runtime of its
/// own, so it must not be called within one.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    terminal::set_panic_hook();
    let args: Vec<OsString> = args.into_iter().collect();
    if std::env::var_os(COMPLETE).is_some() {
        return complete(&args);
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let helped = with_examples(Cli::command()).try_get_matches_from(&args);
            return explain(&helped.err().unwrap_or(error), false, false);
        }
        Err(error) => return explain(&error, wants_json(&args), wants_nagios(&args)),
    };
    let mut cli = cli;
    // Contexts are changed whatever is wrong with the one in use.
    let reach = match &cli.command {
        Some(Top::Context(_) | Top::Schema { .. } | Top::Help { .. }) => Ok(()),
        _ => cli.reach.complete(&of_process),
    };
    let completed = reach.and_then(|()| cli.settings.complete(&of_process));
    if let Err(failure) = completed {
        return tell(&failure, wants_json(&args));
    }
    match cli.command.take() {
        Some(Top::Completions { shell }) => registration(shell),
        Some(Top::Help { words }) => help(&words, wants_json(&args)),
        None | Some(Top::Repl) if std::io::stdin().is_terminal() => {
            let label = "queuectl".to_owned();
            let (servers, secure) = (cli.reach.servers.clone(), cli.reach.secure.clone());
            let (tls_ca, token_file) = (secure.tls_ca, secure.token_file);
            let options = ShellOptions { servers, tls_ca, token_file, label, banner: None, extra: None };
            repl::start(options, cli.reach, cli.settings)
        }
        command => run(cli, command),
    }
}

fn wants_json(args: &[OsString]) -> bool {
    json_by_environment() || args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// A plugin of Nagios: wrong use is UNKNOWN, which is 3.
fn wants_nagios(args: &[OsString]) -> bool {
    let named = args.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "nagios");
    named || args.iter().any(|arg| arg == "--format=nagios")
}

/// Whether talk is coloured.
pub(crate) fn colors(settings: &Settings) -> bool {
    match settings.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            let forced =
                std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0" && !value.is_empty());
            let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
            !set("NO_COLOR") && (forced || (std::io::stderr().is_terminal() && !dumb))
        }
    }
}

fn run(cli: Cli, command: Option<Top>) -> i32 {
    repl::within_runtime(async {
        let (stopper, stop) = stop::pair();
        // To a worker the second signal says to give back what runs.
        let works = matches!(&command, Some(Top::Cmd(Cmd::Work(_))));
        let second = if works { Second::Stops } else { Second::Exits };
        if let Err(error) = stop::listen(&stopper, second) {
            return tell(&Failure::io(format!("cannot listen for signals: {error}")), cli.settings.json);
        }
        let talk = Talk::stderr(colors(&cli.settings));
        let mut shell = Shell::new(cli.reach, cli.settings.clone(), Output::stdout(), talk, stop);
        shell.begin(cli.settings);
        let stdin_is_terminal = std::io::stdin().is_terminal();
        let exit = match command {
            Some(Top::Cmd(cmd)) => {
                shell.input = if stdin_is_terminal { Input::Terminal } else { Input::Data };
                let done = commands::run(&mut shell, cmd).await;
                let exit = match &done {
                    Ok(exit) => *exit,
                    Err(end) => {
                        shell.report(end);
                        end.exit()
                    }
                };
                // An empty take has opened no session; closing one would cost the log an entry.
                if exit != Exit::No {
                    shell.close().await;
                }
                exit
            }
            Some(Top::Context(cmd)) => told(&mut shell, |shell| context::run(shell, cmd)).await,
            Some(Top::Schema { name }) => told(&mut shell, |shell| schema::run(shell, name.as_deref())).await,
            Some(Top::Run(args)) => batch::run_file(shell, stopper, args).await,
            _ => batch::run_stdin(shell, stopper).await,
        };
        exit.code()
    })
}

/// What a command that asks no node comes to.
async fn told(shell: &mut Shell, run: impl FnOnce(&mut Shell) -> Done) -> Exit {
    let done = run(shell);
    let flushed = shell.out.flush().await;
    match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(end) => {
            shell.report(&end);
            end.exit()
        }
    }
}

/// What clap has to say: help and version on standard output, everything else is a usage error; to Nagios it is 3.
fn explain(error: &clap::Error, json: bool, nagios: bool) -> i32 {
    if !error.use_stderr() {
        let written = std::io::stdout().write_all(error.render().to_string().as_bytes());
        return match written {
            Ok(()) => Exit::Done.code(),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::ReaderGone.code(),
            Err(_) => Exit::Io.code(),
        };
    }
    if nagios {
        let _ = std::io::stdout().write_all(format!("UNKNOWN - {}\n", first_line(error)).as_bytes());
        return Exit::Part.code();
    }
    match misuse::failure(error) {
        Some(failure) => tell(&failure, json),
        None if json => tell(&Failure::usage("a command is missing"), true),
        None => {
            let _ = std::io::stderr().write_all(error.render().to_string().as_bytes());
            Exit::Usage.code()
        }
    }
}

/// The commands, or what there is to one: what `--help` says behind them.
fn help(words: &[String], json: bool) -> i32 {
    let mut tree = with_examples(Cli::command());
    let mut at = &tree;
    for word in words {
        let Some(found) = at.find_subcommand(word) else {
            let failure = Failure::usage(format!("no command \"{}\"", words.join(" ")));
            return tell(&failure.hint("`queuectl help` lists the commands"), json);
        };
        at = found;
    }
    let asked = ["queuectl"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    match tree.try_get_matches_from_mut(asked) {
        Ok(_) => Exit::Done.code(),
        Err(error) => explain(&error, json, false),
    }
}

/// The first line of a parse error, without its prefix.
pub(crate) fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn tell(failure: &Failure, json: bool) -> i32 {
    let text = if json { failure.document().to_string() } else { failure.text(false, false) };
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    failure.exit.code()
}

/// Prints what a shell must run to complete the program's words.
fn registration(shell: Completions) -> i32 {
    let completer: &dyn EnvCompleter = match shell {
        Completions::Bash => &Bash,
        Completions::Zsh => &Zsh,
        Completions::Fish => &Fish,
    };
    let mut script = Vec::new();
    let written = completer.write_registration(COMPLETE, "queuectl", "queuectl", "queuectl", &mut script);
    match written.and_then(|()| std::io::stdout().write_all(&script)) {
        Ok(()) => Exit::Done.code(),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::ReaderGone.code(),
        Err(error) => tell(&Failure::io(format!("cannot write to standard output: {error}")), false),
    }
}

/// Answers a shell that wants the program's words completed.
fn complete(args: &[OsString]) -> i32 {
    live::set_source(repl::one_shot_source(args));
    let here = std::env::current_dir().ok();
    let env = CompleteEnv::with_factory(Cli::command).var(COMPLETE).bin("queuectl").completer("queuectl");
    match env.try_complete(args.iter().cloned(), here.as_deref()) {
        Ok(_) => Exit::Done.code(),
        Err(_) => Exit::Usage.code(),
    }
}
