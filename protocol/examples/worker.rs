//! A worker of four handlers, whose leases are renewed while they run, until the queue is empty:
//! `cargo run -p queue-protocol --example worker`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use queue_protocol::client::Client;
use queue_protocol::client::worker::{Job, Verdict};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let jobs = client.queue("jobs")?;

    // Without `until_empty` it works until it is stopped.
    let report = jobs.worker().parallel(4).until_empty().run(handle).await?;
    println!("{} acked, {} failed, {} rejected", report.acked, report.failed, report.rejected);
    client.close_session().await;
    Ok(())
}

async fn handle(job: Job) -> Verdict {
    match std::str::from_utf8(&job.body) {
        // A real one keeps `job.delivery.token` next to what it writes, and refuses lower ones there.
        Ok(text) if text.starts_with("resize ") => {
            println!("attempt {} of {text}", job.delivery.attempt);
            Verdict::Ack
        }
        Ok(text) => Verdict::fail(format!("cannot do {text:?} yet")),
        Err(error) => Verdict::reject(error.to_string()),
    }
}
