//! Pushes with options, and what to do when a push fails: `cargo run -p queue-protocol --example producer`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use queue_protocol::client::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let jobs = client.queue("jobs")?;

    let pushed = jobs.push("resize 31.png").create_queue().send().await?;
    println!("stored as message {}", pushed.id);
    let later = jobs.push("resize 32.png").delay(Duration::from_secs(60)).ttl(Duration::from_secs(3_600));
    println!("ready in a minute: message {}", later.priority(9).send().await?.id);

    // Named by the upload, so pushing it again stores nothing.
    for _ in 0..2 {
        let upload = jobs.push("resize 33.png").dedup("upload-33").header("type", "image/png");
        match upload.send().await {
            Ok(pushed) if pushed.duplicate => println!("message {} was there already", pushed.id),
            Ok(pushed) => println!("stored as message {}", pushed.id),
            Err(Error::QueueFull(_)) => println!("the queue is full: push again later"),
            Err(Error::Unknown { what }) => println!("perhaps stored, and safe to push again: {what}"),
            Err(error) => return Err(error.into()),
        }
    }
    client.close_session().await;
    Ok(())
}
