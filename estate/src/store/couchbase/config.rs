//! Where a Couchbase cluster is and who asks: the address as operators write it, with its secret kept out of sight.
//!
//! `couchbase://USER:PASSWORD@HOST[:PORT][,HOST…]/BUCKET[/SCOPE[/COLLECTION]][?durability=…][&ca=FILE]`, or
//! `couchbases://…` for TLS. What can be read back from a [`CouchbaseConfig`] NEVER holds the password: neither its
//! `Display`, nor its `Debug`, nor any error.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The scope and the collection that are meant when an address names none: every bucket has them.
pub const DEFAULT_NAME: &str = "_default";

/// The most hosts that an address may name.
pub const HOSTS_MAX: usize = 64;

/// The longest name of a bucket, in bytes: Couchbase's own bound.
pub const BUCKET_BYTES: usize = 100;

/// The longest name of a scope or collection, in bytes: Couchbase's own bound.
pub const COLLECTION_BYTES: usize = 251;

/// A password: it can be used, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Keeps a password.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }

    /// The password itself, for logging in only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How sure a write with [`Ack::Durable`](crate::store::Ack::Durable) is to stay before Couchbase answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// In the memory of the active node: lost with it. For a development bucket that has a replica and no node for it.
    None,
    /// In the memory of most nodes that hold the document.
    #[default]
    Majority,
    /// The same, and on the disk of the active node.
    MajorityAndPersist,
    /// On the disks of most nodes that hold the document.
    Persist,
}

impl Durability {
    const ALL: [Durability; 4] =
        [Durability::None, Durability::Majority, Durability::MajorityAndPersist, Durability::Persist];

    /// As it is written in an address.
    pub fn name(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Majority => "majority",
            Durability::MajorityAndPersist => "majority-and-persist",
            Durability::Persist => "persist",
        }
    }
}

/// What is wrong with an address. NEVER holds the address itself: there may be a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; an address is couchbase://USER:PASSWORD@HOST[,HOST]/BUCKET[/SCOPE[/COLLECTION]], or couchbases:// for TLS"
)]
pub struct BadAddress(String);

/// A collection of a cluster, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CouchbaseConfig {
    /// Whether to speak TLS.
    pub tls: bool,
    /// The cluster's nodes to ask first, each a name or address with or without port.
    pub hosts: Vec<String>,
    /// Who asks.
    pub user: String,
    /// The user's password. An address may leave it out, for it to come from the environment.
    pub password: Option<Password>,
    /// The bucket.
    pub bucket: String,
    /// The scope within the bucket.
    pub scope: String,
    /// The collection within the scope.
    pub collection: String,
    /// How sure durable writes are.
    pub durability: Durability,
    /// The file of certificates (PEM) to trust instead of the public ones and Capella's.
    pub ca_file: Option<PathBuf>,
}

impl CouchbaseConfig {
    /// The address to connect to, without user and password.
    pub(super) fn connection_string(&self) -> String {
        format!("{}://{}", self.scheme(), self.hosts.join(","))
    }

    /// Bucket, scope and collection, as people write them.
    pub fn keyspace(&self) -> String {
        format!("{}.{}.{}", self.bucket, self.scope, self.collection)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "couchbases" } else { "couchbase" }
    }
}

/// The address without its password.
impl fmt::Display for CouchbaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, hosts) = (self.scheme(), self.hosts.join(","));
        write!(f, "{scheme}://{}@{hosts}/{}/{}/{}", self.user, self.bucket, self.scope, self.collection)
    }
}

impl FromStr for CouchbaseConfig {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<CouchbaseConfig, BadAddress> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("there is no ://"))?;
        let tls = match scheme {
            "couchbase" => false,
            "couchbases" => true,
            _ => return Err(bad("it begins with neither couchbase:// nor couchbases://")),
        };
        // The last @ ends the secret, and only after it may / and ? be told apart: passwords hold what they like.
        let (login, rest) = rest.rsplit_once('@').ok_or_else(|| bad("there is no USER before the host"))?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(Password::new(decode(password, "password")?))),
            None => (login, None),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut path = path.split('/');
        let hosts = hosts(path.next().unwrap_or_default())?;
        let bucket =
            path.next().filter(|name| !name.is_empty()).ok_or_else(|| bad("there is no BUCKET after the host"))?;
        let scope = path.next().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAME);
        let collection = path.next().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAME);
        if path.next().is_some_and(|more| !more.is_empty()) {
            return Err(bad("something follows the COLLECTION"));
        }
        let mut config = CouchbaseConfig {
            tls,
            hosts,
            user: decode(user, "user")?,
            password,
            bucket: name(bucket, "bucket", BUCKET_BYTES)?,
            scope: name(scope, "scope", COLLECTION_BYTES)?,
            collection: name(collection, "collection", COLLECTION_BYTES)?,
            durability: Durability::default(),
            ca_file: None,
        };
        if config.user.is_empty() {
            return Err(bad("the USER is empty"));
        }
        for option in query.split('&').filter(|option| !option.is_empty()) {
            config.apply(option)?;
        }
        Ok(config)
    }
}

impl CouchbaseConfig {
    fn apply(&mut self, option: &str) -> Result<(), BadAddress> {
        match option.split_once('=') {
            Some(("durability", level)) => {
                let known = Durability::ALL.into_iter().find(|durability| durability.name() == level);
                self.durability = known.ok_or_else(|| {
                    let names = Durability::ALL.map(Durability::name).join(", ");
                    bad(format!("there is no durability {level:?}, only {names}"))
                })?;
                Ok(())
            }
            Some(("ca", file)) if self.tls && !file.is_empty() => {
                self.ca_file = Some(decode(file, "ca")?.into());
                Ok(())
            }
            Some(("ca", _)) => Err(bad("ca=FILE belongs to couchbases:// and names a file")),
            _ => Err(bad("after ? there may be durability=… and ca=FILE, separated by &")),
        }
    }
}

fn bad(what: impl Into<String>) -> BadAddress {
    BadAddress(what.into())
}

fn hosts(text: &str) -> Result<Vec<String>, BadAddress> {
    let hosts: Vec<String> = text.split(',').map(str::to_owned).collect();
    if hosts.iter().any(String::is_empty) {
        return Err(bad("a HOST is empty"));
    }
    if hosts.len() > HOSTS_MAX {
        return Err(bad(format!("there are {} hosts; {HOSTS_MAX} are enough", hosts.len())));
    }
    for host in &hosts {
        let port = match host.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port,
            _ => continue,
        };
        match port.parse::<u16>() {
            Ok(8091 | 18091) => {
                return Err(bad(format!("port {port} is the management port: leave it out, or name the data port")));
            }
            Ok(1..) => {}
            _ => return Err(bad("a port is not a number from 1 to 65535")),
        }
    }
    if !hosts.iter().all(|host| host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))) {
        return Err(bad("a HOST holds a character that no host has"));
    }
    Ok(hosts)
}

fn name(text: &str, what: &str, bytes_max: usize) -> Result<String, BadAddress> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-%.".contains(c);
    if text.len() > bytes_max || !text.chars().all(allowed) {
        let rule = format!("up to {bytes_max} letters, digits and _ - % .");
        return Err(bad(format!("{text:?} is no name for a {what}: {rule}")));
    }
    Ok(text.to_owned())
}

/// Undoes percent-encoding. `what` is for the error, which does not repeat the text.
fn decode(text: &str, what: &str) -> Result<String, BadAddress> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return Err(bad(format!(
                    "a % in the {what} is not followed by two hexadecimal digits; write % as %25"
                )));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("the {what} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_who_and_what() {
        let config: CouchbaseConfig = "couchbase://game:p%40ss@a:11210,b/world".parse().expect("an address");
        assert_eq!((config.tls, config.hosts.as_slice()), (false, ["a:11210".to_owned(), "b".to_owned()].as_slice()));
        assert_eq!(config.password, Some(Password::new("p@ss")));
        assert_eq!(config.keyspace(), "world._default._default");
        assert_eq!(config.connection_string(), "couchbase://a:11210,b");
        let config: CouchbaseConfig =
            "couchbases://game@[::1]:11207/world/estate/documents?durability=none&ca=/etc/ca.pem".parse().expect("one");
        assert_eq!((config.tls, config.password, config.durability), (true, None, Durability::None));
        assert_eq!(config.ca_file, Some("/etc/ca.pem".into()));
        assert_eq!((config.scope.as_str(), config.collection.as_str()), ("estate", "documents"));
    }

    #[test]
    fn a_password_may_hold_anything_and_is_never_shown() {
        let secret = "s3cr3t:/?@x";
        let config: CouchbaseConfig = format!("couchbase://game:{secret}@host/world").parse().expect("an address");
        assert_eq!(config.password, Some(Password::new(secret)));
        assert!(!format!("{config} {config:?}").contains("s3cr3t"));
        for broken in
            ["couchbase://game:s3cr3t@/world", "couchbase://game:s3cr3t%zz@host/world", "http://game:s3cr3t@h/w"]
        {
            let error = broken.parse::<CouchbaseConfig>().expect_err(broken);
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_with_the_reason() {
        let check = |address: &str, reason: &str| {
            let error = address.parse::<CouchbaseConfig>().expect_err(address).to_string();
            assert!(error.contains(reason), "{address}: {error}");
        };
        check("couchbase:game@host/world", "no ://");
        check("mongo://game@host/world", "neither couchbase://");
        check("couchbase://host/world", "no USER");
        check("couchbase://:p@host/world", "USER is empty");
        check("couchbase://game:p@host", "no BUCKET");
        check("couchbase://game:p@host:0/world", "port");
        check("couchbase://game:p@host:8091/world", "management port");
        check("couchbase://game:p@ho st/world", "character");
        check("couchbase://game:p@a,,b/world", "HOST is empty");
        check("couchbase://game:p@host/wor`ld", "no name for a bucket");
        check("couchbase://game:p@host/world/a/b/c", "follows the COLLECTION");
        check("couchbase://game:p@host/world?durability=most", "none, majority");
        check("couchbase://game:p@host/world?ca=x", "couchbases://");
        check("couchbase://game:p@host/world?colour=red", "durability=");
    }
}
