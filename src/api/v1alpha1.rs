//! Served, never stored.
