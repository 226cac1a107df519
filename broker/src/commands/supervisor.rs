//! What a supervisor such as systemd is told of a node (`Type=notify`, `WatchdogSec=`): when it is there, what it does, and at
//! each beat that it lives. Nothing is said where `$NOTIFY_SOCKET` is not set.
//!
//! A node is there when it listens, whether or not it has a majority: a start must not wait for other machines.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::node::Node;

/// How long a node without a cluster waits for the others before it counts as started.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two beats of a node that starts, or has no watchdog.
const BEAT: Duration = Duration::from_secs(5);
/// What a start may take from each of its beats on.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Beats in the time that the watchdog allows for one.
const BEATS: u32 = 3;

fn tell(states: &[NotifyState<'_>]) {
    // Whoever started it may be gone.
    let _ = sd_notify::notify(states);
}

fn watchdog_beat() -> Duration {
    sd_notify::watchdog_enabled().map_or(BEAT, |allowed| allowed / BEATS)
}

/// While a formatted node recovers: that it goes on.
pub(super) async fn recovers() -> Infallible {
    loop {
        let timeout = u32::try_from(START_TIMEOUT.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(timeout), NotifyState::Watchdog]);
        tokio::time::sleep(watchdog_beat().min(BEAT)).await;
    }
}

/// While a node has no cluster: that it is there and waits, if it is not done soon.
pub(super) async fn waits() -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    tell(&[NotifyState::Ready, NotifyState::Status("waits for the other nodes to make or join a cluster")]);
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(watchdog_beat()).await;
    }
}

/// While a node serves: that it is ready, and at each beat for which the loop of Raft has turned, what it does.
pub(super) async fn serves(node: &Node) -> Infallible {
    tell(&[NotifyState::Ready]);
    loop {
        if let Some(does) = node.turn().await {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&does)]);
        }
        tokio::time::sleep(watchdog_beat()).await;
    }
}

/// The node stops, by itself or because it was told to.
pub(super) fn stops() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stops")]);
}
