// The packets of a node: wdt_wire.h. Values go in and come out as dictionaries by the names of its field lists.
// wire.py checks what is written, so that std::invalid_argument here means a mistake in this package.
#include "bindings.h"

#include <cstring>
#include <stdexcept>
#include <vector>

#include "wdt_wire.h"

namespace {

using Pairs = nb::ndarray<const int8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>; // [A, K, 2]

#define GIVE_FIELD(name, type, offset) fields[#name] = from.name;
#define TAKE_FIELD(name, type, offset) into.name = nb::cast<wdt_wire_##type>(fields[#name]);

nb::dict fields_of(const wdt_wire_raw_csi &from) {
    nb::dict fields;
    WDT_WIRE_RAW_CSI_FIELDS(GIVE_FIELD)
    const size_t numbers = 2u * size_t{from.antennas} * from.subcarriers;
    fields["iq"] = owned(std::vector<int8_t>(from.iq, from.iq + numbers), {from.antennas, from.subcarriers, 2});
    return fields;
}

nb::dict fields_of(const wdt_wire_feature_state &from) {
    nb::dict fields;
    WDT_WIRE_FEATURE_STATE_FIELDS(GIVE_FIELD)
    return fields;
}

nb::dict fields_of(const wdt_wire_classification &from) {
    nb::dict fields;
    WDT_WIRE_CLASSIFICATION_FIELDS(GIVE_FIELD)
    return fields;
}

template <typename Packet, typename Parse> nb::tuple parse_as(Parse parse, wdt_wire_kind kind, Bytes bytes) {
    Packet packet;
    wdt_wire_clash clash{0, 0};
    const wdt_wire_status status = parse(bytes.data(), bytes.size(), &packet, &clash);
    const nb::object fields = status == WDT_WIRE_OK ? nb::object(fields_of(packet)) : nb::none();
    return nb::make_tuple(static_cast<int>(kind), status, fields, clash.found, clash.expected);
}

// (kind, status, fields or None, found, expected). Of a kind that is known and not read: OK without fields.
nb::tuple parse(Bytes bytes) {
    const wdt_wire_kind kind = wdt_wire_kind_of(bytes.data(), bytes.size());
    switch (kind) {
    case WDT_WIRE_raw_csi:
        return parse_as<wdt_wire_raw_csi>(wdt_wire_parse_raw_csi, kind, bytes);
    case WDT_WIRE_feature_state:
        return parse_as<wdt_wire_feature_state>(wdt_wire_parse_feature_state, kind, bytes);
    case WDT_WIRE_classification:
        return parse_as<wdt_wire_classification>(wdt_wire_parse_classification, kind, bytes);
    default:
        return nb::make_tuple(static_cast<int>(kind), WDT_WIRE_OK, nb::none(), 0, 0);
    }
}

nb::bytes write_raw_csi(const nb::dict &fields, Pairs iq) {
    wdt_wire_raw_csi into{};
    WDT_WIRE_RAW_CSI_FIELDS(TAKE_FIELD)
    const size_t length = wdt_wire_raw_csi_bytes(into.antennas, into.subcarriers);
    if (length == 0 || iq.shape(0) != into.antennas || iq.shape(1) != into.subcarriers || iq.shape(2) != 2) {
        throw std::invalid_argument("iq must be [antennas, subcarriers, 2], as the fields say");
    }
    into.iq = iq.data();
    std::vector<uint8_t> bytes(length);
    wdt_wire_write_raw_csi(&into, bytes.data());
    return nb::bytes(bytes.data(), bytes.size());
}

nb::bytes write_feature_state(const nb::dict &fields) {
    wdt_wire_feature_state into{};
    WDT_WIRE_FEATURE_STATE_FIELDS(TAKE_FIELD)
    uint8_t bytes[WDT_WIRE_FEATURE_STATE_BYTES];
    wdt_wire_write_feature_state(&into, bytes);
    return nb::bytes(bytes, sizeof bytes);
}

nb::bytes write_classification(const nb::dict &fields) {
    wdt_wire_classification into{};
    WDT_WIRE_CLASSIFICATION_FIELDS(TAKE_FIELD)
    uint8_t bytes[WDT_WIRE_CLASSIFICATION_BYTES];
    wdt_wire_write_classification(&into, bytes);
    return nb::bytes(bytes, sizeof bytes);
}

// Names, types and offsets, for messages, ranges and the documentation's tables.
nb::dict field_lists() {
    nb::dict lists;
#define LIST_FIELD(name, type, offset) list.append(nb::make_tuple(#name, #type, offset));
#define LIST_FIELDS(packet, FIELDS) \
    {                               \
        nb::list list;              \
        FIELDS(LIST_FIELD)          \
        lists[packet] = list;       \
    }
    LIST_FIELDS("raw_csi", WDT_WIRE_RAW_CSI_FIELDS)
    LIST_FIELDS("feature_state", WDT_WIRE_FEATURE_STATE_FIELDS)
    LIST_FIELDS("classification", WDT_WIRE_CLASSIFICATION_FIELDS)
    return lists;
}

} // namespace

void bind_wire(nb::module_ &m) {
    nb::enum_<wdt_wire_status>(m, "WireStatus", nb::is_arithmetic())
        .value("OK", WDT_WIRE_OK)
        .value("TOO_SHORT", WDT_WIRE_E_TOO_SHORT)
        .value("MAGIC", WDT_WIRE_E_MAGIC)
        .value("VERSION", WDT_WIRE_E_VERSION)
        .value("ANTENNAS", WDT_WIRE_E_ANTENNAS)
        .value("SUBCARRIERS", WDT_WIRE_E_SUBCARRIERS)
        .value("LENGTH", WDT_WIRE_E_LENGTH)
        .value("CRC", WDT_WIRE_E_CRC)
        .value("RESERVED", WDT_WIRE_E_RESERVED)
        .value("NON_FINITE", WDT_WIRE_E_NON_FINITE)
        .value("CLASSES", WDT_WIRE_E_CLASSES)
        .value("ARGMAX", WDT_WIRE_E_ARGMAX)
        .value("MARGIN", WDT_WIRE_E_MARGIN);
    m.def("parse_packet", &parse);
    m.def("write_raw_csi", &write_raw_csi);
    m.def("write_feature_state", &write_feature_state);
    m.def("write_classification", &write_classification);

    nb::dict kinds; // name: number
#define KIND_ENTRY(name, number) kinds[#name] = number;
    WDT_WIRE_KINDS(KIND_ENTRY)
    m.attr("WIRE_KINDS") = kinds;
    m.attr("WIRE_FIELDS") = field_lists();
    m.attr("WIRE_MAGIC") = WDT_WIRE_MAGIC;
    m.attr("WIRE_MAX_SUBCARRIERS") = WDT_WIRE_MAX_SUBCARRIERS;
    m.attr("WIRE_DEFAULT_PORT") = WDT_WIRE_DEFAULT_PORT;
}
