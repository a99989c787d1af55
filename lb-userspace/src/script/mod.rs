//! The DataScript engine.
