//! The program `queuectl`; everything is in the library, which `queued dev` uses too.

fn main() {
    std::process::exit(queuectl::main(std::env::args_os()));
}
