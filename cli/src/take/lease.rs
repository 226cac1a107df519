//! `lease`: take messages for a while. Bodies go to standard output, receipts to standard error.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::{LeaseArgs, LeaseCmd, LeaseTakeArgs};
use crate::messages::Taken;
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;
use crate::take;
use crate::take::held;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: LeaseArgs) -> Done {
    match args {
        LeaseArgs { other: Some(LeaseCmd::Ls(args)), .. } => held::run(shell, args).await,
        LeaseArgs { take: Some(args), .. } => lease(shell, args).await,
        LeaseArgs { other: None, take: None } => Err(Failure::usage("lease needs a queue").into()),
    }
}

async fn lease(shell: &mut Shell, args: LeaseTakeArgs) -> Done {
    take::check_output(shell, &args.queue)?;
    shell.out.set_raw(args.raw);
    let wait = args.wait.unwrap_or_default();
    let linger = args.linger.unwrap_or_default();
    let mut taken = take::take(shell, &args.queue, args.count, wait, linger, args.length).await?;
    // One answer holds so many bytes: what there is behind them is asked for again.
    while !taken.is_empty() && taken.len() < usize::from(args.count) {
        let left = args.count - u16::try_from(taken.len()).expect("fewer than were asked for");
        let more = take::take(shell, &args.queue, left, Duration::ZERO, Duration::ZERO, args.length).await;
        match more {
            Ok(more) if !more.is_empty() => taken.extend(more),
            // What is leased already is shown.
            _ => break,
        }
    }
    if taken.is_empty() {
        return take::empty(shell, &args.queue).await;
    }
    for (position, message) in taken.iter().enumerate() {
        show(shell, message);
        if let Err(end) = shell.out.flush().await {
            for message in &taken[position..] {
                shell.held.remove(&message.receipt());
            }
            take::release(shell, &taken[position..]).await;
            return Err(end);
        }
    }
    Ok(Exit::Done)
}

/// Adds one message to the output and says its receipt.
fn show(shell: &mut Shell, message: &Taken) {
    let delivery = &message.delivery;
    let short = shell.held.add(message.receipt(), message.until);
    let until = clock::unix_ms_in(message.until.saturating_duration_since(Instant::now()));
    if shell.settings.json {
        shell.out.document(&message.document(until));
        return;
    }
    let (queue, id, attempt) = (&delivery.queue, delivery.id, delivery.attempt);
    if shell.is_interactive() {
        let left = render::age(delivery.lease_ms);
        shell.talk.line(&format!("#{short}  {queue} {id}  attempt {attempt}  {left} left"));
    } else {
        let (until, receipt) = (clock::time_of_day(until), message.receipt());
        shell.talk.line(&format!("{queue} {id}  attempt {attempt}  lease until {until}  receipt {receipt}"));
    }
    if let Some(checkpoint) = &delivery.checkpoint {
        shell.talk.line(&format!("checkpoint {}", render::preview(checkpoint.as_bytes(), 200)));
    }
    shell.out.add(&message.body);
    shell.out.add(b"\n");
}
