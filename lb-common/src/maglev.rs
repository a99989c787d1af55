//! Maglev consistent hashing (D. Eisenbud et al., "Maglev", NSDI 2016, §3.4).
