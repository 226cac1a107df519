//! Ways in which nodes and clients do not hear each other.

use harness::net::{Cut, End};

use crate::random::Random;

/// Nodes.
const COUNT: usize = 3;

/// What is wrong with the network, or with one node.
pub(crate) struct Trouble {
    pub(crate) name: &'static str,
    pub(crate) cuts: Vec<Cut>,
    /// SIGSTOP.
    pub(crate) paused: Option<usize>,
}

const NODES: [End; COUNT] = [End::Node(0), End::Node(1), End::Node(2)];
const ALL: [End; COUNT + 1] = [End::Node(0), End::Node(1), End::Node(2), End::Clients];

fn one_way(from: &[End], to: &[End]) -> Vec<Cut> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).map(|(from, to)| Cut { from, to, percent: 100 }).collect()
}

fn alone(node: End, among: &[End]) -> Vec<Cut> {
    let others = among.iter().filter(|other| **other != node);
    others.flat_map(|other| Cut::between(node, *other)).collect()
}

/// One of ten kinds.
pub(crate) fn any(random: &mut Random, leader: usize) -> Trouble {
    let other = (leader + 1 + usize::from(random.within(0..2) == 1)) % COUNT;
    let (leader_end, other_end) = (End::Node(leader), End::Node(other));
    let cut = |name, cuts| Trouble { name, cuts, paused: None };
    let pause = |name, node| Trouble { name, cuts: Vec::new(), paused: Some(node) };
    match random.within(0..10) {
        0 => cut("leader alone", alone(leader_end, &ALL)),
        1 => cut("leader alone with clients", alone(leader_end, &NODES)),
        2 => cut("leader not heard", one_way(&[leader_end], &NODES)),
        3 => cut("leader deaf", one_way(&NODES, &[leader_end])),
        4 => cut("follower alone", alone(other_end, &ALL)),
        5 => cut("two apart", Cut::between(leader_end, other_end).into()),
        6 => cut("all apart", one_way(&NODES, &NODES)),
        7 => {
            let percent = u8::try_from(random.within(5..40)).expect("less than 40");
            let everywhere = one_way(&ALL, &ALL);
            cut("loss", everywhere.into_iter().map(|cut| Cut { percent, ..cut }).collect())
        }
        8 => pause("leader paused", leader),
        _ => pause("follower paused", other),
    }
}
