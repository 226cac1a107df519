//! Where the bodies of a push come from: the command line, files, or standard input.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::failure::{End, Failure};
use crate::grammar::PushArgs;
use crate::send::lines::{Cut, Splitter};
use crate::shell::{Input, Shell};

/// One read of standard input.
const CHUNK_SIZE: usize = 64 << 10;

/// Where bodies come from.
pub(crate) enum Source {
    /// All there: command line or files.
    Bodies(VecDeque<Bytes>),
    /// Standard input.
    Stream { splitter: Splitter, chunks: mpsc::Receiver<std::io::Result<Vec<u8>>> },
}

impl Source {
    /// What standard input gives next, `None` at its end. Never returns for a source that needs no reading.
    pub(crate) async fn next_chunk(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        match self {
            Source::Stream { chunks, .. } => chunks.recv().await,
            Source::Bodies(_) => std::future::pending().await,
        }
    }
}

/// Opens the source. The stdin rule: a body on the command line leaves standard input alone; none reads it, unless it is a person. With it comes what one
/// body of it is called.
pub(crate) fn open(shell: &Shell, args: &PushArgs) -> Result<(Source, &'static str), End> {
    if !args.file.is_empty() {
        let read = |path| {
            std::fs::read(path).map(Bytes::from).map_err(|error| {
                Failure::io(format!("cannot read {}: {error}", std::path::Path::display(path)))
            })
        };
        let bodies = args.file.iter().map(|path| read(path.as_path())).collect::<Result<_, _>>()?;
        return Ok((Source::Bodies(bodies), "file"));
    }
    let dash = args.bodies.len() == 1 && args.bodies[0] == "-";
    if !args.bodies.is_empty() && !dash {
        if args.lines || args.whole || args.null {
            let message = "--lines, --whole and --null are for standard input, but a body is given";
            return Err(Failure::usage(message).into());
        }
        let bodies = args.bodies.iter().cloned().map(|body| Bytes::from(body.into_vec())).collect();
        return Ok((Source::Bodies(bodies), "message"));
    }
    let queue = &args.queue;
    match shell.input {
        Input::Data => {}
        Input::Terminal if dash => {}
        Input::Terminal => {
            return Err(Failure::usage("no body given and standard input is a terminal")
                .fact(format!("queuectl push {queue} \"text\"          one message"))
                .fact(format!("queuectl push {queue} < file          one message per line"))
                .fact(format!("queuectl push {queue} --file a.png    one message, the whole file"))
                .into());
        }
        Input::Commands => {
            return Err(Failure::usage("no body given and standard input holds the commands")
                .fact(format!("push {queue} \"text\"          one message"))
                .fact(format!("push {queue} --file a.png    one message, the whole file"))
                .into());
        }
    }
    let cut = if args.whole {
        Cut::Whole
    } else if args.null {
        Cut::Nulls
    } else {
        Cut::Lines
    };
    Ok((Source::Stream { splitter: Splitter::new(cut), chunks: read_stdin() }, cut.unit()))
}

/// The name of the file that standard input is, if it is one and its name can be pasted.
pub(crate) fn stdin_file() -> Option<String> {
    let path = std::fs::read_link("/proc/self/fd/0").ok()?;
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    let here = std::env::current_dir().ok();
    let path = here.and_then(|here| path.strip_prefix(here).ok().map(ToOwned::to_owned)).unwrap_or(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    path.to_str().filter(|text| text.chars().all(plain)).map(ToOwned::to_owned)
}

/// Reads standard input on a thread of its own. The thread ends with the input, or with the process.
fn read_stdin() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut chunk = vec![0; CHUNK_SIZE];
            let read = match stdin.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    chunk.truncate(count);
                    Ok(chunk)
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = read.is_err();
            if sender.blocking_send(read).is_err() || last {
                break;
            }
        }
    });
    receiver
}
