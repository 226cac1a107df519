//! The requests by name, each with the answer that belongs to it.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Answered, Client, ClientError};
use crate::bounded::{Bounded, TooMany};
use crate::checkpoint::SaveCheckpoint;
use crate::content::ContentSpec;
use crate::error::{Error, ErrorCode};
use crate::group::{GroupView, Groups};
use crate::history::{History, HistoryView};
use crate::names::{Key, MessageId, NodeId, QueueName};
use crate::request::{
    Action, AlterQueue, Change, CreateQueue, Edit, Extend, ExtendWhich, Lease, MessageState, Nack, NackKind,
    Peek, Push, PushMessage, PushOptions, Queues, Receipts, RemoveQueue, Request, Select, Sweep, WeighGroup,
};
use crate::response::{
    Answer, Delivery, Edited, Extended, LeaderView, MessageView, PushOutcome, QueueView, Settled, StatsView,
    StatusView, Swept,
};
use crate::schedule::{ScheduleView, Schedules, SetSchedule};
use crate::txn::{Txn, TxnOutcome};

/// A message to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Headers and body, as [`crate::content::encode`] makes them.
    pub content: Bytes,
    /// How it is to be treated.
    pub options: PushOptions,
}

impl NewMessage {
    /// A message without headers, of default priority, ready at once.
    pub fn of_body(body: &[u8]) -> Self {
        let content =
            crate::content::encode(&Bounded::default(), body).expect("no headers are within the limit");
        Self { content, options: PushOptions::default() }
    }
}

impl<T> Answered<T> {
    /// The same with what `turn` makes of the answer.
    fn to<U>(self, turn: impl FnOnce(T) -> U) -> Answered<U> {
        Answered {
            answer: turn(self.answer),
            contents: self.contents,
            at: self.at,
            repeated: self.repeated,
            lease_clock_ms: self.lease_clock_ms,
            age: self.age,
            leader: self.leader,
            redirects: self.redirects,
            elapsed: self.elapsed,
        }
    }
}

impl Answered {
    /// The same with the answer that `pick` takes out, which [`Client::call`] has checked to be there.
    fn map<U>(self, pick: impl FnOnce(Answer) -> Option<U>) -> Answered<U> {
        self.to(|answer| pick(answer).expect("an answer to another request is not handed out"))
    }
}

/// `|answer|` what is in it, if it is of the variant.
macro_rules! pick {
    ($variant:ident) => {
        |answer| match answer {
            Answer::$variant(value) => Some(value),
            _ => None,
        }
    };
    ($variant:ident, $value:ident => $then:expr) => {
        |answer| match answer {
            Answer::$variant($value) => Some($then),
            _ => None,
        }
    };
}

fn too_many(error: TooMany) -> ClientError {
    ClientError::Refused(Error::refused(ErrorCode::BadRequest, error.to_string()))
}

impl Client {
    /// Stores messages; the outcomes come in runs, in order.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn push(
        &self,
        queue: QueueName,
        create: bool,
        messages: Vec<NewMessage>,
    ) -> Result<Answered<Vec<PushOutcome>>, ClientError> {
        let row = |message: &NewMessage| PushMessage {
            content: ContentSpec::of(&message.content),
            options: message.options.clone(),
        };
        let rows = Bounded::new(messages.iter().map(row).collect()).map_err(too_many)?;
        let contents = messages.into_iter().map(|message| message.content).collect();
        let answered =
            self.call(Request::Push(Push { queue, create, atomic: false, messages: rows }), contents).await?;
        Ok(answered.map(pick!(Pushed, runs => runs.into_vec())))
    }

    /// Takes messages for a while; none if the queues stayed empty.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn lease(&self, lease: Lease) -> Result<Answered<Vec<Delivery>>, ClientError> {
        let answered = self.call(Request::Lease(lease), Vec::new()).await?;
        Ok(answered.map(pick!(Delivered, deliveries => deliveries.into_vec())))
    }

    /// As [`Client::lease`], but waits no more once `hurry` is cancelled.
    pub(super) async fn lease_hurried(
        &self,
        lease: Lease,
        hurry: CancellationToken,
    ) -> Result<Answered<Vec<Delivery>>, ClientError> {
        let answered = self.call_hurried(Request::Lease(lease), hurry).await?;
        Ok(answered.map(pick!(Delivered, deliveries => deliveries.into_vec())))
    }

    /// Takes messages for good; none if the queues stayed empty.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn pop(&self, lease: Lease) -> Result<Answered<Vec<Delivery>>, ClientError> {
        let answered = self.call(Request::Pop(lease), Vec::new()).await?;
        Ok(answered.map(pick!(Delivered, deliveries => deliveries.into_vec())))
    }

    /// Settles leases for good, one result each.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ack(&self, leases: Receipts) -> Result<Answered<Vec<Settled>>, ClientError> {
        let answered = self.call(Request::Ack(leases), Vec::new()).await?;
        Ok(answered.map(pick!(Settled, results => results.into_vec())))
    }

    /// Gives leases back, one result each.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn nack(
        &self,
        leases: Receipts,
        kind: NackKind,
    ) -> Result<Answered<Vec<Settled>>, ClientError> {
        let answered = self.call(Request::Nack(Nack { leases, kind }), Vec::new()).await?;
        Ok(answered.map(pick!(Settled, results => results.into_vec())))
    }

    /// Makes leases longer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn extend(
        &self,
        leases: ExtendWhich,
        lease_ms: u64,
    ) -> Result<Answered<Extended>, ClientError> {
        let answered = self.call(Request::Extend(Extend { leases, lease_ms }), Vec::new()).await?;
        Ok(answered.map(pick!(Extended)))
    }

    /// Makes a lease longer, and keeps how far the work has come for the next attempt.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn save_checkpoint(&self, save: SaveCheckpoint) -> Result<Answered<Extended>, ClientError> {
        let answered = self.call(Request::SaveCheckpoint(save), Vec::new()).await?;
        Ok(answered.map(pick!(Extended)))
    }

    /// Shows messages without changing anything.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn peek(&self, peek: Peek) -> Result<Answered<Vec<MessageView>>, ClientError> {
        let answered = self.call(Request::Peek(peek), Vec::new()).await?;
        Ok(answered.map(pick!(Peeked, page => page.messages.into_vec())))
    }

    /// One page of queues, by name.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn queues(&self, queues: Queues) -> Result<Answered<Vec<QueueView>>, ClientError> {
        let answered = self.call(Request::Queues(queues), Vec::new()).await?;
        Ok(answered.map(pick!(Queues, views => views.into_vec())))
    }

    /// Makes a queue; `false` if it was there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn create_queue(&self, create: CreateQueue) -> Result<Answered<bool>, ClientError> {
        let answered = self.call(Request::CreateQueue(Box::new(create)), Vec::new()).await?;
        Ok(answered.map(pick!(Created)))
    }

    /// Changes settings of a queue; its version now.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn alter_queue(&self, alter: AlterQueue) -> Result<Answered<u64>, ClientError> {
        let answered = self.call(Request::AlterQueue(Box::new(alter)), Vec::new()).await?;
        Ok(answered.map(pick!(Altered)))
    }

    /// Gives a group a weight of its own; the one it had.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn weigh_group(&self, weigh: WeighGroup) -> Result<Answered<Option<u32>>, ClientError> {
        let answered = self.call(Request::WeighGroup(weigh), Vec::new()).await?;
        Ok(answered.map(pick!(Weighed)))
    }

    /// Removes a queue; how many messages were in it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn remove_queue(&self, remove: RemoveQueue) -> Result<Answered<u64>, ClientError> {
        let answered = self.call(Request::RemoveQueue(remove), Vec::new()).await?;
        Ok(answered.map(pick!(Count)))
    }

    /// Deletes, redrives or moves the messages chosen, all of them up to the limit, a part at a time; how many it was done to,
    /// and how many stayed because another message holds their unique key. If `progress` hears of a part, that part is done.
    ///
    /// # Errors
    /// As [`Client::call`]; parts that `progress` heard of are done nevertheless.
    pub async fn sweep(
        &self,
        mut sweep: Sweep,
        mut progress: impl FnMut(u64),
    ) -> Result<Answered<Swept>, ClientError> {
        let mut total = Swept { count: 0, next: None, skipped: 0 };
        loop {
            let answered = self.call(Request::Sweep(Box::new(sweep.clone())), Vec::new()).await?;
            let Answer::Swept(Swept { count, next, skipped }) = answered.answer else {
                unreachable!("an answer to another request is not handed out");
            };
            total.count += count;
            total.skipped += skipped;
            progress(total.count);
            sweep.limit = sweep.limit.saturating_sub(count);
            sweep.after = next;
            if next.is_none() || sweep.limit == 0 {
                return Ok(answered.map(|_| Some(total)));
            }
        }
    }

    /// Deletes messages for good: those of one state, or all that are not leased; how many.
    ///
    /// # Errors
    /// As [`Client::sweep`].
    pub async fn purge(
        &self,
        queue: QueueName,
        state: Option<MessageState>,
    ) -> Result<Answered<u64>, ClientError> {
        let select = Select { state, ..Select::default() };
        let swept = self.sweep(Sweep::all(queue, select, Action::Delete), |_| {}).await?;
        Ok(swept.to(|swept| swept.count))
    }

    /// Puts dead messages back, these or all, but those whose unique key another message holds; how many.
    ///
    /// # Errors
    /// As [`Client::sweep`].
    pub async fn redrive(
        &self,
        queue: QueueName,
        ids: Option<Vec<MessageId>>,
    ) -> Result<Answered<u64>, ClientError> {
        let ids = ids.map(Bounded::new).transpose().map_err(too_many)?;
        let select = Select { ids, ..Select::default() };
        let swept = self.sweep(Sweep::all(queue, select, Action::Redrive { to: None }), |_| {}).await?;
        Ok(swept.to(|swept| swept.count))
    }

    /// Changes messages by id; one result each.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn edit(
        &self,
        queue: QueueName,
        ids: Vec<MessageId>,
        change: Change,
    ) -> Result<Answered<Vec<Edited>>, ClientError> {
        let ids = Bounded::new(ids).map_err(too_many)?;
        let answered = self.call(Request::Edit(Edit { queue, ids, change }), Vec::new()).await?;
        Ok(answered.map(pick!(Edited, results => results.into_vec())))
    }

    /// Does several things or nothing. `contents` are those of its pushes, in order.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn txn(&self, txn: Txn, contents: Vec<Bytes>) -> Result<Answered<TxnOutcome>, ClientError> {
        let answered = self.call(Request::Txn(txn), contents).await?;
        Ok(answered.map(pick!(Txn)))
    }

    /// Pushes a message, whose content this is, each time that a schedule says; `false` if it replaced one.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn set_schedule(
        &self,
        set: SetSchedule,
        content: Bytes,
    ) -> Result<Answered<bool>, ClientError> {
        let answered = self.call(Request::SetSchedule(Box::new(set)), vec![content]).await?;
        Ok(answered.map(pick!(Created)))
    }

    /// Removes a schedule.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn remove_schedule(&self, name: Key) -> Result<Answered<u64>, ClientError> {
        let answered = self.call(Request::RemoveSchedule(name), Vec::new()).await?;
        Ok(answered.map(pick!(Count)))
    }

    /// One page of schedules, by name.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn schedules(&self, schedules: Schedules) -> Result<Answered<Vec<ScheduleView>>, ClientError> {
        let answered = self.call(Request::Schedules(schedules), Vec::new()).await?;
        Ok(answered.map(pick!(Schedules, views => views.into_vec())))
    }

    /// One page of the groups of a queue, by name.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn groups(&self, groups: Groups) -> Result<Answered<Vec<GroupView>>, ClientError> {
        let answered = self.call(Request::Groups(groups), Vec::new()).await?;
        Ok(answered.map(pick!(Groups, views => views.into_vec())))
    }

    /// What happened to a message, also when it is gone.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn history(&self, history: History) -> Result<Answered<HistoryView>, ClientError> {
        let answered = self.call(Request::History(history), Vec::new()).await?;
        Ok(answered.map(pick!(History)))
    }

    /// What the node at `address` knows of itself and its cluster.
    ///
    /// # Errors
    /// As [`Client::call_node`].
    pub async fn status(&self, address: &str) -> Result<Answered<StatusView>, ClientError> {
        let answered = self.call_node(address, Request::Status).await?;
        Ok(answered.map(pick!(Status, view => *view)))
    }

    /// Counters of the whole cluster and of the leader.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn stats(&self) -> Result<Answered<StatsView>, ClientError> {
        let answered = self.call(Request::Stats, Vec::new()).await?;
        Ok(answered.map(pick!(Stats, view => *view)))
    }

    /// Moves leadership to a voter, or to the best one.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<Answered<LeaderView>, ClientError> {
        let answered = self.call(Request::TransferLeader(to), Vec::new()).await?;
        Ok(answered.map(pick!(Transferred)))
    }
}
