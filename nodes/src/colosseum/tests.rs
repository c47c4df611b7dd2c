//! local stand-in
