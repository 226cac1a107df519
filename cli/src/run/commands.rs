//! From a parsed command to the file that does it.

use std::time::Duration;

use crate::access;
use crate::aid::catalogue;
use crate::aid::doctor;
use crate::failure::exit::Exit;
use crate::failure::{Done, End};
use crate::grammar::Cmd;
use crate::messages::dead;
use crate::messages::edit;
use crate::messages::explain;
use crate::messages::peek;
use crate::nodes::check;
use crate::nodes::cluster;
use crate::nodes::logs;
use crate::queues;
use crate::queues::group;
use crate::run::again;
use crate::run::bundle;
use crate::send::push;
use crate::send::schedule;
use crate::send::txn;
use crate::shell::Shell;
use crate::take::lease;
use crate::take::pop;
use crate::take::settle;
use crate::take::work;
use crate::watch::bench;
use crate::watch::stats;
use crate::watch::top;

/// Runs a command to its end, its output flushed. Push, pop, lease, work and bench come to an end of their own when stopped;
/// the others are dropped where they are.
pub(crate) async fn run(shell: &mut Shell, cmd: Cmd) -> Done {
    match shell.settings.watch {
        Some(every) => again::run(shell, &cmd, every).await,
        None => once(shell, cmd).await,
    }
}

/// The same, whatever `--watch` says.
pub(crate) async fn once(shell: &mut Shell, cmd: Cmd) -> Done {
    shell.out.set_raw(false);
    let done = match cmd {
        Cmd::Push(args) => push::run(shell, *args).await,
        Cmd::Pop(args) => pop::run(shell, args).await,
        Cmd::Lease(args) => lease::run(shell, args).await,
        Cmd::Work(args) => work::run(shell, *args).await,
        Cmd::Bench(args) => bench::run(shell, args).await,
        Cmd::Top(args) => top::run(shell, args).await,
        other => {
            let mut stop = shell.stop.clone();
            tokio::select! {
                biased;
                done = plain(shell, other) => done,
                exit = stop.wait() => Err(End::Quiet(exit)),
            }
        }
    };
    shell.talk.status(None);
    let flushed = flush(shell).await;
    done.and_then(|exit| flushed.map(|()| exit))
}

/// Hands over what is left; a reader that does not read keeps nobody who wants to stop.
async fn flush(shell: &mut Shell) -> Result<(), End> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut stop = shell.stop.clone();
    tokio::select! {
        biased;
        flushed = shell.out.flush() => flushed,
        exit = async {
            let exit = stop.wait().await;
            tokio::time::sleep(PATIENCE).await;
            exit
        } => Err(End::Quiet(exit)),
    }
}

async fn plain(shell: &mut Shell, cmd: Cmd) -> Done {
    match cmd {
        Cmd::Push(args) => push::run(shell, *args).await,
        Cmd::Pop(args) => pop::run(shell, args).await,
        Cmd::Lease(args) => lease::run(shell, args).await,
        Cmd::Work(args) => work::run(shell, *args).await,
        Cmd::Bench(args) => bench::run(shell, args).await,
        Cmd::Top(args) => top::run(shell, args).await,
        Cmd::Ack(args) => settle::ack(shell, args).await,
        Cmd::Nack(args) => settle::nack(shell, args).await,
        Cmd::Release(args) => settle::release(shell, args).await,
        Cmd::Extend(args) => settle::extend(shell, args).await,
        Cmd::Peek(args) => peek::run(shell, args).await,
        Cmd::Explain(args) => explain::run(shell, args).await,
        Cmd::Message(cmd) => edit::run(shell, cmd).await,
        Cmd::Queue(cmd) => queues::run(shell, cmd).await,
        Cmd::Txn(args) => txn::run(shell, args).await,
        Cmd::Schedule(cmd) => schedule::run(shell, cmd).await,
        Cmd::Group(cmd) => group::run(shell, cmd).await,
        Cmd::Ls(args) => queues::ls(shell, args).await,
        Cmd::Dead(cmd) => dead::run(shell, cmd).await,
        Cmd::Cluster(cmd) => cluster::run(shell, cmd).await,
        Cmd::Status => cluster::status(shell).await,
        Cmd::Auth(cmd) => access::auth::run(shell, cmd).await,
        Cmd::Principal(cmd) => access::principal::run(shell, cmd).await,
        Cmd::Key(cmd) => access::key::run(shell, cmd).await,
        Cmd::Whoami => access::auth::whoami(shell).await,
        Cmd::Audit(args) => access::audit::run(shell, args).await,
        Cmd::Can(args) => access::auth::can(shell, args).await,
        Cmd::Check(cmd) => check::run(shell, cmd).await,
        Cmd::Stats(args) => stats::run(shell, args).await,
        Cmd::Slow(args) => logs::slow(shell, args).await,
        Cmd::Ping(args) => stats::ping(shell, args).await,
        Cmd::Doctor => doctor::run(shell).await,
        Cmd::Bundle(args) => bundle::run(shell, args).await,
        Cmd::Errors { code } => catalogue::run(shell, code.as_deref()),
        Cmd::Version => {
            version(shell);
            Ok(Exit::Done)
        }
    }
}

fn version(shell: &mut Shell) {
    let version = env!("CARGO_PKG_VERSION");
    if shell.settings.json {
        shell.out.document(&serde_json::json!({"schema": "version/v1", "version": version}));
    } else {
        shell.out.add(format!("queuectl {version}\n").as_bytes());
    }
}
