//! Reading: from the text of a file to values, and from a field back to its line.
//!
//! Each entry of a file is read by itself, so that one mistake hides none of the others. Errors name the field, and what was
//! probably meant. Nothing here knows what a value is for.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Content, Wrong};

/// A file, and where in it which field stands.
#[derive(Debug, Default)]
pub(super) struct Source {
    file: String,
    /// Where each line ends.
    ends: Vec<usize>,
    /// Every field by its path, with where its key and its value stand.
    fields: BTreeMap<Vec<String>, (Range<usize>, Range<usize>)>,
}

/// The six files, in the order of [`super::FILES`].
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) items: Source,
    pub(super) naturals: Source,
    pub(super) facilities: Source,
    pub(super) recipes: Source,
    pub(super) species: Source,
    pub(super) tuning: Source,
}

/// Reads all; what cannot be read is told as a whole.
pub(super) fn all(texts: &[(String, String); 6]) -> Result<(Content, Sources), Vec<Wrong>> {
    let mut wrong = Vec::new();
    let [items, naturals, facilities, recipes, species, tuning] = texts;
    let (items, items_source) = entries(items, &mut wrong);
    let (naturals, naturals_source) = entries(naturals, &mut wrong);
    let (facilities, facilities_source) = entries(facilities, &mut wrong);
    let (recipes, recipes_source) = entries(recipes, &mut wrong);
    let (species, species_source) = entries(species, &mut wrong);
    let (table, tuning_source) = parse(tuning, &mut wrong);
    let tuning = one(&[], table, &tuning_source, &mut wrong).unwrap_or_default();
    let content = Content { items, naturals, facilities, recipes, species, tuning };
    let sources = Sources {
        items: items_source,
        naturals: naturals_source,
        facilities: facilities_source,
        recipes: recipes_source,
        species: species_source,
        tuning: tuning_source,
    };
    wrong.sort();
    if wrong.is_empty() { Ok((content, sources)) } else { Err(wrong) }
}

/// Reads a file of entries by name.
fn entries<T: for<'a> Deserialize<'a>>(
    file: &(String, String),
    wrong: &mut Vec<Wrong>,
) -> (BTreeMap<String, T>, Source) {
    let (table, source) = parse(file, wrong);
    let DeValue::Table(table) = table.into_inner() else { return (BTreeMap::new(), source) };
    let mut all = BTreeMap::new();
    for (name, value) in table {
        let name = name.into_inner().into_owned();
        if let Some(entry) = one(&[&name], value, &source, wrong) {
            all.insert(name, entry);
        }
    }
    (all, source)
}

fn parse<'a>((file, text): &'a (String, String), wrong: &mut Vec<Wrong>) -> (Spanned<DeValue<'a>>, Source) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let ends = text.bytes().enumerate().filter_map(|(at, byte)| (byte == b'\n').then_some(at)).collect();
    let mut source = Source { file: file.clone(), ends, fields: BTreeMap::new() };
    let span = table.span();
    let table = DeValue::Table(table.into_inner());
    let broken = !errors.is_empty();
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        source.tell(source.line_of(at), String::new(), error.message().to_owned(), wrong);
    }
    source.note(&mut Vec::new(), &table);
    // What is left of a file that is no TOML would only be misread.
    let rest = if broken { DeValue::Table(DeTable::new()) } else { table };
    (Spanned::new(span, rest), source)
}

/// Reads the value at a path.
fn one<T: for<'a> Deserialize<'a>>(
    path: &[&str],
    value: Spanned<DeValue<'_>>,
    source: &Source,
    wrong: &mut Vec<Wrong>,
) -> Option<T> {
    match T::deserialize(ValueDeserializer::from(value)) {
        Ok(entry) => Some(entry),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let field = source.field_at(path, at);
            let (problem, field) = meant(error.message(), field);
            let line = source.line(&field.iter().map(String::as_str).collect::<Vec<_>>());
            source.tell(line, field.join("."), problem, wrong);
            None
        }
    }
}

/// The problem in words: of a missing field how it is written, of an unknown one which was probably meant.
fn meant(message: &str, mut field: Vec<String>) -> (String, Vec<String>) {
    let named: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match named.split_first() {
        Some((missing, _)) if message.starts_with("missing field") => {
            (format!("it has no `{missing}`: write `{missing} = …`"), field)
        }
        Some((unknown, known)) if message.starts_with("unknown field") => {
            // The place of the error may be the whole entry's.
            if field.last().is_none_or(|last| last != unknown) {
                field.push((*unknown).to_owned());
            }
            let hint = like(unknown, known.iter().copied());
            (format!("there is no such field{hint}; there are {}", known.join(", ")), field)
        }
        _ => (message.to_owned(), field),
    }
}

/// `: did you mean …`, if one of the known names is much like this one.
pub(super) fn like<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().map(|other| (distance(name, other), other)).min();
    match near {
        Some((far, other)) if far <= 1 + name.chars().count() / 4 => format!(": did you mean `{other}`?"),
        _ => String::new(),
    }
}

/// How many letters must be changed, added or taken away (Levenshtein, 1965).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (at, candidate) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *candidate);
            diagonal = row[at + 1];
            row[at + 1] = change.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

impl Source {
    /// Adds what is wrong with a field.
    pub(super) fn wrong(&self, path: &[&str], problem: impl Into<String>, wrong: &mut Vec<Wrong>) {
        self.tell(self.line(path), path.join("."), problem.into(), wrong);
    }

    fn tell(&self, line: usize, field: String, problem: String, wrong: &mut Vec<Wrong>) {
        wrong.push(Wrong { file: self.file.clone(), line, field, problem });
    }

    /// The line of a field, or of the nearest thing around it that the file has.
    fn line(&self, path: &[&str]) -> usize {
        let mut path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        while !path.is_empty() {
            if let Some((key, _)) = self.fields.get(&path) {
                return self.line_of(key.start);
            }
            path.pop();
        }
        1
    }

    fn line_of(&self, at: usize) -> usize {
        self.ends.partition_point(|end| *end < at) + 1
    }

    /// The deepest field below `path` whose key or value stands at this place.
    fn field_at(&self, path: &[&str], at: usize) -> Vec<String> {
        let inside = self.fields.iter().filter(|(field, (key, value))| {
            let below = field.len() > path.len() && field.iter().zip(path).all(|(one, other)| one == other);
            below && (key.contains(&at) || value.contains(&at))
        });
        let deepest = inside.max_by_key(|(field, _)| field.len()).map(|(field, _)| field.clone());
        deepest.unwrap_or_else(|| path.iter().map(|&part| part.to_owned()).collect())
    }

    fn note(&mut self, path: &mut Vec<String>, value: &DeValue<'_>) {
        let DeValue::Table(table) = value else { return };
        for (key, value) in table {
            path.push(key.get_ref().clone().into_owned());
            self.fields.insert(path.clone(), (key.span(), value.span()));
            self.note(path, value.get_ref());
            path.pop();
        }
    }
}
