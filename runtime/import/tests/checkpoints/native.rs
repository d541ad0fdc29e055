//! Our own directories.
