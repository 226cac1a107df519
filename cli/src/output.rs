//! Where output goes: [`Output`] is standard output, data for a reader; [`Talk`] is standard error, talk for a
//! person. Nothing else in this crate writes to either.
//!
//! Data is written by a thread of its own, so that a reader that does not read stops neither Ctrl-C nor the
//! connections. A reader that went away ends the command quietly.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::errors::{End, Failure};
use crate::exit::Exit;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Sink = Arc<Mutex<dyn Write + Send>>;

/// Standard output, or what stands for it.
pub(crate) struct Output {
    pending: Vec<u8>,
    sink: Sink,
    terminal: bool,
    written: Arc<AtomicUsize>,
}

impl Output {
    /// Standard output of this process.
    pub(crate) fn stdout() -> Self {
        Self { terminal: io::IsTerminal::is_terminal(&io::stdout()), ..Self::to(io::stdout()) }
    }

    /// Anything that can be written to.
    pub(crate) fn to(sink: impl Write + Send + 'static) -> Self {
        Self {
            pending: Vec::new(),
            sink: Arc::new(Mutex::new(sink)),
            terminal: false,
            written: Arc::default(),
        }
    }

    /// A person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Adds `data`; nothing is written before a flush.
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    /// Adds a JSON document on a line of its own.
    pub(crate) fn document(&mut self, document: &serde_json::Value) {
        self.add(document.to_string().as_bytes());
        self.add(b"\n");
    }

    /// Bytes added since the last flush.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the latest flush that were handed over so far; also while it runs or after it was dropped.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::Acquire)
    }

    /// Hands over everything added.
    ///
    /// # Errors
    /// Quietly with 141 if the reader went away; `io` otherwise. [`Output::written`] tells how far it came.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.pending);
        let written = Arc::new(AtomicUsize::new(0));
        self.written = Arc::clone(&written);
        let sink = Arc::clone(&self.sink);
        let result = tokio::task::spawn_blocking(move || write_counted(&mut *lock(&sink), &data, &written))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted)));
        result.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => End::Quiet(Exit::ReaderGone),
            _ => Failure::io(format!("cannot write to standard output: {error}")).into(),
        })
    }
}

fn write_counted(sink: &mut dyn Write, data: &[u8], written: &AtomicUsize) -> io::Result<()> {
    // A buffered sink would count what only reached its buffer, so each step ends with a flush.
    const STEP: usize = 64 << 10;
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + STEP);
        match sink.write(&data[at..end]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        sink.flush()?;
        written.store(at, Ordering::Release);
    }
    Ok(())
}

/// Prints above a line that is being edited.
pub(crate) type Above = Box<dyn FnMut(String) + Send>;

struct TalkState {
    sink: Sink,
    status: bool,
    above: Option<Above>,
    editing: bool,
}

/// Standard error: lines for a person, and one status line that is redrawn. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Talk {
    state: Arc<Mutex<TalkState>>,
    terminal: bool,
    color: bool,
}

impl Talk {
    /// Standard error of this process.
    pub(crate) fn stderr(color: bool) -> Self {
        Self { terminal: io::IsTerminal::is_terminal(&io::stderr()), color, ..Self::to(io::stderr()) }
    }

    /// Anything that can be written to.
    pub(crate) fn to(sink: impl Write + Send + 'static) -> Self {
        let state =
            TalkState { sink: Arc::new(Mutex::new(sink)), status: false, above: None, editing: false };
        Self { state: Arc::new(Mutex::new(state)), terminal: false, color: false }
    }

    /// A person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Colours are wanted.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// While a line is being edited, talk goes through `above`.
    pub(crate) fn set_above(&self, above: Above) {
        lock(&self.state).above = Some(above);
    }

    /// A line is being edited from now on, or no more.
    pub(crate) fn set_editing(&self, editing: bool) {
        self.status(None);
        lock(&self.state).editing = editing;
    }

    /// Writes lines; a status line gives way. Errors have nowhere to go.
    pub(crate) fn line(&self, text: &str) {
        let mut state = lock(&self.state);
        if let (true, Some(above)) = (state.editing, &mut state.above) {
            above(format!("{text}\n"));
            return;
        }
        let clear = if std::mem::take(&mut state.status) { "\r\x1b[K" } else { "" };
        let mut sink = lock(&state.sink);
        let _ = sink.write_all(format!("{clear}{text}\n").as_bytes());
        let _ = sink.flush();
    }

    /// Asks the person at the terminal and reads a line; `None` if they closed it.
    pub(crate) async fn ask(&self, question: String) -> Option<String> {
        self.status(None);
        {
            let state = lock(&self.state);
            let mut sink = lock(&state.sink);
            let _ = sink.write_all(question.as_bytes());
            let _ = sink.flush();
        }
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line).ok().filter(|count| *count > 0).map(|_| line)
        });
        read.await.ok().flatten()
    }

    /// Draws the status line over the one before, or takes it away. Only a terminal has one.
    pub(crate) fn status(&self, text: Option<&str>) {
        let mut state = lock(&self.state);
        if !self.terminal || state.editing || (text.is_none() && !state.status) {
            return;
        }
        state.status = text.is_some();
        let mut sink = lock(&state.sink);
        let _ = sink.write_all(format!("\r\x1b[K{}", text.unwrap_or_default()).as_bytes());
        let _ = sink.flush();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sink that keeps what it got, and can go away after so many bytes.
    #[derive(Clone, Default)]
    pub(crate) struct Kept {
        pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
        pub(crate) room: Option<usize>,
    }

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
        }
    }

    impl Write for Kept {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut bytes = lock(&self.bytes);
            let room = self.room.map_or(data.len(), |room| room.saturating_sub(bytes.len()));
            if room == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = room.min(data.len());
            bytes.extend_from_slice(&data[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_went_away_ends_quietly_and_the_count_tells_what_it_got() {
        let kept = Kept { room: Some(5), ..Kept::default() };
        let mut output = Output::to(kept.clone());
        output.add(b"abc\ndef\n");
        assert!(matches!(output.flush().await, Err(End::Quiet(Exit::ReaderGone))));
        assert_eq!((output.written(), kept.text().as_str()), (5, "abc\nd"));
    }

    #[tokio::test]
    async fn other_errors_are_reported_as_local_input_and_output() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = Output::to(Full);
        output.add(b"x");
        let Err(End::Failed(failure)) = output.flush().await else { panic!("must fail") };
        assert_eq!((failure.code, failure.exit), ("io", Exit::Io));
    }

    #[test]
    fn a_line_takes_the_place_of_the_status_line() {
        let kept = Kept::default();
        let talk = Talk { terminal: true, ..Talk::to(kept.clone()) };
        talk.status(Some("waiting"));
        talk.line("done");
        talk.status(None);
        assert_eq!(kept.text(), "\r\x1b[Kwaiting\r\x1b[Kdone\n");
    }
}
