//! Which versions of etcd are known to be faulty. Pure.

/// The first version without the lease-renewal and watch-loss faults that nodes have been seen to suffer from.
const SOUND: [u32; 3] = [3, 5, 23];

/// What people should know about a version, if anything.
pub(super) fn warning(version: &str) -> Option<String> {
    let [major, minor, patch] = SOUND;
    match parse(version) {
        Some(found) if found >= SOUND => None,
        Some(_) => Some(format!(
            "etcd below {major}.{minor}.{patch} can lose lease renewals and watch events; use it for tests only"
        )),
        None => Some(format!("version {version:?} is not understood; {major}.{minor}.{patch} or later is needed")),
    }
}

fn parse(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split(['-', '+']).next()?.split('.').map(|part| part.parse().ok());
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_below_the_sound_one_are_warned_of() {
        let check = |version: &str, warned: bool| assert_eq!(warning(version).is_some(), warned, "{version}");
        check("3.4.23", true);
        check("3.5.22", true);
        check("3.5.23", false);
        check("3.5.24-rc.1", false);
        check("3.6.0", false);
        check("4.0.0", false);
        check("3.5", true);
        check("", true);
        check("three", true);
    }
}
