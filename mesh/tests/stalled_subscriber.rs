//! A subscriber that is there but never reads, in a process of its own so that its memory can be measured.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mesh::tasks::Tasks;
use mesh::transport::zeromq::{Limits, ZmqConfig, start};
use mesh::transport::{Command, Event, LinkId, Topic, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MESSAGES: u32 = 24_000;
const BYTES: usize = 16 << 10;

fn node(life: u64) -> (Transport, Tasks) {
    let tasks = Tasks::real();
    let mut config = ZmqConfig::new(Ipv4Addr::LOCALHOST.into(), life);
    config.limits = Limits { backlog_bytes: 16 << 20, backlog_hard_bytes: 48 << 20, ..Limits::DEFAULT };
    (start(config, &tasks).expect("two free ports"), tasks)
}

/// A SUB that asks for everything and then is under SIGSTOP, as far as anybody can tell.
async fn stopped(endpoint: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).await.expect("somebody listens");
    let mut hello = vec![0; 64];
    (hello[0], hello[9], hello[10]) = (0xff, 0x7f, 3);
    hello[12..16].copy_from_slice(b"NULL");
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB";
    hello.extend([4, ready.len() as u8]);
    hello.extend(ready);
    hello.extend([0, 1, 1]);
    stream.write_all(&hello).await.expect("taken");
    stream.read_exact(&mut [0; 64]).await.expect("greeted");
    stream
}

/// The memory that this process holds, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).expect("a number") * 4096
}

#[tokio::test]
async fn a_stalled_subscriber_is_cut_off_while_the_others_get_everything_and_memory_stays_bounded() {
    let (publisher, tasks) = node(1);
    let (mut reader, reading) = node(2);
    reader.command(Command::Connect { link: LinkId(1), to: publisher.endpoints.clone() });
    reader.command(Command::Subscribe(Topic::new("news")));
    let publish = |number: u32| {
        let parts = vec![Bytes::copy_from_slice(&number.to_be_bytes()), Bytes::from(vec![1; BYTES])];
        publisher.command(Command::Publish { topic: Topic::new("news"), parts })
    };
    // What comes before both halves of the link stand is lost, and said to be.
    loop {
        publish(u32::MAX);
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Ok(Event::Published { .. }) = reader.events.try_recv() {
            break;
        }
    }
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(stopped(&publisher.endpoints.publish).await);
    }

    let before = resident();
    let (mut most, mut next) = (before, 0);
    for number in 0..MESSAGES {
        while !publish(number) {
            tokio::task::yield_now().await;
        }
        // The reader keeps up, one hundred messages at a time; three that stand still must not change that.
        while number % 100 == 99 && next <= number {
            let event = tokio::time::timeout(Duration::from_secs(20), reader.events.recv()).await;
            match event.expect("no delay").expect("the driver lives") {
                Event::Published { parts, .. } if parts[0][..] == u32::MAX.to_be_bytes() => {}
                Event::Published { parts, .. } => {
                    assert_eq!(parts[0][..], next.to_be_bytes());
                    next += 1;
                }
                event => panic!("the reader was disturbed: {event:?}"),
            }
        }
        if number % 1_000 == 0 {
            most = most.max(resident());
        }
    }
    assert_eq!(publisher.counters.evicted.load(Ordering::Relaxed), 3);
    // What waits for the stalled ones is shared by them, and bounded by the hard limit; 375 MiB went past.
    let grown = (most - before) >> 20;
    println!("grew by {grown} MiB");
    assert!(grown < 128, "grew by {grown} MiB");
    tasks.stop();
    reading.stop();
}
