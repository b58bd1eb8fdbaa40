/* The feature chain: parameters, subcarriers and packets, all from anyone. What it hands out is finite.
 *
 * An input is a chain's words as a blob's record has them, then
 *   u8 antennas, u8 subcarriers, u8 index: 0 none, 1 in the order of an FFT, else i16 for each subcarrier
 * and packets: u8 operation, u16 time since the last, and the values: i8 or float32. */
#include "chain_words.h"

enum { MOST_FRAMES = 512, MOST_COLUMNS = 256 };

/* The table that the input asks for, or NULL. */
static const int16_t *take_index(input *from, uint32_t subcarriers, int16_t *table)
{
    const uint32_t kind = take_number(from, 1);
    for (uint32_t k = 0; k < subcarriers; k++) {
        const uint32_t number = kind == 1 ? (k < subcarriers / 2 ? k : k - subcarriers) : take_number(from, 2);
        const uint16_t bits = (uint16_t)number;
        memcpy(&table[k], &bits, sizeof bits);
    }
    return kind == 0 ? NULL : table;
}

/* Hands out at most `most` frames; returns how many there were. */
static size_t drain(wdt_chain *chain, float *frame, size_t features, size_t most)
{
    size_t frames = 0;
    int64_t time_us;
    uint8_t held;
    while (frames < most && wdt_chain_next(chain, frame, &time_us, &held) == WDT_CHAIN_FRAME) {
        REQUIRE(all_finite(frame, features) && held <= 1);
        frames++;
    }
    return frames;
}

/* One operation. Times go forward by what the input says, or stand anywhere in 64 bits. */
static wdt_chain_status operate(wdt_chain *chain, input *from, int64_t *t_us, float *values, size_t columns)
{
    enum { PUSH, PUSH_IQ, PUSH_FLOATS, FLUSH, ANY_TIME, BACK };
    const uint32_t operation = take_number(from, 1) % 6;
    *t_us = (int64_t)((uint64_t)*t_us + take_number(from, 2) * UINT64_C(16));
    int64_t at = *t_us;
    if (operation == FLUSH) {
        return wdt_chain_flush(chain);
    }
    if (operation == ANY_TIME) {
        take(from, &at, sizeof at);
    } else if (operation == BACK) {
        at = (int64_t)((uint64_t)at - 100000u);
    }
    const size_t count = operation == PUSH_IQ ? 2 * columns : columns;
    for (size_t j = 0; j < count; j++) {
        values[j] = operation == PUSH_FLOATS ? take_float(from) : (float)((int)take_number(from, 1) - 128);
    }
    if (operation == PUSH) {
        for (size_t j = 0; j < count; j++) {
            values[j] += 129.0f;
        }
    }
    return operation == PUSH_IQ ? wdt_chain_push_iq(chain, at, values) : wdt_chain_push(chain, at, values);
}

static void run(wdt_chain *chain, const wdt_chain_params *params, input *from, size_t columns)
{
    const size_t features = wdt_chain_features(params);
    float *const frame = block(features * sizeof *frame), *const values = block(2 * columns * sizeof *values);
    size_t frames = 0;
    int64_t t_us = 0;
    while (from->left > 0 && frames < MOST_FRAMES) {
        const uint64_t skipped = wdt_chain_skipped(chain), late = wdt_chain_late(chain);
        const wdt_chain_status status = operate(chain, from, &t_us, values, columns);
        REQUIRE(wdt_chain_skipped(chain) - skipped == (status == WDT_CHAIN_SKIPPED));
        REQUIRE(wdt_chain_late(chain) - late == (status == WDT_CHAIN_LATE));
        REQUIRE(status == WDT_CHAIN_OK || status == WDT_CHAIN_SKIPPED || status == WDT_CHAIN_LATE ||
                status == WDT_CHAIN_E_UNDRAINED || (status == WDT_CHAIN_E_PHASE && wdt_chain_needs_phase(params)));
        frames += drain(chain, frame, features, from->left % 8 == 0 ? 1 : MOST_FRAMES);
    }
    drain(chain, frame, features, SIZE_MAX);
    REQUIRE(wdt_chain_flush(chain) == WDT_CHAIN_OK);
    drain(chain, frame, features, SIZE_MAX);
    free(frame);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, size};
    const wdt_chain_params params = take_params(&from);
    const uint32_t antennas = take_number(&from, 1), subcarriers = take_number(&from, 1);
    int16_t table[MOST_COLUMNS];
    const int16_t *const index = take_index(&from, subcarriers, table);
    const size_t bytes = wdt_chain_bytes(&params, antennas, subcarriers);
    REQUIRE(wdt_chain_params_rule(&params) == NULL || bytes == 0);
    if (bytes == 0 || bytes > MOST_CHAIN_BYTES) {
        return 0;
    }
    void *const memory = block(bytes);
    wdt_chain *chain = NULL;
    REQUIRE(wdt_chain_init(memory, bytes - 1, &params, antennas, subcarriers, index, &chain) == WDT_CHAIN_E_MEMORY);
    const wdt_chain_status status = wdt_chain_init(memory, bytes, &params, antennas, subcarriers, index, &chain);
    REQUIRE(status == WDT_CHAIN_OK || status == WDT_CHAIN_E_BANDS);
    if (status == WDT_CHAIN_OK && is_quick(&params)) {
        run(chain, &params, &from, (size_t)antennas * subcarriers);
    }
    free(memory);
    return 0;
}
