//! The `wildmesh` binary.

use clap::Parser;

fn main() -> std::process::ExitCode {
    nodes::cli::run(nodes::cli::Cli::parse())
}
