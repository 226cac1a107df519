//! A sample of every request.

use super::*;

fn receipts() -> Receipts {
    Receipts {
        queue: queue(),
        receipts: list(vec![(MessageId(4_812), LeaseToken(99)), (MessageId(4_813), LeaseToken(100))]),
    }
}

fn lease() -> Lease {
    Lease {
        queues: list(vec![queue(), "mail".parse().unwrap()]),
        max_messages: 10,
        max_bytes: 1 << 20,
        lease_ms: Some(30_000),
        wait_ms: 20_000,
        linger_ms: 50,
    }
}

pub(super) fn requests() -> Vec<Sample> {
    let message = |content: &Bytes, options| PushMessage { content: ContentSpec::of(content), options };
    let due = |due| PushOptions { due, ..PushOptions::default() };
    let unique = |held| Unique { key: "daily".parse().unwrap(), held };
    let keyed = PushOptions {
        ttl_ms: Some(60_000),
        dedup_key: Some("order-17".parse().unwrap()),
        unique: Some(unique(UniqueHeld::Reject)),
        group: Some("customer-4".parse().unwrap()),
        ..PushOptions::default()
    };
    let held = |held| PushOptions { unique: Some(unique(held)), ..PushOptions::default() };
    let push = Push {
        queue: queue(),
        create: true,
        atomic: true,
        messages: list(vec![
            message(&plain(), due(Due::Now)),
            message(&headed(), due(Due::AfterMs(1_000))),
            message(&plain(), due(Due::AtMs(1_800_000_000_000))),
            message(&plain(), keyed),
            message(&plain(), held(UniqueHeld::Replace)),
            message(&plain(), held(UniqueHeld::Keep)),
        ]),
    };
    let mut samples = vec![sample(
        request_name(&Request::Push(push.clone())),
        1,
        call(301, Request::Push(push)),
        vec![plain(), headed(), plain(), plain(), plain(), plain()],
    )];
    let mut add = |suffix: &str, number, request: Request| {
        let name = format!("{}{suffix}", request_name(&request));
        samples.push(sample(name, number, call(number, request), Vec::new()));
    };
    add("", 302, Request::Lease(lease()));
    add("/defaults", 303, Request::Lease(Lease { lease_ms: None, wait_ms: 0, linger_ms: 0, ..lease() }));
    add("", 304, Request::Pop(lease()));
    add("", 305, Request::Ack(receipts()));
    for kind in [
        NackKind::Release { delay_ms: 0 },
        NackKind::Fail { delay_ms: Some(250), error: text("exit 1") },
        NackKind::Reject { reason: text("no such file") },
    ] {
        let suffix = nack_name(&kind).strip_prefix("request/nack").expect("the prefix above");
        add(suffix, 306, Request::Nack(Nack { leases: receipts(), kind: kind.clone() }));
    }
    for leases in [ExtendWhich::Receipts(receipts()), ExtendWhich::Session] {
        let suffix = extend_name(&leases).strip_prefix("request/extend").expect("the prefix above");
        add(suffix, 307, Request::Extend(Extend { leases: leases.clone(), lease_ms: 60_000 }));
    }
    let settings = QueueSettings {
        max_failures: Some(5),
        lease_ms: Some(30_000),
        backoff_ms: Some(1_000),
        ..QueueSettings::default()
    };
    add(
        "",
        308,
        Request::CreateQueue(Box::new(CreateQueue { queue: queue(), settings, if_not_exists: true })),
    );
    let remove = RemoveQueue { queue: queue(), if_exists: false, if_empty: true };
    add("", 309, Request::RemoveQueue(remove));
    let change = QueueSettings {
        max_failures: Some(5),
        lease_ms: Some(30_000),
        backoff_ms: Some(1_000),
        backoff_factor_percent: Some(150),
        backoff_ms_max: Some(60_000),
        backoff_jitter_percent: Some(20),
        ttl_ms: Some(3_600_000),
        on_expiry: Some(OnExpiry::Drop),
        dedup_window_ms: Some(600_000),
        max_messages: Some(1_000_000),
        max_bytes: Some(1 << 30),
        on_full: Some(OnFull::DropOldest),
        dead_to: Some(Some("jobs.dead".parse().unwrap())),
        dead_max: Some(1_000),
        dead_ttl_ms: Some(86_400_000),
        pushes_paused: Some(false),
        leases_paused: Some(true),
        ordered: Some(true),
        on_poison: Some(OnPoison::Block),
        fair: Some(false),
        group_weight: Some(2),
        group_leased_max: Some(4),
        rate_max: Some(100),
        rate_ms: Some(1_000),
        single_active: Some(true),
        group_rate_max: Some(10),
        group_rate_ms: Some(60_000),
    };
    add("", 315, Request::AlterQueue(Box::new(AlterQueue { queue: queue(), change, if_version: Some(3) })));
    let unset = QueueSettings {
        on_expiry: Some(OnExpiry::Dead),
        on_full: Some(OnFull::Reject),
        dead_to: Some(None),
        on_poison: Some(OnPoison::ParkGroup),
        ..QueueSettings::default()
    };
    add(
        "/unset",
        316,
        Request::AlterQueue(Box::new(AlterQueue { queue: queue(), change: unset, if_version: None })),
    );
    let sweep = |select, action| Request::Sweep(Box::new(Sweep::all(queue(), select, action)));
    add("", 310, sweep(Select::default(), Action::Delete));
    for state in [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead] {
        let suffix = state_name(&state).strip_prefix("request/sweep").expect("the prefix above");
        add(suffix, 311, sweep(Select { state: Some(state), ..Select::default() }, Action::Delete));
    }
    let select = Select {
        ids: Some(list(vec![MessageId(5)])),
        older_than_ms: Some(3_600_000),
        reason: Some(DeadReason::Expired),
        died_within_ms: Some(86_400_000),
        error: Some(text("exit 1")),
        ..Select::default()
    };
    add("/redrive", 312, sweep(select, Action::Redrive { to: None }));
    add("/redrive_to", 312, sweep(Select::default(), Action::Redrive { to: Some(queue()) }));
    let part = Sweep {
        limit: 100,
        dry_run: true,
        after: Some(cursor()),
        ..Sweep::all(queue(), Select::default(), Action::Move { to: "mail".parse().unwrap() })
    };
    add("/move", 313, Request::Sweep(Box::new(part)));
    for (suffix, change) in [
        ("/delete", Change::Delete),
        ("/cancel", Change::Cancel),
        ("/kick", Change::Kick),
        ("/priority", Change::Priority(9)),
        ("/move", Change::Move("mail".parse().unwrap())),
    ] {
        let ids = list(vec![MessageId(5), MessageId(7)]);
        add(suffix, 317, Request::Edit(Edit { queue: queue(), ids, change }));
    }
    let save = SaveCheckpoint {
        queue: queue(),
        id: MessageId(4_812),
        token: LeaseToken(99),
        lease_ms: 60_000,
        checkpoint: Checkpoint::new(&b"row 31"[..]).unwrap(),
    };
    add("", 323, Request::SaveCheckpoint(save));
    let weigh = |weight| WeighGroup { queue: queue(), group: "customer-4".parse().unwrap(), weight };
    add("", 318, Request::WeighGroup(weigh(Some(3))));
    add("/unset", 319, Request::WeighGroup(weigh(None)));
    add("", 314, Request::CloseSession);
    add("", 324, Request::BindSession(BindSession { grace_ms: Some(5_000) }));
    add("/unbind", 325, Request::BindSession(BindSession { grace_ms: None }));

    let message = PushMessage { content: ContentSpec::of(&plain()), options: due(Due::Now) };
    let push = Push { queue: queue(), create: false, atomic: false, messages: list(vec![message]) };
    let nack = Nack { leases: receipts(), kind: NackKind::Release { delay_ms: 0 } };
    let edit = Edit { queue: queue(), ids: list(vec![MessageId(5)]), change: Change::Delete };
    let (id, key) = (MessageId(4_812), "order-17".parse().unwrap());
    let txn = Txn {
        conditions: list(vec![
            Condition::Leased { queue: queue(), id, token: LeaseToken(99) },
            Condition::Exists { queue: queue(), id },
            Condition::AtMost { queue: queue(), count: 100 },
            Condition::Version { queue: queue(), version: 3 },
            Condition::NoDedupKey { queue: queue(), key },
        ]),
        steps: list(vec![
            Step::Push(push),
            Step::Ack(receipts()),
            Step::Nack(nack),
            Step::Extend { leases: receipts(), lease_ms: 60_000 },
            Step::Edit(edit),
        ]),
    };
    let name = request_name(&Request::Txn(txn.clone()));
    samples.push(sample(name, 320, call(320, Request::Txn(txn)), vec![plain()]));

    let cron = When::Cron { pattern: text("0 9 * * MON-FRI"), zone: text("Europe/Berlin") };
    for (suffix, when, missed) in [
        ("/cron", cron, Missed::Once),
        ("/every", When::Every(60_000), Missed::CatchUp(3)),
        ("/skip", When::Every(60_000), Missed::Skip),
    ] {
        let message = PushMessage { content: ContentSpec::of(&plain()), options: due(Due::Now) };
        let name = "report".parse().unwrap();
        let set = Request::SetSchedule(Box::new(SetSchedule {
            name,
            replace: true,
            queue: queue(),
            when,
            missed,
            message,
        }));
        let name = format!("{}{suffix}", request_name(&set));
        samples.push(sample(name, 321, call(321, set), vec![plain()]));
    }
    let remove = Request::RemoveSchedule("report".parse().unwrap());
    samples.push(sample(request_name(&remove), 322, call(322, remove), Vec::new()));

    let from = text("192.0.2.7:50321");
    let on_behalf_of = Some(OnBehalfOf { session: [0x42; 16], principal: 300, key: [0x17; 10], from });
    samples.push(sample(
        "request/status/reserved",
        2,
        Call { on_behalf_of, group: 300, ..status() },
        Vec::new(),
    ));

    let mut read = |suffix: &str, request: Request| {
        let name = format!("{}{suffix}", request_name(&request));
        samples.push(sample(name, 2, Call { request, ..status() }, Vec::new()));
    };
    let peek = Peek {
        queue: queue(),
        state: Some(MessageState::Ready),
        id: None,
        max_messages: 10,
        max_bytes: 65_536,
        after: None,
        consistency: Consistency::Linearizable,
    };
    read("", Request::Peek(peek.clone()));
    let after =
        Some(Cursor { state: MessageState::Ready, priority: 4, id: MessageId(9), below: MessageId(12) });
    read("/after", Request::Peek(Peek { after, ..peek.clone() }));
    let id = Some(MessageId(4_812));
    read("/id", Request::Peek(Peek { state: None, id, consistency: Consistency::Stale, ..peek }));
    let queues = Queues { only: None, after: Some(queue()), consistency: Consistency::Linearizable };
    read("", Request::Queues(queues.clone()));
    read("/only", Request::Queues(Queues { only: Some(queue()), after: None, ..queues }));
    let explain = Explain { queue: queue(), id: None, consistency: Consistency::Linearizable };
    read("", Request::Explain(explain.clone()));
    let id = Some(MessageId(4_812));
    read("/id", Request::Explain(Explain { id, consistency: Consistency::Stale, ..explain }));
    let after = Some("report".parse().unwrap());
    let groups = Groups { queue: queue(), after: None, consistency: Consistency::Linearizable };
    read("", Request::Groups(groups));
    let history = History { queue: queue(), id: MessageId(1_006), consistency: Consistency::Stale };
    read("", Request::History(history));
    read("", Request::Schedules(Schedules { after, consistency: Consistency::Linearizable }));
    read("", Request::Status);
    read("", Request::TransferLeader(None));
    read("/named", Request::TransferLeader(Some(NodeId(3))));
    read("", Request::Stats);
    read("", Request::Attend);
    read("", Request::Clients(Clients { after: None }));
    read("/after", Request::Clients(Clients { after: Some(17) }));
    let address = text("10.0.0.4:7410");
    for (suffix, change) in [
        ("/add", MemberChange::Add { address: address.clone(), standing: Standing::Learner }),
        ("/replace", MemberChange::Add { address, standing: Standing::InsteadOf(NodeId(3)) }),
        ("/promote", MemberChange::Promote(NodeId(4))),
        ("/address", MemberChange::SetAddress { node: NodeId(3), address: text("10.0.0.9:7410") }),
        ("/remove", MemberChange::Remove { node: NodeId(4), force: false }),
    ] {
        read(suffix, Request::ChangeMembers(change));
    }
    read("", Request::Drain(true));
    read("", Request::RotateSecret(false));
    read("", Request::TlsForget(NodeId(3)));
    read("", Request::RaiseLevel(None));
    read("/to", Request::RaiseLevel(Some(Level(2))));
    for (suffix, request) in super::access::requests() {
        let name = format!("{}{suffix}", request_name(&request));
        let stamped = request.row().class.is_stamped();
        let asked = call(302, request);
        let asked = Call { stamp: asked.stamp.filter(|_| stamped), ..asked };
        samples.push(sample(name, 1, asked, Vec::new()));
    }
    samples
}
