//! `queued`, built where tests find it.

/// The product's: its memory is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(queue_broker::commands::main(std::env::args_os().collect()));
}
