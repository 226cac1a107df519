//! Clients that come for one request and close their session, and whose request comes again afterwards.

use std::sync::Arc;
use std::time::Duration;

use harness::simulation::{Book, SimNet};
use queue_protocol::client::{Connection, Dial};
use queue_protocol::names::SessionId;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::request::{Call, CreateQueue, Request, Stamp};
use queue_protocol::wire::response::Answer;
use tokio::time::Instant;

use super::load::Load;
use super::members::MACHINES_MAX;
use super::plan::{Dice, address};
use super::queues::{BUSY, queue, settings};

/// What one try may take.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// Comes and goes until the load stops.
pub(super) async fn visit(load: Load, seed: u64, place: u64) {
    let mut dice = Dice::new(seed, 7_000 + place);
    let mut visits = 0;
    while !load.is_stopped() {
        tokio::time::sleep(dice.ms(300..2_500)).await;
        visits += 1;
        let session = SessionId(u128::from(seed) << 64 | u128::from(place + 1) << 32 | visits);
        let first = dice.within(0..MACHINES_MAX);
        for number in 0..MACHINES_MAX {
            let machine = address(&format!("n{}", (first + number) % MACHINES_MAX + 1));
            if come(&load, &machine, session).await.is_some() {
                break;
            }
        }
    }
}

/// A connection to this machine, and the index that it named.
async fn connect(book: &Book, machine: &str, session: SessionId) -> Option<(Connection, u64)> {
    let dial: Arc<dyn Dial> = Arc::new(SimNet { book: book.clone(), ..SimNet::default() });
    let hello = Hello::new(None, HelloRole::Client { session }, 0, [7; 32]);
    let connecting = async { Connection::open(dial.dial(machine).await.ok()?, hello).await.ok() };
    let connection = tokio::time::timeout(TIMEOUT, connecting).await.ok()??;
    let index = connection.accepted().index?;
    Some((connection, index))
}

/// Nothing if this machine does not lead.
async fn come(load: &Load, machine: &str, session: SessionId) -> Option<()> {
    let (first, index) = connect(load.book(), machine, session).await?;
    let ask = async |connection: &Connection, number, request| {
        let stamp = Some(Stamp { number, done_below: 1, index });
        let call = Call::new(stamp, 1_500, request);
        connection.call(&call, &[], Instant::now() + TIMEOUT).await.ok().map(|(response, _)| response.result)
    };
    let name = BUSY[0];
    let create = CreateQueue { queue: queue(name), settings: settings(name), if_not_exists: true };
    let create = Request::CreateQueue(Box::new(create));
    let Some(Ok(_)) = ask(&first, 1, create.clone()).await else { return Some(()) };
    let Some(Ok(Answer::Closed)) = ask(&first, 2, Request::CloseSession).await else { return Some(()) };
    let (second, _) = connect(load.book(), machine, session).await?;
    if let Some(Ok(answer)) = ask(&second, 1, create).await {
        load.note_wrong(format!("{session} is closed, and its first request was answered again: {answer:?}"));
    }
    Some(())
}
