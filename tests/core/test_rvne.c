/* The blob parser on buffers of exactly their own size: every truncation, and mutations that are sealed again so that
 * what lies behind the checksum is reached. Which error each cause has is tested from Python. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "wdt_rvne.h"

enum { WEIGHTS = 24, RECORDS = 8 + 4 + 8 + 8, TOTAL = 24 + WEIGHTS + 4 + RECORDS + 4 };

static uint32_t state = 2463534242u;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static void seal(uint8_t *bytes, size_t length)
{
    const uint32_t crc = wdt_crc32(0, bytes, length - 4);
    for (int b = 0; b < 4; b++) {
        bytes[length - 4 + (size_t)b] = (uint8_t)(crc >> 8 * b);
    }
}

/* A blob with two records: provenance "{}" and pooling. */
static void make(uint8_t bytes[TOTAL])
{
    const wdt_rvne_header header = {.flags = WDT_FLAG_RECORDS, .input_dim = 3, .n_q_heads = 4, .n_kv_heads = 2,
                                    .head_dim = 5, .n_layers = 1, .n_classes = 2, .weights_len = WEIGHTS};
    static const uint8_t tail[4 + RECORDS] = {RECORDS, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, '{', '}', 0, 0, 2, 0, 1, 0, 8};
    memset(bytes, 0, TOTAL);
    wdt_rvne_write_header(&header, bytes);
    memcpy(bytes + 24 + WEIGHTS, tail, sizeof tail);
    seal(bytes, TOTAL);
}

static wdt_status parse_copy(const uint8_t *bytes, size_t length)
{
    uint8_t *exact = malloc(length ? length : 1);
    CHECK(exact != NULL);
    memcpy(exact, bytes, length);
    wdt_rvne blob;
    const wdt_status status = wdt_rvne_parse(exact, length, &blob);
    if (status == WDT_OK) {
        uint32_t offset = 0, sum = 0;
        wdt_record record;
        while (wdt_record_next(&blob, &offset, &record)) {
            for (uint32_t b = 0; b < record.length; b++) {
                sum += record.payload[b];
            }
        }
        for (uint32_t b = 0; b < blob.header.weights_len; b++) {
            sum += blob.weights[b];
        }
        CHECK(offset == blob.records_len && sum < UINT32_MAX);
    }
    free(exact);
    return status;
}

/* One dtype at a time; an int8 tensor's length is a multiple of 4. */
static void int8_has_a_flag_of_its_own(const uint8_t good[TOTAL])
{
    uint8_t bytes[TOTAL];
    for (unsigned flags = 0; flags < 256; flags++) {
        memcpy(bytes, good, TOTAL);
        bytes[6] = (uint8_t)(flags | WDT_FLAG_RECORDS);
        seal(bytes, TOTAL);
        const unsigned dtype = flags & ~WDT_FLAG_RECORDS;
        CHECK(parse_copy(bytes, TOTAL) == (dtype <= WDT_FLAG_FLOAT16 || dtype == WDT_FLAG_INT8 ? WDT_OK : WDT_E_FLAGS));
    }
    memcpy(bytes, good, TOTAL);
    bytes[6] = WDT_FLAG_INT8;
    bytes[0x14] = TOTAL - 24 - 4 - 2;
    seal(bytes, TOTAL - 2);
    CHECK(parse_copy(bytes, TOTAL - 2) == WDT_E_LENGTH);
}

int main(void)
{
    static const uint8_t check[] = "123456789";
    uint8_t good[TOTAL], bad[TOTAL];
    CHECK(wdt_crc32(0, check, 9) == 0xCBF43926u); /* the check value that every CRC-32 catalogue gives */
    CHECK(wdt_crc32(wdt_crc32(0, check, 4), check + 4, 5) == 0xCBF43926u);

    make(good);
    CHECK(parse_copy(good, TOTAL) == WDT_OK);
    int8_has_a_flag_of_its_own(good);
    for (size_t length = 0; length < TOTAL; length++) {
        CHECK(parse_copy(good, length) == (length < 28 ? WDT_E_TOO_SHORT : WDT_E_LENGTH));
    }
    int accepted = 0;
    for (int round = 0; round < 200000; round++) {
        memcpy(bad, good, TOTAL);
        for (uint32_t flips = 1 + draw(3); flips > 0; flips--) {
            bad[draw(TOTAL)] = (uint8_t)draw(256);
        }
        const size_t length = draw(4) ? TOTAL : 5 + draw(TOTAL - 4);
        seal(bad, length);
        accepted += parse_copy(bad, length) == WDT_OK;
    }
    CHECK(accepted > 0 && accepted < 200000);
    return 0;
}
