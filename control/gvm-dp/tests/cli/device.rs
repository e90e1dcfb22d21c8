//! What a device is told when it is set up.

use crate::ending::plugin;
use crate::harness::Place;

/// Some devices drop packets of each VLAN that they were not told (virtio's in DPDK).
#[test]
fn a_device_is_told_the_vlans_of_its_port() {
    let place = Place::new();
    let port = "dpdk:net_stuck0,at=vlan,ip=192.0.2.1/24,vlans=0+11";
    let environment = [("GVM_DP_PLUGIN_DIR", &*plugin(&place))];
    let gateway = place.start_with(&environment, &["gateway", "--port", port, "--frames", "2048"]);
    gateway.says(&["dpdk:net_stuck0: VLAN 11 is refused"]);
    assert_eq!(gateway.wait(), Some(3));
}
