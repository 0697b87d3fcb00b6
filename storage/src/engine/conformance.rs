//! What every engine and disk does.
