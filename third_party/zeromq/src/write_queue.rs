use crate::codec::{CodecResult, Message, ZmqFramedWrite};

use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};

const WRITE_BATCH_LIMIT: usize = 128;

/// Writes queued socket messages into the underlying framed sink in small batches.
#[inline]
pub(crate) async fn write_message_queue(
    mut queue_receiver: mpsc::Receiver<Message>,
    mut send_queue: ZmqFramedWrite,
) -> CodecResult<()> {
    while let Some(message) = queue_receiver.next().await {
        // When backlog already exists, feed a batch before flushing once to avoid per-message flush cost during bursts.
        send_queue.feed(message).await?;

        for _ in 1..WRITE_BATCH_LIMIT {
            let message = match queue_receiver.try_recv() {
                Ok(message) => message,
                Err(_) => break,
            };
            send_queue.feed(message).await?;
        }

        send_queue.flush().await?;
    }

    Ok(())
}

/// wildmesh: the same until `cut` is sent. Upstream let the writer of a peer that was cut off wait for ever for the peer to
/// read, with the connection and all that was queued. A `cut` that is dropped (the socket closes) lets it finish.
pub(crate) async fn write_until_cut_off(
    queue_receiver: mpsc::Receiver<Message>,
    send_queue: ZmqFramedWrite,
    cut: oneshot::Receiver<()>,
) -> CodecResult<()> {
    let writing = write_message_queue(queue_receiver, send_queue);
    let cut_off = async {
        if cut.await.is_err() {
            futures::future::pending::<()>().await;
        }
    };
    futures::pin_mut!(writing, cut_off);
    match futures::future::select(writing, cut_off).await {
        futures::future::Either::Left((written, _)) => written,
        futures::future::Either::Right(((), _)) => Ok(()),
    }
}
