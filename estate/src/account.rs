//! Accounts: a name, a password's hash, and the player that belongs to it.
//!
//! The key is the name in lower case, so that inserting decides who has it. The account names its player before the
//! player's document exists; [`settle`] makes it, so that a registration that stopped half-way is finished by the next
//! sign-in and leaves no orphan. This module NEVER sees a password.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Attempts, Document, DocumentError, Kept, Migration, encode, read};
use crate::player::{self, Birth, PlayerError};
use crate::store::{Store, StoreError, WriteOptions};

/// The fewest characters of a name.
pub const NAME_MIN: usize = 2;

/// The most characters of a name.
pub const NAME_MAX: usize = 32;

/// How many player ids are drawn before giving up. One in nine million is taken when a billion players exist.
const DRAWS: u32 = 8;

/// An account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The name as its holder writes it.
    pub name: String,
    /// The password's hash as a PHC string (`$argon2id$…`).
    pub password_hash: String,
    /// The id of its player.
    pub player: u64,
    /// The token of the request that made it: by it a repeated request recognises its own account.
    pub token: u64,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for AccountDocument {
    const KIND: &'static str = "account";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Too short or too long.
    #[error("a name has {NAME_MIN} to {NAME_MAX} characters, not {0}")]
    Length(usize),
    /// A character that names do not have.
    #[error("a name has letters, digits, '-' and '_', not {0:?}")]
    Character(char),
    /// It begins with `-` or `_`.
    #[error("a name begins with a letter or a digit")]
    Beginning,
}

/// Why an account could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// Somebody else has the name.
    #[error("the name is taken")]
    Taken,
    /// No free player id was drawn: the caller's random bits are not random.
    #[error("no free player id in {DRAWS} draws")]
    NoId,
    /// The store's or the document's. Asking again with the same token is right.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> AccountError {
        AccountError::Document(DocumentError::Store(error))
    }
}

/// Checks a name: [`NAME_MIN`] to [`NAME_MAX`] letters, digits, `-` and `_`, the first a letter or digit.
///
/// Letters are those of Latin, Hangul, kana and Han that have one encoding only. Scripts whose letters look like Latin
/// ones (Greek, Cyrillic, full-width forms) are left out, so that nobody passes for somebody else.
pub fn check_name(name: &str) -> Result<(), NameFault> {
    let length = name.chars().count();
    if !(NAME_MIN..=NAME_MAX).contains(&length) {
        return Err(NameFault::Length(length));
    }
    if let Some(bad) = name.chars().find(|c| !is_letter(*c) && !c.is_ascii_digit() && !"-_".contains(*c)) {
        return Err(NameFault::Character(bad));
    }
    if name.starts_with(['-', '_']) { Err(NameFault::Beginning) } else { Ok(()) }
}

fn is_letter(c: char) -> bool {
    // Latin-1 and Latin Extended-A, Hangul syllables, hiragana, katakana with the long-vowel mark, and basic Han.
    let latin = matches!(c, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{17e}');
    let other = matches!(c, '가'..='힣' | 'ぁ'..='ゖ' | 'ァ'..='ヺ' | 'ー' | '一'..='鿿');
    // Signs, i without or with a lasting dot (whose case folds onto others), and ligatures that look like two letters.
    let odd = matches!(c, '×' | '÷' | 'İ' | 'ı' | 'Ĳ' | 'ĳ' | 'Ŀ' | 'ŀ' | 'ŉ');
    (latin || other) && !odd
}

/// The name by which an account is known in documents: in lower case.
pub fn lower(name: &str) -> String {
    name.to_lowercase()
}

/// The key of an account's document.
pub fn key(name: &str) -> String {
    format!("account/{}", lower(name))
}

/// Reads an account, by its name in any case. `None` for a name that breaks the rules.
pub async fn find(store: &dyn Store, name: &str) -> Result<Option<Kept<AccountDocument>>, DocumentError> {
    if check_name(name).is_err() {
        return Ok(None);
    }
    read(store, &key(name)).await
}

/// Makes an account, without its player's document; inserting decides who has the name.
///
/// `token`: random bits drawn once per request of a client. Asked again with the same token it gives the account that is
/// there, so a lost reply does no harm.
pub async fn create(
    store: &dyn Store,
    name: &str,
    password_hash: &str,
    player: u64,
    token: u64,
) -> Result<Kept<AccountDocument>, AccountError> {
    check_name(name)?;
    let document = AccountDocument {
        v: AccountDocument::VERSION,
        name: name.to_owned(),
        password_hash: password_hash.to_owned(),
        player,
        token,
        rest: Map::new(),
    };
    let (key, value) = (key(name), encode(&document)?);
    let mut attempts = Attempts::new();
    loop {
        match store.insert(&key, value.clone(), WriteOptions::default()).await {
            Ok(version) => return Ok(Kept { document, version }),
            Err(error) => attempts.after(error).await?,
        }
        match read::<AccountDocument>(store, &key).await {
            Ok(Some(kept)) if kept.document.token == token => return Ok(kept),
            Ok(Some(_)) => return Err(AccountError::Taken),
            Ok(None) => {}
            Err(error) => attempts.after_reading(error).await?,
        }
    }
}

/// Makes an account and its player. `draw` gives random bits for the player's id.
///
/// May be repeated with the same `token` after any error or crash, from any node.
pub async fn register(
    store: &dyn Store,
    name: &str,
    password_hash: &str,
    token: u64,
    birth: &Birth,
    mut draw: impl FnMut() -> u64 + Send,
) -> Result<Kept<AccountDocument>, AccountError> {
    let player = player::id_from_random(draw());
    let account = create(store, name, password_hash, player, token).await?;
    settle(store, account, birth, draw).await
}

/// Makes sure that the account's player exists, and gives the account as it is then.
///
/// For sign-in, when the player is missing because a registration stopped half-way. If the id that the account names
/// belongs to another account's player, the account gets another id.
pub async fn settle(
    store: &dyn Store,
    mut account: Kept<AccountDocument>,
    birth: &Birth,
    mut draw: impl FnMut() -> u64 + Send,
) -> Result<Kept<AccountDocument>, AccountError> {
    let key = key(&account.document.name);
    let holder = lower(&account.document.name);
    for _ in 0..DRAWS {
        match player::create(store, account.document.player, &holder, &account.document.name, birth).await {
            Ok(_) => return Ok(account),
            Err(PlayerError::Document(error)) => return Err(error.into()),
            // Nothing is owned here, so nothing is fenced: the id is taken.
            Err(PlayerError::IdTaken(_) | PlayerError::Fenced { .. }) => {}
        }
        let player = player::id_from_random(draw());
        account = rename_player(store, &key, account, player).await?;
    }
    Err(AccountError::NoId)
}

/// Swaps another player id into an account, unless somebody else has done so meanwhile: then theirs holds.
async fn rename_player(
    store: &dyn Store,
    key: &str,
    mut account: Kept<AccountDocument>,
    player: u64,
) -> Result<Kept<AccountDocument>, AccountError> {
    let taken = account.document.player;
    let mut attempts = Attempts::new();
    loop {
        account.document.player = player;
        match store.replace(key, encode(&account.document)?, account.version, WriteOptions::default()).await {
            Ok(version) => return Ok(Kept { version, ..account }),
            Err(error) => attempts.after(error).await?,
        }
        match read::<AccountDocument>(store, key).await {
            Ok(Some(kept)) if kept.document.player != taken => return Ok(kept),
            Ok(Some(kept)) => account = kept,
            Ok(None) => return Err(StoreError::NotFound.into()),
            Err(error) => attempts.after_reading(error).await?,
        }
    }
}

#[cfg(test)]
mod tests;
