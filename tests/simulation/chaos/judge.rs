//! A verdict on the health of the cluster, and the push that shows whether it was right.
//!
//! ```text
//! a fault begins ── up to 1.5 s ── all that is wrong stays as it is: 3 s ── verdict ── push, 5 s at most ── on it goes
//!                                                                             └ in a second run of the seed: a node stops
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use harness::simulation::SimNet;
use queue_protocol::client::{Client, ClientConfig};
use queue_protocol::content;
use queue_protocol::health::{Absence, Judgement, judge as judgement};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Push, PushMessage, Request};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::StatusView;

use super::Report;
use super::faults::Chaos;
use super::load::Load;
use super::machine::Power;
use super::plan::{Dice, Plan, address};
use super::queues::queue;
use super::world::{CLIENTS, Checked, Violation, World};

/// Verdicts of one run.
const VERDICTS: u64 = 10;
/// All that is wrong stays as it is for so long before a verdict.
const FROZEN: Duration = Duration::from_secs(3);
/// What a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// What a push may take.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// A fault is looked for so long before a verdict is given without one.
const FAULT_WITHIN: Duration = Duration::from_secs(20);
/// A place of the network that no fault touches.
const JUDGE: &str = "judge";
/// The queue of the pushes: it has no limits.
const QUEUE: &str = "plain";

/// A node that stops with a verdict.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// The verdict, counted from 1.
    at: u64,
    name: String,
}

impl Loss {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (at, name) = text.split_once(':')?;
        Some(Self { at: at.parse().ok()?, name: name.to_owned() })
    }
}

/// What is asked of a place, and what came of it. Clones are the same.
#[derive(Clone, Default)]
struct Court(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Where, and of which machines.
    look: Option<(&'static str, Vec<String>)>,
    push: Option<(&'static str, Vec<String>)>,
    seen: Option<Vec<StatusView>>,
    pushed: Option<Result<(), String>>,
}

fn client(seed: u128, servers: Vec<String>, timeout: Duration) -> Client {
    let config = ClientConfig { servers, timeout, follow: true, seed };
    Client::new(config, Arc::new(SimNet::default()))
}

impl Court {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is asked of `place`, for ever.
    async fn sit(self, seed: u64, place: &'static str) {
        let mut number = u128::from(seed) << 64 | place.bytes().map(u128::from).sum::<u128>() << 40;
        loop {
            number += 1;
            let (look, push) = {
                let mut inner = self.inner();
                (inner.look.take_if(|(at, _)| *at == place), inner.push.take_if(|(at, _)| *at == place))
            };
            if let Some((_, machines)) = look {
                let asking = client(number, Vec::new(), STATUS_TIMEOUT);
                let looks: Vec<_> = machines
                    .iter()
                    .map(|name| {
                        let (asking, address) = (asking.clone(), address(name));
                        tokio::spawn(async move {
                            asking.ask_node(&address, ask::Status).await.map(|told| *told.answer)
                        })
                    })
                    .collect();
                let mut seen = Vec::new();
                for look in looks {
                    seen.extend(look.await.expect("asking does not panic").ok());
                }
                self.inner().seen = Some(seen);
            }
            if let Some((_, machines)) = push {
                let servers = machines.iter().map(|name| address(name)).collect();
                let pushed = push_one(&client(number, servers, PUSH_TIMEOUT)).await;
                self.inner().pushed = Some(pushed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn push_one(client: &Client) -> Result<(), String> {
    let content: Bytes = content::encode(&Bounded::default(), b"judged").expect("no headers");
    let messages = Bounded::new(vec![PushMessage::plain(&content)]).expect("one");
    let push = Request::Push(Push { queue: queue(QUEUE), create: false, atomic: false, messages });
    match tokio::time::timeout(PUSH_TIMEOUT, client.call(push, vec![content])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Runs a seed with verdicts; with a loss up to the verdict it comes with. Once in a process.
pub(crate) fn judge(seed: u64, loss: Option<Loss>) -> Report {
    let mut world = World::new(Plan::new(seed));
    let violation = live(&mut world, loss).err().map(|Violation(what)| what);
    let now = world.now();
    world.trace.line(now, violation.as_deref().unwrap_or("ok"));
    Report { trace: world.trace.hash(), covered: world.covered, violation }
}

fn live(world: &mut World, loss: Option<Loss>) -> Checked {
    let (plan, load, court) = (world.plan.clone(), Load::default(), Court::default());
    world.set_up()?;
    for (place, name) in (0..).zip(CLIENTS) {
        let working = load.clone().run(world.history.clone(), plan.seed, place, plan.workers);
        let sitting = court.clone().sit(plan.seed, name);
        world.sim.client(name, async move {
            tokio::spawn(sitting);
            working.await
        });
    }
    let sitting = court.clone().sit(plan.seed, JUDGE);
    world.sim.client(JUDGE, async move {
        sitting.await;
        Ok(())
    });
    let mut chaos = Chaos::new(world.now());
    let mut dice = Dice::new(plan.seed, 9_000);
    world.pass(Duration::from_secs(2))?;
    for number in 1..=VERDICTS {
        let kind = await_fault(world, &mut chaos, &mut dice)?;
        let lost = loss.as_ref().filter(|loss| loss.at == number).map(|loss| loss.name.as_str());
        Verdict { number, kind, court: &court, lost }.give(world, &mut dice)?;
        if loss.as_ref().is_some_and(|loss| loss.at == number) {
            return Ok(());
        }
    }
    Ok(())
}

/// Lets things go wrong until one more fault has begun, and a little longer.
fn await_fault(world: &mut World, chaos: &mut Chaos, dice: &mut Dice) -> Checked<&'static str> {
    chaos.last = None;
    let until = world.now() + FAULT_WITHIN;
    while (chaos.last.is_none() || chaos.lie.is_some()) && world.now() < until {
        go_on(world, chaos)?;
    }
    let until = world.now() + dice.ms(0..1_500);
    while world.now() < until || chaos.lie.is_some() {
        go_on(world, chaos)?;
    }
    Ok(chaos.last.unwrap_or("nothing"))
}

fn go_on(world: &mut World, chaos: &mut Chaos) -> Checked {
    world.step()?;
    world.tend()?;
    chaos.drive(world)
}

/// One verdict.
struct Verdict<'a> {
    number: u64,
    kind: &'static str,
    court: &'a Court,
    lost: Option<&'a str>,
}

impl Verdict<'_> {
    fn give(&self, world: &mut World, dice: &mut Dice) -> Checked {
        let place = dice.pick(&[JUDGE, JUDGE, CLIENTS[0], CLIENTS[1]]).expect("one of four");
        world.note(&format!("verdict {} at {place}: all stays as it is", self.number));
        let running = running(world);
        world.pass(FROZEN)?;
        let machines: Vec<String> = world.machines.keys().cloned().collect();
        let seen = self.look(world, place)?;
        let judged = judgement(&seen.iter().collect::<Vec<_>>());
        let words = format!("{} {:?}", judged.verdict(), judged.troubles());
        world.note(&format!("verdict {}: {words}", self.number));
        let expected = match self.lost {
            None => Some(judged.is_writable()),
            Some(name) => {
                world.kill(name);
                after_loss(world, &judged, name)
            }
        };
        // The leader first: a client that begins elsewhere may wait at one that was.
        let mut servers: Vec<String> = judged.leader.iter().map(|leader| leader.name.to_string()).collect();
        let others = machines.iter().filter(|name| !servers.contains(name)).cloned().collect::<Vec<_>>();
        servers.extend(others);
        self.court.inner().push = Some((place, servers));
        let pushed = self.until(world, 2 * PUSH_TIMEOUT, |inner| inner.pushed.take())?;
        world.note(&format!("verdict {}: the push came to {pushed:?}", self.number));
        let mut now_running = self::running(world);
        if let Some(name) = self.lost {
            now_running.push(name.to_owned());
            now_running.sort();
        }
        if running != now_running {
            // A fault that was planned before came meanwhile.
            world.covered.add("void", 1);
            return Ok(());
        }
        world.covered.add(&format!("judged_{}", self.kind), 1);
        let may_come = expected == Some(false) && pushed.is_ok();
        // A voter that hears the leader and is behind may catch up meanwhile: no verdict foretells when.
        if may_come && judged.troubles().iter().any(|trouble| trouble.contains("entries behind")) {
            world.covered.add("caught_up_meanwhile", 1);
            return Ok(());
        }
        if may_come && self.elected_since(world, place, &seen)? {
            world.covered.add("elected_meanwhile", 1);
            return Ok(());
        }
        self.compare(world, &judged, expected, &pushed, place)?;
        if self.lost.is_none() {
            self.offer_losses(world, dice, &judged);
        }
        Ok(())
    }

    /// What all machines say to a client at `place`.
    fn look(&self, world: &mut World, place: &'static str) -> Checked<Vec<StatusView>> {
        let machines = world.machines.keys().cloned().collect();
        self.court.inner().look = Some((place, machines));
        self.until(world, 2 * STATUS_TIMEOUT, |inner| inner.seen.take())
    }

    /// An election was under way: somebody leads now in the newest term that was known when the verdict was given, or in a
    /// newer one, and no majority had followed a leader of that term then.
    fn elected_since(&self, world: &mut World, place: &'static str, seen: &[StatusView]) -> Checked<bool> {
        let known = seen.iter().map(|status| status.term).max().unwrap_or(0);
        let now = self.look(world, place)?;
        let leader = judgement(&now.iter().collect::<Vec<_>>()).leader;
        let led = |term: u64| {
            let mut of_term = seen.iter().filter(|status| status.term == term);
            of_term.any(|status| status.health.lead.is_some_and(|lead| lead.quorum_ms.is_some()))
        };
        Ok(leader.is_some_and(|leader| leader.term >= known && !led(leader.term)))
    }

    /// Steps until something is there.
    fn until<T>(
        &self,
        world: &mut World,
        within: Duration,
        mut take: impl FnMut(&mut Inner) -> Option<T>,
    ) -> Checked<T> {
        let until = world.now() + within;
        loop {
            world.step()?;
            if let Some(found) = take(&mut self.court.inner()) {
                return Ok(found);
            }
            if world.now() > until {
                return Err(Violation(format!("verdict {} takes too long", self.number)));
            }
        }
    }

    fn compare(
        &self,
        world: &mut World,
        judged: &Judgement,
        expected: Option<bool>,
        pushed: &Result<(), String>,
        place: &str,
    ) -> Checked {
        let what = match (expected, self.lost) {
            (None, _) => "not_judged",
            (Some(true), None) => "said_yes",
            (Some(false), None) => "said_no",
            (Some(true), Some(_)) => "loss_survived",
            (Some(false), Some(_)) => "loss_not_survived",
        };
        world.covered.add(what, 1);
        if expected.is_some_and(|expected| expected != pushed.is_ok()) {
            let lost = self.lost.map(|name| format!(", {name} lost")).unwrap_or_default();
            let (kind, number) = (self.kind, self.number);
            return Err(Violation(format!(
                "verdict {number} at {place} after {kind}{lost} said {what} ({}, {:?}), and a push came to {pushed:?}",
                judged.verdict(),
                judged.troubles()
            )));
        }
        Ok(())
    }

    /// Prints one loss that was judged, for another run.
    #[expect(clippy::print_stdout, reason = "whoever started this process reads it")]
    fn offer_losses(&self, world: &World, dice: &mut Dice, judged: &Judgement) {
        let voters: Vec<String> = judged.voters.iter().map(|voter| voter.name.clone()).collect();
        let Some(name) = dice.pick(&voters) else { return };
        let runs = world.machines.get(&name).is_some_and(|machine| machine.power == Power::On);
        if judged.is_writable() && runs && dice.chance(1, 3) {
            println!("loss {}:{name}", self.number);
        }
    }
}

/// What the verdict says of a push after the loss; nothing of one that has to wait for a voter that is behind, or while
/// members change.
fn after_loss(world: &World, judged: &Judgement, name: &str) -> Option<bool> {
    let node = world.machines[name].node()?;
    let behind = judged.voters.iter().any(|voter| matches!(voter.absent, Some(Absence::Behind(..))));
    if !judged.is_writable() || judged.changing || behind {
        return None;
    }
    Some(judged.without(queue_protocol::names::NodeId(node), name).is_ok())
}

/// Machines whose node runs, and can write.
fn running(world: &World) -> Vec<String> {
    let runs = world.machines.values().filter(|machine| {
        machine.power == Power::On && !machine.disk().is_off() && machine.ended().is_none()
    });
    runs.map(|machine| machine.name.clone()).collect()
}
