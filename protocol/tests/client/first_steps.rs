//! The ten lines that the page of the client begins with, as they are run by `queues.rs`.

use queue_protocol::client::{Client, Error};

#[expect(clippy::print_stdout, reason = "as the page has it")]
pub(crate) async fn first_steps(servers: &str) -> Result<(), Error> {
    let client = Client::connect(servers).await?;
    let jobs = client.queue("jobs")?;
    jobs.push("resize 31.png").create_queue().send().await?;

    for job in jobs.lease().max(10).send().await? {
        println!("{}", job.text());
        job.ack().await?;
    }
    Ok(())
}
