//! The interactive shell: a line editor on its own thread, commands on the runtime, notices above the line.

mod complete;
mod editor;
pub(crate) mod session;
mod watch;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use queue_protocol::wire::request::NackKind;
use tokio::time::{Instant, timeout};

use self::editor::{LineEditor, Typed};
use self::session::{Next, Session};
use self::watch::View;
use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::live;
use crate::grammar::{
    Color, Reach, Secure, Settings, json_by_environment, of_process, timeout_by_environment,
};
use crate::run::program;
use crate::shell::{Held, Input, Mode, Shell, connect_silently};
use crate::show::render;
use crate::take::settle::{self, Settle};
use crate::terminal;
use crate::terminal::output::{Output, Talk};
use crate::terminal::stop::{self, Second, Stop};

/// A word that the host of the shell adds to it, such as `dev`.
pub trait Extra: Send + Sync {
    /// The word that lines begin with.
    fn word(&self) -> &str;
    /// Usage and one line about it, for each thing it can do.
    fn help(&self) -> Vec<(String, String)>;
    /// What may stand at the place of the last of `words`; they begin behind the word, and the last may be empty.
    fn complete(&self, words: &[&str]) -> Vec<String>;
    /// Does it; `words` begin behind the word. The text goes to standard output, that of an error to standard error.
    /// Dropped if the user presses Ctrl-C.
    fn run(&self, words: Vec<String>) -> BoxFuture<'_, Result<String, String>>;
}

/// What [`shell`] is started with.
pub struct ShellOptions {
    /// `host:port` of nodes, in order.
    pub servers: Vec<String>,
    /// TLS is spoken, and the authorities of this file are trusted; plain if `None`.
    pub tls_ca: Option<PathBuf>,
    /// Logs in with the token in this file.
    pub token_file: Option<PathBuf>,
    /// First part of the prompt.
    pub label: String,
    /// Printed before the first prompt; a line about the cluster if `None`, nothing if empty.
    pub banner: Option<String>,
    /// Another word.
    pub extra: Option<Arc<dyn Extra>>,
}

/// Runs the interactive shell on this terminal until the user leaves it, and returns the exit code: 0, or 143 after
/// SIGTERM. Sets the panic hook, handles SIGINT and SIGTERM of the process, and makes a runtime of its own, so it
/// must not be called within one.
pub fn shell(options: ShellOptions) -> i32 {
    terminal::set_panic_hook();
    let (tls_ca, token_file) = (options.tls_ca.clone(), options.token_file.clone());
    let secure = Secure { tls_ca, token_file, ..Secure::default() };
    let reach = Reach {
        servers: options.servers.clone(),
        context: None,
        origin: "this program".to_owned(),
        no_follow: false,
        no_wait: false,
        secure,
    };
    let settings = Settings {
        timeout: timeout_by_environment(),
        json: json_by_environment(),
        yes: false,
        quiet: false,
        verbose: 0,
        watch: None,
        color: Color::Auto,
    };
    start(options, reach, settings)
}

/// Runs the interactive shell with these settings.
pub(crate) fn start(options: ShellOptions, reach: Reach, settings: Settings) -> i32 {
    terminal::save();
    let exit = within_runtime(run(options, reach, settings));
    terminal::restore();
    exit
}

/// Runs `work` on a runtime of its own. Threads that still block, on a terminal or a pipe, keep nobody.
pub(crate) fn within_runtime(work: impl Future<Output = i32>) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives a new process what a runtime needs");
    let exit = runtime.block_on(work);
    runtime.shutdown_background();
    exit
}

async fn run(options: ShellOptions, reach: Reach, settings: Settings) -> i32 {
    let ShellOptions { servers, label, banner, extra, .. } = options;
    let color = program::colors(&settings);
    let talk = Talk::stderr(color);
    let (stopper, stop) = stop::pair();
    let side = connect_silently(&reach, Duration::from_secs(2));
    let (sender, view) = tokio::sync::watch::channel(View::default());
    tokio::spawn(watch::watch(side.clone(), servers, talk.clone(), sender));

    let receipts = Arc::new(Mutex::new(Vec::new()));
    let source = {
        let (handle, view, receipts) =
            (tokio::runtime::Handle::current(), view.clone(), Arc::clone(&receipts));
        move || watch::source(handle, side, view, receipts)
    };
    let started = stop::listen(&stopper, Second::Stops)
        .and_then(|()| LineEditor::start(talk.clone(), color, extra.clone(), source));
    let editor = match started {
        Ok(editor) => editor,
        Err(error) => {
            let failure = Failure::io(format!("cannot start the shell: {error}"));
            talk.line(&failure.text(color, true));
            return failure.exit.code();
        }
    };

    let mut shell = Shell::new(reach, settings, Output::stdout(), talk.clone(), stop.clone());
    shell.mode = Mode::Interactive;
    shell.input = Input::Terminal;
    let asker = editor.clone();
    shell.asker = Some(Arc::new(move |question| {
        let asker = asker.clone();
        Box::pin(async move { asker.question(question).await })
    }));
    // For the banner, and for the first prompt, which names the leader.
    let looked = looked(&mut view.clone()).await;
    match banner {
        Some(text) if text.is_empty() => {}
        Some(text) => talk.line(text.trim_end()),
        None => talk.line(&banner_of(&looked)),
    }
    let mut session = Session::new(shell, stopper, extra);
    let exit = lines(&mut session, &editor, &label, view, stop, &receipts).await;
    session.shell.close().await;
    exit.code()
}

/// The first view of the cluster, if it comes soon.
async fn looked(view: &mut tokio::sync::watch::Receiver<View>) -> View {
    let looked = timeout(Duration::from_secs(1), view.wait_for(|view| view.looked)).await;
    looked.ok().and_then(Result::ok).map(|view| view.clone()).unwrap_or_default()
}

/// `queuectl 0.4.1 — leader n1, 3 of 3 nodes. Tab completes, …`
fn banner_of(view: &View) -> String {
    let cluster = match (&view.leader, view.reachable) {
        (_, (_, 0)) => "no node answers".to_owned(),
        (Some(leader), (have, of)) => format!("leader {leader}, {have} of {of} nodes"),
        (None, (have, of)) => format!("no leader, {have} of {of} nodes"),
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("queuectl {version} — {cluster}. Tab completes, `help` lists, Ctrl-D leaves.")
}

async fn lines(
    session: &mut Session,
    editor: &LineEditor,
    label: &str,
    view: tokio::sync::watch::Receiver<View>,
    mut stop: Stop,
    receipts: &Mutex<Vec<String>>,
) -> Exit {
    loop {
        let held = session.shell.held.leases().iter().map(|lease| format!("#{}", lease.short)).collect();
        *receipts.lock().unwrap_or_else(PoisonError::into_inner) = held;
        let prompt = prompt(label, &view.borrow(), session);
        let typed = tokio::select! {
            biased;
            exit = terminated(&mut stop) => return exit,
            typed = editor.line(prompt) => typed,
        };
        let next = match typed {
            Typed::Line(text) => {
                if text.trim_start().starts_with("history") {
                    session.history = editor.history().await;
                }
                session.run(&text).await
            }
            Typed::Interrupted => {
                session.shell.talk.line("Ctrl-D leaves");
                continue;
            }
            Typed::End => Next::Leave,
        };
        match next {
            Next::Line(Exit::Terminated) => return Exit::Terminated,
            Next::Line(Exit::Interrupted) => session.shell.talk.line("^C"),
            Next::Line(_) => {}
            Next::Leave => {
                leave(session, editor).await;
                return Exit::Done;
            }
        }
    }
}

/// While a line is edited the terminal makes no SIGINT; what comes is for the process.
async fn terminated(stop: &mut Stop) -> Exit {
    loop {
        match stop.wait().await {
            Exit::Terminated => return Exit::Terminated,
            // An old Ctrl-C of a command; the next command forgets it.
            _ => stop.changed().await,
        }
    }
}

/// `dev:n3 [1 leased] jobs> `
fn prompt(label: &str, view: &View, session: &Session) -> String {
    let leader = view.leader.as_deref().unwrap_or("-");
    let leased = match session.shell.held.leases().len() {
        0 => String::new(),
        count => format!(" [{count} leased]"),
    };
    let queue = session.queue.as_ref().map(|queue| format!(" {queue}")).unwrap_or_default();
    format!("{label}:{leader}{leased}{queue}> ")
}

/// Says what becomes of the leases taken here, and gives them back if that is wanted.
async fn leave(session: &mut Session, editor: &LineEditor) {
    let shell = &mut session.shell;
    let Some(text) = left_behind(&shell.held, Instant::now()) else { return };
    let answer = editor.question(format!("{text} Give back now? [Y/n] ")).await;
    let yes = answer.is_some_and(|text| matches!(text.trim(), "" | "y" | "Y" | "yes"));
    if !yes {
        return;
    }
    let receipts: Vec<_> = shell.held.leases().iter().map(|lease| lease.receipt.clone()).collect();
    let kind = Settle::Nack(NackKind::Release { delay_ms: 0 });
    let settlements = settle::settle(&shell.client, &kind, receipts).await;
    let done = settlements.iter().filter(|settlement| settlement.is_done()).count() as u64;
    shell.talk.line(&format!("gave back {}", render::messages(done)));
}

/// `2 messages are leased here; they come back when their leases end, the first in 12s.`
fn left_behind(held: &Held, now: Instant) -> Option<String> {
    let first = held.leases().iter().map(|lease| lease.until).min()?;
    let left = first.saturating_duration_since(now).as_secs();
    Some(match held.leases().len() {
        1 => format!("1 message is leased here; it comes back when its lease ends, in {left}s."),
        count => format!(
            "{count} messages are leased here; they come back when their leases end, the first in {left}s."
        ),
    })
}

/// Names for completion by another shell: one short look at the servers that the words or the environment name.
pub(crate) fn one_shot_source(args: &[OsString]) -> live::Source {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    let mut named = None;
    while let Some(arg) = args.next() {
        if arg == "-s" || arg == "--servers" {
            named = args.next().map(str::to_owned);
        } else if let Some(value) = arg.strip_prefix("--servers=").or_else(|| arg.strip_prefix("-s")) {
            named = Some(value.to_owned());
        }
    }
    let servers = named.map_or_else(Vec::new, |named: String| named.split(',').map(str::to_owned).collect());
    let mut reach = Reach {
        servers,
        context: None,
        origin: String::new(),
        no_follow: false,
        no_wait: true,
        secure: Secure::default(),
    };
    let usable = reach.complete(&of_process).is_ok();
    Box::new(move |kind| {
        const BUDGET: Duration = Duration::from_millis(200);
        if !usable {
            return Vec::new();
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Vec::new();
        };
        let names = runtime.block_on(async {
            let client = connect_silently(&reach, BUDGET);
            let names = async {
                match kind {
                    live::Kind::Queues => watch::queue_names(&client).await,
                    live::Kind::Nodes => match crate::nodes::gather(&client, &reach.servers, BUDGET).await {
                        Ok(nodes) => nodes.members().iter().map(|member| member.name.to_string()).collect(),
                        Err(_) => Vec::new(),
                    },
                    live::Kind::Receipts => Vec::new(),
                }
            };
            timeout(BUDGET, names).await.unwrap_or_default()
        });
        runtime.shutdown_background();
        names
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leaving_with_leases_says_what_becomes_of_them() {
        let now = Instant::now();
        let mut held = Held::default();
        assert_eq!(left_behind(&held, now), None);
        held.add("jobs/1/1".parse().unwrap(), now + Duration::from_secs(29));
        let one = "1 message is leased here; it comes back when its lease ends, in 29s.";
        assert_eq!(left_behind(&held, now).as_deref(), Some(one));
        held.add("jobs/2/2".parse().unwrap(), now + Duration::from_secs(12));
        let two = "2 messages are leased here; they come back when their leases end, the first in 12s.";
        assert_eq!(left_behind(&held, now).as_deref(), Some(two));
    }
}
