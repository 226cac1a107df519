//! Messages that cannot be handled: set aside, looked at, put back: `cargo run -p queue-protocol --example dead_letters`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use queue_protocol::client::Client;
use queue_protocol::client::DeadReason;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let mails = client.queue("mails")?;
    mails.push("to nobody").create_queue().send().await?;

    for mail in mails.lease().max(10).send().await? {
        // Never again; `fail` would try it again after a back-off, five times by default.
        mail.reject("no such recipient").await?;
    }
    let dead = mails.dead_letters();
    for letter in dead.list(10).await? {
        let why = letter.view.last_error.as_deref().unwrap_or("");
        println!("message {} is dead, {:?}: {why}: {}", letter.view.id, letter.view.dead, letter.text());
    }
    let rejected = || dead.redrive().reason(DeadReason::Rejected).error_contains("no such recipient");
    println!("{} would be put back", rejected().dry_run().send().await?);
    println!("{} put back", rejected().send().await?);
    println!("{} ready again", mails.stats().await?.ready);
    client.close_session().await;
    Ok(())
}
