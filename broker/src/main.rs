//! The program `queued`; everything is in the library, which the tests use too.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(queue_broker::commands::main(std::env::args_os().collect()));
}
