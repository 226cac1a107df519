//! `work`: a handler for each message, its exit code decides. The contract is in `work --help`.

mod drain;
mod handler;
mod report;

use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::worker::{Report, Stage, Worker};
use queue_protocol::wire::response::QueueView;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::drain::{Drainer, Left};
use self::handler::Handler;
use self::report::{Line, Lines};
use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{Delays, TIMEOUT_DEFAULT, WorkArgs};
use crate::queues;
use crate::shell::{Shell, connect_silently};
use crate::terminal::stop::Stop;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: WorkArgs) -> Done {
    let words = match &args.shell {
        Some(pipeline) => vec!["sh".into(), "-c".into(), pipeline.into()],
        None => args.handler.clone(),
    };
    let mut words = words;
    words[0] = handler::find(&words[0])?.into_os_string();
    check_codes(&args)?;
    let mut views = Vec::with_capacity(args.queues.len());
    for name in &args.queues {
        views.push(queues::existing(shell, name).await?);
    }
    // A client of its own: its session holds the leases, and its patience is not the handler's.
    let client = connect_silently(&shell.reach, TIMEOUT_DEFAULT);
    let (lines, mut printed) = report::lines(shell, &args, &words, views[0].settings.max_failures);
    let lines = Arc::new(lines);
    let handler = Arc::new(handler_of(&args, words, &views[0], shell));
    let (stage, stages) = watch::channel(Stage::Working);
    let stage = Arc::new(stage);

    let worker = || -> Result<Worker, Failure> {
        let mut worker = Worker::new(client.clone(), args.queues[0].clone())
            .queues(args.queues.clone())
            .map_err(|error| Failure::usage(error.to_string()))?
            .parallel(args.parallel.into())
            .hold(args.batch.unwrap_or(args.parallel).into())
            .lease(args.lease)
            .linger(args.linger)
            .bound(args.bound)
            .stop_by(stages.clone());
        if args.once {
            worker = worker.max(1).until_empty();
        }
        if args.drain.is_some() {
            worker = worker.until_empty();
        }
        if let Some(max) = args.max {
            worker = worker.max(max);
        }
        let seen = Arc::clone(&lines);
        Ok(worker.observe(move |event| seen.event(event)))
    };
    worker()?;
    let round = || {
        let (handler, run, told) = (Arc::clone(&handler), Arc::clone(&lines), Arc::clone(&stage));
        worker().expect("it was made before").run(move |job| {
            let (handler, lines, stage) = (Arc::clone(&handler), Arc::clone(&run), Arc::clone(&told));
            async move {
                lines.begin();
                let ran = handler.run(job.clone()).await;
                lines.ran(&job.delivery, &ran);
                if ran.unusable {
                    stage.send_replace(Stage::GivingBack);
                }
                ran.verdict
            }
        })
    };
    let work = async {
        let mut total = Report::default();
        let mut drainer = args.drain.map(|what| Drainer::new(what, &args.queues));
        let deadline = args.drain_timeout.map(|limit| Instant::now() + limit);
        loop {
            let rounds = round();
            tokio::pin!(rounds);
            let report = tokio::select! {
                biased;
                report = &mut rounds => report,
                () = passed(deadline) => {
                    stage.send_replace(Stage::Finishing);
                    rounds.await
                }
            };
            let report = report.map_err(|error| Failure::of(error, args.queues.first()))?;
            total += report;
            let Some(drainer) = &mut drainer else { return Ok::<_, Failure>((total, None)) };
            let (left, pause) = drainer.look(&client, report.total()).await?;
            let (Some(pause), Stage::Working) = (pause, *stage.borrow()) else {
                return Ok((total, left));
            };
            let mut stopped = stages.clone();
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stage| *stage != Stage::Working) => return Ok((total, left)),
                () = passed(deadline) => return Ok((total, left)),
                () = sleep(pause) => {}
            }
        }
    };
    let leaders = leaders(&client, &lines);
    let signals = signals(shell.stop.clone(), &stage, &lines, args.grace);
    let report = {
        tokio::pin!(work, leaders, signals);
        loop {
            tokio::select! {
                biased;
                report = &mut work => break report,
                () = &mut leaders => {}
                () = &mut signals => {}
                line = printed.recv() => match line {
                    Some(line) => print(shell, line).await?,
                    None => unreachable!("the lines outlive the loop"),
                },
            }
        }
    };
    while let Ok(line) = printed.try_recv() {
        print(shell, line).await?;
    }
    shell.talk.status(None);
    client.close_session().await;
    let (report, left): (Report, Option<Left>) = report?;
    let last = lines.done(&report, shell.started.elapsed());
    print(shell, last).await?;
    if let Some(why) = lines.unusable() {
        return Err(Failure::new("handler_not_found", Exit::Usage, format!("the handler {why}"))
            .fact("its message was given back, and counts no failure")
            .into());
    }
    if args.drain.is_some() && left.is_none() {
        let message = "the cluster cannot be asked what is left";
        return Err(Failure::new("no_leader", Exit::Retry, message).hint("`queuectl cluster status`").into());
    }
    if let Some(left) = left.filter(|left| !left.is_empty()) {
        let line =
            if shell.settings.json { Line::Document(left.document()) } else { Line::Talk(left.text()) };
        print(shell, line).await?;
        return Ok(Exit::No);
    }
    Ok(if args.once && report.total() == 0 { Exit::No } else { Exit::Done })
}

/// Returns when a time has come; never if there is none.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn check_codes(args: &WorkArgs) -> Result<(), End> {
    let lists = [("--ack-on", &args.ack_on), ("--retry-on", &args.retry_on), ("--dead-on", &args.dead_on)];
    for (at, (name, codes)) in lists.iter().enumerate() {
        for (other_name, others) in &lists[..at] {
            if let Some(code) = codes.0.intersection(&others.0).next() {
                return Err(Failure::usage(format!("{code} is in {other_name} and in {name}")).into());
            }
        }
    }
    Ok(())
}

fn handler_of(args: &WorkArgs, words: Vec<std::ffi::OsString>, view: &QueueView, shell: &Shell) -> Handler {
    let settings = &view.settings;
    Handler {
        words,
        limit: args.limit.0,
        grace: args.grace,
        ack_on: args.ack_on.clone(),
        retry_on: args.retry_on.clone(),
        dead_on: args.dead_on.clone(),
        backoff: args.backoff,
        queue_backoff: Delays {
            first: Duration::from_millis(settings.backoff_ms),
            factor_percent: settings.backoff_factor_percent,
            last: Duration::from_millis(settings.backoff_ms_max),
        },
        max_failures: settings.max_failures,
        owns_stdout: !shell.settings.json,
        talk: shell.talk.clone(),
    }
}

/// A line for people goes to standard error, a document to standard output.
async fn print(shell: &mut Shell, line: Line) -> Result<(), End> {
    match line {
        Line::Talk(text) if !shell.settings.quiet => shell.talk.line(&text),
        Line::Talk(_) => {}
        Line::Document(document) => {
            shell.out.document(&document);
            shell.out.flush().await?;
        }
    }
    Ok(())
}

/// Says that another node leads now; never ends.
async fn leaders(client: &queue_protocol::client::Client, lines: &Lines) {
    let mut notices = client.notices();
    while let Some(notice) = notices.recv().await {
        lines.notice(&notice);
    }
    std::future::pending::<()>().await;
}

/// The first signal: take no more, wait for what runs. The second, or the end of the grace: give back. Never ends.
async fn signals(mut stop: Stop, stage: &watch::Sender<Stage>, lines: &Lines, grace: Duration) {
    stop.wait().await;
    stage.send_replace(Stage::Finishing);
    lines.stopping(grace);
    tokio::select! {
        () = stop.changed() => {}
        () = sleep(grace) => {}
    }
    stage.send_replace(Stage::GivingBack);
    std::future::pending::<()>().await;
}
