//! The program `queuectl`; everything is in the library, which `queued dev` uses too.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(queuectl::main(std::env::args_os()));
}
