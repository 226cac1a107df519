//! A node in memory that is reached by TCP: one queue, pushes, leases and acks. Enough for first steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::client::Dial;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{LeaseToken, MessageId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::FrameKind;
use queue_protocol::wire::request::{Call, Request};
use queue_protocol::wire::response::{Answer, Delivery, PushOutcome, Settled};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;

use crate::scripted::*;

/// What a small node holds.
#[derive(Default)]
struct Small {
    made: bool,
    pushed: u64,
    ready: VecDeque<(MessageId, Bytes)>,
    leased: BTreeMap<MessageId, Bytes>,
}

/// Where a new small node listens.
pub(crate) async fn small_node() -> String {
    let net = Arc::new(Net::default());
    let mut node = net.listen(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut near = net.dial(&address(1)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut near).await });
        }
    });
    tokio::spawn(async move {
        let mut small = Small::default();
        // One client at a time.
        loop {
            let mut node = node.accept(Some(1)).await;
            while let Ok(Some(frame)) = node.reader.next().await {
                if frame.kind != FrameKind::Request {
                    break;
                }
                let call: Call = frame.message().unwrap();
                let (result, tail) = match small.answer(call.request, &frame.tail) {
                    Ok((answer, tail)) => (Ok(answer), tail),
                    Err(error) => (Err(error), Vec::new()),
                };
                node.answer_with(frame.request_id, result, tail).await;
            }
        }
    });
    at
}

impl Small {
    fn answer(&mut self, request: Request, tail: &Bytes) -> Result<(Answer, Vec<Bytes>), Error> {
        match request {
            Request::Status => Ok((status(1, Some(1)), Vec::new())),
            Request::Push(push) => {
                self.made |= push.create;
                self.is_made()?;
                let [message] = &push.messages[..] else { panic!("one at a time: {push:?}") };
                message.content.verify(tail).unwrap();
                self.pushed += 1;
                let first_id = MessageId(self.pushed);
                self.ready.push_back((first_id, tail.clone()));
                let runs = vec![PushOutcome::Stored { first_id, count: 1 }];
                Ok((Answer::Pushed(Bounded::new(runs).unwrap()), Vec::new()))
            }
            Request::Lease(lease) => {
                self.is_made()?;
                let count = self.ready.len().min(lease.max_messages.into());
                let taken: Vec<_> = self.ready.drain(..count).collect();
                self.leased.extend(taken.iter().cloned());
                let one = |(id, content): &(MessageId, Bytes)| Delivery {
                    id: *id,
                    token: LeaseToken(id.0),
                    content: ContentSpec::of(content),
                    ..delivery(content)
                };
                let deliveries = Bounded::new(taken.iter().map(one).collect()).unwrap();
                let contents = taken.into_iter().map(|(_, content)| content).collect();
                Ok((Answer::Delivered(deliveries), contents))
            }
            Request::Ack(leases) => {
                let one = |(id, _): &(MessageId, LeaseToken)| match self.leased.remove(id) {
                    Some(_) => Settled::Ok,
                    None => Settled::Gone,
                };
                let settled = leases.receipts.iter().map(one).collect();
                Ok((Answer::Settled(Bounded::new(settled).unwrap()), Vec::new()))
            }
            other => panic!("more than first steps: {other:?}"),
        }
    }

    fn is_made(&self) -> Result<(), Error> {
        if self.made { Ok(()) } else { Err(Error::refused(ErrorCode::QueueNotFound, "no queue")) }
    }
}
