//! Devices as a whole: called by the host's device thread.

use crate::library::{outcome, reason};
use dpdk_sys::{shim_device, shim_setup, shim_stats};
use port_abi::{Device, DeviceCounts, Name, Setup, Text};
use std::ffi::{c_char, c_void};

pub(crate) unsafe extern "C" fn open(
    arguments: *const c_char,
    name: *const c_char,
    device: *mut Device,
    text: *mut Text,
) -> i32 {
    let mut id = 0;
    // SAFETY: the host's texts end with a zero.
    let result = unsafe { dpdk_sys::shim_probe(arguments, name, &raw mut id) };
    if result != 0 {
        // SAFETY: the host's text.
        // SAFETY: the host's text.
        if let Some(text) = unsafe { text.as_mut() } {
            text.set(&unusable(result));
        }
        return result;
    }
    let mut found = shim_device::default();
    // SAFETY: a live structure of the shim's.
    let result = unsafe { dpdk_sys::shim_look(id, &raw mut found) };
    if result == 0
        // SAFETY: the host's structure.
        && let Some(device) = unsafe { device.as_mut() }
    {
        let mut driver = Name::default();
        for (to, from) in driver.0.iter_mut().zip(found.driver) {
            *to = from as u8;
        }
        *device = Device {
            id,
            max_rx_queues: found.max_rx_queues,
            max_tx_queues: found.max_tx_queues,
            min_rx_descriptors: found.min_rx_descriptors,
            max_rx_descriptors: found.max_rx_descriptors,
            min_tx_descriptors: found.min_tx_descriptors,
            max_tx_descriptors: found.max_tx_descriptors,
            mtu: found.mtu,
            min_mtu: found.min_mtu,
            max_mtu: found.max_mtu,
            node: found.node,
            mac: found.mac,
            rx_checksums: found.rx_checksums,
            tx_checksums: found.tx_checksums,
            rss: found.rss,
            copies: found.copies,
            driver,
        };
    }
    // SAFETY: the host's text.
    unsafe { outcome(result, "it does not say what it is", text) }
}

/// Why a device cannot be used. For an unknown name DPDK returns the error of a bad pointer, and for arguments that a
/// driver does not know that of a bad value: neither helps the person who wrote them.
fn unusable(result: i32) -> String {
    match result.abs() {
        EFAULT | ENODEV | ENOENT => "no driver takes it: DPDK has no driver for a device of this name".to_owned(),
        EINVAL => "no driver takes it: its driver refuses the arguments".to_owned(),
        _ => format!("no driver takes it: {}", reason(result)),
    }
}

const ENOENT: i32 = 2;
const EFAULT: i32 = 14;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

pub(crate) unsafe extern "C" fn configure(device: u16, setup: *const Setup, text: *mut Text) -> i32 {
    // SAFETY: the host's structure.
    let Some(setup) = (unsafe { setup.as_ref() }) else { return -22 };
    let setup = shim_setup {
        queues: setup.queues,
        mtu: setup.mtu,
        rx_checksums: setup.rx_checksums,
        tx_checksums: setup.tx_checksums,
        rss: setup.rss,
    };
    // SAFETY: a live structure.
    let result = unsafe { dpdk_sys::shim_configure(device, &raw const setup) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "it cannot be set up", text) }
}

pub(crate) unsafe extern "C" fn steer_lanes(device: u16, port: u16, values: u16, queues: u16, text: *mut Text) -> i32 {
    // SAFETY: plain numbers.
    let result = unsafe { dpdk_sys::shim_steer_lanes(device, port, values, queues) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "no rules on UDP source ports", text) }
}

pub(crate) unsafe extern "C" fn steer_ports(device: u16, first: u16, queues: u16, text: *mut Text) -> i32 {
    // SAFETY: plain numbers.
    let result = unsafe { dpdk_sys::shim_steer_ports(device, first, queues) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "no rules on UDP destination ports", text) }
}

pub(crate) unsafe extern "C" fn start(device: u16, text: *mut Text) -> i32 {
    // SAFETY: a plain number.
    let result = unsafe { dpdk_sys::shim_start(device) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "it does not start", text) }
}

pub(crate) unsafe extern "C" fn take_vlan(device: u16, vlan: u16, text: *mut Text) -> i32 {
    // SAFETY: plain numbers.
    let result = unsafe { dpdk_sys::shim_take_vlan(device, vlan) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "its own filter does not take a VLAN", text) }
}

pub(crate) unsafe extern "C" fn close(device: u16, text: *mut Text) -> i32 {
    // SAFETY: a plain number.
    let result = unsafe { dpdk_sys::shim_close(device) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "it does not close", text) }
}

pub(crate) unsafe extern "C" fn link(device: u16, mbits: *mut u32) -> i32 {
    // SAFETY: the host's number.
    unsafe { dpdk_sys::shim_link(device, mbits) }
}

pub(crate) unsafe extern "C" fn counts(device: u16, counts: *mut DeviceCounts) -> i32 {
    let mut stats = shim_stats::default();
    // SAFETY: a live structure.
    let result = unsafe { dpdk_sys::shim_stats(device, &raw mut stats) };
    // SAFETY: the host's structure.
    if let (0, Some(counts)) = (result, unsafe { counts.as_mut() }) {
        *counts = DeviceCounts {
            missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            no_buffer: stats.rx_nombuf,
        };
    }
    result
}

pub(crate) unsafe extern "C" fn each_counter(
    device: u16,
    visit: extern "C" fn(*mut c_void, *const c_char, u64),
    context: *mut c_void,
) -> i32 {
    // SAFETY: the host's function and context.
    unsafe { dpdk_sys::shim_xstats(device, Some(visit), context) }
}
