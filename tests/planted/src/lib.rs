//! Bugs planted on purpose: one line each, at the place where the real rule is kept, so that tests can show that they would
//! find them.
//!
//! Code asks [`is`] whether a bug is planted. Without the feature `on` that is a constant no and costs nothing: what is
//! released knows no bug. With it a bug is planted for one thread and the length of one call ([`with`]), which is what the
//! simulation needs: it runs a whole mesh on one thread. [`LIST`] says what there is; a test of this crate holds it against
//! the source. `WILDMESH_PLANT=name` plants one in a whole process that was built with the feature: so `scripts/mutants` shows
//! that the tests that the list names do find what they are named for. A bug NEVER changes anything while it is not planted,
//! not even a draw of random numbers.

mod list;

pub use list::LIST;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Its name: what [`is`] is asked for.
    pub name: &'static str,
    /// What goes wrong with it.
    pub what: &'static str,
    /// The files in which it is planted, from the root of the repository.
    pub at: &'static [&'static str],
    /// A test that fails while it is planted, as `crate: name`; empty if only the simulation finds it.
    pub found_by: &'static str,
    /// Whether the simulation finds it. Where it does not, another rule stands behind the broken one, or what it takes does not
    /// happen there, and a test MUST find it.
    pub simulated: bool,
}

/// The bug of this name.
pub fn find(name: &str) -> Option<&'static Bug> {
    LIST.iter().find(|bug| bug.name == name)
}

/// Whether this bug is planted. A constant without the feature `on`.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub const fn is(_bug: &str) -> bool {
    false
}

/// A number that differs each time while this bug is planted, and 0 while it is not.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub const fn stir(_bug: &str) -> u64 {
    0
}

#[cfg(feature = "on")]
pub use soil::{is, reached, stir, with};

#[cfg(feature = "on")]
mod soil {
    //! What is planted in this thread.

    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::{Bug, find};

    /// The bug that the environment plants in the whole process.
    static EVERYWHERE: OnceLock<Option<&'static Bug>> = OnceLock::new();

    /// # Panics
    /// If the environment names a bug that there is not.
    fn everywhere() -> Option<&'static Bug> {
        let named = || std::env::var("WILDMESH_PLANT").ok().filter(|name| !name.is_empty());
        *EVERYWHERE.get_or_init(|| named().map(|name| known(&name)))
    }

    fn known(name: &str) -> &'static Bug {
        find(name).unwrap_or_else(|| panic!("no bug is called {name:?}"))
    }

    thread_local! {
        /// The bug, and how often the code came by it.
        static PLANTED: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
    }

    /// Takes the bug out when a call ends, however that is.
    struct Bed(Option<(&'static str, u64)>);

    impl Drop for Bed {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }

    /// Whether this bug is planted, in this thread or in the process.
    pub fn is(bug: &str) -> bool {
        match PLANTED.get() {
            Some((planted, reached)) if planted == bug => {
                PLANTED.set(Some((planted, reached + 1)));
                true
            }
            Some(_) => false,
            None => everywhere().is_some_and(|planted| planted.name == bug),
        }
    }

    /// A number that differs each time while this bug is planted, and 0 while it is not.
    pub fn stir(bug: &str) -> u64 {
        thread_local! {
            static LAST: Cell<u64> = const { Cell::new(0) };
        }
        if !is(bug) {
            return 0;
        }
        if let Some((_, reached)) = PLANTED.get() {
            // The same in every run from one seed.
            return reached;
        }
        LAST.set(LAST.get() + 1);
        LAST.get()
    }

    /// How often the code has come by the bug since it was planted in this thread; 0 if none is.
    pub fn reached() -> u64 {
        PLANTED.get().map_or(0, |(_, reached)| reached)
    }

    /// Calls `f` with this bug planted in this thread, in place of any other.
    ///
    /// # Panics
    /// If no bug is called so: a misspelt one would pass for one that cannot be found.
    pub fn with<T>(bug: &str, f: impl FnOnce() -> T) -> T {
        let _bed = Bed(PLANTED.replace(Some((known(bug).name, 0))));
        f()
    }
}
