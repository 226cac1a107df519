//! Pushes and transactions: what brings contents, checked here, once, by the node that proposes.

use bytes::Bytes;
use queue_protocol::content::{self, ContentSpec};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::{BODY_SIZE_CEILING, HEADERS_SIZE_MAX};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Push, PushMessage, PushOptions};
use queue_protocol::wire::txn::{Step, Txn};

use super::dispatch::{Dispatch, bad, check_nack, to_receipts};
use super::options::{check_lease_ms, check_lifetime, check_options};
use super::reply_to::{Finished, ReplyTo};
use crate::queue::command::{self, Command, Op, SessionStamp};

/// What a request proposes, and the rows of its contents.
type Opened = Result<(Op, Vec<ContentSpec>), Error>;

impl Dispatch {
    pub(super) fn push(&self, session: Option<SessionStamp>, push: Push, tail: &Bytes, reply: ReplyTo) {
        self.bring(session, tail, reply, true, |rest| {
            let (push, table) = self.push_op(push, rest)?;
            Ok((Op::Push(push), table))
        });
    }

    pub(super) fn txn(&self, session: Option<SessionStamp>, txn: Txn, tail: &Bytes, reply: ReplyTo) {
        let pushes = txn.steps.iter().any(|step| matches!(step, Step::Push(_)));
        self.bring(session, tail, reply, pushes, |rest| {
            let mut table = Vec::new();
            let mut steps = Vec::with_capacity(txn.steps.len());
            for step in txn.steps.into_vec() {
                steps.push(self.step(step, rest, &mut table)?);
            }
            let steps = Bounded::new(steps).expect("as many as before");
            Ok((Op::Txn(Box::new(command::Txn { conditions: txn.conditions, steps })), table))
        });
    }

    /// Proposes what `open` makes of the tail, all of which it must take.
    pub(super) fn bring(
        &self,
        session: Option<SessionStamp>,
        tail: &Bytes,
        reply: ReplyTo,
        pushes: bool,
        open: impl FnOnce(&mut Bytes) -> Opened,
    ) {
        if !self.consensus.leads() {
            return reply.finish(Finished::NotLeader);
        }
        if let Some(low) = self.consensus.refuse_push().filter(|_| pushes) {
            return reply.finish(Finished::Failed(low));
        }
        let mut rest = tail.clone();
        let opened = open(&mut rest).and_then(|opened| {
            if rest.is_empty() { Ok(opened) } else { Err(bad("the tail is longer than its messages")) }
        });
        match opened {
            Ok((mut op, table)) => {
                self.spare_creates(session, &mut op);
                let contents = if table.is_empty() { Vec::new() } else { vec![tail.clone()] };
                self.propose(Command { session, op }, table, contents, reply);
            }
            Err(error) => reply.finish(Finished::Failed(error)),
        }
    }

    fn step(
        &self,
        step: Step,
        rest: &mut Bytes,
        table: &mut Vec<ContentSpec>,
    ) -> Result<command::Step, Error> {
        Ok(match step {
            Step::Push(push) => {
                let (push, rows) = self.push_op(push, rest)?;
                table.extend(rows);
                command::Step::Push(push)
            }
            Step::Ack(leases) => command::Step::Ack(to_receipts(leases)),
            Step::Nack(nack) => {
                check_nack(&nack.kind)?;
                command::Step::Nack { leases: to_receipts(nack.leases), kind: nack.kind }
            }
            Step::Extend { leases, lease_ms } => {
                check_lease_ms(lease_ms)?;
                command::Step::Extend { leases: to_receipts(leases), lease_ms }
            }
            Step::Edit(edit) => command::Step::Edit { queue: edit.queue, ids: edit.ids, change: edit.change },
        })
    }

    /// The push as it is replicated, and the rows of its contents, which are taken off `rest`.
    fn push_op(&self, push: Push, rest: &mut Bytes) -> Result<(command::Push, Vec<ContentSpec>), Error> {
        self.check_push(&push, rest)?;
        let table: Vec<ContentSpec> = push.messages.iter().map(|message| message.content).collect();
        let options = push.messages.into_vec().into_iter().map(|message| message.options);
        let plain = PushOptions::default();
        let special: Vec<_> = (0..).zip(options).filter(|(_, options)| *options != plain).collect();
        let push = command::Push {
            queue: push.queue,
            create: (push.create || self.options.auto_create)
                .then(|| Box::new(self.options.defaults.clone())),
            atomic: push.atomic,
            count: u32::try_from(table.len()).expect("a push has at most 1,000 messages"),
            special: Bounded::new(special).expect("no more than there are messages"),
        };
        Ok((push, table))
    }

    /// Everything about a push that needs no state: counts, ranges, sizes, checksums, headers.
    fn check_push(&self, push: &Push, rest: &mut Bytes) -> Result<(), Error> {
        if push.messages.is_empty() {
            return Err(bad("a push holds at least one message"));
        }
        push.messages.iter().try_for_each(|message| self.check_message(message, rest))
    }

    /// The same of one message, whose content is taken off `rest`.
    pub(super) fn check_message(&self, message: &PushMessage, rest: &mut Bytes) -> Result<(), Error> {
        check_options(&message.options)?;
        check_lifetime(&message.options, self.consensus.now().wall_ms)?;
        let size = message.content.size as usize;
        let body_max = self.options.message_size_max;
        if size > body_max + HEADERS_SIZE_MAX || size > BODY_SIZE_CEILING {
            // The headers are told apart where they can be, so that the size is that of the body.
            let whole = (rest.len() >= size).then(|| rest.slice(..size));
            let body = whole.and_then(|whole| content::decode(&whole).ok());
            return Err(too_big(body.map_or(size, |(_, body)| body.len()), body_max));
        }
        if rest.len() < size {
            return Err(bad("the tail is shorter than its messages"));
        }
        let bytes = rest.split_to(size);
        let corrupt = |e: content::BadContent| Error::refused(ErrorCode::ContentCorrupt, e.to_string());
        message.content.verify(&bytes).map_err(corrupt)?;
        let (_, body) = content::decode(&bytes).map_err(corrupt)?;
        if body.len() > body_max {
            return Err(too_big(body.len(), body_max));
        }
        Ok(())
    }
}

fn too_big(size: usize, max: usize) -> Error {
    Error::refused(ErrorCode::MessageTooBig, format!("a body of {size} bytes exceeds the limit of {max}"))
}
