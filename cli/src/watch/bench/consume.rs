//! The consumers of a roundtrip: as many slots as there may be messages on their way, so that the bench never waits for
//! itself. A slot leases and acks one request after the other; or a client's slots are one `Worker`, as in a program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue_protocol::client::worker::{Outcome, Stage, Verdict, Worker, WorkerEvent};
use queue_protocol::client::{Client, ClientError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::load::{Lane, Load, Mark};

/// How long a slot's lease request waits.
const WAIT_MS: u32 = 1_000;

impl Load {
    /// Messages have arrived: others may be sent in their place. The time from when each was due.
    fn arrived(&self, seen: &mut Lane, marks: &[Mark]) {
        self.permits.add_permits(marks.len());
        for mark in marks {
            seen.record(self, self.begin + Duration::from_nanos(mark.due_ns), 1);
        }
    }

    /// One slot: has a request parked at one of the queues until `end`.
    pub(super) async fn consume_lane(&self, client: Client, slot: usize, end: &CancellationToken) -> Lane {
        let mut seen = Lane::default();
        let queue = &self.queues[slot % self.queues.len()];
        while !end.is_cancelled() {
            match self.take(&client, queue, self.batch, WAIT_MS, |marks| self.arrived(&mut seen, marks)).await
            {
                Ok(taken) => self.keep(&mut seen, taken),
                Err(error) => {
                    seen.error = Some(error);
                    break;
                }
            }
        }
        seen
    }

    /// A worker of `slots`, until `end`. It leases as many as it has room for, and acks what has gathered.
    pub(super) async fn worker_lane(
        self: Arc<Self>,
        client: Client,
        slots: u16,
        end: CancellationToken,
    ) -> Lane {
        let seen = Arc::new(Mutex::new(Lane::default()));
        let (stop, stage) = watch::channel(Stage::Working);
        let told = Arc::clone(&seen);
        let worker = Worker::new(client, self.queues[0].clone())
            .parallel(slots.into())
            .stop_by(stage)
            .observe(move |event| {
                if let Some(error) = failed(event) {
                    locked(&told).error.get_or_insert(error);
                }
            });
        let handler = |job: queue_protocol::client::worker::Job| {
            let mark = Mark::of_body(&job.body);
            let mut seen = locked(&seen);
            self.arrived(&mut seen, mark.as_slice());
            self.keep(&mut seen, mark.into_iter().collect());
            std::future::ready(Verdict::Ack)
        };
        let run = worker.run(handler);
        tokio::pin!(run);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = end.cancelled() => {
                stop.send_replace(Stage::Finishing);
                run.await
            }
        };
        let mut seen = std::mem::take(&mut *locked(&seen));
        if let Err(error) = ended {
            seen.error.get_or_insert(error);
        }
        seen
    }
}

fn locked(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What ends a measurement: every ack is to be confirmed.
fn failed(event: WorkerEvent) -> Option<ClientError> {
    match event {
        WorkerEvent::Ended { outcome: Outcome::Settled, .. } | WorkerEvent::Back => None,
        WorkerEvent::Ended { outcome: Outcome::Lost, .. } => {
            Some(ClientError::Unknown { what: "a lease was lost".to_owned() })
        }
        WorkerEvent::Ended { outcome: Outcome::NotSettled(error), .. } | WorkerEvent::Away(error) => {
            Some(error)
        }
    }
}
