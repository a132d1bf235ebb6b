//! Prints the `CustomResourceDefinition`: `cargo run -p operator --bin crdgen > crds/stockfeeds.yaml`.

use std::io::Write as _;

fn main() -> anyhow::Result<()> {
    let text = operator::crd::render()?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
