//! `bench`: load on the cluster, measured from outside. Makes a queue of its own and removes it, however it ends.

mod consume;
mod load;
mod report;
mod usage;

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use queue_protocol::client::Client;
use queue_protocol::names::QueueName;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{CreateQueue, RemoveQueue};
use queue_protocol::wire::requests::ask;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::load::{Lane, Load, Verified};
use self::report::Result as Measured;
use self::usage::Processes;
use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{BenchArgs, BenchKind};
use crate::nodes;
use crate::shell::{Shell, connect_silently};
use crate::show::clock;

/// Messages that are measured when neither a number nor a time is given.
const COUNT_DEFAULT: u64 = 100_000;
/// How often the progress line is redrawn.
const REDRAW: Duration = Duration::from_millis(250);
/// Messages of a roundtrip that were confirmed are delivered within this time, or lost.
const DELIVERY_MAX: Duration = Duration::from_secs(10);
/// Queues made or removed, and connections opened, at once.
const MADE_AT_ONCE: usize = 128;
/// Slots that take of a client in a roundtrip, at least: while one acks the other waits.
const SLOTS_MIN: u16 = 2;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: BenchArgs) -> Done {
    if args.kind == BenchKind::Pop && args.duration.is_some() {
        return Err(Failure::usage("a pop needs --count: so many messages are pushed first").into());
    }
    fits(&args)?;
    if args.worker && args.kind != BenchKind::Roundtrip {
        return Err(Failure::usage("only a roundtrip has consumers that --worker could be").into());
    }
    let base = args.compare.as_deref().map(report::load).transpose()?;
    let nodes = nodes::gather(&shell.client, &shell.reach.servers, shell.timeout()).await?;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let queues = names(args.queues);
    let measured = match make_queues(shell, &args, &queues).await {
        Ok(()) => measure(shell, &args, &queues, &addresses).await,
        Err(end) => Err(end),
    };
    shell.talk.status(None);
    let removed = remove_all(shell, &queues).await;
    let measured = measured?;
    removed?;
    if let Some(path) = &args.save {
        report::save(path, &measured.document())?;
    }
    if shell.settings.json {
        shell.out.document(&measured.document());
    } else {
        shell.out.add(measured.text().as_bytes());
        if let (Some(base), Some(path)) = (&base, &args.compare) {
            shell.out.add(report::compare(base, &measured.document(), path).as_bytes());
        }
    }
    match (measured.stopped, measured.verified) {
        (Some(exit), _) => Err(End::Quiet(exit)),
        (None, Some(found)) if !found.is_good() => Ok(Exit::No),
        _ => Ok(Exit::Done),
    }
}

/// What comes of `work`, unless it is stopped before.
///
/// # Errors
/// Quietly if it is.
async fn unless_stopped<T>(shell: &Shell, work: impl Future<Output = T>) -> Result<T, End> {
    let mut stop = shell.stop.clone();
    tokio::select! {
        biased;
        exit = stop.wait() => Err(End::Quiet(exit)),
        done = work => Ok(done),
    }
}

/// Whether the shape goes with what is measured.
///
/// # Errors
/// Wrong use.
fn fits(args: &BenchArgs) -> Result<(), End> {
    let slots = usize::from(args.clients) * usize::from(args.in_flight.max(SLOTS_MIN));
    let what = match args.kind {
        BenchKind::Pop if args.queues > 1 => "a pop takes from one queue",
        BenchKind::Roundtrip if args.worker && args.queues > 1 => "--worker takes from one queue",
        BenchKind::Roundtrip if slots < args.queues.into() => {
            "a roundtrip needs a slot for each queue: --clients times --in-flight is less than --queues"
        }
        _ => return Ok(()),
    };
    Err(Failure::usage(what).into())
}

/// Names of queues that nobody has.
fn names(count: u16) -> Vec<QueueName> {
    let base = format!("bench.{:x}", clock::unix_ms_in(Duration::ZERO));
    let name = |number: u16| if count == 1 { base.clone() } else { format!("{base}.{number}") };
    (0..count).map(|number| name(number).parse().expect("a name of letters and digits")).collect()
}

async fn make_queues(shell: &Shell, args: &BenchArgs, queues: &[QueueName]) -> Result<(), End> {
    let make = async |queue: &QueueName| {
        let ordered = args.groups.is_some().then_some(true);
        let settings = QueueSettings { ordered, ..QueueSettings::default() };
        let create = CreateQueue { queue: queue.clone(), settings, if_not_exists: false };
        let made = shell.client.ask(ask::CreateQueue(Box::new(create))).await;
        made.map(drop).map_err(|error| End::from(Failure::of(error, Some(queue))))
    };
    for some in queues.chunks(MADE_AT_ONCE) {
        try_join_all(some.iter().map(make)).await?;
    }
    Ok(())
}

/// Removes those that were made.
async fn remove_all(shell: &Shell, queues: &[QueueName]) -> Result<(), End> {
    for some in queues.chunks(MADE_AT_ONCE) {
        try_join_all(some.iter().map(|queue| remove(shell, queue))).await?;
    }
    Ok(())
}

/// Connections that ask for nothing more once they are there.
async fn idle(shell: &Shell, count: u16) -> Result<Vec<Client>, End> {
    let mut idle = Vec::new();
    while idle.len() < count.into() {
        let some = (idle.len()..count.into()).take(MADE_AT_ONCE);
        let some = some.map(|_| async {
            let client = connect_silently(&shell.reach, shell.timeout());
            client.ask(ask::Status).await.map(|_| client)
        });
        idle.extend(try_join_all(some).await.map_err(|error| End::from(Failure::of(error, None)))?);
    }
    Ok(idle)
}

async fn remove(shell: &Shell, queue: &QueueName) -> Result<(), End> {
    let remove = RemoveQueue { queue: queue.clone(), if_exists: true, if_empty: false };
    let removed = shell.client.ask(ask::RemoveQueue(remove)).await;
    removed.map_err(|error| {
        let failure = Failure::of(error, Some(queue)).fact(format!("the queue {queue} is left"));
        failure.hint(format!("`queuectl queue rm {queue} --yes`"))
    })?;
    Ok(())
}

async fn measure(
    shell: &Shell,
    args: &BenchArgs,
    queues: &[QueueName],
    addresses: &[String],
) -> Result<Measured, End> {
    // Closed when this is over.
    let _idle = unless_stopped(shell, idle(shell, args.connections)).await??;
    let clients: Vec<Client> =
        (0..args.clients).map(|_| connect_silently(&shell.reach, shell.timeout())).collect();
    let count = match (args.count, args.duration) {
        (None, Some(_)) => u64::MAX,
        (count, _) => count.unwrap_or(COUNT_DEFAULT),
    };
    report::headline(args, addresses.len(), &queues[0]).iter().for_each(|line| shell.remark(line));
    let processes = Processes::find(addresses);
    let mut confirmed = Vec::new();
    if args.kind == BenchKind::Pop {
        confirmed = unless_stopped(shell, fill(args, queues, &clients, count)).await??;
    }
    let load = Arc::new(Load::new(queues.to_vec(), args, count));
    // The pacer ends when this is dropped.
    let _pacer = args.rate.map(|rate| pace(&load, rate));
    let end = CancellationToken::new();
    // Who pushes a message and who works on it are two programs in life.
    let takers: Vec<Client> = match args.kind {
        BenchKind::Roundtrip => {
            clients.iter().map(|_| connect_silently(&shell.reach, shell.timeout())).collect()
        }
        BenchKind::Push | BenchKind::Pop => Vec::new(),
    };
    let consumers = consume(args, &load, &takers, &end);
    let lanes = start(args, &load, &clients);

    if args.kind != BenchKind::Pop {
        unless_stopped(shell, sleep_until(load.measure_from)).await?;
    }
    let begin = load.measure_from;
    let (before, own_before) = (processes.usage(), usage::own());
    let (mut lanes, stopped) = watch(shell, args, &load, begin, lanes).await?;
    if args.kind == BenchKind::Roundtrip && stopped.is_none() {
        load.all_delivered(args, DELIVERY_MAX).await;
    }
    let elapsed = begin.elapsed();
    let (after, own_after) = (processes.usage(), usage::own());
    end.cancel();
    let redirects = lanes.iter().map(|lane| lane.redirects).sum();
    if args.kind != BenchKind::Pop {
        confirmed = lanes.iter().map(|lane| lane.confirmed).collect();
    }
    // In a roundtrip the consumers measure.
    if args.kind == BenchKind::Roundtrip {
        lanes = finish(consumers).await?;
    }
    // Whoever stops it wants to see what there is, not to wait until everything is taken out.
    let verified = if args.verify && stopped.is_none() {
        Some(verify(&load, &clients[0], &confirmed, &lanes).await?)
    } else {
        None
    };
    join_all(clients.iter().chain(&takers).map(Client::close_session)).await;
    Ok(Measured {
        config: report::Config::of(args, addresses.len(), load.size),
        messages: lanes.iter().map(|lane| lane.messages).sum(),
        elapsed,
        redirects,
        latency: load.latency().clone(),
        verified,
        nodes: report::used(&before, &after),
        stopped,
        own_cpu: own_after.zip(own_before).map(|(after, before)| after.saturating_sub(before)),
    })
}

/// Makes requests due at their rate until what it returns is dropped.
fn pace(load: &Arc<Load>, rate: u32) -> mpsc::Sender<()> {
    let (sender, end) = mpsc::channel();
    let load = Arc::clone(load);
    std::thread::spawn(move || load.pace(rate, &end));
    sender
}

/// Takes out what is left and compares it with what was confirmed. Order is looked at where it can be: among what was
/// taken one request after another.
async fn verify(load: &Load, client: &Client, confirmed: &[u64], lanes: &[Lane]) -> Result<Verified, End> {
    let takers = lanes.iter().filter(|lane| !lane.marks.is_empty()).count();
    let mut marks: Vec<_> = lanes.iter().flat_map(|lane| lane.marks.iter().copied()).collect();
    marks.extend(load.drain(client).await.map_err(|error| Failure::of(error, None))?);
    let verified = load::verify(confirmed, &marks);
    Ok(if takers > 1 || !load.has_order() { Verified { out_of_order: None, ..verified } } else { verified })
}

type Lanes = Vec<JoinHandle<Lane>>;

/// Starts the lanes.
fn start(args: &BenchArgs, load: &Arc<Load>, clients: &[Client]) -> Lanes {
    let mut lanes = Lanes::new();
    for client in clients {
        for _ in 0..args.in_flight {
            let lane = u32::try_from(lanes.len()).expect("a million at most");
            let (load, client) = (Arc::clone(load), client.clone());
            lanes.push(match args.kind {
                BenchKind::Push => tokio::spawn(async move { load.push_lane(client, lane).await }),
                BenchKind::Pop => tokio::spawn(async move { load.pop_lane(client).await }),
                BenchKind::Roundtrip => tokio::spawn(async move { load.produce_lane(client, lane).await }),
            });
        }
    }
    lanes
}

/// Starts the consumers of a roundtrip: as many slots as may be on their way.
fn consume(args: &BenchArgs, load: &Arc<Load>, takers: &[Client], end: &CancellationToken) -> Lanes {
    let mut consumers = Lanes::new();
    let slots = args.in_flight.max(SLOTS_MIN);
    for client in takers {
        if args.worker {
            let worker = Arc::clone(load).worker_lane(client.clone(), slots, end.clone());
            consumers.push(tokio::spawn(worker));
            continue;
        }
        for _ in 0..slots {
            let (load, client, end) = (Arc::clone(load), client.clone(), end.clone());
            let slot = consumers.len();
            consumers.push(tokio::spawn(async move { load.consume_lane(client, slot, &end).await }));
        }
    }
    consumers
}

/// Waits for the lanes, or stops them when their time is over or somebody wants it, which is told; draws how far they are.
async fn watch(
    shell: &Shell,
    args: &BenchArgs,
    load: &Load,
    begin: Instant,
    lanes: Lanes,
) -> Result<(Vec<Lane>, Option<Exit>), End> {
    /// What is on its way when somebody stops it has this long.
    const LAST: Duration = Duration::from_secs(2);
    let mut stop = shell.stop.clone();
    let mut stopped = None;
    let over = args.duration.map(|duration| begin + duration);
    let mut redraw = interval(REDRAW);
    let finish = finish(lanes);
    tokio::pin!(finish);
    loop {
        tokio::select! {
            biased;
            lanes = &mut finish => return lanes.map(|lanes| (lanes, stopped)),
            exit = stop.wait(), if stopped.is_none() => {
                stopped = Some(exit);
                load.stop.cancel();
                return match tokio::time::timeout(LAST, finish).await {
                    Ok(lanes) => lanes.map(|lanes| (lanes, stopped)),
                    Err(_) => Err(End::Quiet(exit)),
                };
            }
            () = sleep_until(over.unwrap_or(begin)), if over.is_some() && !load.stop.is_cancelled() => load.stop.cancel(),
            _ = redraw.tick() => {
                if !shell.settings.quiet {
                    let done = load.done.load(std::sync::atomic::Ordering::Relaxed);
                    let progress = report::progress(args, done, begin.elapsed(), &load.latency());
                    shell.talk.status(Some(&progress));
                }
            }
        }
    }
}

/// The lanes' ends.
///
/// # Errors
/// The first error of a lane.
async fn finish(lanes: Lanes) -> Result<Vec<Lane>, End> {
    let ended = join_all(lanes).await;
    let mut lanes: Vec<Lane> = ended.into_iter().map(|lane| lane.expect("a lane does not panic")).collect();
    match lanes.iter_mut().find_map(|lane| lane.error.take()) {
        Some(error) => Err(Failure::of(error, None).into()),
        None => Ok(lanes),
    }
}

/// Pushes what a pop is to find; how many each sender had confirmed.
async fn fill(
    args: &BenchArgs,
    queues: &[QueueName],
    clients: &[Client],
    count: u64,
) -> Result<Vec<u64>, End> {
    const BATCH: u16 = 200;
    const LANES: u16 = 8;
    let load = Arc::new(Load::filling(queues.to_vec(), args, BATCH, count));
    let lanes = (0..LANES).map(|lane| {
        let (load, client) = (Arc::clone(&load), clients[usize::from(lane) % clients.len()].clone());
        tokio::spawn(async move { load.push_lane(client, lane.into()).await })
    });
    Ok(finish(lanes.collect()).await?.iter().map(|lane| lane.confirmed).collect())
}
