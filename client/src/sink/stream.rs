//! A stream that takes the bytes of a GET in their order.

use std::io::Write;

use bytes::Bytes;
use dfs_proto::digest::{Md5Digest, Md5Hasher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Error;

/// Blocks that may wait for a slow stream.
const QUEUE: usize = 2;

/// A stream, written to by a thread of its own.
pub(crate) struct StreamSink {
    /// The stream, until the first byte comes.
    idle: Option<Box<dyn Write + Send>>,
    verify: bool,
    queue: Option<mpsc::Sender<Bytes>>,
    writer: Option<JoinHandle<std::io::Result<Md5Digest>>>,
    began: bool,
}

/// Writes to a stream what there is.
fn write_out(
    mut stream: Box<dyn Write + Send>,
    verify: bool,
    mut next: impl FnMut() -> Option<Bytes>,
) -> std::io::Result<Md5Digest> {
    let mut md5 = Md5Hasher::new();
    while let Some(block) = next() {
        stream.write_all(&block)?;
        if verify {
            md5.update(&block);
        }
    }
    stream.flush()?;
    Ok(md5.finish())
}

impl StreamSink {
    pub(crate) fn new(stream: Box<dyn Write + Send>, verify: bool) -> Self {
        Self { idle: Some(stream), verify, queue: None, writer: None, began: false }
    }

    fn start(&mut self) {
        if let Some(stream) = self.idle.take() {
            let (queue, mut blocks) = mpsc::channel::<Bytes>(QUEUE);
            let verify = self.verify;
            let write = move || write_out(stream, verify, || blocks.blocking_recv());
            self.writer = Some(tokio::task::spawn_blocking(write));
            self.queue = Some(queue);
        }
    }

    /// Writes a whole file, of which nothing was written.
    pub(crate) async fn write_whole(&mut self, blocks: Vec<Bytes>) -> Result<(), Error> {
        match self.idle.take() {
            Some(stream) => {
                self.began = true;
                let (mut blocks, verify) = (blocks.into_iter(), self.verify);
                let write = move || write_out(stream, verify, || blocks.next());
                self.writer = Some(tokio::task::spawn_blocking(write));
            }
            None => {
                for block in blocks {
                    self.write(block).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a byte may have left the process.
    pub(crate) fn began(&self) -> bool {
        self.began
    }

    /// Writes the next block.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.began = true;
        self.start();
        let sent = match &self.queue {
            Some(queue) => queue.send(data).await.is_ok(),
            None => false,
        };
        // The writer ends early only with an error, which closing reports.
        if sent { Ok(()) } else { self.close().await.map(|_| ()) }
    }

    pub(crate) async fn close(&mut self) -> Result<Option<Md5Digest>, Error> {
        self.start();
        self.queue = None;
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let written = writer.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map(Some).map_err(Error::local("write to", "-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_breaks_is_an_error() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut sink = StreamSink::new(Box::new(Broken), false);
        let mut failed = false;
        for _ in 0..10 {
            failed |= sink.write("hello".into()).await.is_err();
        }
        assert!(failed || sink.close().await.is_err());
    }
}
