//! The Couchbase test server as a process of its own, so that several others can share it.
//!
//! Its first line on standard output is the address for `--store`; it serves until it is killed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::couchbase::{Fault, Options, Rule, TestServer, What};

/// A small server that speaks Couchbase's protocols, for tests
#[derive(Debug, Parser)]
struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    nodes: u8,
    /// Who may log in
    #[arg(long, default_value = "game")]
    user: String,
    /// With which password
    #[arg(long, default_value = "correct-horse")]
    password: String,
    /// The bucket that is there from the beginning
    #[arg(long, default_value = "world")]
    bucket: String,
    /// The scope and collection in it, as SCOPE/COLLECTION
    #[arg(long, default_value = "estate/documents")]
    collection: String,
    /// Start without bucket and collection, for `wildmesh store init` to make
    #[arg(long)]
    empty: bool,
    /// The port of the first node's data service, the others' follow [default: any]
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serve TLS and write the certificate to trust to this file
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Close the connection after every so many writes, once the write is applied
    #[arg(long)]
    lose_one_in: Option<u32>,
    /// Answer every so many documents' requests late by so many milliseconds, as N:MS
    #[arg(long, value_parser = delay)]
    delay_one_in: Option<(u32, u64)>,
}

fn delay(text: &str) -> Result<(u32, u64), String> {
    let parts = text.split_once(':').and_then(|(n, ms)| Some((n.parse().ok()?, ms.parse().ok()?)));
    parts.filter(|(n, _)| *n > 0).ok_or_else(|| "write N:MS, for instance 100:50".to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let collection = args.collection.split_once('/').unwrap_or((&args.collection, "_default"));
    let named = (collection.0.to_owned(), collection.1.to_owned());
    let options = Options {
        nodes: args.nodes.into(),
        user: args.user,
        password: args.password,
        may_manage: true,
        tls: args.tls.is_some(),
        bucket: (!args.empty).then(|| args.bucket.clone()),
        collection: (!args.empty).then(|| named.clone()),
        port: args.port,
    };
    let login = format!("{}:{}", options.user, options.password);
    let server = TestServer::start(options).await?;
    let forever = |what, every, fault| Rule { what, key: String::new(), every, times: u32::MAX, fault };
    if let Some(every) = args.lose_one_in {
        server.faults().add(forever(What::Writes, every.max(1), Fault::CloseAfter));
    }
    if let Some((every, ms)) = args.delay_one_in {
        server.faults().add(forever(What::Documents, every, Fault::Delay(Duration::from_millis(ms))));
    }
    let mut address = format!("{}/{}/{}/{}", server.hosts(&login), args.bucket, named.0, named.1);
    if let (Some(file), Some(pem)) = (&args.tls, server.certificate()) {
        std::fs::write(file, pem)?;
        address = format!("{address}?ca={}", file.display());
    }
    println!("{address}");
    std::future::pending().await
}
