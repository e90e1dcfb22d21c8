-- Wireshark and tshark: the records of GiantVM Frontier-X, as docs/wire-format.md has them.
--
-- Copy this file into the folder that Wireshark names under Help, About, Folders, "Personal Lua Plugins", or give it on the
-- command line: tshark -X lua_script:gvm.lua -r capture.pcapng
--
-- UDP port 9999 is always looked at; any other UDP datagram when it begins with the magic of a record.

local gvm = Proto("gvm", "GiantVM Frontier-X")

gvm.prefs.slave_bits = Pref.uint("Bits of a slave id", 17, "A slave id is valid below 2 to this power")
gvm.prefs.gw_bits = Pref.uint("Bits of a slave id inside one gateway", 13, "The shard is the slave id shifted right by this")
gvm.prefs.check_pattern = Pref.bool("Check the pattern of ECHO and PATTERN", true, "Compare each word with what was sent")

local HEADER = 23
local MAGIC = 0x47564D58
local RAW_MAGIC = "584d5647"

local TYPES = {
    [0x0001] = "HEARTBEAT", [0x0002] = "HEARTBEAT_ACK", [0x0003] = "MEMBERS", [0x0004] = "CONNECT",
    [0x0005] = "CONNECT_REPLY", [0x0006] = "DISCONNECT", [0x0010] = "ECHO", [0x0011] = "ECHO_REPLY",
    [0x0100] = "RC", [0x8001] = "PATTERN",
}
local ROLES = { [1] = "slave", [2] = "master" }
local SPEEDS = {
    [0] = "unknown", [1] = "below 100 Mbit/s", [2] = "100 Mbit/s", [3] = "1 Gbit/s", [4] = "2.5 Gbit/s", [5] = "5 Gbit/s",
    [6] = "10 Gbit/s", [7] = "25 Gbit/s", [8] = "40 Gbit/s", [9] = "50 Gbit/s", [10] = "100 Gbit/s", [11] = "200 Gbit/s",
    [12] = "400 Gbit/s", [13] = "800 Gbit/s",
}
local COOKIE_FAULTS = {
    [0] = "none", [1] = "no valid cookie", [2] = "expired", [3] = "older than the last heartbeat of another boot",
}
local STATES = { [1] = "here", [2] = "suspect", [3] = "gone" }
local LEASE_STATUS = {
    [0] = "granted", [1] = "COOKIE", [2] = "HELD", [3] = "EPOCH", [4] = "SESSION", [5] = "SECRET", [6] = "NO_ROOM",
    [7] = "LEAVING",
}
local LEASE_ENDS = { [1] = "the master needs it no more", [2] = "the slave stops lending" }
local LEASE_KEYS = { [0] = "connect key" }

local f = {
    -- One of each for every record.
    record = ProtoField.none("gvm.record", "Record"),
    magic = ProtoField.uint32("gvm.magic", "Magic", base.HEX),
    msg_type = ProtoField.uint16("gvm.msg_type", "Message type", base.HEX, TYPES),
    slave_id = ProtoField.uint32("gvm.slave_id", "Slave id", base.DEC),
    shard = ProtoField.uint32("gvm.shard", "Shard", base.DEC),
    lane = ProtoField.uint32("gvm.lane", "Lane", base.DEC),
    req_id = ProtoField.uint64("gvm.req_id", "Request id", base.HEX),
    master_id = ProtoField.uint16("gvm.master_id", "Master id", base.DEC),
    payload_len = ProtoField.uint32("gvm.payload_len", "Payload length", base.DEC),
    is_frag = ProtoField.uint8("gvm.is_frag", "Fragment bits", base.HEX),
    is_part = ProtoField.bool("gvm.is_frag.part", "Part of a larger message", 8, nil, 0x01),
    is_last = ProtoField.bool("gvm.is_frag.last", "Last part", 8, nil, 0x02),
    is_push = ProtoField.bool("gvm.is_frag.push", "PUSH: somebody waits for it", 8, nil, 0x04),
    payload = ProtoField.bytes("gvm.payload", "Payload"),
    -- Of the datagram.
    records = ProtoField.uint32("gvm.records", "Records in the datagram", base.DEC),
    link = ProtoField.bool("gvm.link", "Link control"),
    rest = ProtoField.bytes("gvm.rest", "No record"),
    -- Parts.
    part_offset = ProtoField.uint32("gvm.part.offset", "Offset in the message", base.DEC),
    part_total = ProtoField.uint32("gvm.part.total", "Bytes of the message", base.DEC),
    part_data = ProtoField.bytes("gvm.part.data", "Data"),
    -- Link control.
    tag = ProtoField.bytes("gvm.tag", "Tag"),
    signed = ProtoField.bool("gvm.signed", "Signed"),
    major = ProtoField.uint8("gvm.version.major", "Version, major", base.DEC),
    minor = ProtoField.uint8("gvm.version.minor", "Version, minor", base.DEC),
    role = ProtoField.uint8("gvm.role", "Role of the node", base.DEC, ROLES),
    node_id = ProtoField.uint32("gvm.node_id", "Id of the node", base.DEC),
    seq = ProtoField.uint64("gvm.seq", "Sequence", base.DEC),
    challenge = ProtoField.uint64("gvm.challenge", "Challenge", base.HEX),
    cookie = ProtoField.bytes("gvm.cookie", "Cookie"),
    domain = ProtoField.uint32("gvm.domain", "Failure domain", base.DEC),
    speed_class = ProtoField.uint8("gvm.speed_class", "Link speed", base.DEC, SPEEDS),
    pages_total = ProtoField.uint64("gvm.pages_total", "Memory lent, in 4 KiB pages", base.DEC),
    pages_free = ProtoField.uint64("gvm.pages_free", "Memory not leased, in 4 KiB pages", base.DEC),
    vcpus = ProtoField.uint16("gvm.vcpus", "Virtual CPUs", base.DEC),
    padding = ProtoField.bytes("gvm.padding", "Padding"),
    more = ProtoField.bytes("gvm.more", "Fields of a newer version"),
    hb_flags = ProtoField.uint8("gvm.heartbeat.flags", "Flags", base.HEX),
    hb_fixed = ProtoField.bool("gvm.heartbeat.flags.fixed_port", "FIXED_PORT: answer at my source port", 8, nil, 0x01),
    hb_padded = ProtoField.bool("gvm.heartbeat.flags.padded", "PADDED: a probe of the path's MTU", 8, nil, 0x02),
    hb_left = ProtoField.bool("gvm.heartbeat.flags.left", "LEFT: heard that the gateway drains", 8, nil, 0x04),
    hb_epoch = ProtoField.uint64("gvm.heartbeat.boot_epoch", "Boot epoch", base.HEX),
    hb_generation = ProtoField.uint64("gvm.heartbeat.members_generation", "Membership that the master has", base.DEC),
    hb_members_epoch = ProtoField.uint64("gvm.heartbeat.members_epoch", "Gateway epoch of that membership", base.HEX),
    hb_max = ProtoField.uint16("gvm.heartbeat.max_ip_packet", "Largest IP packet", base.DEC),
    ack_flags = ProtoField.uint8("gvm.ack.flags", "Flags", base.HEX),
    ack_draining = ProtoField.bool("gvm.ack.flags.draining", "DRAINING: the gateway is leaving", 8, nil, 0x01),
    ack_duplicate = ProtoField.bool("gvm.ack.flags.duplicate_id", "DUPLICATE_ID: alive at another address", 8, nil, 0x02),
    ack_registered = ProtoField.bool("gvm.ack.flags.registered", "REGISTERED: the node is a member", 8, nil, 0x04),
    ack_newer_key = ProtoField.bool("gvm.ack.flags.newer_key", "NEWER_KEY: the gateway has a newer key", 8, nil, 0x08),
    ack_lanes = ProtoField.bool("gvm.ack.flags.lanes", "LANES: cargo leaves from the ports of lanes", 8, nil, 0x10),
    ack_slave_bits = ProtoField.uint8("gvm.ack.slave_bits", "SLAVE_BITS", base.DEC),
    ack_gw_bits = ProtoField.uint8("gvm.ack.gw_bits", "GW_BITS", base.DEC),
    ack_mtu = ProtoField.uint16("gvm.ack.mtu", "Largest IP packet acknowledged", base.DEC),
    gateway_epoch = ProtoField.uint64("gvm.gateway_epoch", "Gateway epoch", base.HEX),
    ack_hold = ProtoField.uint32("gvm.ack.hold_ns", "Hold, in nanoseconds", base.DEC),
    ack_fault = ProtoField.uint8("gvm.ack.cookie_fault", "Fault of the cookie", base.DEC, COOKIE_FAULTS),
    ack_ranges = ProtoField.uint16("gvm.ack.range_count", "Ranges of shards", base.DEC),
    ack_first = ProtoField.uint32("gvm.ack.range.first", "First shard", base.DEC),
    ack_last = ProtoField.uint32("gvm.ack.range.last", "Last shard", base.DEC),
    mem_flags = ProtoField.uint8("gvm.members.flags", "Flags", base.HEX),
    mem_snapshot = ProtoField.bool("gvm.members.flags.snapshot", "SNAPSHOT: forget all others", 8, nil, 0x01),
    mem_count = ProtoField.uint16("gvm.members.count", "Entries", base.DEC),
    mem_size = ProtoField.uint16("gvm.members.entry_size", "Bytes of an entry", base.DEC),
    mem_from = ProtoField.uint64("gvm.members.from_generation", "From generation", base.DEC),
    mem_to = ProtoField.uint64("gvm.members.to_generation", "To generation", base.DEC),
    member = ProtoField.none("gvm.member", "Member"),
    member_id = ProtoField.uint32("gvm.member.id", "Slave id", base.DEC),
    member_state = ProtoField.uint8("gvm.member.state", "State", base.DEC, STATES),
    member_mtu = ProtoField.uint16("gvm.member.mtu", "Largest IP packet acknowledged", base.DEC),
    member_epoch = ProtoField.uint64("gvm.member.epoch", "Boot epoch", base.HEX),
    -- Leases: CONNECT, CONNECT_REPLY, DISCONNECT.
    lease_key = ProtoField.uint8("gvm.lease.key", "Signed with", base.DEC, LEASE_KEYS),
    lease_flags = ProtoField.uint8("gvm.lease.flags", "Flags", base.HEX),
    lease_resume = ProtoField.bool("gvm.lease.flags.resume", "RESUME: has the secret of a lease", 8, nil, 0x01),
    lease_answer = ProtoField.bool("gvm.lease.flags.answer", "ANSWER: confirms a DISCONNECT", 8, nil, 0x01),
    lease_status = ProtoField.uint8("gvm.lease.status", "Status", base.DEC, LEASE_STATUS),
    lease_reason = ProtoField.uint8("gvm.lease.reason", "Reason", base.DEC, LEASE_ENDS),
    lease_want = ProtoField.uint32("gvm.lease.want", "Units wanted in total", base.DEC),
    lease_free = ProtoField.uint32("gvm.lease.free", "Units that could be granted", base.DEC),
    slave_epoch = ProtoField.uint64("gvm.lease.slave_epoch", "Boot epoch of the slave", base.HEX),
    master_epoch = ProtoField.uint64("gvm.lease.master_epoch", "Epoch of the master", base.HEX),
    session = ProtoField.uint64("gvm.lease.session", "Session", base.HEX),
    lock = ProtoField.bytes("gvm.lease.lock", "Lock"),
    secret = ProtoField.bytes("gvm.lease.secret", "Secret"),
    reply_seq = ProtoField.uint64("gvm.lease.reply_seq", "Sequence of the answer", base.DEC),
    recall = ProtoField.uint32("gvm.lease.recall", "Units wanted back", base.DEC),
    recall_ms = ProtoField.uint32("gvm.lease.recall_ms", "Time left for that, in milliseconds", base.DEC),
    lease_ms = ProtoField.uint32("gvm.lease.lease_ms", "The lease lasts, in milliseconds", base.DEC),
    rkey = ProtoField.uint32("gvm.lease.rkey", "Key of the region", base.HEX),
    pair = ProtoField.none("gvm.lease.pair", "Queue pair"),
    pair_qpn = ProtoField.uint32("gvm.lease.pair.qpn", "Number", base.HEX),
    pair_psn = ProtoField.uint32("gvm.lease.pair.psn", "First PSN", base.HEX),
    pair_depth = ProtoField.uint8("gvm.lease.pair.read_depth", "READ depth", base.DEC),
    pair_rnr = ProtoField.uint8("gvm.lease.pair.rnr_timer", "RNR timer", base.DEC),
    path_mtu = ProtoField.uint16("gvm.lease.path_mtu", "Path MTU", base.DEC),
    units = ProtoField.bytes("gvm.lease.units", "Bitmap of units"),
    unit_count = ProtoField.uint32("gvm.lease.unit_count", "Units in the bitmap", base.DEC),
    -- ECHO, ECHO_REPLY, PATTERN.
    stamp = ProtoField.uint64("gvm.echo.stamp", "Stamp, in nanoseconds", base.DEC),
    sequence = ProtoField.uint64("gvm.echo.sequence", "Sequence", base.DEC),
    pattern = ProtoField.bytes("gvm.echo.pattern", "Pattern"),
    pattern_ok = ProtoField.bool("gvm.echo.pattern_ok", "The pattern is right"),
}
local fields = {}
for _, field in pairs(f) do
    fields[#fields + 1] = field
end
gvm.fields = fields

local function fault(name, text, group, severity)
    return ProtoExpert.new("gvm.bad." .. name, text, group, severity)
end
local MALFORMED, PROTOCOL = expert.group.MALFORMED, expert.group.PROTOCOL
local ERROR, WARN, NOTE = expert.severity.ERROR, expert.severity.WARN, expert.severity.NOTE
local e = {
    truncated = fault("truncated", "Bad record: fewer bytes than a header", MALFORMED, ERROR),
    magic = fault("magic", "Bad record: wrong magic", MALFORMED, ERROR),
    length = fault("length", "Bad record: payload_len past the end of the datagram", MALFORMED, ERROR),
    slave_id = fault("slave_id", "Bad record: slave id out of range of the scale", MALFORMED, ERROR),
    mixed = fault("mixed", "Link control and cargo share a datagram", PROTOCOL, WARN),
    short = fault("short", "The payload is shorter than its fields", MALFORMED, ERROR),
    version = fault("version", "Another major version: refused", PROTOCOL, WARN),
    node = fault("node", "Header and payload name different nodes", PROTOCOL, WARN),
    link_part = fault("link_part", "Link control is never in parts", PROTOCOL, WARN),
    lease_key = fault("lease_key", "Signed with an unknown kind of key: refused", PROTOCOL, WARN),
    bitmap = fault("bitmap", "A bitmap inside of other fields, or longer than 4,096 units", PROTOCOL, WARN),
    range = fault("range", "A range that ends before it begins, or past the number of shards", PROTOCOL, WARN),
    part_short = fault("part_short", "A part without data or without its prefix", MALFORMED, ERROR),
    part_end = fault("part_end", "A part that ends after the message", MALFORMED, ERROR),
    part_last = fault("part_last", "A part that is wrongly marked as the last, or wrongly not", MALFORMED, ERROR),
    pattern = fault("pattern", "The pattern is not what its sender wrote", PROTOCOL, WARN),
    cut = ProtoExpert.new("gvm.cut", "The capture ends here: see its snaplen", expert.group.UNDECODED, NOTE),
}
local experts = {}
for _, one in pairs(e) do
    experts[#experts + 1] = one
end
gvm.experts = experts

local function is_link(msg_type)
    return msg_type >= 1 and msg_type <= 3
end

local function type_name(msg_type)
    return TYPES[msg_type] or string.format("0x%04x", msg_type)
end

-- Tag and version, which link control and the messages of leases begin with. The version if the rest can be read: it has as many bytes as that of
-- its version has at least, `least`.
local function link_head(payload, tree, least)
    if payload:len() < 18 then
        tree:add_proto_expert_info(e.short)
        return nil
    end
    local tag = payload(0, 16)
    tree:add(f.tag, tag)
    tree:add(f.signed, tag, tag:bytes():tohex() ~= string.rep("0", 32)):set_generated()
    tree:add_le(f.major, payload(16, 1))
    tree:add_le(f.minor, payload(17, 1))
    local major = payload(16, 1):uint()
    if not least[major] then
        tree:add_proto_expert_info(e.version)
        return nil
    end
    if payload:len() < least[major] then
        tree:add_proto_expert_info(e.short)
        return nil
    end
    return major
end

-- A payload is read from its beginning to its end: `take(n)` gives its next `n` bytes.
local function reader(payload, at)
    return function(n)
        at = at + n
        return payload(at - n, n)
    end
end

local function check_node(tree, header, role, id)
    local as_slave = role == 1 and header.slave_id == id and header.req_id == UInt64(0)
    local as_master = role == 2 and header.slave_id == 0 and header.master_id == id
    if not as_slave and not as_master then
        tree:add_proto_expert_info(e.node)
    end
end

-- Bytes of a cookie, and below those of the payloads, by major version.
local COOKIE_LEN = { 8, 16 }
local HEARTBEAT_LEN = { 84, 128 }

local function heartbeat(payload, tree, header)
    local major = link_head(payload, tree, HEARTBEAT_LEN)
    if not major then
        return
    end
    tree:add_le(f.role, payload(18, 1))
    local flags = tree:add_le(f.hb_flags, payload(19, 1))
    flags:add_le(f.hb_fixed, payload(19, 1))
    flags:add_le(f.hb_padded, payload(19, 1))
    flags:add_le(f.hb_left, payload(19, 1))
    local take = reader(payload, 20)
    tree:add_le(f.node_id, take(4))
    tree:add_le(f.hb_epoch, take(8))
    tree:add_le(f.seq, take(8))
    if major == 2 then
        tree:add_le(f.challenge, take(8))
    end
    tree:add(f.cookie, take(COOKIE_LEN[major]))
    tree:add_le(f.hb_generation, take(8))
    tree:add_le(f.hb_members_epoch, take(8))
    tree:add_le(f.pages_total, take(8))
    tree:add_le(f.pages_free, take(8))
    if major == 2 then
        tree:add_le(f.domain, take(4))
    end
    tree:add_le(f.vcpus, take(2))
    tree:add_le(f.hb_max, take(2))
    if major == 2 then
        tree:add_le(f.speed_class, take(1))
    end
    local len = HEARTBEAT_LEN[major]
    if payload:len() > len then
        tree:add(f.padding, payload(len))
    end
    check_node(tree, header, payload(18, 1):uint(), payload(20, 4):le_uint())
end

local ACK_LEN = { 56, 88 }

local function heartbeat_ack(payload, tree, header)
    local major = link_head(payload, tree, ACK_LEN)
    if not major then
        return
    end
    local flags = tree:add_le(f.ack_flags, payload(18, 1))
    flags:add_le(f.ack_draining, payload(18, 1))
    flags:add_le(f.ack_duplicate, payload(18, 1))
    flags:add_le(f.ack_registered, payload(18, 1))
    flags:add_le(f.ack_newer_key, payload(18, 1))
    flags:add_le(f.ack_lanes, payload(18, 1))
    tree:add_le(f.ack_slave_bits, payload(19, 1))
    tree:add_le(f.ack_gw_bits, payload(20, 1))
    tree:add_le(f.role, payload(21, 1))
    tree:add_le(f.ack_mtu, payload(22, 2))
    local take = reader(payload, 24)
    tree:add_le(f.seq, take(8))
    if major == 2 then
        tree:add_le(f.challenge, take(8))
    end
    tree:add(f.cookie, take(COOKIE_LEN[major]))
    tree:add_le(f.gateway_epoch, take(8))
    tree:add_le(f.ack_hold, take(4))
    if major == 2 then
        tree:add_le(f.ack_fault, take(1))
        take(1)
    else
        take(2)
    end
    local ranges = take(2)
    tree:add_le(f.ack_ranges, ranges)
    local count, len = ranges:le_uint(), ACK_LEN[major]
    if count > 16 or payload:len() < len + 8 * count then
        return tree:add_proto_expert_info(e.short)
    end
    local shards = 2 ^ math.max(0, payload(19, 1):uint() - payload(20, 1):uint())
    for i = 0, count - 1 do
        local range = payload(len + 8 * i, 8)
        tree:add_le(f.ack_first, range(0, 4))
        local last = tree:add_le(f.ack_last, range(4, 4))
        if range(0, 4):le_uint() > range(4, 4):le_uint() or range(4, 4):le_uint() >= shards then
            last:add_proto_expert_info(e.range)
        end
    end
    if payload:len() > len + 8 * count then
        tree:add(f.more, payload(len + 8 * count))
    end
    local id = payload(21, 1):uint() == 2 and header.master_id or header.slave_id
    check_node(tree, header, payload(21, 1):uint(), id)
end

local MEMBERS_LEN = { 48, 64 }

local function members(payload, tree)
    local major = link_head(payload, tree, MEMBERS_LEN)
    if not major then
        return
    end
    tree:add_le(f.mem_flags, payload(18, 1)):add_le(f.mem_snapshot, payload(18, 1))
    tree:add_le(f.mem_count, payload(20, 2))
    tree:add_le(f.mem_size, payload(22, 2))
    local take = reader(payload, 24)
    if major == 2 then
        tree:add_le(f.challenge, take(8))
    end
    tree:add_le(f.gateway_epoch, take(8))
    tree:add_le(f.mem_from, take(8))
    tree:add_le(f.mem_to, take(8))
    local count, size, len = payload(20, 2):le_uint(), payload(22, 2):le_uint(), MEMBERS_LEN[major]
    if size < 40 or payload:len() < len + count * size then
        return tree:add_proto_expert_info(e.short)
    end
    for i = 0, count - 1 do
        local entry = payload(len + i * size, size)
        local state = STATES[entry(4, 1):uint()] or "unknown"
        local member = tree:add(f.member, entry)
        member:set_text(string.format("Slave %d: %s", entry(0, 4):le_uint(), state))
        member:add_le(f.member_id, entry(0, 4))
        member:add_le(f.member_state, entry(4, 1))
        member:add_le(f.member_mtu, entry(6, 2))
        member:add_le(f.vcpus, entry(8, 2))
        member:add_le(f.domain, entry(12, 4))
        member:add_le(f.speed_class, entry(5, 1))
        member:add_le(f.member_epoch, entry(16, 8))
        member:add_le(f.pages_total, entry(24, 8))
        member:add_le(f.pages_free, entry(32, 8))
        if size > 40 then
            member:add(f.more, entry(40))
        end
    end
end

-- The queue pairs and the bitmap at the end of a CONNECT (`len` bytes without the bitmap) or of its answer.
local function lease_tail(payload, tree, take, len)
    for _, name in ipairs({ "demand", "bulk" }) do
        local bytes = take(12)
        local pair = tree:add(f.pair, bytes)
        pair:set_text("Queue pair: " .. name)
        pair:add_le(f.pair_qpn, bytes(0, 4))
        pair:add_le(f.pair_psn, bytes(4, 4))
        pair:add_le(f.pair_depth, bytes(8, 1))
        pair:add_le(f.pair_rnr, bytes(9, 1))
    end
    tree:add_le(f.path_mtu, take(2))
    local at, bytes = take(2):le_uint(), take(2):le_uint()
    if at < len or bytes > 512 then
        return tree:add_proto_expert_info(e.bitmap)
    end
    if payload:len() < at + bytes then
        return tree:add_proto_expert_info(e.short)
    end
    local count = 0
    for i = at, at + bytes - 1 do
        local byte = payload(i, 1):uint()
        while byte > 0 do
            count = count + byte % 2
            byte = math.floor(byte / 2)
        end
    end
    local item = tree
    if bytes > 0 then
        item = tree:add(f.units, payload(at, bytes))
    end
    item:add(f.unit_count, count):set_generated()
    local over = math.max(at + bytes, len)
    if payload:len() > over then
        tree:add(f.more, payload(over))
    end
end

-- What the messages of leases begin with; false if the rest cannot be read.
local function lease_head(payload, tree, len)
    if not link_head(payload, tree, { len }) then
        return false
    end
    local key = tree:add_le(f.lease_key, payload(18, 1))
    if payload(18, 1):uint() ~= 0 then
        key:add_proto_expert_info(e.lease_key)
        return false
    end
    return true
end

local function connect(payload, tree)
    if not lease_head(payload, tree, 136) then
        return
    end
    tree:add_le(f.lease_flags, payload(19, 1)):add_le(f.lease_resume, payload(19, 1))
    local take = reader(payload, 20)
    tree:add_le(f.lease_want, take(4))
    tree:add_le(f.slave_epoch, take(8))
    tree:add_le(f.master_epoch, take(8))
    tree:add_le(f.seq, take(8))
    tree:add_le(f.session, take(8))
    tree:add(f.cookie, take(16))
    tree:add(f.lock, take(16))
    tree:add(f.secret, take(16))
    lease_tail(payload, tree, take, 136)
end

local function connect_reply(payload, tree)
    if not lease_head(payload, tree, 128) then
        return
    end
    tree:add_le(f.lease_status, payload(19, 1))
    local take = reader(payload, 20)
    tree:add_le(f.lease_free, take(4))
    tree:add_le(f.slave_epoch, take(8))
    tree:add_le(f.master_epoch, take(8))
    tree:add_le(f.seq, take(8))
    tree:add_le(f.session, take(8))
    tree:add(f.cookie, take(16))
    tree:add_le(f.reply_seq, take(8))
    tree:add_le(f.recall, take(4))
    tree:add_le(f.recall_ms, take(4))
    tree:add_le(f.lease_ms, take(4))
    tree:add_le(f.rkey, take(4))
    lease_tail(payload, tree, take, 128)
end

local function disconnect(payload, tree)
    if not lease_head(payload, tree, 48) then
        return
    end
    tree:add_le(f.lease_flags, payload(19, 1)):add_le(f.lease_answer, payload(19, 1))
    tree:add_le(f.role, payload(20, 1))
    tree:add_le(f.lease_reason, payload(21, 1))
    local take = reader(payload, 24)
    tree:add_le(f.slave_epoch, take(8))
    tree:add_le(f.master_epoch, take(8))
    tree:add_le(f.session, take(8))
    if payload:len() > 48 then
        tree:add(f.more, payload(48))
    end
end

-- Words of the pattern, modulo 2^64 as UInt64 is.
local START, STEP = UInt64(0x7F4A7C15, 0x9E3779B9), UInt64(0xD192ED03, 0xD1B54A32)

local function check_pattern(pattern, slave_id, sequence)
    local seed = UInt64(0, (slave_id * 256) % 2 ^ 32):bxor(sequence)
    local word = seed * START
    for at = 0, pattern:len() - 1, 8 do
        word = word + STEP
        local len = math.min(8, pattern:len() - at)
        if len == 8 then
            if pattern(at, 8):le_uint64() ~= word then
                return false
            end
        else
            for i = 0, len - 1 do
                if pattern(at + i, 1):uint() ~= word:rshift(8 * i):band(0xff):tonumber() then
                    return false
                end
            end
        end
    end
    return true
end

local function echo(payload, tree, header)
    if payload:len() < 16 then
        -- A PATTERN is an application's record: whoever else uses its type writes what it likes.
        if header.msg_type ~= 0x8001 then
            tree:add_proto_expert_info(e.short)
        end
        return
    end
    tree:add_le(f.stamp, payload(0, 8))
    tree:add_le(f.sequence, payload(8, 8))
    if payload:len() > 16 then
        local pattern = payload(16)
        tree:add(f.pattern, pattern)
        if gvm.prefs.check_pattern then
            local right = check_pattern(pattern, header.slave_id, payload(8, 8):le_uint64())
            local item = tree:add(f.pattern_ok, pattern, right)
            item:set_generated()
            if not right then
                item:add_proto_expert_info(e.pattern)
            end
        end
    end
end

local BODIES = {
    [0x0001] = heartbeat, [0x0002] = heartbeat_ack, [0x0003] = members,
    [0x0004] = connect, [0x0005] = connect_reply, [0x0006] = disconnect,
    [0x0010] = echo, [0x0011] = echo, [0x8001] = echo,
}

local function part(payload, tree, is_last)
    if payload:len() < 9 then
        return tree:add_proto_expert_info(e.part_short)
    end
    tree:add_le(f.part_offset, payload(0, 4))
    tree:add_le(f.part_total, payload(4, 4))
    tree:add(f.part_data, payload(8))
    local ends, total = payload(0, 4):le_uint() + payload:len() - 8, payload(4, 4):le_uint()
    if ends > total then
        tree:add_proto_expert_info(e.part_end)
    elseif (ends == total) ~= is_last then
        tree:add_proto_expert_info(e.part_last)
    end
end

-- One record at `offset`. Returns its length, or nothing when the rest is no record.
local function record(buf, offset, datagram_len, tree)
    local function bad(why)
        local item = tree
        if buf:len() > offset then
            item = tree:add(f.rest, buf(offset))
        end
        item:add_proto_expert_info(why)
    end
    if datagram_len - offset < HEADER then
        return bad(e.truncated)
    end
    if buf:len() - offset < HEADER then
        return bad(e.cut)
    end
    local head = buf(offset, HEADER)
    if head(0, 4):le_uint() ~= MAGIC then
        return bad(e.magic)
    end
    local len = head(18, 4):le_uint()
    if len > datagram_len - offset - HEADER then
        return bad(e.length)
    end
    local req_id = head(10, 8):le_uint64()
    local header = {
        msg_type = head(4, 2):le_uint(),
        slave_id = head(6, 4):le_uint(),
        req_id = req_id,
        master_id = req_id:rshift(48):tonumber(),
    }
    if header.slave_id >= 2 ^ gvm.prefs.slave_bits then
        return bad(e.slave_id)
    end
    local there = math.min(len, buf:len() - offset - HEADER)
    local name = type_name(header.msg_type)
    local who = string.format("slave %d", header.slave_id)
    if is_link(header.msg_type) and header.req_id ~= UInt64(0) then
        who = string.format("master %d", header.master_id)
    end
    local text = string.format("%s, %s, request 0x%s, %d bytes", name, who, req_id:tohex(), len)
    local item = tree:add(f.record, buf(offset, HEADER + there))
    item:set_text(text)
    item:add_le(f.magic, head(0, 4))
    item:add_le(f.msg_type, head(4, 2))
    item:add_le(f.slave_id, head(6, 4))
    item:add(f.shard, head(6, 4), math.floor(header.slave_id / 2 ^ gvm.prefs.gw_bits)):set_generated()
    item:add(f.lane, head(6, 4), header.slave_id % 1024):set_generated()
    item:add_le(f.req_id, head(10, 8))
    item:add_le(f.master_id, head(16, 2)):set_generated()
    item:add_le(f.payload_len, head(18, 4))
    local bits = head(22, 1):uint()
    local frag = item:add_le(f.is_frag, head(22, 1))
    frag:add_le(f.is_part, head(22, 1))
    frag:add_le(f.is_last, head(22, 1))
    frag:add_le(f.is_push, head(22, 1))
    if there < len then
        if there > 0 then
            item:add(f.payload, buf(offset + HEADER, there))
        end
        item:add_proto_expert_info(e.cut)
        return HEADER + len, header
    end
    local is_part = bits % 2 == 1
    if is_part and is_link(header.msg_type) then
        item:add_proto_expert_info(e.link_part)
    elseif is_part then
        local payload = len > 0 and buf(offset + HEADER, len):tvb() or ByteArray.new():tvb("no payload")
        part(payload, item, bits % 4 >= 2)
    elseif BODIES[header.msg_type] then
        if len > 0 then
            BODIES[header.msg_type](buf(offset + HEADER, len):tvb(), item, header)
        elseif header.msg_type ~= 0x8001 then
            item:add_proto_expert_info(e.short)
        end
    elseif len > 0 then
        item:add(f.payload, buf(offset + HEADER, len))
    end
    return HEADER + len, header
end

-- "HEARTBEAT x2, ECHO" in the order in which they came.
local function summary(names, counts)
    local parts = {}
    for _, name in ipairs(names) do
        parts[#parts + 1] = counts[name] > 1 and string.format("%s x%d", name, counts[name]) or name
    end
    return table.concat(parts, ", ")
end

function gvm.dissector(buf, pinfo, tree)
    local datagram_len = buf:reported_len()
    pinfo.cols.protocol = "GVM"
    local root = tree:add(gvm, buf())
    local offset, count, links = 0, 0, 0
    local names, counts, is_bad = {}, {}, false
    while offset < datagram_len do
        local len, header = record(buf, offset, datagram_len, root)
        if not len then
            is_bad = true
            break
        end
        local name = type_name(header.msg_type)
        if not counts[name] then
            names[#names + 1] = name
        end
        counts[name] = (counts[name] or 0) + 1
        links = links + (is_link(header.msg_type) and 1 or 0)
        offset, count = offset + len, count + 1
    end
    root:add(f.records, count):set_generated()
    root:add(f.link, links > 0):set_generated()
    if links > 0 and links < count then
        root:add_proto_expert_info(e.mixed)
    end
    local text = "no record"
    if count > 0 then
        text = string.format("%d %s: %s", count, count == 1 and "record" or "records", summary(names, counts))
        text = text .. (is_bad and ", and no record" or "")
    end
    root:append_text(", " .. text)
    pinfo.cols.info = text
    return buf:len()
end

DissectorTable.get("udp.port"):add(9999, gvm)

gvm:register_heuristic("udp", function(buf, pinfo, tree)
    if buf:len() < 4 or buf(0, 4):bytes():tohex(true) ~= RAW_MAGIC then
        return false
    end
    gvm.dissector(buf, pinfo, tree)
    return true
end)
