//! Keys as they are pressed, without a line editor. Ctrl-C stays a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::failure::exit::Exit;
use crate::failure::{End, Failure};

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
}

/// The keys in these bytes, which came together.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Option<Key>); 6] = [
        (b"\x1b[A", Some(Key::Up)),
        (b"\x1b[B", Some(Key::Down)),
        (b"\x1bOA", Some(Key::Up)),
        (b"\x1bOB", Some(Key::Down)),
        (b"\x1b[5~", Some(Key::PageUp)),
        (b"\x1b[6~", Some(Key::PageDown)),
    ];
    let mut found = Vec::new();
    let mut rest = bytes;
    'keys: while let Some(first) = rest.first() {
        for (sequence, key) in SEQUENCES {
            if let Some(behind) = rest.strip_prefix(sequence) {
                found.extend(key);
                rest = behind;
                continue 'keys;
            }
        }
        if let Some(behind) = rest.strip_prefix(b"\x1b[") {
            // A sequence that has no meaning here: up to its last byte (ECMA-48, section 5.4).
            let end =
                behind.iter().position(|byte| (0x40..=0x7e).contains(byte)).map_or(behind.len(), |at| at + 1);
            rest = &behind[end..];
            continue;
        }
        let size = match *first {
            b'\r' | b'\n' => {
                found.push(Key::Enter);
                1
            }
            0x1b => {
                found.push(Key::Escape);
                1
            }
            0x7f | 0x08 => {
                found.push(Key::Backspace);
                1
            }
            0..0x20 => 1,
            _ => {
                let chunk = rest.utf8_chunks().next();
                let text = chunk.as_ref().map_or("", |chunk| chunk.valid());
                match text.chars().next() {
                    Some(character) => {
                        found.push(Key::Char(character));
                        character.len_utf8()
                    }
                    None => 1,
                }
            }
        };
        rest = &rest[size..];
    }
    found
}

/// The terminal on standard input, giving keys at once; as it was when this is dropped.
pub(super) struct Keyboard {
    keys: UnboundedReceiver<Vec<Key>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    before: Termios,
}

impl Keyboard {
    /// # Errors
    /// `io` if standard input is no terminal, or does not obey.
    pub(super) fn open() -> Result<Self, End> {
        let failed = |error| Failure::io(format!("cannot read keys from the terminal: {error}"));
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut single = before.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read never waits: it is asked first whether there is something.
        single.special_codes[SpecialCodeIndex::VMIN] = 0;
        single.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &single).map_err(failed)?;
        let (sender, keys) = unbounded_channel();
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || read(&sender, &told));
        Ok(Self { keys, ends, thread: Some(thread), before })
    }

    /// Waits for keys.
    ///
    /// # Errors
    /// Quietly if the terminal is gone.
    pub(super) async fn next(&mut self) -> Result<Vec<Key>, End> {
        self.keys.recv().await.ok_or(End::Quiet(Exit::ReaderGone))
    }
}

/// Reads until the terminal is gone or nobody wants keys any more.
fn read(sender: &UnboundedSender<Vec<Key>>, ends: &AtomicBool) {
    /// How often it is looked whether it ends.
    const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let stdin = std::io::stdin();
    while !ends.load(Ordering::Relaxed) {
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut waiting, Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let gone = waiting[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let mut bytes = [0; 64];
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) if gone => return,
            Ok(count) => {
                if sender.send(keys(&bytes[..count])).is_err() {
                    return;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // What is typed from now on is for whoever reads next.
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_came_together_are_keys_in_order() {
        assert_eq!(keys(b"s\x1b[B\x1b[6~q"), [Key::Char('s'), Key::Down, Key::PageDown, Key::Char('q')]);
        assert_eq!(
            keys("ä/\r\x7f\x1b".as_bytes()),
            [Key::Char('ä'), Key::Char('/'), Key::Enter, Key::Backspace, Key::Escape]
        );
        assert_eq!(keys(b"\x1b[1;5Cx\x01\xff"), [Key::Char('x')], "what has no meaning is passed over");
    }
}
