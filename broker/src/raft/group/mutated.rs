//! Planted bugs of the state machine, which itself knows of none: what it is given is not what was committed.

use std::sync::Arc;

use queue_protocol::content::ContentSpec;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;

use crate::mutants::{self, Mutant};
use crate::queue::State;
use crate::queue::command::{Batch, Command, Op, Receipts};

/// The entry with which a state goes wrong.
const STATE_CHANGED_AT: u64 = 500;

/// What is applied instead of `batch`.
pub(in crate::raft) fn batch(mut batch: Batch, state: &State) -> Batch {
    if mutants::on(Mutant::LeaseByWallClock) {
        batch.stamps.confirmed_ms = match state.wall_ms() {
            0 => 0,
            before => batch.stamps.wall_ms.saturating_sub(before),
        };
    }
    let mut commands = batch.commands.into_vec();
    commands.iter_mut().for_each(|given| command(given, state));
    if mutants::on(Mutant::CommandsReordered) {
        commands.reverse();
    }
    batch.commands = Bounded::new(commands).expect("as many as before");
    batch
}

fn command(command: &mut Command, state: &State) {
    let again = match &mut command.op {
        Op::Lease(_) => mutants::on(Mutant::LeaseNotDeduplicated),
        Op::Push(_) => mutants::on(Mutant::PushNotDeduplicated),
        Op::Ack(receipts) if mutants::on(Mutant::AckWithAnyToken) => {
            with_tokens_of(state, receipts);
            false
        }
        _ => false,
    };
    if again {
        command.session = None;
    }
    if let Some(stamp) = &mut command.session {
        if mutants::on(Mutant::RepeatByNumberAlone) {
            stamp.session = SessionId(1);
        }
        if mutants::on(Mutant::ForgottenExecuted) && state.has_forgotten(stamp.session) {
            stamp.session = SessionId(!stamp.session.0);
        }
    }
}

fn with_tokens_of(state: &State, receipts: &mut Receipts) {
    let mut settled = receipts.receipts.to_vec();
    for (id, token) in &mut settled {
        let found = state.peek(&receipts.queue, None, Some(*id), 1, 0).unwrap_or_default();
        *token = found.first().and_then(|message| message.token).unwrap_or(*token);
    }
    receipts.receipts = Bounded::new(settled).expect("as many as before");
}

/// What is applied instead of `table`.
pub(in crate::raft) fn table(table: &Arc<[ContentSpec]>) -> Arc<[ContentSpec]> {
    if mutants::on(Mutant::BodyTableOffByOne) && table.len() > 1 {
        let mut rows = table.to_vec();
        rows.rotate_left(1);
        return rows.into();
    }
    Arc::clone(table)
}

/// What an entry does to `state` besides.
pub(in crate::raft) fn applied(state: &mut State, index: u64) {
    if mutants::on(Mutant::StateChanged) && index == STATE_CHANGED_AT {
        state.skip_token();
    }
}

/// What a snapshot gives back instead of `state`.
pub(in crate::raft) fn taken(mut state: State) -> State {
    if mutants::on(Mutant::SnapshotWithoutSessions) {
        state.forget_sessions();
    }
    state
}
