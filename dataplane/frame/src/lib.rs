//! Frames of a hugepage arena, peers, time, counters, and the Role trait.
