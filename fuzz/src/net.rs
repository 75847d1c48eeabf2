//! What the network plane hears before it knows anybody.

/// HTTP requests of clients that want to pair or to launch.
pub fn http(bytes: &[u8]) {
    if lumen_net::fuzz::http(bytes) {
        assert!(bytes.starts_with(b"GET ") || bytes.trim_ascii_start().starts_with(b"GET "));
    }
}

/// What a client shows in TLS, or brings to be paired.
pub fn certificate(bytes: &[u8]) {
    lumen_net::fuzz::certificate(bytes);
}

/// Datagrams for the control stream's port.
pub fn enet(bytes: &[u8]) {
    lumen_net::fuzz::enet(crate::pieces(bytes));
}

/// Datagrams for mDNS.
pub fn mdns(bytes: &[u8]) {
    lumen_net::fuzz::mdns(crate::pieces(bytes));
}
