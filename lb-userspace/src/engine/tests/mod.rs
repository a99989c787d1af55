//! Whole flows through the engine.
