//! Bugs planted on purpose, so that the suites can show that they would notice.
//!
//! Without the feature `mutants` [`on`] is a constant `false` and nothing of this is in the program. With it one process
//! has at most one bug, chosen by [`VARIABLE`] when it is first asked for.

/// Names the planted bug, in builds with the feature `mutants`.
pub const VARIABLE: &str = "QUEUED_MUTANT";

/// The tests that have to catch a planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// The sweep of the simulation (`tests/simulation/mutants.csv`).
    Simulation,
    /// A process test that starts a node with the bug (`tests/processes/`).
    Processes,
    /// A unit test of the broker that runs another one with the bug.
    Units,
    /// A test of simulated full disks (`tests/simulation/full_disk.rs`).
    FullDisk,
}

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal in $suite:ident,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As [`VARIABLE`] names it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Which tests catch it.
            pub const fn suite(self) -> Suite {
                match self {
                    $(Self::$variant => Suite::$suite,)*
                }
            }
        }
    };
}

mutants! {
    /// Whoever waits for the log is told before the sync.
    AckBeforeSync => "ack-before-sync" in Simulation,
    /// A vote is given before it is durable.
    VoteBeforeSync => "vote-before-sync" in Simulation,
    /// A failed sync of the log is tried again.
    SyncRetried => "sync-retried" in Simulation,
    /// A new segment of the log is used before its name is durable.
    DirectoryNotSynced => "directory-not-synced" in Simulation,
    /// Recovery cuts the log at the first bad record, whatever proves that it was durable.
    CutAtAnyDamage => "cut-at-any-damage" in Units,
    /// A snapshot is published without a sync; the log it replaces is purged.
    PurgeBeforeSnapshotIsDurable => "purge-before-snapshot-is-durable" in Simulation,
    /// Snapshots carry no sessions.
    SnapshotWithoutSessions => "snapshot-without-sessions" in Simulation,
    /// Leases end by the wall clock.
    LeaseByWallClock => "lease-by-wall-clock" in Simulation,
    /// A repeated lease is executed again.
    LeaseNotDeduplicated => "lease-not-deduplicated" in Simulation,
    /// A repeated push is executed again.
    PushNotDeduplicated => "push-not-deduplicated" in Simulation,
    /// Repeats are told by their number alone.
    RepeatByNumberAlone => "repeat-by-number-alone" in Simulation,
    /// The commands of an entry are executed in another order than they stand in.
    CommandsReordered => "commands-reordered" in Simulation,
    /// A push takes the rows of the body table that belong to its neighbour.
    BodyTableOffByOne => "body-table-off-by-one" in Simulation,
    /// The lease clock runs twice as fast as time.
    LeaseClockTooFast => "lease-clock-too-fast" in Simulation,
    /// How much time has passed is taken from the time of day.
    ElapsedByWall => "elapsed-by-wall" in Simulation,
    /// A leader believes its own clock, however it jumps.
    JumpBelievedAtOnce => "jump-believed-at-once" in Simulation,
    /// Leases are counted from the time that a quorum has confirmed, not from the stamping.
    LeaseWithoutLag => "lease-without-lag" in Simulation,
    /// A leader stamps entries however long no quorum has answered it.
    StampedWithoutQuorum => "stamped-without-quorum" in Units,
    /// An ack settles whatever lease the message has now.
    AckWithAnyToken => "ack-with-any-token" in Simulation,
    /// Reads are answered without asking a quorum.
    ReadWithoutQuorum => "read-without-quorum" in Simulation,
    /// A lease is answered `empty` without asking a quorum.
    EmptyWithoutQuorum => "empty-without-quorum" in Processes,
    /// A leader that starts again takes its term up where it was.
    LeaderRestored => "leader-restored" in Simulation,
    /// A follower answers an append before the entries are on its disk.
    FollowerAnswersEarly => "follower-answers-early" in Simulation,
    /// A session that was forgotten executes its commands anew.
    ForgottenExecuted => "forgotten-executed" in Simulation,
    /// A client renews the index of its session with each request.
    IndexRenewed => "index-renewed" in Simulation,
    /// A time of a schedule is pushed again when the wall clock was set back before it.
    OccurrenceTwice => "occurrence-twice" in Units,
    /// A pattern has no time for the local times that a clock leaves out.
    LeftOutTimesAreLost => "left-out-times-are-lost" in Units,
    /// A fixed pattern runs again when the clock shows its time again.
    ShownTwiceRunsTwice => "shown-twice-runs-twice" in Units,
    /// A message may expire before it is due, whatever its push says.
    ExpiresBeforeDue => "expires-before-due" in Units,
    /// The state is changed by something that is no entry.
    StateChanged => "state-changed" in Simulation,
    /// Clients get as many connections as are set, whatever else needs descriptors.
    ClientsTakeAllDescriptors => "clients-take-all-descriptors" in Processes,
    /// A lack of descriptors is taken for any failure of the disk.
    DescriptorsToldAsDisk => "descriptors-told-as-disk" in Processes,
    /// A connection that says nothing keeps its place from those that come later.
    SilentGreetingStays => "silent-greeting-stays" in Processes,
    /// Every refused connection has a line in the log.
    LineForEachConnection => "line-for-each-connection" in Processes,
    /// The contents of a message keep the buffer that they were read into.
    ContentsKeepTheirBuffer => "contents-keep-their-buffer" in Processes,
    /// Unfinished input does not count to the memory of clients.
    InputNotCounted => "input-not-counted" in Processes,
    /// Unfinished input may come as slowly as it likes.
    SlowInputStays => "slow-input-stays" in Processes,
    /// A number behind one that was refused for want of room is executed.
    RefusedOvertaken => "refused-overtaken" in Processes,
    /// Parked leases of a connection that is gone stay.
    ParkedOutlivesItsConnection => "parked-outlives-its-connection" in Processes,
    /// A join keeps a secret that was not proved.
    UnprovedSecretKept => "unproved-secret-kept" in Processes,
    /// A member is known at a new address although it still answers at the old one.
    MovedAtOnce => "moved-at-once" in Processes,
    /// A process that is older than the one that came to its member's address is let in.
    OlderProcessLetIn => "older-process-let-in" in Units,
    /// Reads begin as they come, however many of one connection.
    ReadsNotInTurn => "reads-not-in-turn" in Processes,
    /// The scrub passes over what was copied together.
    CopiesNotScrubbed => "copies-not-scrubbed" in Units,
    /// The last segment need not follow the one before.
    LastFollowsNothing => "last-follows-nothing" in Units,
    /// A body that is alone in the last piece of a copy is not copied.
    LastPieceDropped => "last-piece-dropped" in Units,
    /// A node ends when one voter refuses its data directory, whatever the others say.
    RefusedByOneEnds => "refused-by-one-ends" in Units,
    /// A complaint has a line of its own each time.
    LineForEachComplaint => "line-for-each-complaint" in Units,
    /// Room is looked at ten times a second alone, whatever is written in between.
    RoomLookedAtInTime => "room-looked-at-in-time" in FullDisk,
    /// A disk with little room keeps the log that late followers may want.
    KeptUnderPressure => "kept-under-pressure" in FullDisk,
    /// A leader says that a majority follows it, whether one does or not.
    QuorumTakenForGranted => "quorum-taken-for-granted" in Processes,
    /// A leader leases although the voters have different states and no majority agrees.
    LeasedWhileStatesDiffer => "leased-while-states-differ" in Processes,
    /// A leader says of no voter that it is behind.
    LagIgnored => "lag-ignored" in Processes,
    /// `queued start` makes a cluster though a node of the list does not answer.
    BootstrapWithSilentPeers => "bootstrap-with-silent-peers" in Units,
    /// `queued start` gives its word to every process that asks for it.
    BootstrapWordTwice => "bootstrap-word-twice" in Units,
    /// A cluster that was recovered gives tokens that the lost nodes gave.
    RecoveredTokensAgain => "recovered-tokens-again" in Processes,
    /// A cluster that was recovered executes what comes under sessions of the lost one.
    RecoveredSessionsOpen => "recovered-sessions-open" in Processes,
    /// That a quorum is lost or back leaves no line in the log.
    QuorumNotTold => "quorum-not-told" in Processes,
    /// A request over HTTP is answered under whatever name it comes, and for whatever page.
    AnyHostAnswered => "any-host-answered" in Processes,
    /// A request over HTTP counts each time, whatever session and number it names.
    HttpSessionIgnored => "http-session-ignored" in Processes,
    /// SIGHUP does not open the log file anew.
    LogFileNotReopened => "log-file-not-reopened" in Processes,
    /// A removed node counts as a member for ever.
    RemovedStaysMember => "removed-stays-member" in Processes,
    /// A node is refused because the log applied here does not know it yet.
    UnknownNodeRefused => "unknown-node-refused" in Units,
    /// Whoever has a number is let in, whoever certified it.
    CertificateNotChecked => "certificate-not-checked" in Units,
    /// A client may let the leader dial as many addresses as it likes.
    AnyAddressDialed => "any-address-dialed" in Units,
    /// The connections of a removed node go on.
    RemovedStillHeard => "removed-still-heard" in Processes,
    /// A peer's term is believed, whatever it is.
    AnyTermBelieved => "any-term-believed" in Units,
    /// Connections that were proved with a secret that is gone go on.
    OldProofLivesOn => "old-proof-lives-on" in Units,
    /// A node that has spoken TLS is dialed in the clear as soon as it says that it speaks none.
    TlsForgotten => "tls-forgotten" in Processes,
    /// A secret is given to whoever asks, over whatever connection.
    SecretOverPlainLink => "secret-over-plain-link" in Processes,
    /// A rotation goes on before all members have the next secret.
    SecretSwitchedEarly => "secret-switched-early" in Units,
}

/// Whether the unit test `name` passes as it is and fails in a process with the bug.
#[cfg(all(test, feature = "mutants"))]
pub(crate) fn is_caught_by(name: &str, mutant: Mutant) -> bool {
    let run = |mutant: Option<Mutant>| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a test has a program"));
        command.args(["--exact", name]).env_remove(VARIABLE);
        command.envs(mutant.map(|mutant| (VARIABLE, mutant.name())));
        let output = command.output().expect("it starts");
        assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{name} is no test");
        output.status.success()
    };
    run(None) && !run(Some(mutant))
}

/// Whether this process has the bug.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn on(_mutant: Mutant) -> bool {
    false
}

/// Whether this process has the bug.
#[cfg(feature = "mutants")]
pub(crate) fn on(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let choose = || {
        let name = std::env::var(VARIABLE).ok()?;
        let chosen = Mutant::ALL.iter().find(|known| known.name() == name);
        Some(*chosen.unwrap_or_else(|| panic!("{VARIABLE} names no planted bug: {name}")))
    };
    *CHOSEN.get_or_init(choose) == Some(mutant)
}
