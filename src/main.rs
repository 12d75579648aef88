//! The `hookhub` program: an allocator, a runtime and the command line.

mod cli;

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A hub allocates and frees many small values on all threads, which jemalloc does faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run().await
}
