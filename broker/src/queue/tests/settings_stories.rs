//! Stories of settings: changed, paused, limited.

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::QueueSettings;

use super::*;

pub(super) fn alter(queue: &str, change: QueueSettings) -> Op {
    Op::AlterQueue { queue: name(queue), change: Box::new(change), if_version: None }
}

#[test]
fn a_queue_has_a_version_that_rises_with_each_change() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let change = QueueSettings { max_failures: Some(9), ..Default::default() };
    let at = |version| Op::AlterQueue {
        queue: name("jobs"),
        change: Box::new(change.clone()),
        if_version: Some(version),
    };
    assert_eq!(broker.run(at(2)).unwrap_err().code, ErrorCode::QueueChanged);
    assert_eq!(broker.run(at(1)), Ok(Outcome::Altered(2)));
    assert_eq!(broker.run(at(1)).unwrap_err().code, ErrorCode::QueueChanged);
    // It is so already: nothing changes.
    assert_eq!(broker.run(at(2)), Ok(Outcome::Altered(2)));
    let stats = broker.state.queues(Some(&name("jobs")), None, 1).remove(0);
    assert_eq!((stats.version, stats.settings), (2, Settings { max_failures: 9, ..settings() }));
    assert_eq!(
        broker.run(alter("mail", QueueSettings::default())).unwrap_err().code,
        ErrorCode::QueueNotFound
    );
    let both = QueueSettings { ordered: Some(true), fair: Some(true), ..Default::default() };
    assert_eq!(broker.run(alter("jobs", both)).unwrap_err().code, ErrorCode::BadRequest);
}
