//! Stands between processors and the database, and cuts connections in the middle of a COPY.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use rand::{Rng, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const COPY: &[u8] = b"COPY stock_data";
/// A connection lives for this many COPYs at most.
const COPIES: u32 = 12;

/// Ends with the runtime.
pub struct Proxy {
    pub port: u16,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(to: u16, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        let mut random = StdRng::seed_from_u64(seed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (copies, share) = (random.random_range(1..COPIES), random.random_range(0..100));
                let cuts = Arc::clone(&counted);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await
                        && forward(client, server, copies, share).await.is_ok_and(|cut| cut)
                    {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { port, cuts })
    }

    /// How many connections were cut while rows were on their way.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Forwards both ways until one side closes, or until a share (in percent) of what follows the COPY number `copies` is
/// through. Returns whether it cut.
async fn forward(client: TcpStream, server: TcpStream, mut copies: u32, share: usize) -> Result<bool> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 * 1024];
    let mut cut = false;
    loop {
        let length = from_client.read(&mut buffer).await.unwrap_or_default();
        let bytes = &buffer[..length];
        if copies == 0 {
            cut = length > 0;
            to_server.write_all(&bytes[..length * share / 100]).await?;
            break;
        }
        if length == 0 || to_server.write_all(bytes).await.is_err() {
            break;
        }
        if bytes.windows(COPY.len()).any(|window| window == COPY) {
            copies -= 1;
        }
    }
    answers.abort();
    Ok(cut)
}
