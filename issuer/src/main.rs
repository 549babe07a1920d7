//! `fleetbadge-issuer`, see [`fleetbadge_issuer::cli`].

fn main() -> std::process::ExitCode {
    fleetbadge_issuer::cli::main()
}
