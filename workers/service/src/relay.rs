//! A database connection without Nagle's algorithm.
//!
//! sqlx leaves it on (0.9). COPY ends with a small packet after the data, and the server says nothing in between: the kernel
//! holds the packet back until the data is acknowledged, which the server's kernel puts off for 40 ms (RFC 1122, 4.2.3.2 and
//! 4.2.3.4). sqlx has no way to be handed a socket, but it connects to Unix sockets: so it gets one of this process's own, in
//! the abstract namespace, with a TCP connection behind it on which packets are sent at once.

use std::{
    io,
    os::linux::net::SocketAddrExt as _,
    os::unix::net::{SocketAddr, UnixListener as StdListener},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::net::{TcpStream, UnixListener};
use tracing::debug;

/// How long this process may take to connect to itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects over TCP, with every packet sent at once.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub async fn connect(options: PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let port = options.get_port();
    let server = TcpStream::connect((options.get_host(), port)).await?;
    server.set_nodelay(true)?;
    let name = name();
    // What sqlx makes of the folder that it is given.
    let listener = listen(&format!("{name}/.s.PGSQL.{port}"))?;
    tokio::spawn(async move {
        if let Err(error) = relay(listener, server).await {
            debug!(%error, "A database connection broke off");
        }
    });
    PgConnection::connect_with(&options.socket(PathBuf::from(format!("\0{name}"))))
        .await
        .map_err(certificates::postgres::explained)
}

/// A name that nobody else has: names are this network namespace's.
fn name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Pods on the host's network are all process 1 of that one network namespace.
    let started = crate::clock::now().as_nanosecond();
    format!("stockfeed-{}-{started}-{number}", std::process::id())
}

fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Passes bytes on, both ways, for the first who connects.
async fn relay(listener: UnixListener, mut server: TcpStream) -> io::Result<()> {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (mut client, _) = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    drop(listener);
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 128 * 1024, 16 * 1024)
        .await
        .map(drop)
}
