//! What the bots noticed, read from their timeline: who was away when, what was refused, and how long each kill was felt.
//!
//! A line is `ms TAB bot TAB event TAB detail`; lines that are no such thing are left out, so that a bot's last, torn line
//! harms nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A frontend's death is noticed within this time: the kernel closes its connections.
const NOTICED_MS: u64 = 2_000;
/// What begins so long after a kill is not of this kill: a lease, and what is asked in vain until it has run out.
const FELT_MS: u64 = 12_000;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Whose; `None` for totals.
    pub bot: Option<u32>,
    /// What.
    pub what: String,
    /// More of it.
    pub detail: String,
}

/// Percentiles of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half were shorter.
    pub p50: u64,
    /// One in a hundred was longer.
    pub p99: u64,
    /// The longest.
    pub most: u64,
}

impl Times {
    /// Of some times.
    pub fn of(mut times: Vec<u64>) -> Times {
        times.sort_unstable();
        let at = |part: f64| {
            let index = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len().max(1)) - 1;
            times.get(index).copied().unwrap_or(0)
        };
        Times { count: times.len() as u64, p50: at(0.5), p99: at(0.99), most: times.last().copied().unwrap_or(0) }
    }
}

/// How a kind of kill was felt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Felt {
    /// Kills.
    pub kills: u64,
    /// From a kill until an affected player plays again, over all players and kills.
    pub players_ms: Times,
    /// From a kill until the last affected player plays again, over all kills.
    pub last_ms: Times,
}

/// Reads a timeline.
pub fn read(text: &str) -> Vec<Event> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('\t');
            let (at_ms, bot, what, detail) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let bot = if bot == "-" { None } else { Some(bot.parse().ok()?) };
            Some(Event { at_ms: at_ms.parse().ok()?, bot, what: what.to_owned(), detail: detail.to_owned() })
        })
        .collect()
}

/// Times in which a bot could not play: from, to (the end, if it never did), and why.
pub fn away(events: &[Event], end_ms: u64) -> Vec<(u32, u64, u64, String)> {
    let mut since: BTreeMap<u32, (u64, String)> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events {
        let Some(bot) = event.bot else { continue };
        match event.what.as_str() {
            "lost" => drop(since.entry(bot).or_insert((event.at_ms, event.detail.clone()))),
            "plays" => {
                // The gap is the bot's own: it knows when it heard last.
                let gap_ms = event.detail.split(' ').next().and_then(|gap| gap.parse::<u64>().ok()).unwrap_or(0);
                let cause = since.remove(&bot).map_or_else(|| "unknown".to_owned(), |(_, cause)| cause);
                all.push((bot, event.at_ms.saturating_sub(gap_ms), event.at_ms, cause));
            }
            "joined" => drop(since.remove(&bot)),
            _ => {}
        }
    }
    all.extend(since.into_iter().map(|(bot, (at_ms, cause))| (bot, at_ms, end_ms.max(at_ms), cause)));
    all
}

/// How the kills of each role were felt: by those who lost their connection, and by those whose acts took long.
///
/// `kills` are moments and roles.
pub fn felt(events: &[Event], kills: &[(u64, &'static str)], end_ms: u64) -> BTreeMap<&'static str, Felt> {
    let away = away(events, end_ms);
    let slow: Vec<(u32, u64, u64)> = events
        .iter()
        .filter(|event| event.what == "slow")
        .filter_map(|event| {
            let took_ms = event.detail.split(' ').next()?.parse::<u64>().ok()?;
            Some((event.bot?, event.at_ms.saturating_sub(took_ms), event.at_ms))
        })
        .collect();
    let mut felt: BTreeMap<&'static str, (Felt, Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for (at_ms, role) in kills {
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        let mut until = |bot: u32, to_ms: u64| {
            let end = ends.entry(bot).or_default();
            *end = (*end).max(to_ms.saturating_sub(*at_ms));
        };
        if *role == "frontend" {
            let lost: BTreeSet<u32> = events
                .iter()
                .filter(|event| event.what == "lost" && event.detail == "killed")
                .filter(|event| (*at_ms..at_ms + NOTICED_MS).contains(&event.at_ms))
                .filter_map(|event| event.bot)
                .collect();
            let of_kill = |from: u64| from + NOTICED_MS >= *at_ms && from < at_ms + NOTICED_MS;
            away.iter().filter(|it| lost.contains(&it.0) && of_kill(it.1)).for_each(|it| until(it.0, it.2));
        } else {
            let of_kill = |from: u64, to: u64| to > *at_ms && from < at_ms + FELT_MS;
            slow.iter().filter(|it| of_kill(it.1, it.2)).for_each(|it| until(it.0, it.2));
        }
        let (of_role, players, last) = felt.entry(role).or_default();
        of_role.kills += 1;
        last.extend(ends.values().max());
        players.extend(ends.into_values());
    }
    let done = |(felt, players, last): (Felt, Vec<u64>, Vec<u64>)| Felt {
        players_ms: Times::of(players),
        last_ms: Times::of(last),
        ..felt
    };
    felt.into_iter().map(|(role, found)| (role, done(found))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "1000\t1\tjoined\t77\n5000\t1\tlost\tkilled\n5001\t2\tlost\tkilled\n5100\t1\tback\t100 Rejoined ws://\n\
        7000\t1\tplays\t2000 killed\nnonsense\n9000\t3\tslow\t3500 build\n9500\t2\tplays\t4499 killed\n\
        20000\t-\ttotals\tconnected=2\n30000\t4\tlost\tsilent\n";

    #[test]
    fn gaps_are_from_the_loss_to_playing_and_who_never_plays_is_away_to_the_end() {
        let gaps = away(&read(LINES), 40_000);
        let expected = [(1, 5_000, 7_000, "killed"), (2, 5_001, 9_500, "killed"), (4, 30_000, 40_000, "silent")];
        assert_eq!(gaps, expected.map(|(bot, from, to, cause)| (bot, from, to, cause.to_owned())));
    }

    #[test]
    fn a_kill_is_felt_until_the_last_affected_player_plays() {
        let felt = felt(&read(LINES), &[(4_990, "frontend"), (5_400, "garden"), (25_000, "garden")], 40_000);
        assert_eq!((felt["frontend"].kills, felt["frontend"].players_ms.count), (1, 2));
        assert_eq!((felt["frontend"].players_ms.p50, felt["frontend"].last_ms.p99), (2_010, 4_510));
        assert_eq!((felt["garden"].kills, felt["garden"].last_ms.most), (2, 3_600));
    }

    #[test]
    fn percentiles_of_nothing_are_nothing() {
        assert_eq!(Times::of(Vec::new()), Times::default());
        assert_eq!(Times::of((1..=100).rev().collect()), Times { count: 100, p50: 50, p99: 99, most: 100 });
    }
}
