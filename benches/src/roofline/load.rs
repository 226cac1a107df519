//! Loads the roofline's processes and measures them: clients of plain threads, each with a window of frames.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{HEAD_SIZE, answers, head};

/// Load that is not measured yet.
const WARM_UP: Duration = Duration::from_millis(500);
/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// What is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Sockets.
    pub connections: usize,
    /// Frames on their way, over all of them.
    pub in_flight: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Messages in a frame.
    pub batch: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Messages a second.
    pub rate: f64,
    /// Half were answered after so many microseconds.
    pub p50_us: f64,
    /// 99 of 100 were.
    pub p99_us: f64,
    /// Processor seconds of the three nodes for a million messages.
    pub cpu: f64,
}

/// One node; it ends when this is dropped.
struct Node {
    child: Child,
    address: String,
}

impl Node {
    fn start(path: &Path, followers: &[&Node]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("roofline-node").arg(path).args(followers.iter().map(|node| &node.address));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        let out = child.stdout.take().ok_or_else(|| anyhow!("a node has no output"))?;
        BufReader::new(out).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        crate::machine::cpu_of(self.child.id())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that ended by itself has said why.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the roofline in `dir` for `seconds`.
///
/// # Errors
/// A node does not start, or a socket fails.
pub fn measure(dir: &Path, workload: Workload, seconds: Duration) -> anyhow::Result<Measured> {
    let followers = [Node::start(&dir.join("f1"), &[])?, Node::start(&dir.join("f2"), &[])?];
    let leader = Node::start(&dir.join("leader"), &[&followers[0], &followers[1]])?;
    let cpu =
        || -> anyhow::Result<Duration> { Ok(leader.cpu()? + followers[0].cpu()? + followers[1].cpu()?) };
    let measuring = Arc::new(AtomicBool::new(false));
    let (results, ended) = mpsc::channel();
    let mut clients = Vec::new();
    for _ in 0..workload.connections {
        let stream = TcpStream::connect(&leader.address).context("the leader is gone")?;
        stream.set_nodelay(true)?;
        let window = (workload.in_flight / workload.connections).max(1) as u64;
        let body = vec![0xa5; workload.size * workload.batch];
        let (measuring, results, shared) = (Arc::clone(&measuring), results.clone(), stream.try_clone()?);
        std::thread::spawn(move || {
            let _ = results.send(client(&shared, window, &body, &measuring));
        });
        clients.push(stream);
    }
    // Nobody sends anything before the end: this waits.
    let wait = |time| ended.recv_timeout(time).is_err();
    let alive = wait(WARM_UP);
    measuring.store(true, Ordering::Relaxed);
    let (begin, cpu_before) = (Instant::now(), cpu()?);
    let alive = alive && wait(seconds);
    measuring.store(false, Ordering::Relaxed);
    let (took, cpu_after) = (begin.elapsed(), cpu()?);
    anyhow::ensure!(alive, "a client of the roofline ended early");
    for stream in &clients {
        stream.shutdown(std::net::Shutdown::Both)?;
    }
    let mut latency = histogram();
    for _ in &clients {
        latency.add(ended.recv()?)?;
    }
    // The leader last: a follower that loses it would complain.
    drop(followers);
    drop(leader);
    let messages = latency.len() as f64 * workload.batch as f64;
    Ok(Measured {
        rate: messages / took.as_secs_f64(),
        p50_us: latency.value_at_quantile(0.5) as f64,
        p99_us: latency.value_at_quantile(0.99) as f64,
        cpu: (cpu_after - cpu_before).as_secs_f64() / (messages / 1e6),
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits can be kept")
}

/// Keeps `window` frames on their way until the socket is shut; latencies of what was answered while `measuring`.
fn client(stream: &TcpStream, window: u64, body: &[u8], measuring: &AtomicBool) -> Histogram<u64> {
    let mut latency = histogram();
    let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
    let (mut next, mut done) = (1, 0);
    let mut out = Vec::with_capacity((HEAD_SIZE + body.len()) * usize::try_from(window).unwrap_or(1));
    let mut send = |upto: u64, sent: &mut VecDeque<(u64, Instant)>| {
        out.clear();
        while next <= upto {
            out.extend_from_slice(&head(next, body));
            out.extend_from_slice(body);
            next += 1;
        }
        sent.push_back((upto, Instant::now()));
        // A socket that is shut ends the reading below as well.
        let _ = (&*stream).write_all(&out);
    };
    send(window, &mut sent);
    let read = answers(stream, |number| {
        let now = Instant::now();
        while let Some((upto, at)) = sent.front_mut() {
            let answered = number.min(*upto) - done;
            if measuring.load(Ordering::Relaxed) {
                let micros = u64::try_from((now - *at).as_micros()).unwrap_or(u64::MAX);
                latency.saturating_record_n(micros, answered);
            }
            done += answered;
            if done < *upto {
                break;
            }
            sent.pop_front();
        }
        send(number + window, &mut sent);
    });
    // The end of the stream, or a socket that was shut.
    drop(read);
    latency
}
