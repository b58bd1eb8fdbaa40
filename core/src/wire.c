/* Packets of a node, one section a kind. The field lists of wdt_wire.h are all that knows where a field lies. */
#include "wdt_wire.h"

#include <string.h>

#include "half.h"
#include "wdt_rvne.h"

/* -------------------------------------------------------------------------------------------- numbers, byte by byte */

static uint64_t read_bytes(const uint8_t *at, unsigned count)
{
    uint64_t value = 0;
    while (count-- > 0) {
        value = value << 8 | at[count];
    }
    return value;
}

static void write_bytes(uint8_t *at, unsigned count, uint64_t value)
{
    for (unsigned j = 0; j < count; j++, value >>= 8) {
        at[j] = (uint8_t)(value & 0xFFu);
    }
}

static uint8_t read_u8(const uint8_t *at) { return at[0]; }
static uint16_t read_u16(const uint8_t *at) { return (uint16_t)read_bytes(at, 2); }
static uint32_t read_u32(const uint8_t *at) { return (uint32_t)read_bytes(at, 4); }
static uint64_t read_u64(const uint8_t *at) { return read_bytes(at, 8); }

static int8_t read_i8(const uint8_t *at)
{
    int8_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static float read_f32(const uint8_t *at) { return wdt_bits_float(read_u32(at)); }

static void write_u8(uint8_t *at, uint8_t value) { at[0] = value; }
static void write_u16(uint8_t *at, uint16_t value) { write_bytes(at, 2, value); }
static void write_u32(uint8_t *at, uint32_t value) { write_bytes(at, 4, value); }
static void write_u64(uint8_t *at, uint64_t value) { write_bytes(at, 8, value); }
static void write_i8(uint8_t *at, int8_t value) { memcpy(at, &value, sizeof value); }
static void write_f32(uint8_t *at, float value) { write_u32(at, wdt_float_bits(value)); }

/* For the field lists: a packet's bytes into the struct `into`, and the struct `from` into bytes. */
#define READ_FIELD(name, type, offset) into.name = read_##type(bytes + (offset));
#define WRITE_FIELD(name, type, offset) write_##type(bytes + (offset), from->name);

/* ----------------------------------------------------------------------------------------- what the packets share */

wdt_wire_kind wdt_wire_kind_of(const uint8_t *bytes, size_t length)
{
    if (length < WDT_WIRE_MAGIC_BYTES) {
        return WDT_WIRE_unknown;
    }
    switch (read_u32(bytes) - WDT_WIRE_MAGIC) {
#define KIND_CASE(name, number) \
    case number:                \
        return WDT_WIRE_##name;
        WDT_WIRE_KINDS(KIND_CASE)
    default:
        return WDT_WIRE_unknown;
    }
}

static wdt_wire_status refuse(wdt_wire_clash *clash, wdt_wire_status status, size_t found, size_t expected)
{
    if (clash != NULL) {
        clash->found = found > UINT32_MAX ? UINT32_MAX : (uint32_t)found;
        clash->expected = (uint32_t)expected;
    }
    return status;
}

/* The first checks of every packet. */
static wdt_wire_status check_opening(const uint8_t *bytes, size_t length, size_t least, wdt_wire_kind kind,
                                     wdt_wire_clash *clash)
{
    if (length < least) {
        return refuse(clash, WDT_WIRE_E_TOO_SHORT, length, least);
    }
    const uint32_t magic = WDT_WIRE_MAGIC + (uint32_t)kind;
    return read_u32(bytes) == magic ? WDT_WIRE_OK : refuse(clash, WDT_WIRE_E_MAGIC, read_u32(bytes), magic);
}

static uint32_t crc_of(const uint8_t *bytes, size_t length) { return wdt_crc32(0, bytes, length - WDT_WIRE_CRC_BYTES); }

/* Of a packet with a checksum: its length, then the checksum. */
static wdt_wire_status check_whole(const uint8_t *bytes, size_t length, size_t expected, wdt_wire_clash *clash)
{
    if (length != expected) {
        return refuse(clash, WDT_WIRE_E_LENGTH, length, expected);
    }
    const uint32_t stated = read_u32(bytes + length - WDT_WIRE_CRC_BYTES), crc = crc_of(bytes, length);
    return stated == crc ? WDT_WIRE_OK : refuse(clash, WDT_WIRE_E_CRC, stated, crc);
}

static wdt_wire_status check_reserved(const uint8_t *bytes, size_t start, size_t count, wdt_wire_clash *clash)
{
    for (size_t at = start; at < start + count; at++) {
        if (bytes[at] != 0) {
            return refuse(clash, WDT_WIRE_E_RESERVED, at, 0);
        }
    }
    return WDT_WIRE_OK;
}

/* For the field lists: the numbers of `into` that are floats, looked at in their order. */
#define FINITE_u8(value) 1
#define FINITE_u16(value) 1
#define FINITE_u32(value) 1
#define FINITE_u64(value) 1
#define FINITE_f32(value) ((wdt_float_bits(value) & 0x7F800000u) != 0x7F800000u)
#define CHECK_FINITE(name, type, offset)                          \
    if (!FINITE_##type(into.name)) {                              \
        return refuse(clash, WDT_WIRE_E_NON_FINITE, (offset), 0); \
    }

static void write_magic(uint8_t *bytes, wdt_wire_kind kind) { write_u32(bytes, WDT_WIRE_MAGIC + (uint32_t)kind); }

static void write_crc(uint8_t *bytes, size_t length)
{
    write_u32(bytes + length - WDT_WIRE_CRC_BYTES, crc_of(bytes, length));
}

/* --------------------------------------------------------------------------------------------- 0xC5110001, raw CSI */

/* Below this a frequency is in MHz, from it on in Hz: WiFi's channels lie from 900 MHz to 7200 MHz, so that no
 * frequency is near it in either unit. */
#define LEAST_HZ 1000000u

static uint32_t to_mhz(uint32_t frequency)
{
    return frequency < LEAST_HZ ? frequency : frequency / 1000000u + (frequency % 1000000u >= 500000u ? 1u : 0u);
}

size_t wdt_wire_raw_csi_bytes(uint32_t antennas, uint32_t subcarriers)
{
    if (antennas < 1 || antennas > UINT8_MAX || subcarriers < 1 || subcarriers > WDT_WIRE_MAX_SUBCARRIERS) {
        return 0;
    }
    return WDT_WIRE_RAW_CSI_HEADER_BYTES + 2u * (size_t)antennas * subcarriers;
}

wdt_wire_status wdt_wire_parse_raw_csi(const uint8_t *bytes, size_t length, wdt_wire_raw_csi *csi,
                                       wdt_wire_clash *clash)
{
    wdt_wire_raw_csi into;
    const wdt_wire_status status =
        check_opening(bytes, length, WDT_WIRE_RAW_CSI_HEADER_BYTES, WDT_WIRE_raw_csi, clash);
    if (status != WDT_WIRE_OK) {
        return status;
    }
    WDT_WIRE_RAW_CSI_FIELDS(READ_FIELD)
    if (into.antennas == 0) {
        return refuse(clash, WDT_WIRE_E_ANTENNAS, 0, 1);
    }
    const size_t expected = wdt_wire_raw_csi_bytes(into.antennas, into.subcarriers);
    if (expected == 0) {
        return refuse(clash, WDT_WIRE_E_SUBCARRIERS, into.subcarriers, WDT_WIRE_MAX_SUBCARRIERS);
    }
    if (length != expected) {
        return refuse(clash, WDT_WIRE_E_LENGTH, length, expected);
    }
    into.frequency_mhz = to_mhz(into.frequency_mhz);
    into.iq = (const int8_t *)(bytes + WDT_WIRE_RAW_CSI_HEADER_BYTES);
    *csi = into;
    return WDT_WIRE_OK;
}

void wdt_wire_write_raw_csi(const wdt_wire_raw_csi *from, uint8_t *bytes)
{
    memset(bytes, 0, WDT_WIRE_RAW_CSI_HEADER_BYTES);
    write_magic(bytes, WDT_WIRE_raw_csi);
    WDT_WIRE_RAW_CSI_FIELDS(WRITE_FIELD)
    memcpy(bytes + WDT_WIRE_RAW_CSI_HEADER_BYTES, from->iq, 2u * (size_t)from->antennas * from->subcarriers);
}

/* --------------------------------------------------------------------------------------- 0xC5110006, feature state */

wdt_wire_status wdt_wire_parse_feature_state(const uint8_t *bytes, size_t length, wdt_wire_feature_state *state,
                                             wdt_wire_clash *clash)
{
    wdt_wire_feature_state into;
    wdt_wire_status status =
        check_opening(bytes, length, WDT_WIRE_FEATURE_STATE_BYTES, WDT_WIRE_feature_state, clash);
    if (status == WDT_WIRE_OK) {
        status = check_whole(bytes, length, WDT_WIRE_FEATURE_STATE_BYTES, clash);
    }
    if (status == WDT_WIRE_OK) {
        status = check_reserved(bytes, WDT_WIRE_FEATURE_STATE_RESERVED, 2, clash);
    }
    if (status != WDT_WIRE_OK) {
        return status;
    }
    WDT_WIRE_FEATURE_STATE_FIELDS(READ_FIELD)
    WDT_WIRE_FEATURE_STATE_FIELDS(CHECK_FINITE)
    *state = into;
    return WDT_WIRE_OK;
}

void wdt_wire_write_feature_state(const wdt_wire_feature_state *from, uint8_t bytes[WDT_WIRE_FEATURE_STATE_BYTES])
{
    memset(bytes, 0, WDT_WIRE_FEATURE_STATE_BYTES);
    write_magic(bytes, WDT_WIRE_feature_state);
    WDT_WIRE_FEATURE_STATE_FIELDS(WRITE_FIELD)
    write_crc(bytes, WDT_WIRE_FEATURE_STATE_BYTES);
}

/* -------------------------------------------------------------------------------------- 0xC5110007, classification */

/* Whether the numbers are those of a model's answer. */
static wdt_wire_status check_answer(const wdt_wire_classification *answer, wdt_wire_clash *clash)
{
    const wdt_wire_classification into = *answer;
    WDT_WIRE_CLASSIFICATION_FIELDS(CHECK_FINITE)
    if (into.n_classes < 2) {
        return refuse(clash, WDT_WIRE_E_CLASSES, into.n_classes, 2);
    }
    if (into.argmax >= into.n_classes) {
        return refuse(clash, WDT_WIRE_E_ARGMAX, into.argmax, into.n_classes);
    }
    return into.top1_minus_top2 >= 0.0f ? WDT_WIRE_OK : refuse(clash, WDT_WIRE_E_MARGIN, 0, 0);
}

wdt_wire_status wdt_wire_parse_classification(const uint8_t *bytes, size_t length, wdt_wire_classification *result,
                                              wdt_wire_clash *clash)
{
    wdt_wire_classification into;
    wdt_wire_status status =
        check_opening(bytes, length, WDT_WIRE_CLASSIFICATION_BYTES, WDT_WIRE_classification, clash);
    if (status != WDT_WIRE_OK) {
        return status;
    }
    const uint16_t version = read_u16(bytes + WDT_WIRE_CLASSIFICATION_VERSION_AT);
    if (version != WDT_WIRE_CLASSIFICATION_VERSION) {
        return refuse(clash, WDT_WIRE_E_VERSION, version, WDT_WIRE_CLASSIFICATION_VERSION);
    }
    status = check_whole(bytes, length, WDT_WIRE_CLASSIFICATION_BYTES, clash);
    if (status == WDT_WIRE_OK) {
        status = check_reserved(bytes, WDT_WIRE_CLASSIFICATION_RESERVED, 3, clash);
    }
    if (status == WDT_WIRE_OK) {
        status = check_reserved(bytes, WDT_WIRE_CLASSIFICATION_RESERVED_TOO, 3, clash);
    }
    if (status == WDT_WIRE_OK) {
        WDT_WIRE_CLASSIFICATION_FIELDS(READ_FIELD)
        status = check_answer(&into, clash);
    }
    if (status == WDT_WIRE_OK) {
        *result = into;
    }
    return status;
}

void wdt_wire_write_classification(const wdt_wire_classification *from, uint8_t bytes[WDT_WIRE_CLASSIFICATION_BYTES])
{
    memset(bytes, 0, WDT_WIRE_CLASSIFICATION_BYTES);
    write_magic(bytes, WDT_WIRE_classification);
    write_u16(bytes + WDT_WIRE_CLASSIFICATION_VERSION_AT, WDT_WIRE_CLASSIFICATION_VERSION);
    WDT_WIRE_CLASSIFICATION_FIELDS(WRITE_FIELD)
    write_crc(bytes, WDT_WIRE_CLASSIFICATION_BYTES);
}

wdt_wire_classification wdt_wire_decide(const float *logits, uint32_t classes)
{
    uint32_t best = 0, second = 1;
    for (uint32_t c = 1; c < classes; c++) {
        if (logits[c] > logits[best]) {
            second = best;
            best = c;
        } else if (c != second && logits[c] > logits[second]) {
            second = c;
        }
    }
    return (wdt_wire_classification){
        .n_classes = (uint16_t)classes,
        .argmax = (uint8_t)best,
        .top_logit = logits[best],
        .top1_minus_top2 = logits[best] - logits[second],
    };
}
