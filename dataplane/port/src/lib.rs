//! Where datagrams come from and go to: XDP queues, UDP sockets, memory.
