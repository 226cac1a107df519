//! `top`: the cluster live, drawn anew every second. Queues with their rates, ages and consumers, nodes above them; keys sort,
//! filter and pause, and open one queue. It goes on while there is no leader, and says so.

mod keys;
mod model;
mod opened;
mod picture;
mod queues;
mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::keys::Keyboard;
use self::model::Model;
use self::screen::{Screen, Wish};
use crate::failure::exit::Exit;
use crate::failure::{Done, End};
use crate::grammar::TopArgs;
use crate::shell::Shell;
use crate::terminal;

/// No more often than this.
const EVERY_MIN: Duration = Duration::from_millis(200);

/// Runs the command: a screen on a terminal, else text or documents one after the other.
pub(crate) async fn run(shell: &mut Shell, args: TopArgs) -> Done {
    let every = args.every.max(EVERY_MIN);
    let draws = shell.out.is_terminal() && std::io::stdin().is_terminal() && !shell.settings.json;
    if draws { live(shell, &args, every).await } else { plain(shell, &args, every).await }
}

/// Without a screen: documents until it is stopped, or one table, which needs two looks for the rates.
async fn plain(shell: &mut Shell, args: &TopArgs, every: Duration) -> Done {
    let mut stop = shell.stop.clone();
    let (mut model, screen) = (Model::default(), Screen::of(args));
    let mut left = args.count.or((!shell.settings.json).then_some(1));
    model.look(shell).await;
    if let Some(failure) = model.failure().filter(|_| !model.has_looked()) {
        return Err(failure.into());
    }
    while left != Some(0) {
        tokio::select! {
            biased;
            exit = stop.wait() => return Err(End::Quiet(exit)),
            () = sleep_until(Instant::now() + every) => {}
        }
        model.look(shell).await;
        if shell.settings.json {
            shell.out.document(&model.document());
        } else {
            let text = screen.text(&model, shell.out.width());
            shell.out.add(text.as_bytes());
        }
        shell.out.flush().await?;
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Done)
}

async fn live(shell: &mut Shell, args: &TopArgs, every: Duration) -> Done {
    let mut stop = shell.stop.clone();
    terminal::save();
    let mut keyboard = Keyboard::open()?;
    let (mut model, mut screen) = (Model::default(), Screen::of(args));
    let (mut left, mut due) = (args.count, Instant::now());
    terminal::set_full(true);
    shell.out.control(terminal::TAKE_SCREEN);
    let quiet = std::mem::replace(&mut shell.settings.quiet, true);
    let done = loop {
        if Instant::now() >= due {
            // What is opened is looked into even if nothing else moves.
            let opens = model.opened.name.as_ref() != screen.opened();
            if !screen.is_paused() || opens {
                let looks = async {
                    if !screen.is_paused() {
                        model.look(shell).await;
                    }
                    model.look_into(shell, screen.opened()).await;
                };
                // Ctrl-C need not wait for a cluster that does not answer.
                tokio::select! {
                    biased;
                    exit = stop.wait() => break Err(End::Quiet(exit)),
                    () = looks => {}
                }
            }
            if !screen.is_paused() {
                left = left.map(|left| left.saturating_sub(1));
            }
            due = Instant::now() + every;
        }
        let size = shell.out.size().unwrap_or((80, 24));
        let frame = screen.frame(&model, size, every);
        shell.out.control(&frame);
        if let Err(end) = shell.out.flush().await {
            break Err(end);
        }
        if left == Some(0) {
            break Ok(Exit::Done);
        }
        tokio::select! {
            biased;
            exit = stop.wait() => break Err(End::Quiet(exit)),
            keys = keyboard.next() => match keys {
                Ok(keys) => {
                    let wishes: Vec<Wish> = keys.into_iter().map(|key| screen.press(key)).collect();
                    if wishes.contains(&Wish::Leave) {
                        break Ok(Exit::Done);
                    }
                    if wishes.contains(&Wish::Look) {
                        due = Instant::now();
                    }
                }
                Err(end) => break Err(end),
            },
            () = sleep_until(due) => {}
        }
    };
    shell.settings.quiet = quiet;
    drop(keyboard);
    terminal::set_full(false);
    shell.out.control(terminal::GIVE_SCREEN);
    shell.out.flush().await?;
    done
}
