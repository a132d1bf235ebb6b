//! `dashboard`

use clap::Parser as _;
use dashboard::args::Arguments;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    service::tls::install_provider()?;
    service::telemetry::init(&arguments.log, arguments.log_format, None)?;
    // Two threads: what it does is to wait, and each has an arena of memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async { dashboard::run(arguments, service::shutdown::token()?).await })
}
