//! `queuectl`, built where tests find it.
fn main() {
    std::process::exit(queuectl::main(std::env::args_os()));
}
