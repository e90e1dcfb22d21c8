//! Both ends of HEARTBEAT: who is there, and where.
