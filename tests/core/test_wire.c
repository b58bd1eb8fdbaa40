/* The packets from buffers of exactly their own size: literal bytes, every truncation, mutations that are sealed again.
 * Which refusal each cause has, and every field's place, is tested from Python. */
#include "wdt_wire.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "draw.h"
#include "wdt_rvne.h"

enum { MOST = 256 };

typedef struct any_packet {
    wdt_wire_raw_csi csi;
    wdt_wire_feature_state state;
    wdt_wire_classification result;
} any_packet;

static wdt_wire_status parse(wdt_wire_kind kind, const uint8_t *bytes, size_t length, any_packet *packet,
                             wdt_wire_clash *clash)
{
    switch (kind) {
    case WDT_WIRE_raw_csi:
        return wdt_wire_parse_raw_csi(bytes, length, &packet->csi, clash);
    case WDT_WIRE_feature_state:
        return wdt_wire_parse_feature_state(bytes, length, &packet->state, clash);
    default:
        return wdt_wire_parse_classification(bytes, length, &packet->result, clash);
    }
}

/* Writes what was parsed, and returns the length. */
static size_t write(wdt_wire_kind kind, const any_packet *packet, uint8_t *bytes)
{
    switch (kind) {
    case WDT_WIRE_raw_csi:
        wdt_wire_write_raw_csi(&packet->csi, bytes);
        return wdt_wire_raw_csi_bytes(packet->csi.antennas, packet->csi.subcarriers);
    case WDT_WIRE_feature_state:
        wdt_wire_write_feature_state(&packet->state, bytes);
        return WDT_WIRE_FEATURE_STATE_BYTES;
    default:
        wdt_wire_write_classification(&packet->result, bytes);
        return WDT_WIRE_CLASSIFICATION_BYTES;
    }
}

/* From memory of exactly that length, at an odd address. A packet that is taken is written again as it came, but for
 * what a reader leaves out: the frequency's unit and the reserved bytes of raw CSI. */
static wdt_wire_status parse_copy(wdt_wire_kind kind, const uint8_t *bytes, size_t length)
{
    uint8_t *const exact = malloc(length + 1), again[MOST];
    CHECK(exact != NULL);
    memcpy(exact + 1, bytes, length);
    any_packet packet;
    const wdt_wire_status status = parse(kind, exact + 1, length, &packet, NULL);
    if (status == WDT_WIRE_OK) {
        CHECK(write(kind, &packet, again) == length);
        if (kind == WDT_WIRE_raw_csi) {
            memcpy(again + 8, bytes + 8, 4);
            memcpy(again + 18, bytes + 18, 2);
        }
        CHECK(memcmp(again, bytes, length) == 0);
    }
    free(exact);
    return status;
}

static void seal(uint8_t *bytes, size_t length)
{
    const uint32_t crc = wdt_crc32(0, bytes, length - WDT_WIRE_CRC_BYTES);
    for (int b = 0; b < 4; b++) {
        bytes[length - 4 + (size_t)b] = (uint8_t)(crc >> 8 * b);
    }
}

/* Of each kind one packet that is taken, and its length. */
static size_t make(wdt_wire_kind kind, uint8_t *bytes)
{
    static const int8_t iq[2 * 3 * 2] = {1, -2, 3, -128, 127, 0, 5, 6, -7, 8, 9, -10};
    const any_packet packet = {
        {.node_id = 7, .antennas = 2, .subcarriers = 3, .frequency_mhz = 2437, .seq = 9, .rssi_dbm = -40, .iq = iq},
        {.node_id = 7, .mode = 1, .seq = 2, .ts_us = 3, .motion_score = 0.5f, .quality_flags = 4},
        {.n_classes = 4, .node_id = 7, .ts_us = 1, .seq = 2, .argmax = 3, .top_logit = 1.5f, .top1_minus_top2 = 0.25f},
    };
    return write(kind, &packet, bytes);
}

static void literal_bytes(void)
{
    static const uint8_t written[WDT_WIRE_CLASSIFICATION_BYTES] = {
        0x07, 0x00, 0x11, 0xC5, 0x01, 0x00, 0x04, 0x00, 0x05, 0x00, 0x00, 0x00, 0x08, 0x07,
        0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0xDD, 0xCC, 0xBB, 0xAA, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x00, 0xC0, 0x3F, 0x00, 0x00, 0x80, 0x3E, 0xE7, 0xC9, 0x4C, 0x76, /* zlib's crc32 of the 36 before it */
    };
    const wdt_wire_classification result = {4, 5, 0x0102030405060708u, 0xAABBCCDDu, 2, 1.5f, 0.25f};
    uint8_t bytes[WDT_WIRE_CLASSIFICATION_BYTES];
    wdt_wire_write_classification(&result, bytes);
    CHECK(memcmp(bytes, written, sizeof written) == 0);
}

static void a_refusal_changes_nothing(void)
{
    const wdt_wire_kind kinds[] = {WDT_WIRE_raw_csi, WDT_WIRE_feature_state, WDT_WIRE_classification};
    for (int k = 0; k < 3; k++) {
        uint8_t bytes[MOST];
        any_packet packet, before;
        memset(&packet, 0xA5, sizeof packet);
        memcpy(&before, &packet, sizeof packet);
        const size_t length = make(kinds[k], bytes);
        wdt_wire_clash clash = {0, 0};
        CHECK(parse(kinds[k], bytes, length - 1, &packet, &clash) != WDT_WIRE_OK);
        CHECK(clash.found == length - 1 && clash.expected == length);
        CHECK(memcmp(&packet, &before, sizeof packet) == 0);
    }
}

static void every_length(wdt_wire_kind kind)
{
    uint8_t bytes[MOST] = {0};
    const size_t good = make(kind, bytes), least = kind == WDT_WIRE_raw_csi ? WDT_WIRE_RAW_CSI_HEADER_BYTES : good;
    for (size_t length = 0; length <= good + 2; length++) {
        const wdt_wire_status expected = length == good  ? WDT_WIRE_OK
                                         : length < least ? WDT_WIRE_E_TOO_SHORT
                                                          : WDT_WIRE_E_LENGTH;
        CHECK(parse_copy(kind, bytes, length) == expected);
        CHECK(wdt_wire_kind_of(bytes, length) == (length < 4 ? WDT_WIRE_unknown : kind));
    }
}

static void mutations(wdt_wire_kind kind)
{
    uint8_t good[MOST], bad[MOST];
    const size_t whole = make(kind, good);
    uint32_t seen = 0;
    for (int round = 0; round < 200000; round++) {
        memcpy(bad, good, whole);
        for (uint32_t flips = 1 + draw(3); flips > 0; flips--) {
            bad[draw((uint32_t)whole)] = (uint8_t)draw(256);
        }
        const size_t length = draw(4) ? whole : 5 + draw((uint32_t)whole - 4);
        if (kind != WDT_WIRE_raw_csi) {
            seal(bad, length);
        }
        seen |= 1u << parse_copy(kind, bad, length);
    }
    CHECK(seen & 1u << WDT_WIRE_OK && seen & 1u << WDT_WIRE_E_MAGIC && seen & 1u << WDT_WIRE_E_TOO_SHORT);
}

/* The largest packet there can be: 255 antennas of 512 subcarriers, four times a UDP datagram. */
static void largest(void)
{
    const size_t length = wdt_wire_raw_csi_bytes(255, 512);
    CHECK(length == 20u + 2u * 255u * 512u);
    CHECK(wdt_wire_raw_csi_bytes(256, 1) == 0 && wdt_wire_raw_csi_bytes(1, 513) == 0);
    int8_t *const iq = calloc(255 * 512, 2);
    uint8_t *const bytes = malloc(length);
    CHECK(iq != NULL && bytes != NULL);
    iq[2 * 255 * 512 - 1] = -3;
    const wdt_wire_raw_csi csi = {.antennas = 255, .subcarriers = 512, .iq = iq};
    wdt_wire_write_raw_csi(&csi, bytes);
    wdt_wire_raw_csi back;
    CHECK(wdt_wire_parse_raw_csi(bytes, length, &back, NULL) == WDT_WIRE_OK);
    CHECK(back.iq == (const int8_t *)bytes + 20 && back.iq[2 * 255 * 512 - 1] == -3);
    free(iq);
    free(bytes);
}

/* Against sorting, with few values, so that there are ties. */
static void decisions(void)
{
    for (int round = 0; round < 5000; round++) {
        float logits[6];
        const uint32_t classes = 2 + draw(5);
        for (uint32_t c = 0; c < classes; c++) {
            logits[c] = (float)draw(5) - 2.0f;
        }
        uint32_t best = 0;
        for (uint32_t c = 0; c < classes; c++) {
            best = logits[c] > logits[best] ? c : best;
        }
        float next = -1e9f;
        for (uint32_t c = 0; c < classes; c++) {
            next = c != best && logits[c] > next ? logits[c] : next;
        }
        const wdt_wire_classification decided = wdt_wire_decide(logits, classes);
        CHECK(decided.n_classes == classes && decided.argmax == best && decided.top_logit == logits[best]);
        CHECK(decided.top1_minus_top2 == logits[best] - next);
    }
}

int main(void)
{
    literal_bytes();
    decisions();
    a_refusal_changes_nothing();
    largest();
    const wdt_wire_kind kinds[] = {WDT_WIRE_raw_csi, WDT_WIRE_feature_state, WDT_WIRE_classification};
    for (int k = 0; k < 3; k++) {
        every_length(kinds[k]);
        mutations(kinds[k]);
    }
    return 0;
}
