//! The registry on a real etcd, through kills and restarts of it.

use super::*;
use crate::directory::etcd::{EtcdConfig, EtcdDirectory};
use crate::testing::EtcdServer;
use RegistryEvent::{NodeAppeared, NodeGone, OwnLeaseBack};

async fn node(server: &EtcdServer, record: NodeRecord) -> Node {
    let directory = server.directory(&Tasks::real()).await;
    Node::up(Arc::new(directory), record).await
}

#[tokio::test]
async fn nodes_appear_and_go() {
    let server = EtcdServer::start().await;
    let mut a = node(&server, record("a", 1)).await;
    let b = node(&server, record("b", 2)).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    let killed = Instant::now();
    b.tasks.stop();
    a.until_event(NodeGone(b.record.clone())).await;
    assert!(killed.elapsed() > Duration::from_secs(1));
    let c = node(&server, record("b", 3)).await;
    a.until_event(NodeAppeared(c.record.clone())).await;
    c.registry.leave().await;
    a.until_event(NodeGone(c.record.clone())).await;
}

#[tokio::test]
async fn a_restarted_etcd_is_registered_with_and_followed_again() {
    let mut server = EtcdServer::start().await;
    let mut a = node(&server, record("a", 1)).await;
    let mut b = node(&server, record("b", 2)).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    // Longer than the lease, so that it surely may have run out.
    server.kill();
    for node in [&mut a, &mut b] {
        let told = node.until(|event| matches!(event, RegistryEvent::OwnLeaseLost)).await;
        assert!(told.iter().any(|event| matches!(event, RegistryEvent::DirectoryDown { .. })), "{told:?}");
        assert!(!told.iter().any(|event| matches!(event, NodeGone(_))), "{told:?}");
    }
    assert!(server.start_again().await);
    for node in [&mut a, &mut b] {
        node.until(|event| matches!(event, OwnLeaseBack { .. })).await;
    }
    // Whatever was told in between, in the end all know one another, and the watches work.
    let c = node(&server, record("c", 3)).await;
    for node in [&mut a, &mut b] {
        node.until_event(NodeAppeared(c.record.clone())).await;
        assert_eq!(node.registry.known().len(), 2);
    }
}

#[tokio::test]
async fn a_quick_restart_of_etcd_is_hardly_noticed() {
    let mut server = EtcdServer::start().await;
    let mut a = node(&server, record("a", 1)).await;
    let b = node(&server, record("b", 2)).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    assert!(server.start_again().await);
    let c = node(&server, record("c", 3)).await;
    let told = a.until_event(NodeAppeared(c.record.clone())).await;
    assert!(!told.iter().any(|event| matches!(event, NodeGone(_))), "leases survive a restart: {told:?}");
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_kills_nobody() {
    let mut server = EtcdServer::start().await;
    let mut a = node(&server, record("a", 1)).await;
    let mut b = node(&server, record("b", 2)).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    server.directory(&Tasks::real()).await.put("/t/a", b"so that the revision surely goes back", None).await.unwrap();
    let c = node(&server, record("c", 3)).await;
    a.until_event(NodeAppeared(c.record.clone())).await;
    b.tasks.freeze(true);
    server.lose_data();
    assert!(server.start_again().await);
    let mut told = a.until(|event| matches!(event, OwnLeaseBack { was_gone: true })).await;
    b.tasks.freeze(false);
    b.until(|event| matches!(event, OwnLeaseBack { was_gone: true })).await;
    // The next one to be told of comes after everything that the loss could have brought.
    let d = node(&server, record("d", 4)).await;
    told.extend(a.until_event(NodeAppeared(d.record.clone())).await);
    assert!(!told.iter().any(|event| matches!(event, NodeGone(_))), "{told:?}");
    assert_eq!(a.registry.known().len(), 3);
}

#[tokio::test]
async fn an_etcd_that_nobody_answers_for_is_named_in_the_error() {
    let began = Instant::now();
    // Nothing listens on these; loopback answers so at once.
    let config = EtcdConfig::new("http://127.0.0.1:1, 127.0.0.1:2");
    let error = EtcdDirectory::connect(&config, &Tasks::real()).await.err().expect("nobody is there").to_string();
    assert!(error.contains("http://127.0.0.1:1, 127.0.0.1:2"), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_address_that_takes_connections_but_is_no_etcd_is_an_error_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = EtcdDirectory::connect(&EtcdConfig::new(&address), &Tasks::real()).await.err().expect("no etcd");
    assert!(error.to_string().contains(&address), "{error}");
    for wrong in ["", "http://", "https://127.0.0.1:1", "not a url"] {
        assert!(EtcdDirectory::connect(&EtcdConfig::new(wrong), &Tasks::real()).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn an_etcd_that_asks_for_a_password_gets_it() {
    let server = EtcdServer::start().await;
    let mut root = etcd_client::Client::connect([server.endpoint()], None).await.unwrap();
    root.user_add("root", "secret", None).await.unwrap();
    root.role_add("root").await.unwrap();
    root.user_grant_role("root", "root").await.unwrap();
    root.auth_enable().await.unwrap();
    let connect = |user: Option<(&str, &str)>| {
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let config = EtcdConfig { user, ..EtcdConfig::new(&server.endpoint()) };
        async move { EtcdDirectory::connect(&config, &Tasks::real()).await }
    };
    for wrong in [None, Some(("root", "wrong"))] {
        let refused = connect(wrong).await.err().expect("etcd asks for a password");
        assert!(matches!(refused, directory::Error::Refused(_)), "{refused}");
    }
    let directory = connect(Some(("root", "secret"))).await.unwrap();
    Node::up(Arc::new(directory), record("a", 1)).await;
}

#[tokio::test]
async fn a_directory_outlives_the_runtime_that_replaced_its_connection() {
    let server = EtcdServer::start().await;
    let proxy = Proxy::start(&server.endpoint()).await;
    let directory = EtcdDirectory::connect(&EtcdConfig::new(&proxy.address), &Tasks::real()).await.unwrap();
    proxy.hang.send_modify(|count| *count += 1);
    assert!(directory.get("/t/a").await.is_err(), "the connection hangs");
    let elsewhere = directory.clone();
    let (done, other) = tokio::sync::oneshot::channel();
    let made = Tasks::real().spawn_thread("elsewhere", move || async move {
        let _ = done.send(elsewhere.get("/t/a").await.is_ok());
    });
    made.unwrap();
    assert!(other.await.unwrap(), "the call after goes over a new connection");
    for _ in 0..10 {
        directory.put("/t/a", b"", None).await.unwrap();
    }
}

#[tokio::test]
async fn one_dead_member_of_several_is_worked_around() {
    let server = EtcdServer::start().await;
    let config = EtcdConfig::new(&format!("http://127.0.0.1:1,{}", server.endpoint()));
    let directory = EtcdDirectory::connect(&config, &Tasks::real()).await.unwrap();
    for number in 0..50 {
        directory.put(&format!("/t/{number}"), b"", None).await.unwrap();
        directory.list("/t/").await.unwrap();
    }
    let mut a = Node::up(Arc::new(directory), record("a", 1)).await;
    let b = node(&server, record("b", 2)).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
}

#[tokio::test]
async fn an_etcd_that_hangs_is_down_and_a_write_to_it_is_ambiguous() {
    let server = EtcdServer::start().await;
    let mut a = node(&server, record("a", 1)).await;
    let directory = server.directory(&Tasks::real()).await;
    server.pause().await;
    let write = directory.put("/t/a", b"", None).await;
    assert!(matches!(write, Err(directory::Error::Ambiguous { .. })), "{write:?}");
    let read = directory.get("/t/a").await;
    assert!(matches!(read, Err(directory::Error::Unavailable { .. })), "{read:?}");
    a.until(|event| matches!(event, RegistryEvent::OwnLeaseLost)).await;
    server.resume();
    a.until(|event| matches!(event, OwnLeaseBack { .. })).await;
}

/// Passes connections on to etcd, until told to let those that exist hang without a word.
struct Proxy {
    address: String,
    hang: tokio::sync::watch::Sender<u32>,
}

impl Proxy {
    async fn start(to: &str) -> Proxy {
        let to = to.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (hang, hanging) = tokio::sync::watch::channel(0u32);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut hanging) = (to.clone(), hanging.clone());
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
                    hanging.mark_unchanged();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = hanging.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Proxy { address, hang }
    }
}

#[tokio::test]
async fn a_connection_that_silently_dies_is_replaced_before_the_lease_ends() {
    let server = EtcdServer::start().await;
    let proxy = Proxy::start(&server.endpoint()).await;
    let directory = EtcdDirectory::connect(&EtcdConfig::new(&proxy.address), &Tasks::real()).await.unwrap();
    // Long enough for a busy machine, and too short for the connection's own probes.
    let config = Config { lease_ttl_s: 10, ..config(record("a", 1)) };
    let mut a = Node::start_with(Arc::new(directory), config);
    let z = node(&server, record("z", 3)).await;
    a.until_event(NodeAppeared(z.record.clone())).await;
    proxy.hang.send_modify(|count| *count += 1);
    let b = node(&server, record("b", 2)).await;
    // The watch hung with the connection; the probes find out.
    let told = a.until_event(NodeAppeared(b.record.clone())).await;
    assert!(!told.contains(&RegistryEvent::OwnLeaseLost), "{told:?}");
}
