//! Serving HTTP until shutdown.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Binds an address, so that a port that is taken is an error at start and not later.
///
/// # Errors
/// When the address cannot be bound; the error names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))
}

/// Serves until the token is cancelled, then finishes the requests under way.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(listener: TcpListener, router: Router, token: CancellationToken) -> anyhow::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(token.cancelled_owned())
        .await
        .context("failed to serve HTTP")
}
