//! Many messages in one request, pushed, leased and acked: `cargo run -p queue-protocol --example batch`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use queue_protocol::client::{Client, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let rows = client.queue("rows")?;

    let messages =
        (1..=100).map(|row| Message::new(format!("row {row}")).group(format!("table-{}", row % 3)));
    let outcomes = rows.push_all(messages).create_queue().send().await?;
    // Each message is stored or refused by itself; `all_or_none` makes them stand or fall together.
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    println!("{stored} of {} stored", outcomes.len());

    loop {
        let batch = rows.lease().max(40).wait(Duration::from_millis(200)).send().await?;
        if batch.is_empty() {
            break;
        }
        let acked = rows.ack(&batch).await?;
        println!("{} leased, {} acked", batch.len(), acked.iter().filter(|acked| acked.is_ok()).count());
    }
    client.close_session().await;
    Ok(())
}
