//! Commands from a file or a pipe: each line is run as in the interactive shell, until one fails.

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::failure::exit::Exit;
use crate::failure::{End, Failure};
use crate::grammar::RunArgs;
use crate::run::repl::session::{Next, Session};
use crate::run::words;
use crate::shell::{Input, Mode, Shell};
use crate::terminal::stop::Stopper;

/// Runs the commands of a file.
pub(crate) async fn run_file(mut shell: Shell, stopper: Stopper, args: RunArgs) -> Exit {
    let file = match std::fs::File::open(&args.file) {
        Ok(file) => file,
        Err(error) => {
            let end = Failure::io(format!("cannot open {}: {error}", args.file.display())).into();
            shell.report(&end);
            return end.exit();
        }
    };
    shell.input = Input::Data;
    let name = args.file.display().to_string();
    run(shell, stopper, lines(file), &name, args.keep_going).await
}

/// Runs the commands on standard input.
pub(crate) async fn run_stdin(mut shell: Shell, stopper: Stopper) -> Exit {
    shell.input = Input::Commands;
    run(shell, stopper, lines(std::io::stdin()), "standard input", false).await
}

type Lines = mpsc::Receiver<std::io::Result<String>>;

/// Reads lines on a thread of its own, so that a pipe that is slow stops nothing.
fn lines(input: impl Read + Send + 'static) -> Lines {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines() {
            let last = line.is_err();
            if sender.blocking_send(line).is_err() || last {
                break;
            }
        }
    });
    receiver
}

async fn run(mut shell: Shell, stopper: Stopper, mut lines: Lines, name: &str, keep_going: bool) -> Exit {
    shell.mode = Mode::Batch;
    let mut stop = shell.stop.clone();
    let mut session = Session::new(shell, stopper, None);
    let (mut number, mut first_failure) = (0_u64, None);
    loop {
        let command = tokio::select! {
            biased;
            exit = stop.wait() => return exit,
            command = command(&mut lines, &mut number) => command,
        };
        let next = match command {
            Ok(None) => break,
            Ok(Some(text)) => session.run(&text).await,
            Err(failure) => {
                let end = End::from(failure);
                session.shell.report(&end);
                first_failure.get_or_insert(end.exit());
                break;
            }
        };
        match next {
            Next::Leave => break,
            Next::Line(Exit::Done) => {}
            Next::Line(exit) => {
                if !session.shell.settings.quiet {
                    session.shell.talk.line(&format!("{name}:{number}: exit {}", exit.code()));
                }
                first_failure.get_or_insert(exit);
                let stopped = matches!(exit, Exit::Interrupted | Exit::Terminated | Exit::ReaderGone);
                if !keep_going || stopped {
                    break;
                }
            }
        }
    }
    session.shell.close().await;
    first_failure.unwrap_or(Exit::Done)
}

/// The next command, which may go over several lines.
async fn command(lines: &mut Lines, number: &mut u64) -> Result<Option<String>, Failure> {
    let mut text = String::new();
    while let Some(line) = lines.recv().await {
        let line = line.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => {
                Failure::new("bad_input", Exit::BadData, format!("line {} is not UTF-8", *number + 1))
            }
            _ => Failure::io(format!("cannot read commands: {error}")),
        })?;
        *number += 1;
        // Editors of another system put it before the first line.
        text.push_str(line.strip_prefix('\u{feff}').filter(|_| *number == 1).unwrap_or(&line));
        if words::split(&text).is_ok() {
            return Ok(Some(text));
        }
        text.push('\n');
    }
    if text.is_empty() { Ok(None) } else { Ok(Some(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_may_go_over_several_lines() {
        let mut lines = lines(&b"push a 'one\ntwo'\nls \\\n--json\n# end\npush b \"open\n"[..]);
        let mut number = 0;
        let mut seen = Vec::new();
        while let Some(text) = command(&mut lines, &mut number).await.unwrap() {
            seen.push((text, number));
        }
        let expected = [("push a 'one\ntwo'", 2), ("ls \\\n--json", 4), ("# end", 5), ("push b \"open\n", 6)];
        assert_eq!(seen, expected.map(|(text, number)| (text.to_owned(), number)));
    }

    #[tokio::test]
    async fn a_mark_of_byte_order_is_no_part_of_the_first_command() {
        let mut lines = lines("\u{feff}ls\npush a \u{feff}\n".as_bytes());
        let mut number = 0;
        assert_eq!(command(&mut lines, &mut number).await, Ok(Some("ls".to_owned())));
        assert_eq!(command(&mut lines, &mut number).await, Ok(Some("push a \u{feff}".to_owned())));
    }

    #[tokio::test]
    async fn a_line_that_is_no_text_is_named() {
        let mut lines = lines(&b"ls\n\xff\n"[..]);
        let mut number = 0;
        assert_eq!(command(&mut lines, &mut number).await, Ok(Some("ls".to_owned())));
        let failure = command(&mut lines, &mut number).await.unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::BadData, "line 2 is not UTF-8"));
    }
}
