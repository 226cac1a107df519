//! `queued store recover`: a survivor's data directory made that of a new cluster of one node.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::{machine, print};
use crate::node::{self, Recovery};

const NOTES: &str = "\
For one case alone: a majority of the members is lost for good, so that the cluster can never elect a leader again. What
only the lost nodes had is gone, among it what clients were told is stored.

1. Stop all other nodes of the cluster, or wipe their data directories: one of them that goes on beside the new cluster
   has old data and hands the same messages out. `queuectl --servers HOST:PORT cluster status` must reach none.
2. Find the survivor that has most: `queued store verify --last DIR` on each; the highest term, then the highest index.
3. Run this on it, then `queued serve` as before. All of its log counts as committed.
4. Copy its new SECRET, wipe the directories of the others, and let them join.

The new cluster has another id and secret; clients with a session of the old one are refused. Ids and tokens go on far
above those known, so that no fencing token is given twice.";

/// `store recover`
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(super) struct RecoverArgs {
    /// The data directory of the survivor that has most
    dir: PathBuf,
    /// Make it the only node of a new cluster
    #[arg(long, required = true)]
    as_single_node: bool,
    /// What only the lost nodes had is gone
    #[arg(long, required = true)]
    i_accept_data_loss: bool,
    /// Ids and tokens go on above N; needed only if the clock of this machine cannot be set right
    #[arg(long, value_name = "N")]
    tokens_above: Option<u64>,
}

/// Recovers, and tells what is left to do.
pub(super) fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let recovery = Recovery { data_dir: args.dir.clone(), tokens_above: args.tokens_above };
    let recovered =
        machine::block_on(async { node::recover_as_single_node(&machine::outside(), &recovery).await })?;
    let (identity, taken) = recovered?;
    let dir = args.dir.display();
    let others: Vec<String> =
        taken.others.iter().map(|(name, address)| format!("{name} at {address}")).collect();
    print(&format!(
        "{dir} is node {}, number {}, the only one of the new cluster {}\n\
         all of its log counts, up to entry {} of term {}; ids and tokens go on from {}\n\
         start it as before, at {}. Never start on their old data: {}\n\
         wipe them, and let them join with the new secret, {dir}/SECRET\n",
        identity.name,
        identity.node,
        identity.cluster,
        taken.last.index,
        taken.last.term,
        taken.from,
        taken.address,
        if others.is_empty() { "the others".to_owned() } else { others.join(", ") },
    ))
}
