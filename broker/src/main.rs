//! The program `queued`; everything is in the library, which the tests use too.

fn main() {
    std::process::exit(queue_broker::commands::main(std::env::args_os().collect()));
}
