//! `queued`, built where tests find it.
fn main() {
    std::process::exit(queue_broker::commands::main(std::env::args_os().collect()));
}
