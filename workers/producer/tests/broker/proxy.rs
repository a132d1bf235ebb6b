//! A network between producer and broker that can fail in the worst way: messages arrive, their confirms do not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::JoinHandle,
};

use crate::support::eventually;

/// Forwards connections to the broker. Dropping it ends them.
pub struct Proxy {
    pub port: u16,
    /// What the broker says is thrown away.
    deaf: Arc<AtomicBool>,
    /// Bytes thrown away.
    missed: Arc<AtomicUsize>,
    cut: broadcast::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(broker: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (deaf, missed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (cut, _) = broadcast::channel(1);
        let (shared_deaf, shared_missed, shared_cut) = (Arc::clone(&deaf), Arc::clone(&missed), cut.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(broker.clone()).await.unwrap();
                let (deaf, missed) = (Arc::clone(&shared_deaf), Arc::clone(&shared_missed));
                let mut cut = shared_cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(client, server, &deaf, &missed) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self {
            port,
            deaf,
            missed,
            cut,
            accepting,
        }
    }

    /// Lets the producer publish, throws the broker's answer away, and breaks the connection.
    pub async fn fail(&self) {
        let before = self.missed.load(Ordering::SeqCst);
        self.deaf.store(true, Ordering::SeqCst);
        eventually("the broker says something that is not heard", async || {
            (self.missed.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
        // The broker has answered one message; give those after it the time to arrive as well.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.cut.send(()).ok();
        self.deaf.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut.send(()).ok();
    }
}

async fn forward(client: TcpStream, server: TcpStream, deaf: &AtomicBool, missed: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut buffer = [0; 4096];
        loop {
            match from_server.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) if deaf.load(Ordering::SeqCst) => {
                    missed.fetch_add(length, Ordering::SeqCst);
                }
                Ok(length) => {
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}
