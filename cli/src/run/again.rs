//! `--watch`: a read again and again until somebody stops it. A terminal shows the newest answer alone, cut to its height;
//! a pipe gets one after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::Cmd;
use crate::run::commands;
use crate::shell::Shell;
use crate::show::clock;

/// No more often than this.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Runs a read every so often; ends when it is stopped, or when it fails in a way that waiting does not mend.
pub(crate) async fn run(shell: &mut Shell, cmd: &Cmd, every: Duration) -> Done {
    if !cmd.is_read() {
        return Err(Failure::usage("--watch is for commands that only read").into());
    }
    let every = every.max(EVERY_MIN);
    let draws = shell.out.is_terminal() && !shell.settings.json;
    let quiet = shell.settings.quiet;
    shell.settings.quiet |= draws;
    let done = rounds(shell, cmd, every, draws).await;
    shell.settings.quiet = quiet;
    done
}

async fn rounds(shell: &mut Shell, cmd: &Cmd, every: Duration, draws: bool) -> Done {
    let mut stop = shell.stop.clone();
    let mut is_first = true;
    loop {
        let due = Instant::now() + every;
        if draws {
            let text = captured(shell, cmd).await?;
            let frame = frame(&header(every), &text, shell.out.size(), is_first);
            shell.out.control(&frame);
        } else if let Err(end) = commands::once(shell, cmd.clone()).await {
            if matches!(end, End::Quiet(_)) || (is_first && !mends(&end)) {
                return Err(end);
            }
            shell.report(&end);
        }
        shell.out.flush().await?;
        is_first = false;
        tokio::select! {
            biased;
            exit = stop.wait() => return Err(End::Quiet(exit)),
            () = sleep(due.saturating_duration_since(Instant::now())) => {}
        }
    }
}

/// What the command has to say now, an error included that may go away.
async fn captured(shell: &mut Shell, cmd: &Cmd) -> Result<String, End> {
    let (out, kept) = shell.out.captured();
    let before = std::mem::replace(&mut shell.out, out);
    let done = commands::once(shell, cmd.clone()).await;
    let flushed = shell.out.flush().await;
    shell.out = before;
    let mut text = kept.text();
    match done.map(drop).and(flushed) {
        Ok(()) => {}
        Err(End::Failed(failure)) if mends(&End::Failed(failure.clone())) => {
            text.push_str(&failure.text(false, shell.is_interactive()));
            text.push('\n');
        }
        Err(end) => return Err(end),
    }
    Ok(text)
}

/// It may go well the next time.
fn mends(end: &End) -> bool {
    match end {
        End::Failed(failure) => failure.retryable || failure.exit == Exit::Unreachable,
        End::Quiet(_) => false,
    }
}

fn header(every: Duration) -> String {
    let now = clock::time_of_day(clock::unix_ms_in(Duration::ZERO));
    format!("every {}  {now}  Ctrl-C ends", humantime::format_duration(every))
}

/// Draws these lines over the ones before; what does not fit in the terminal is counted.
pub(crate) fn frame(header: &str, text: &str, size: Option<(usize, usize)>, is_first: bool) -> String {
    let (columns, rows) = size.unwrap_or((usize::MAX, usize::MAX));
    // The last row stays free, so that nothing scrolls.
    let room = rows.saturating_sub(3).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let mut frame = if is_first { "\x1b[2J\x1b[H".to_owned() } else { "\x1b[H".to_owned() };
    let mut add = |line: &str| {
        frame.extend(line.chars().take(columns));
        frame.push_str("\x1b[K\r\n");
    };
    add(header);
    add("");
    if lines.is_empty() {
        add("nothing");
    }
    if lines.len() <= room {
        lines.iter().for_each(|line| add(line));
    } else {
        lines[..room - 1].iter().for_each(|line| add(line));
        add(&format!("… {} more lines", lines.len() - (room - 1)));
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_no_higher_and_no_wider_than_the_terminal() {
        let text: String = (1..=30).map(|number| format!("line {number} is long\n")).collect();
        let drawn = frame("head", &text, Some((10, 8)), false);
        let lines: Vec<&str> = drawn.split("\x1b[K\r\n").collect();
        assert_eq!(lines[0], "\x1b[Hhead");
        assert_eq!((lines[2], lines[6]), ("line 1 is ", "… 26 more "), "{lines:?}");
        assert_eq!(lines.len(), 8, "the last one is what clears the rest");
        assert!(frame("head", "", Some((10, 8)), true).contains("nothing"));
    }
}
