//! The line editor on a thread of its own: it blocks, and the commands do not.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustyline::config::{BellStyle, Configurer};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor, ExternalPrinter};
use tokio::sync::{mpsc, oneshot};

use super::Extra;
use super::complete::Assistant;
use crate::grammar::live;
use crate::terminal::output::Talk;

/// Lines that are kept.
const HISTORY_LINES_MAX: usize = 10_000;

/// What came of reading a line.
#[derive(Debug)]
pub(crate) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// What the thread is asked.
enum Ask {
    Line { prompt: String, keep: bool, answer: oneshot::Sender<Typed> },
    History { answer: oneshot::Sender<Vec<String>> },
}

/// The thread, from outside. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LineEditor(mpsc::UnboundedSender<Ask>);

impl LineEditor {
    /// Starts the thread. What is said while a line is edited goes above it.
    ///
    /// # Errors
    /// If there is no thread or no terminal to be had.
    pub(crate) fn start(
        talk: Talk,
        color: bool,
        extra: Option<Arc<dyn Extra>>,
        source: impl FnOnce() -> live::Source + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let mut editor = editor(color, extra)?;
        if let Ok(mut printer) = editor.create_external_printer() {
            talk.set_above(Box::new(move |text| {
                let _ = printer.print(text);
            }));
        }
        let history = history_file();
        thread::Builder::new().name("editor".into()).spawn(move || {
            live::set_source(source());
            if let Some(path) = &history {
                let _ = editor.load_history(path);
            }
            while let Some(ask) = asked.blocking_recv() {
                match ask {
                    Ask::Line { prompt, keep, answer } => {
                        talk.set_editing(true);
                        let typed = read(&mut editor, &prompt, keep, history.as_deref());
                        talk.set_editing(false);
                        let _ = answer.send(typed);
                    }
                    Ask::History { answer } => {
                        let _ = answer.send(editor.history().iter().cloned().collect());
                    }
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Reads a command line.
    pub(crate) async fn line(&self, prompt: String) -> Typed {
        self.ask(prompt, true).await
    }

    /// Reads an answer to a question, which is not kept.
    pub(crate) async fn question(&self, prompt: String) -> Option<String> {
        match self.ask(prompt, false).await {
            Typed::Line(text) => Some(text),
            Typed::Interrupted | Typed::End => None,
        }
    }

    async fn ask(&self, prompt: String, keep: bool) -> Typed {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send(Ask::Line { prompt, keep, answer });
        answered.await.unwrap_or(Typed::End)
    }

    /// What was typed, oldest first.
    pub(crate) async fn history(&self) -> Vec<String> {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send(Ask::History { answer });
        answered.await.unwrap_or_default()
    }
}

type Lines = Editor<Assistant, FileHistory>;

fn editor(color: bool, extra: Option<Arc<dyn Extra>>) -> std::io::Result<Lines> {
    let config = || -> rustyline::Result<Config> {
        Ok(Config::builder()
            .max_history_size(HISTORY_LINES_MAX)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
            .bracketed_paste(true)
            .build())
    };
    let failed = |error: ReadlineError| std::io::Error::other(error.to_string());
    let mut editor = Lines::with_config(config().map_err(failed)?).map_err(failed)?;
    editor.set_auto_add_history(false);
    editor.set_helper(Some(Assistant::new(color, extra)));
    Ok(editor)
}

fn read(editor: &mut Lines, prompt: &str, keep: bool, history: Option<&Path>) -> Typed {
    if let Some(assistant) = editor.helper_mut() {
        assistant.set_active(keep);
    }
    match editor.readline(prompt) {
        Ok(line) => {
            if keep && !line.trim().is_empty() && editor.add_history_entry(line.as_str()).unwrap_or(false) {
                save(editor, history);
            }
            Typed::Line(line)
        }
        Err(ReadlineError::Interrupted) => Typed::Interrupted,
        Err(_) => Typed::End,
    }
}

/// Adds the newest line to the file. A history that cannot be kept is no reason to stop.
fn save(editor: &mut Lines, history: Option<&Path>) {
    let Some(path) = history else { return };
    if editor.append_history(path).is_ok() {
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    }
}

/// `$XDG_STATE_HOME/queuectl/history`, its folder made; a home that is not there is not.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").filter(|home| home.is_dir()).map(|home| home.join(".local/state")))?;
    let folder = state.join("queuectl");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder.join("history"))
}
