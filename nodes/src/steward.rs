//! The steward: a duty of whichever node wins the directory's election. It keeps islands in step with the players.
