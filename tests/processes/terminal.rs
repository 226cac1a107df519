//! The shell in a terminal: completion, a redirect after the leader was killed, history.

use harness::cluster::Cluster;
use harness::terminal::Terminal;

const UP: &str = "\x1b[A";
const CTRL_D: &str = "\x04";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_completes_follows_the_leader_and_remembers() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", "thumbnails"]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let name = cluster.name(leader).to_owned();

    let mut shell = Terminal::start(cluster.queuectl());
    shell.shows(&format!("leader {name}, 3 of 3 nodes"));
    shell.shows(&format!("queuectl:{name}> "));
    shell.type_in("push thu\t");
    shell.shows("push thumbnails ");
    shell.type_in("first\r");
    shell.shows("pushed 1 to thumbnails (id 1)");
    shell.type_in("pee\t");
    shell.shows("peek ");
    shell.type_in("thumbnails\r");
    shell.shows_match("first\r?\n");

    cluster.kill(leader);
    shell.type_in("push thumbnails second\r");
    let before = shell.shows("pushed 1 to thumbnails (id 2)");
    let moved = format!("* leader moved {name} ");
    if !before.contains(&moved) {
        shell.shows(&moved);
    }
    shell.type_in("pop thumbnails -n 2\r");
    shell.shows_match("first\r?\nsecond\r?\n");

    shell.type_in("history\r");
    shell
        .shows_match("push thumbnails first\r?\n[^\n]*peek thumbnails\r?\n[^\n]*push thumbnails second\r?\n");
    shell.type_in(CTRL_D);
    assert_eq!(shell.ends().1, 0);

    let mut again = Terminal::start(cluster.queuectl());
    again.shows_match("queuectl:n[1-3]> ");
    again.type_in(&UP.repeat(3));
    again.shows("push thumbnails second");
    again.type_in("\r");
    again.shows("pushed 1 to thumbnails (id 3)");
    again.type_in("exit\r");
    assert_eq!(again.ends().1, 0);
}
