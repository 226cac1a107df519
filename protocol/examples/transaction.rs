//! One step of a pipeline: the message that is done and the message that follows, both or neither:
//! `cargo run -p queue-protocol --example transaction`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use queue_protocol::client::{Client, Error};
use queue_protocol::settings::QueueSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let (uploads, previews) = (client.queue("uploads")?, client.queue("previews")?);
    previews.create(QueueSettings::default()).await?;
    uploads.push("31.png").create_queue().send().await?;

    for upload in uploads.lease().max(10).send().await? {
        let preview = format!("preview of {}", upload.text());
        let both = client.transaction().if_at_most(&previews, 1_000).ack(&upload).push(&previews, preview);
        match both.commit().await {
            Ok(done) => println!("{} is done, message {} follows", upload.text(), done.pushed[0].id),
            // Another worker has it, or too many previews wait: nothing was done.
            Err(error @ Error::Aborted { .. }) => println!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    client.close_session().await;
    Ok(())
}
