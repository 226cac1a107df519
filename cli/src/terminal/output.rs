//! Where output goes: [`Output`] is standard output, data for a reader; [`Talk`] is standard error, talk for a
//! person. Nothing else in this crate writes to either.
//!
//! Data is written by a thread of its own, so that a reader that does not read stops neither Ctrl-C nor the
//! connections. A reader that went away ends the command quietly.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, OFlags};

use crate::failure::exit::Exit;
use crate::failure::{End, Failure};
use crate::show::render;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Sink = Arc<Mutex<dyn Write + Send>>;

/// Standard output, or what stands for it. What is added reaches a terminal as text: nothing in it steers the terminal.
pub(crate) struct Output {
    pending: Vec<u8>,
    sink: Sink,
    terminal: bool,
    /// A person wants bytes as they are.
    raw: bool,
    /// Nobody can read it.
    closed: bool,
}

impl Output {
    /// Standard output of this process.
    pub(crate) fn stdout() -> Self {
        // A file without a buffer: what was written is known to the byte.
        let plain = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let output = plain.map_or_else(|_| Self::to(io::stdout()), Self::to);
        Self { terminal: io::IsTerminal::is_terminal(&io::stdout()), closed: is_closed(), ..output }
    }

    /// Anything that can be written to.
    pub(crate) fn to(sink: impl Write + Send + 'static) -> Self {
        let sink = Arc::new(Mutex::new(sink));
        Self { pending: Vec::new(), sink, terminal: false, raw: false, closed: false }
    }

    /// A person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Characters in a line of the terminal; `None` if it is none, or does not tell.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.terminal)?;
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    /// The terminal's columns and rows; `None` if it is none, or does not tell.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.terminal)?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
    }

    /// Output that is kept instead, and looks as it would here.
    pub(crate) fn captured(&self) -> (Self, Captured) {
        let kept = Captured::default();
        (Self { terminal: self.terminal, raw: self.raw, ..Self::to(kept.clone()) }, kept)
    }

    /// Adds what steers the terminal.
    pub(crate) fn control(&mut self, sequence: &str) {
        if self.terminal {
            self.pending.extend_from_slice(sequence.as_bytes());
        }
    }

    /// Standard output was closed when the program started, so that whatever is written to it is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// From now on a terminal gets bytes as they are, or no more.
    pub(crate) fn set_raw(&mut self, raw: bool) {
        self.raw = raw;
    }

    fn is_guarded(&self) -> bool {
        self.terminal && !self.raw
    }

    /// Adds `data`; nothing is written before a flush.
    pub(crate) fn add(&mut self, data: &[u8]) {
        if self.is_guarded() {
            self.pending.extend_from_slice(&render::for_terminal(data));
        } else {
            self.pending.extend_from_slice(data);
        }
    }

    /// Adds a JSON document on a line of its own.
    pub(crate) fn document(&mut self, document: &serde_json::Value) {
        let text = document.to_string();
        let text = if self.is_guarded() { render::json_for_terminal(&text) } else { text };
        self.pending.extend_from_slice(text.as_bytes());
        self.pending.push(b'\n');
    }

    /// Bytes added since the last flush.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Begins to hand over everything added.
    pub(crate) fn begin_flush(&mut self) -> Flushing {
        let data = std::mem::take(&mut self.pending);
        let written = Arc::new(AtomicUsize::new(0));
        let (sink, count) = (Arc::clone(&self.sink), Arc::clone(&written));
        let writing = tokio::task::spawn_blocking(move || write_counted(&mut *lock(&sink), &data, &count));
        Flushing { written, writing }
    }

    /// Hands over everything added.
    ///
    /// # Errors
    /// Quietly with 141 if the reader went away; `io` otherwise.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        if self.pending.is_empty() { Ok(()) } else { self.begin_flush().done().await }
    }
}

/// What [`Output::captured`] keeps.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A flush that was begun. Dropped, it goes on until the process ends.
pub(crate) struct Flushing {
    written: Arc<AtomicUsize>,
    writing: tokio::task::JoinHandle<io::Result<()>>,
}

impl Flushing {
    /// Bytes that were handed over so far.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::Acquire)
    }

    /// Returns when all was handed over; may be dropped and called again until it has returned.
    ///
    /// # Errors
    /// As [`Output::flush`].
    pub(crate) async fn done(&mut self) -> Result<(), End> {
        let result =
            (&mut self.writing).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted)));
        result.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => End::Quiet(Exit::ReaderGone),
            _ => Failure::io(format!("cannot write to standard output: {error}")).into(),
        })
    }
}

/// What the runtime puts in the place of a closed standard output is `/dev/null`, opened for reading too, which no shell's
/// `> /dev/null` is.
fn is_closed() -> bool {
    let stdout = io::stdout();
    let (Ok(found), Ok(flags)) = (rustix::fs::fstat(&stdout), rustix::fs::fcntl_getfl(&stdout)) else {
        return true;
    };
    // In a root without devices nothing was put there.
    let Ok(null) = rustix::fs::stat("/dev/null") else { return false };
    let is_device = FileType::from_raw_mode(found.st_mode).is_char_device();
    is_device && found.st_rdev == null.st_rdev && flags & OFlags::ACCMODE == OFlags::RDWR
}

/// Writes in steps that a pipe takes whole or not at all (POSIX: `PIPE_BUF`), each of whole lines where they fit, so that a
/// process that ends meanwhile knows what its reader got.
fn write_counted(sink: &mut dyn Write, data: &[u8], written: &AtomicUsize) -> io::Result<()> {
    const STEP: usize = 4 << 10;
    let mut at = 0;
    while at < data.len() {
        let most = data.len().min(at + STEP);
        let lines = data[at..most].iter().rposition(|byte| *byte == b'\n').map(|last| at + last + 1);
        let end = if most == data.len() { most } else { lines.unwrap_or(most) };
        match sink.write(&data[at..end]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // A buffered sink would count what only reached its buffer.
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
        let mut flushing = output.begin_flush();
        assert!(matches!(flushing.done().await, Err(End::Quiet(Exit::ReaderGone))));
        assert_eq!((flushing.written(), kept.text().as_str()), (5, "abc\nd"));
    }

    #[tokio::test]
    async fn only_a_terminal_is_guarded_and_only_until_somebody_wants_it_raw() {
        for (terminal, raw, expected) in [
            (true, false, "\\u{1b}[2J\n{\"a\":\"\\u009b\"}\n"),
            (true, true, "\u{1b}[2J\n{\"a\":\"\u{9b}\"}\n"),
            (false, false, "\u{1b}[2J\n{\"a\":\"\u{9b}\"}\n"),
        ] {
            let kept = Kept::default();
            let mut output = Output { terminal, ..Output::to(kept.clone()) };
            output.set_raw(raw);
            output.add(b"\x1b[2J\n");
            output.document(&serde_json::json!({"a": "\u{9b}"}));
            output.flush().await.unwrap();
            assert_eq!(kept.text(), expected, "{terminal} {raw}");
        }
    }

    #[tokio::test]
    async fn a_step_is_whole_lines_that_a_pipe_takes_at_once() {
        #[derive(Clone, Default)]
        struct Steps(Arc<Mutex<Vec<usize>>>);
        impl Write for Steps {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                lock(&self.0).push(data.len());
                Ok(data.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let steps = Steps::default();
        let mut output = Output::to(steps.clone());
        (0..5).for_each(|_| output.add(format!("{}\n", "x".repeat(1_499)).as_bytes()));
        output.add("y".repeat(5_000).as_bytes());
        output.flush().await.unwrap();
        assert_eq!(*lock(&steps.0), [3_000, 3_000, 1_500, 4_096, 904]);
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
