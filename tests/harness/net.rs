//! A network for a cluster on one machine: every node in a namespace of its own, joined by a bridge, and rules that drop
//! what should not pass. Everything is gone when the process ends, however it ends.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::cluster::Place;

/// Set in the process that has its own network.
const INSIDE: &str = "QUEUE_TESTS_NET";
const PORT: u16 = 7410;
/// Makes the names of namespaces our own, and tries what will be needed. Mounts of others that were copied here would
/// keep their disks from being taken away.
const PREPARE: &str = "awk '/^.dev.loop/ { print $2 }' /proc/mounts | xargs -r umount; \
                       mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add tried && \
                       ip netns exec tried nft list ruleset && ip netns delete tried";

/// One end of a way through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A node, from 0.
    Node(usize),
    /// This process and all that it starts outside of the nodes: the clients.
    Clients,
}

impl End {
    fn address(self) -> String {
        match self {
            Self::Node(n) => format!("10.77.0.{}", n + 1),
            Self::Clients => "10.77.0.254".to_owned(),
        }
    }
}

/// Of what `from` sends to `to`, `percent` is lost.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Who speaks.
    pub from: End,
    /// Who does not hear it.
    pub to: End,
    /// 100 for everything.
    pub percent: u8,
}

impl Cut {
    /// Nothing passes between the two, either way.
    pub fn between(one: End, other: End) -> [Self; 2] {
        [(one, other), (other, one)].map(|(from, to)| Self { from, to, percent: 100 })
    }
}

fn run(program: &str, words: &[&str]) {
    let ran = Command::new(program).args(words).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(ran.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn unshare(program: &OsStr) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.arg(program);
    unshare
}

/// Starts this program again, with the same words, in a network of its own; does nothing in the program so started.
///
/// # Errors
/// Why there can be no such network here.
pub fn enter() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let tried = unshare("sh".as_ref()).args(["-c", PREPARE]).output();
    let tried = tried.map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = unshare(own.as_os_str()).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(format!("unshare: {error}"))
}

/// The namespaces `n1`, `n2` and so on, and this one.
pub struct Net {
    count: usize,
}

impl Net {
    /// A network of so many nodes, without cuts. Only after [`enter`], and once.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(count: usize) -> Self {
        run("sh", &["-c", PREPARE]);
        run("ip", &["link", "add", "hub", "type", "bridge"]);
        run("ip", &["address", "add", &format!("{}/24", End::Clients.address()), "dev", "hub"]);
        run("ip", &["link", "set", "hub", "up"]);
        for n in 0..count {
            let (name, port) = (format!("n{}", n + 1), format!("port{}", n + 1));
            run("ip", &["netns", "add", &name]);
            run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name]);
            run("ip", &["link", "set", &port, "master", "hub", "up"]);
            let address = format!("{}/24", End::Node(n).address());
            run("ip", &["-n", &name, "address", "add", &address, "dev", "eth0"]);
            run("ip", &["-n", &name, "link", "set", "lo", "up"]);
            run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
        }
        Self { count }
    }

    /// Where node `n` lives, given its data directory. It must be allowed to be insecure: this is not the loopback.
    pub fn place(&self, n: usize, data: std::path::PathBuf) -> Place {
        let words = ["ip", "netns", "exec", &format!("n{}", n + 1)].map(str::to_owned);
        Place { data, address: format!("{}:{PORT}", End::Node(n).address()), under: words.into() }
    }

    /// From now on these cuts hold, and no others.
    ///
    /// # Panics
    /// If nft does not take them.
    pub fn cut(&self, cuts: &[Cut]) {
        for n in 0..self.count {
            let node = End::Node(n);
            let lost = |cut: &Cut| match cut.percent {
                100.. => "drop".to_owned(),
                percent => format!("numgen random mod 100 < {percent} drop"),
            };
            let incoming = cuts.iter().filter(|cut| cut.to == node);
            let incoming: String =
                incoming.map(|cut| format!("ip saddr {} {}\n", cut.from.address(), lost(cut))).collect();
            let outgoing = cuts.iter().filter(|cut| cut.from == node && cut.to == End::Clients);
            let outgoing: String =
                outgoing.map(|cut| format!("ip daddr {} {}\n", cut.to.address(), lost(cut))).collect();
            let rules = format!(
                "table inet cuts\ndelete table inet cuts\ntable inet cuts {{\n\
                 chain incoming {{\ntype filter hook input priority 0\n{incoming}}}\n\
                 chain outgoing {{\ntype filter hook output priority 0\n{outgoing}}}\n}}\n"
            );
            let mut nft = Command::new("ip");
            nft.args(["netns", "exec", &format!("n{}", n + 1), "nft", "-f", "/dev/stdin"]);
            let mut nft = nft.stdin(Stdio::piped()).spawn().expect("ip is there");
            let mut stdin = nft.stdin.take().expect("it is a pipe");
            stdin.write_all(rules.as_bytes()).expect("nft reads");
            drop(stdin);
            assert!(nft.wait().expect("it is a child").success(), "nft refuses\n{rules}");
        }
    }
}
