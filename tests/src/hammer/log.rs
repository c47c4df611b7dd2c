//! The processes' own logs: append-only files with a line before each question and one after its answer.
//!
//! A line is one `write`, so a process that is killed leaves whole lines, and at most the last one torn, which says nothing.
//! What a process wrote it keeps when it is killed: the lines are the kernel's by then.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use estate::transaction::OperationId;
use serde::{Deserialize, Serialize};

use super::{Answer, Ask};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) op: OperationId,
    /// What is about to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ask: Option<Ask>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Answer>,
}

/// A log that is being written.
pub(super) struct Log(Mutex<File>);

impl Log {
    pub(super) fn open(path: &Path) -> Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Log(Mutex::new(file.with_context(|| format!("could not open the log {}", path.display()))?)))
    }

    pub(super) fn asking(&self, op: OperationId, ask: &Ask) -> Result<()> {
        self.line(&Line { op, ask: Some(ask.clone()), answer: None })
    }

    pub(super) fn answered(&self, op: OperationId, answer: &Answer) -> Result<()> {
        self.line(&Line { op, ask: None, answer: Some(answer.clone()) })
    }

    fn line(&self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text).context("could not write the log")
    }
}

/// What is known of one operation from logs.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) ask: Ask,
    /// How often it was asked.
    pub(super) asked: u64,
    /// The answers, oldest first.
    pub(super) answers: Vec<Answer>,
}

impl Known {
    /// The last answer, if it tells whether the operation has happened and was not followed by another question.
    pub(super) fn certain(&self) -> Option<&Answer> {
        self.answers.last().filter(|answer| answer.is_certain() && self.answers.len() as u64 == self.asked)
    }
}

/// Operations by their ids.
pub(super) type Operations = BTreeMap<OperationId, Known>;

/// Adds what a log says; logs of later processes MUST come after those of earlier ones.
pub(super) fn read(path: &Path, operations: &mut Operations) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read the log {}", path.display()))?;
    // What comes after the last newline is a torn line.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for line in bytes[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line)
            .with_context(|| format!("{} in {}", String::from_utf8_lossy(line), path.display()))?;
        if let Some(ask) = line.ask {
            operations.entry(line.op).or_insert(Known { ask, asked: 0, answers: Vec::new() }).asked += 1;
        }
        if let Some(answer) = line.answer {
            let known = operations.get_mut(&line.op).context("an answer to what nobody asked")?;
            // What was asked before and never answered was asked by one who died.
            known.asked = known.answers.len() as u64 + 1;
            known.answers.push(answer);
        }
    }
    Ok(())
}
