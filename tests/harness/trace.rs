//! System calls of a node, as strace tells them, and faults that strace can put into them.
//!
//! A time in a trace is one that strace saw: a call began then or later, and was over then or earlier. So what ends before
//! something else begins in a trace did so in truth, on one node or on two of one machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::{LIMIT, until};

/// A call that a program made.
#[derive(Clone, Debug)]
pub struct Call {
    /// `fdatasync`
    pub name: String,
    /// Number of the descriptor it is about, if its first argument is one.
    pub descriptor: Option<u64>,
    /// File or socket behind the descriptor: a path, or `TCP:[127.0.0.1:1->127.0.0.1:2]`.
    pub target: String,
    /// Arguments and result as strace shows them, long texts cut.
    pub text: String,
    /// Microseconds of the wall clock; it did not begin earlier.
    pub began: u64,
    /// Microseconds of the wall clock; it was not over later.
    pub over: u64,
    /// Negative for an error.
    pub result: i64,
}

impl Call {
    /// Both addresses of the connection it is about, the same seen from either end.
    pub fn connection(&self) -> Option<[&str; 2]> {
        let ends = self.target.strip_prefix("TCP:[")?.strip_suffix(']')?;
        let (own, other) = ends.split_once("->")?;
        Some(if own < other { [own, other] } else { [other, own] })
    }

    /// The bytes that it moved, as far as strace shows them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = self.text.bytes();
        let mut quoted = false;
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => quoted = !quoted,
                b'\\' if quoted => bytes.push(escaped(&mut rest)),
                byte if quoted => bytes.push(byte),
                _ => {}
            }
        }
        bytes.truncate(usize::try_from(self.result).unwrap_or(0));
        bytes
    }
}

/// What stands behind a backslash: up to three octal digits, or a letter.
fn escaped(rest: &mut std::str::Bytes<'_>) -> u8 {
    let octal = |byte: u8| (b'0'..=b'7').contains(&byte).then(|| byte - b'0');
    let first = rest.next().unwrap_or(b'\\');
    let Some(mut value) = octal(first) else {
        return match first {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            other => other,
        };
    };
    for _ in 0..2 {
        let Some(digit) = rest.clone().next().and_then(octal) else { break };
        value = value.wrapping_mul(8).wrapping_add(digit);
        rest.next();
    }
    value
}

/// Why nothing can be traced here.
pub fn missing() -> Option<String> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(format!("strace: {}", String::from_utf8_lossy(&tried.stderr).trim())),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// What stands before a program so that its calls of these names go to the file `output`. Its process stays the one that
/// was started. `more` are further options of strace.
pub fn under(output: &Path, names: &[&str], more: &[&str]) -> Vec<String> {
    let fixed = ["strace", "-D", "-f", "--seccomp-bpf", "-ttt", "-T", "-yy", "-s", "65536", "-e"];
    let mut words: Vec<String> = fixed.map(str::to_owned).into();
    words.push(format!("trace={}", names.join(",")));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.extend(["-o".to_owned(), output.display().to_string()]);
    words
}

/// The calls of process `pid`, which was killed or has ended, in the order in which they were over.
///
/// # Panics
/// If the trace does not come to its end in time.
pub async fn calls(output: &Path, pid: u32) -> Vec<Call> {
    let text = until("the trace is whole", LIMIT, async || {
        let trace = std::fs::read(output).map_err(|error| error.to_string())?;
        let trace = String::from_utf8_lossy(&trace).into_owned();
        // The end of a process is told after those of its threads.
        let last = trace.lines().next_back().unwrap_or_default();
        let whole = last.starts_with(&format!("{pid} ")) && last.contains(" +++ ") && trace.ends_with('\n');
        if whole { Ok(trace) } else { Err(last.to_owned()) }
    })
    .await;
    read(&text)
}

fn read(trace: &str) -> Vec<Call> {
    const UNFINISHED: &str = "<unfinished ...>";
    let mut waiting = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let mut words = line.splitn(2, ' ').map(str::trim_start);
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
        let Some((time, text)) = rest.split_once(' ') else { continue };
        let Some(time) = microseconds(time) else { continue };
        if let Some(begin) = text.strip_suffix(UNFINISHED) {
            waiting.insert(thread, (begin, time));
        } else if text.starts_with("<... ") {
            let rest = text.split_once(" resumed>").map(|(_, rest)| rest);
            let begun = waiting.remove(thread).zip(rest);
            calls.extend(begun.and_then(|((begin, began), rest)| {
                Some(Call { over: time, ..call(&format!("{begin}{rest}"), began)? })
            }));
        } else {
            calls.extend(call(text, time));
        }
    }
    calls.sort_by_key(|call| call.over);
    calls
}

/// `1764160000.123456`
fn microseconds(time: &str) -> Option<u64> {
    let (seconds, rest) = time.split_once('.')?;
    let rest = (rest.len() == 6).then_some(rest)?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + rest.parse::<u64>().ok()?)
}

/// `NAME(ARGUMENTS) = RESULT <SECONDS>`
fn call(text: &str, began: u64) -> Option<Call> {
    let (before, after) = text.rsplit_once(" = ")?;
    let arguments = before.trim_end().strip_suffix(')')?;
    let (name, arguments) = arguments.split_once('(')?;
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let sign = usize::from(after.starts_with('-'));
    let result = after[..sign + digits(&after[sign..])].parse().ok()?;
    let took = after.rsplit_once('<').and_then(|(_, took)| microseconds(took.strip_suffix('>')?));
    let (number, rest) = arguments.split_at(digits(arguments));
    let described = rest.strip_prefix('<').map(|rest| {
        let end = ["> ", ">,"].iter().filter_map(|end| rest.find(end)).min();
        &rest[..end.unwrap_or(rest.len().saturating_sub(1))]
    });
    Some(Call {
        name: name.to_owned(),
        descriptor: described.and_then(|_| number.parse().ok()),
        target: described.unwrap_or_default().to_owned(),
        text: text.to_owned(),
        began,
        over: began + took.unwrap_or(0),
        result,
    })
}

#[cfg(test)]
mod tests {
    use super::{Call, read};

    #[test]
    fn a_trace_is_read_in_the_order_of_ends() {
        let trace = r#"
7     1764160000.000100 fdatasync(5</d/log/1.log> <unfinished ...>
8     1764160000.000200 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "a) = 7 <b", 9, MSG_NOSIGNAL, NULL, 0) = 9 <0.000050>
7     1764160000.000400 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED) <0.000300>
8     1764160000.000500 openat(AT_FDCWD</d>, "x", O_RDWR|O_DSYNC) = 12</d/x> <0.000010>
8     1764160000.000600 read(3<socket:[1]>,  <unfinished ...>
8     1764160000.000700 +++ killed by SIGKILL +++
7     1764160000.000700 +++ killed by SIGKILL +++
"#;
        let [sent, synced, opened] = &read(trace)[..] else { panic!("{:?}", read(trace)) };
        assert_eq!((sent.name.as_str(), sent.descriptor, sent.result), ("sendto", Some(9), 9));
        assert_eq!((sent.began % 1_000, sent.over % 1_000), (200, 250));
        assert_eq!(sent.connection(), Some(["127.0.0.1:1", "127.0.0.1:2"]));
        assert_eq!((synced.name.as_str(), synced.target.as_str()), ("fdatasync", "/d/log/1.log"));
        assert_eq!((synced.began % 1_000, synced.over % 1_000, synced.result), (100, 400, -1));
        assert_eq!((opened.descriptor, opened.result), (None, 12));
    }

    #[test]
    fn bytes_are_unescaped() {
        let bytes = |text: &str, result| {
            let call = Call { text: text.to_owned(), result, ..read("7 1.000000 f() = 0")[0].clone() };
            call.bytes()
        };
        let text = r#"writev(9<>, [{iov_base="\0\00012\377", iov_len=5}, {iov_base="\"\\\n"...}], 2) = 8"#;
        assert_eq!(bytes(text, 8), [0, 0, b'1', b'2', 0xff, b'"', b'\\', b'\n']);
        assert_eq!(bytes(r#"read(9<>, "abc", 3) = 2"#, 2), b"ab");
        assert_eq!(bytes(r#"read(9<>, "abc", 3) = -1 EIO"#, -1), b"");
    }
}
