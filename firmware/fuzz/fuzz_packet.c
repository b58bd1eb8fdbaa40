/* A datagram from anyone: every parse function on it, whatever its magic. What is taken is written again as it came. */
#include "fuzz.h"
#include "wdt_rvne.h"
#include "wdt_wire.h"

enum { CSI_HEADER = WDT_WIRE_RAW_CSI_HEADER_BYTES };

static void read_raw_csi(const uint8_t *data, size_t size, int is_kind)
{
    wdt_wire_raw_csi csi;
    wdt_wire_clash clash;
    if (wdt_wire_parse_raw_csi(data, size, &csi, &clash) != WDT_WIRE_OK) {
        return;
    }
    const size_t length = wdt_wire_raw_csi_bytes(csi.antennas, csi.subcarriers);
    REQUIRE(is_kind && length == size && csi.iq == (const int8_t *)data + CSI_HEADER);
    uint8_t *const again = block(length);
    wdt_wire_write_raw_csi(&csi, again);
    memcpy(again + 8, data + 8, 4);   /* the frequency, which may have come in Hz */
    memcpy(again + 18, data + 18, 2); /* reserved, and not read */
    REQUIRE(memcmp(again, data, length) == 0);
    wdt_wire_raw_csi back;
    wdt_wire_write_raw_csi(&csi, again);
    REQUIRE(wdt_wire_parse_raw_csi(again, length, &back, NULL) == WDT_WIRE_OK);
    REQUIRE(back.frequency_mhz == csi.frequency_mhz && back.frequency_mhz < 1000000u);
    free(again);
}

static void read_feature_state(const uint8_t *data, size_t size, int is_kind)
{
    wdt_wire_feature_state state;
    wdt_wire_clash clash;
    if (wdt_wire_parse_feature_state(data, size, &state, &clash) == WDT_WIRE_OK) {
        uint8_t again[WDT_WIRE_FEATURE_STATE_BYTES];
        wdt_wire_write_feature_state(&state, again);
        REQUIRE(is_kind && size == sizeof again && memcmp(again, data, sizeof again) == 0);
        REQUIRE(all_finite(&state.motion_score, 9));
    }
}

static void read_classification(const uint8_t *data, size_t size, int is_kind)
{
    wdt_wire_classification result;
    wdt_wire_clash clash;
    if (wdt_wire_parse_classification(data, size, &result, &clash) == WDT_WIRE_OK) {
        uint8_t again[WDT_WIRE_CLASSIFICATION_BYTES];
        wdt_wire_write_classification(&result, again);
        REQUIRE(is_kind && size == sizeof again && memcmp(again, data, sizeof again) == 0);
        REQUIRE(result.argmax < result.n_classes && result.top1_minus_top2 >= 0.0f);
        REQUIRE(all_finite(&result.top_logit, 1) && all_finite(&result.top1_minus_top2, 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const wdt_wire_kind kind = wdt_wire_kind_of(data, size);
    read_raw_csi(data, size, kind == WDT_WIRE_raw_csi);
    read_feature_state(data, size, kind == WDT_WIRE_feature_state);
    read_classification(data, size, kind == WDT_WIRE_classification);
    return 0;
}

/* Makes the length what a packet of this magic has to have, and the checksum right: else nothing gets behind them. */
static size_t repair(uint8_t *data, size_t size, size_t max_size)
{
    const wdt_wire_kind kind = wdt_wire_kind_of(data, size);
    if (kind == WDT_WIRE_raw_csi && size > CSI_HEADER + 2u) {
        data[5] = (uint8_t)(1 + data[5] % 4);
        uint32_t subcarriers = (uint32_t)(size - CSI_HEADER) / 2u / data[5];
        subcarriers = subcarriers > WDT_WIRE_MAX_SUBCARRIERS ? WDT_WIRE_MAX_SUBCARRIERS : subcarriers;
        store_u16(data + 6, subcarriers);
        return CSI_HEADER + 2u * (size_t)data[5] * subcarriers;
    }
    const size_t length = kind == WDT_WIRE_feature_state ? WDT_WIRE_FEATURE_STATE_BYTES : WDT_WIRE_CLASSIFICATION_BYTES;
    if (kind == WDT_WIRE_raw_csi || kind == WDT_WIRE_unknown || length > max_size) {
        return size;
    }
    if (size < length) {
        memset(data + size, 0, length - size);
    }
    store_u32(data + length - WDT_WIRE_CRC_BYTES, wdt_crc32(0, data, length - WDT_WIRE_CRC_BYTES));
    return length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 4 == 0 && size >= WDT_WIRE_MAGIC_BYTES) {
        static const uint32_t kind[] = {WDT_WIRE_raw_csi, WDT_WIRE_feature_state, WDT_WIRE_classification};
        store_u32(data, WDT_WIRE_MAGIC + kind[seed / 4 % 3]);
    }
    return seed / 16 % 8 ? repair(data, size, max_size) : size;
}
