//! Who of the bots plays, who is away since when and why, and the timeline of what they noticed.
//!
//! A bot *plays* while frames or answers come. From the loss of a connection (or the last sign of life before it) to the first
//! frame or answer afterwards it is *away*; away for longer than [`HUNG_AFTER`] is *hung*, whether or not it is connected. The
//! timeline is a file of one line per event, `ms TAB bot TAB event TAB detail` with milliseconds since 1970, for plots; it is
//! bounded, and what cannot be written is NEVER waited for or retried.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::report::histogram;

/// A bot that could not play for longer is hung.
pub const HUNG_AFTER: Duration = Duration::from_secs(60);
/// Lines of a timeline, at most.
const LINES: usize = 2_000_000;
/// Causes that are told apart, at most; the rest counts as `other`.
const CAUSES: usize = 32;

/// How long bots were away for one cause, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Away {
    /// How often.
    pub count: u64,
    /// Half were shorter.
    pub p50: f64,
    /// One in a hundred was longer.
    pub p99: f64,
    /// The longest.
    pub most: f64,
}

#[derive(Debug)]
struct One {
    played: Instant,
    /// Away for this cause.
    away: Option<String>,
    hung: bool,
    ended: bool,
}

/// All bots' presence, by their numbers.
#[derive(Debug)]
pub(super) struct Presence {
    bots: BTreeMap<usize, One>,
    away: BTreeMap<String, Histogram<u64>>,
    hung: u64,
    timeline: Option<Timeline>,
}

#[derive(Debug)]
struct Timeline {
    file: BufWriter<File>,
    lines_left: usize,
    began: (Instant, u128),
}

impl Presence {
    /// Without a timeline if `path` is `None`.
    pub(super) fn new(path: Option<&Path>) -> std::io::Result<Presence> {
        let timeline = path.map(Timeline::begin).transpose()?;
        Ok(Presence { bots: BTreeMap::new(), away: BTreeMap::new(), hung: 0, timeline })
    }

    /// A line of the timeline.
    pub(super) fn event(&mut self, bot: Option<usize>, event: &str, detail: &str, now: Instant) {
        let Some(timeline) = &mut self.timeline else { return };
        if let Err(error) = timeline.line(bot, event, detail, now) {
            tracing::warn!(%error, "the timeline ends here: it could not be written");
            self.timeline = None;
        }
    }

    /// What was written so far is in the file.
    pub(super) fn flush(&mut self) {
        if let Some(timeline) = &mut self.timeline {
            // The next line tells.
            let _ = timeline.file.flush();
        }
    }

    /// A frame or an answer has come.
    pub(super) fn plays(&mut self, bot: usize, now: Instant) {
        let one = self.bots.entry(bot).or_insert_with(|| One { played: now, away: None, hung: false, ended: false });
        let since = std::mem::replace(&mut one.played, now);
        one.hung = false;
        let Some(cause) = one.away.take() else { return };
        let gap = now.saturating_duration_since(since);
        let cause = if self.away.len() < CAUSES || self.away.contains_key(&cause) { cause } else { "other".to_owned() };
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.away.entry(cause.clone()).or_insert_with(histogram).saturating_record(micros.max(1));
        self.event(Some(bot), "plays", &format!("{} {cause}", gap.as_millis()), now);
    }

    /// A connection was lost: at this moment, or with the last sign of life if it went silent.
    pub(super) fn lost(&mut self, bot: usize, cause: &str, silent: bool, now: Instant) {
        if let Some(one) = self.bots.get_mut(&bot) {
            // Whoever is lost again while away is away since the first loss.
            if one.away.is_none() {
                one.played = if silent { one.played } else { now };
                one.away = Some(cause.to_owned());
            }
        }
        self.event(Some(bot), "lost", cause, now);
    }

    /// A bot's life is over.
    pub(super) fn ended(&mut self, bot: usize) {
        if let Some(one) = self.bots.get_mut(&bot) {
            one.ended = true;
        }
    }

    /// A bot will not come back.
    pub(super) fn gave_up(&mut self, bot: usize, why: &str, now: Instant) {
        if let Some(one) = self.bots.get_mut(&bot) {
            self.hung += u64::from(!std::mem::replace(&mut one.hung, true));
            one.ended = true;
        }
        self.event(Some(bot), "gave_up", why, now);
    }

    /// Counts who has been away for too long; once for each time.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut found = Vec::new();
        for (bot, one) in &mut self.bots {
            let late = now.saturating_duration_since(one.played) > HUNG_AFTER;
            if late && !one.hung && !one.ended {
                one.hung = true;
                found.push((*bot, one.away.clone().unwrap_or_else(|| "connected".to_owned())));
            }
        }
        self.hung += found.len() as u64;
        for (bot, why) in found {
            self.event(Some(bot), "hung", &why, now);
        }
    }

    /// How many could not play for longer than [`HUNG_AFTER`].
    pub(super) fn hung(&self) -> u64 {
        self.hung
    }

    /// How long bots were away, by cause.
    pub(super) fn away_ms(&self) -> BTreeMap<String, Away> {
        let away = |all: &Histogram<u64>| {
            let ms = |micros: u64| micros as f64 / 1000.0;
            let at = |quantile| ms(all.value_at_quantile(quantile));
            Away { count: all.len(), p50: at(0.5), p99: at(0.99), most: ms(all.max()) }
        };
        self.away.iter().map(|(cause, all)| (cause.clone(), away(all))).collect()
    }
}

impl Timeline {
    fn begin(path: &Path) -> std::io::Result<Timeline> {
        let file = BufWriter::new(File::create(path)?);
        // A clock before 1970 only moves the plot.
        #[allow(clippy::disallowed_methods, reason = "people lay timelines beside logs")]
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Ok(Timeline { file, lines_left: LINES, began: (Instant::now(), began) })
    }

    fn line(&mut self, bot: Option<usize>, event: &str, detail: &str, now: Instant) -> std::io::Result<()> {
        if self.lines_left == 0 {
            return Ok(());
        }
        self.lines_left -= 1;
        let ms = self.began.1 + now.saturating_duration_since(self.began.0).as_millis();
        let bot = bot.map_or_else(|| "-".to_owned(), |bot| bot.to_string());
        writeln!(self.file, "{ms}\t{bot}\t{event}\t{detail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn away_lasts_from_the_loss_to_the_first_sign_and_silence_from_the_last_one() {
        let mut presence = Presence::new(None).unwrap();
        let start = Instant::now();
        presence.plays(1, start);
        presence.lost(1, "killed", false, start + 5 * S);
        presence.lost(1, "ended", false, start + 6 * S);
        presence.plays(1, start + 8 * S);
        presence.lost(1, "silent", true, start + 20 * S);
        presence.plays(1, start + 21 * S);
        let away = presence.away_ms();
        assert_eq!(away.keys().collect::<Vec<_>>(), ["killed", "silent"]);
        assert_eq!(away["killed"].most.round() as u64 / 10, 300);
        assert_eq!(away["silent"].most.round() as u64 / 100, 130);
        assert_eq!(presence.hung(), 0);
    }

    #[test]
    fn whoever_does_not_play_for_a_minute_is_hung_once_and_whoever_has_left_never() {
        let mut presence = Presence::new(None).unwrap();
        let start = Instant::now();
        presence.plays(1, start);
        presence.plays(2, start);
        presence.ended(2);
        presence.sweep(start + HUNG_AFTER);
        assert_eq!(presence.hung(), 0);
        presence.sweep(start + HUNG_AFTER + S);
        presence.sweep(start + HUNG_AFTER + 2 * S);
        assert_eq!(presence.hung(), 1, "connected and shown nothing");
        presence.plays(1, start + HUNG_AFTER + 3 * S);
        presence.gave_up(1, "ended", start + HUNG_AFTER + 4 * S);
        assert_eq!(presence.hung(), 2);
    }

    #[test]
    fn a_timeline_has_a_line_for_each_event() {
        let path = std::env::temp_dir().join(format!("wildmesh-timeline-{}", std::process::id()));
        let mut presence = Presence::new(Some(&path)).unwrap();
        let now = Instant::now();
        presence.plays(3, now);
        presence.lost(3, "killed", false, now);
        presence.plays(3, now + S);
        presence.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').skip(1).collect()).collect();
        assert_eq!(words, [["3", "lost", "killed"], ["3", "plays", "1000 killed"]]);
    }
}
