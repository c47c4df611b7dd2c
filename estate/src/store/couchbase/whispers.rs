//! Listens to what the SDK logs while it connects: its only way of saying what is wrong.
//!
//! A subscriber that wraps one future and keeps the last complaint of the SDK. It NEVER passes anything on: the SDK
//! repeats itself many times a second, and the driver says the essence once.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How much of a complaint is kept, in characters.
const COMPLAINT_CHARS: usize = 300;

/// The SDK's words for a refused user or password.
const REFUSED: [&str; 2] = ["auth error", "authentication error"];

/// Hears what the SDK complains of.
#[derive(Clone)]
pub(super) struct Whispers {
    last: Arc<Mutex<Option<String>>>,
    refused: mpsc::Sender<()>,
}

impl Whispers {
    /// A listener, and where it tells that the user or password was refused.
    pub(super) fn new() -> (Whispers, mpsc::Receiver<()>) {
        let (refused, heard) = mpsc::channel(1);
        (Whispers { last: Arc::default(), refused }, heard)
    }

    /// The last complaint.
    pub(super) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Subscriber for Whispers {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && metadata.target().starts_with("couchbase")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut complaint = Complaint::default();
        event.record(&mut complaint);
        let text: String = complaint.0.chars().take(COMPLAINT_CHARS).collect();
        if REFUSED.iter().any(|words| text.to_lowercase().contains(words)) {
            // Full means that it has been told already.
            let _ = self.refused.try_send(());
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// The message of an event.
#[derive(Default)]
struct Complaint(String);

impl Visit for Complaint {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(text: &str) -> (Option<String>, bool) {
        let (whispers, mut heard) = Whispers::new();
        tracing::subscriber::with_default(whispers.clone(), || {
            tracing::warn!(target: "couchbase_core::agent", "{text}");
            tracing::info!(target: "couchbase_core::agent", "chatter");
            tracing::error!(target: "elsewhere", "trouble");
        });
        (whispers.last(), heard.try_recv().is_ok())
    }

    #[test]
    fn the_last_complaint_of_the_sdk_is_kept() {
        assert_eq!(hears("no route"), (Some("no route".to_owned()), false));
    }

    #[test]
    fn a_refused_password_is_told_at_once() {
        assert!(hears("Auth failed Server error: auth error wrong").1);
    }
}
