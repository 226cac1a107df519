//! Taking a node in that waits to be asked: the leader dials an address that a client names.
//!
//! A client must not scan ports through the leader, nor use up its sockets: one address is dialed at a time, a few in a
//! minute, and each failure is answered alike and after the same time. Why it failed is in the leader's log.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::names::StoreId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::hello::JOINING;
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer::{Invite, PeerRequest, PeerResponse};
use queue_protocol::wire::response::MemberView;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::changes::view_of;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::raft::node::dial::{RefusedBy, SomebodyElse};
use crate::raft::{Consensus, dial_peer};

/// Addresses of clients that are dialed within [`PER`].
const DIALS_MAX: usize = 4;
const PER: Duration = Duration::from_secs(60);
/// A node must have taken the invitation by then; a failure is told then, and no sooner.
const INVITED_WITHIN: Duration = Duration::from_secs(3);
/// How long an invited node may take to ask for membership.
const JOINED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The addresses that clients have let this node dial.
#[derive(Default)]
pub(in crate::raft) struct Invitations {
    under_way: tokio::sync::Mutex<()>,
    dials: Mutex<VecDeque<Instant>>,
}

impl Invitations {
    /// One more may be dialed, for as long as the guard lives.
    ///
    /// # Errors
    /// `change_in_progress` or `overloaded`; both may be repeated.
    pub(in crate::raft) fn begin(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let guard = self.under_way.try_lock();
        let busy = |_| Error::again(ErrorCode::ChangeInProgress, "another address is being dialed");
        let guard = guard.map_err(busy)?;
        let mut dials = self.dials.locked();
        while dials.front().is_some_and(|at| at.elapsed() >= PER) {
            dials.pop_front();
        }
        if let Some(first) = dials.front().filter(|_| dials.len() >= DIALS_MAX)
            && !mutants::on(Mutant::AnyAddressDialed)
        {
            let left = PER.saturating_sub(first.elapsed());
            let what = format!(
                "{DIALS_MAX} addresses were dialed within a minute; the next one may be in {} s",
                left.as_secs() + 1
            );
            let after_ms = u32::try_from(left.as_millis()).expect("less than a minute");
            let refused = Error::again(ErrorCode::Overloaded, what);
            return Err(Error { retry: Retry::AfterMs(after_ms), ..refused });
        }
        dials.push_back(Instant::now());
        Ok(guard)
    }
}

/// Who waits at an address knows another secret.
fn is_of_another_secret(error: &io::Error) -> bool {
    let refused = RefusedBy::of(error).map(|by| &by.error);
    let error = refused.or_else(|| SomebodyElse::of(error).map(|other| &other.error));
    error.is_some_and(|error| error.code == ErrorCode::NotPermitted && error.message.contains("secret"))
}

impl Consensus {
    /// Asks the node that waits at `address` to join, and waits until it is a member.
    pub(super) async fn invite(&self, address: &str, standing: Standing) -> Result<MemberView, Error> {
        if let Standing::InsteadOf(old) = standing {
            self.member(old)?;
        }
        self.check_free(Some(address), None, standing)?;
        let guard = self.invitations.begin()?;
        if let Ok(mut last) = self.joining.try_lock() {
            *last = None;
        }
        let begin = Instant::now();
        let asked = tokio::time::timeout(INVITED_WITHIN, self.ask_to_join(address, standing)).await;
        let asked = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let store = match asked {
            Ok(store) => store,
            Err(error) => {
                tracing::info!(address, %error, "no node was taken in");
                let found = if is_of_another_secret(&error) {
                    "the node that waits there proved another secret"
                } else {
                    "no node waits there"
                };
                tokio::time::sleep_until(begin + INVITED_WITHIN).await;
                let what = format!("{} took no node in at {address}: {found}", self.me.name);
                return Err(Error::refused(ErrorCode::AddressUnreachable, what));
            }
        };
        let joined = self.joined(store, address).await;
        drop(guard);
        joined
    }

    /// Asks, over a connection that is closed again: the node dials the leader then. Gives the store that was asked.
    async fn ask_to_join(&self, address: &str, standing: Standing) -> io::Result<StoreId> {
        let (me, called) = (&self.me.credentials, Some(JOINING.into()));
        let mut stream = dial_peer(&self.outside, me, Some(&self.gate), address, called).await?;
        let invite = Invite { at: Text::cut(self.me.address.clone()), standing };
        match stream.ask(PeerRequest::Invite(invite)).await? {
            PeerResponse::Coming => Ok(stream.hello.store),
            other => Err(io::Error::other(format!("it answered {other:?}"))),
        }
    }

    /// Why `store` was not taken in, for good.
    fn refused_to_join(&self, store: StoreId) -> Option<Error> {
        let last = self.joining.try_lock().ok()?;
        let (refused, error) = last.as_ref()?;
        (*refused == store && error.retry == Retry::Never).then(|| error.clone())
    }

    async fn joined(&self, store: StoreId, address: &str) -> Result<MemberView, Error> {
        let appears = async {
            loop {
                if let Some(error) = self.refused_to_join(store) {
                    return Err(error);
                }
                let (members, voters) = self.members();
                let found = members.iter().find(|(_, member)| member.store == store.0);
                if let Some((node, member)) = found {
                    return Ok(view_of(*node, member, voters.contains(node)));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(JOINED_WITHIN, appears).await.unwrap_or_else(|_| {
            let what = format!("the node at {address} was asked and has not joined; what it prints says why");
            Err(Error::again(ErrorCode::TimedOut, what))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_address_is_dialed_at_a_time_and_four_in_a_minute() {
        let invitations = Invitations::default();
        for _ in 0..DIALS_MAX {
            let guard = invitations.begin().expect("there were fewer");
            assert_eq!(invitations.begin().unwrap_err().code, ErrorCode::ChangeInProgress);
            drop(guard);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let refused = invitations.begin().unwrap_err();
        assert_eq!((refused.code, refused.retry), (ErrorCode::Overloaded, Retry::AfterMs(56_000)));
        tokio::time::advance(Duration::from_secs(56)).await;
        assert!(invitations.begin().is_ok(), "the first one was a minute ago");
        assert!(invitations.begin().is_err(), "the second one was not");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_leader_that_dials_whatever_it_is_told_is_noticed() {
        let test = "raft::cluster::invitations::tests::one_address_is_dialed_at_a_time_and_four_in_a_minute";
        assert!(mutants::is_caught_by(test, Mutant::AnyAddressDialed));
    }
}
