//! Every limit of the wire, once. Sizes are bytes, counts are things, times are milliseconds.

/// Largest body of one message; a server may be configured up to [`BODY_SIZE_CEILING`].
pub const BODY_SIZE_MAX: usize = 1 << 20;
/// What `limits.max_message` can be raised to.
pub const BODY_SIZE_CEILING: usize = 8 << 20;
/// Encoded headers of one message.
pub const HEADERS_SIZE_MAX: usize = 4 << 10;
/// Headers of one message.
pub const HEADERS_COUNT_MAX: usize = 32;
/// Messages in one push.
pub const PUSH_COUNT_MAX: usize = 1_000;
/// Messages in one lease, pop or peek.
pub const LEASE_COUNT_MAX: usize = 256;
/// Queues one lease may name.
pub const LEASE_QUEUES_MAX: usize = 16;
/// Receipts in one ack, nack or extend.
pub const RECEIPTS_COUNT_MAX: usize = 1_000;
/// Groups in one answer of a listing.
pub const GROUPS_LISTED_MAX: usize = 1_000;
/// Schedules of a cluster.
pub const SCHEDULES_MAX: usize = 10_000;
/// Schedules in one answer of a listing.
pub const SCHEDULES_LISTED_MAX: usize = 1_000;
/// Cron pattern of a schedule.
pub const CRON_SIZE_MAX: usize = 128;
/// Name of a time zone.
pub const ZONE_SIZE_MAX: usize = 64;
/// Most messages that a schedule catches up with.
pub const CATCH_UP_MAX: u32 = 100;
/// Shortest time between two messages of a schedule.
pub const EVERY_MS_MIN: u64 = 1_000;
/// Conditions, and steps, of one transaction.
pub const TXN_COUNT_MAX: usize = 256;
/// Messages, receipts and ids of one transaction.
pub const TXN_ITEMS_MAX: usize = 1_000;
/// Slow requests that a node remembers.
pub const SLOW_LISTED_MAX: usize = 128;
/// Longest that another log level is chosen for: a day.
pub const LOG_MS_MAX: u64 = 24 * 3_600_000;
/// Connections in one answer to a listing of clients.
pub const CLIENTS_LISTED_MAX: usize = 256;
/// Queues named of what a connection has parked.
pub const CLIENT_QUEUES_MAX: usize = 4;
/// Queues in one answer of a listing.
pub const QUEUES_LISTED_MAX: usize = 1_000;
/// Queues of a cluster.
pub const QUEUES_MAX: usize = 100_000;
/// Length of a queue's name.
pub const QUEUE_NAME_SIZE_MAX: usize = 128;
/// Checkpoint of a message.
pub const CHECKPOINT_SIZE_MAX: usize = 4 << 10;
/// Checkpoints of one lease or pop together.
pub const CHECKPOINTS_SIZE_MAX: usize = 64 << 10;
/// Error text of a nack.
pub const ERROR_TEXT_SIZE_MAX: usize = 1 << 10;
/// Lowest and highest priority, and the one used when none is given; higher is delivered first.
pub const PRIORITY_MAX: u8 = 31;
/// Priority of a message that names none.
pub const PRIORITY_DEFAULT: u8 = 4;
/// Shortest and longest lease.
pub const LEASE_MS_MIN: u64 = 1_000;
/// Longest lease: 12 h.
pub const LEASE_MS_MAX: u64 = 12 * 3_600_000;
/// Shortest grace of a bound session: 1 s.
pub const GRACE_MS_MIN: u64 = 1_000;
/// Longest grace of a bound session: 12 h.
pub const GRACE_MS_MAX: u64 = 12 * 3_600_000;
/// Longest wait of a lease or pop: 5 min.
pub const WAIT_MS_MAX: u64 = 300_000;
/// A dedup key, unique key or group of a message.
pub const KEY_SIZE_MAX: usize = 128;
/// Groups of one queue that have a weight of their own.
pub const GROUP_WEIGHTS_MAX: usize = 10_000;
/// Highest weight of a group.
pub const GROUP_WEIGHT_MAX: u32 = 1_000;
/// Most deliveries of a rate limit in its period.
pub const RATE_MAX: u32 = 10_000_000;
/// Longest period of a rate limit: 1 h.
pub const RATE_MS_MAX: u64 = 3_600_000;
/// Events kept of a message.
pub const HISTORY_COUNT_MAX: usize = 8;
/// Queues a dead message can go through by `dead_to`.
pub const DEAD_HOPS_MAX: u8 = 8;
/// Reasons in one explanation.
pub const HOLDS_COUNT_MAX: usize = 16;
/// Dedup keys one queue remembers.
pub const DEDUP_KEYS_MAX: usize = 1_000_000;
/// Longest dedup window: 30 d.
pub const DEDUP_WINDOW_MS_MAX: u64 = 30 * 86_400_000;
/// Longest delay, time to live and back-off: 366 d.
pub const FUTURE_MS_MAX: u64 = 366 * 86_400_000;
/// Open requests a session keeps answers for.
pub const SESSION_NUMBERS_MAX: u64 = 1_024;
/// Encoded size of the answers a session keeps.
pub const SESSION_ANSWERS_SIZE_MAX: usize = 1 << 20;
/// Bodies held live by the answers of one session.
pub const SESSION_BODIES_SIZE_MAX: u64 = 64 << 20;
/// Sessions of a cluster.
pub const SESSIONS_MAX: usize = 100_000;
/// A session without leases is forgotten when it was not used for this long: 1 h.
pub const SESSION_IDLE_MS: u64 = 3_600_000;
/// A session without leases that was not used for this long may give way when there are too many: 60 s.
pub const SESSION_SPARE_MS: u64 = 60_000;
/// One of the source that has most sessions may give way after this long: 10 s.
pub const SESSION_SPARE_MS_MIN: u64 = 10_000;
/// The id of a forgotten session is refused for this long, then its index is: 2 min.
pub const SESSION_FORGOTTEN_MS: u64 = 120_000;
/// A client opens no session under an index that it learned longer ago: 60 s.
pub const SESSION_INDEX_MS_MAX: u64 = 60_000;

/// Frame header, fixed.
pub const FRAME_HEADER_SIZE: usize = 24;
/// Frame before the hello is accepted, all of it.
pub const HELLO_FRAME_SIZE_MAX: usize = 4 << 10;
/// Time a connection has to say hello.
pub const HELLO_MS_MAX: u64 = 5_000;
/// Connections that have not said hello.
pub const HELLO_CONNECTIONS_MAX: usize = 256;
/// Postcard part of a frame.
pub const HEADER_SIZE_MAX: usize = 256 << 10;
/// Raw tail of a frame: 8 MiB of message contents.
pub const TAIL_SIZE_MAX: usize = 8 << 20;
/// Requests in flight on one connection.
pub const IN_FLIGHT_COUNT_MAX: usize = 1_024;
/// Bytes in flight on one connection.
pub const IN_FLIGHT_SIZE_MAX: usize = 64 << 20;
/// Connections kept back for peers.
pub const PEER_CONNECTIONS_RESERVED: usize = 64;
/// Stages that statistics tell of.
pub const STAGES_MAX: usize = 16;
/// A clock that is further off the cluster's time of day is not believed.
pub const CLOCK_OFF_MS_MAX: u64 = 1_000;
/// Bulk is cut into frames of at most this tail.
pub const BULK_FRAME_SIZE_MAX: usize = 256 << 10;

const _: () = assert!(BODY_SIZE_MAX <= BODY_SIZE_CEILING && BODY_SIZE_CEILING <= TAIL_SIZE_MAX);
const _: () = assert!(LEASE_MS_MIN < LEASE_MS_MAX && LEASE_MS_MAX <= FUTURE_MS_MAX);
const _: () =
    assert!(CHECKPOINT_SIZE_MAX <= CHECKPOINTS_SIZE_MAX && CHECKPOINTS_SIZE_MAX <= HEADER_SIZE_MAX / 2);
const _: () = assert!(PRIORITY_DEFAULT <= PRIORITY_MAX);
const _: () = assert!(2 * SESSION_INDEX_MS_MAX <= SESSION_FORGOTTEN_MS);
const _: () = assert!(IN_FLIGHT_COUNT_MAX as u64 <= SESSION_NUMBERS_MAX);
