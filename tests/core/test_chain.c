/* The feature chain's C interface: bands, frames by hand, gaps, refusals, hostile times and amplitudes.
 * The numbers of a long stream are compared with NumPy in tests/csi/test_features.py; here every one fits in a head. */
#include "check.h"
#include "wdt_chain.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define MEMORY_BYTES (1 << 20)
static uint64_t memory[MEMORY_BYTES / sizeof(uint64_t)];

static int near(float x, float y) { return fabsf(x - y) <= 4e-7f * fmaxf(1.0f, fabsf(y)); }

/* B bands at 1 ms a frame, motion time 1 ms, a gap after 5 ms. */
static wdt_chain_params params_of(uint32_t bands)
{
    wdt_chain_params params = wdt_chain_params_default();
    params.bands = bands;
    params.period_us = params.motion_time_us = 1000;
    params.max_gap_us = 5000;
    return params;
}

static wdt_chain *make(const wdt_chain_params *params, uint32_t antennas, uint32_t subcarriers, const int16_t *index)
{
    wdt_chain *chain = NULL;
    size_t bytes = wdt_chain_bytes(params, antennas, subcarriers);
    CHECK(bytes > 0 && bytes <= MEMORY_BYTES);
    memset(memory, 0xA5, sizeof memory); /* init may not count on clean memory */
    CHECK(wdt_chain_init(memory, bytes, params, antennas, subcarriers, index, &chain) == WDT_CHAIN_OK);
    CHECK(memory[bytes / sizeof(uint64_t)] == 0xA5A5A5A5A5A5A5A5u); /* nor write beyond it */
    return chain;
}

/* Hands the frames out and counts them; the last one stays in `frame`. Times have to ascend by the period. */
static size_t drain(wdt_chain *chain, float *frame, int64_t *time_us, size_t *held)
{
    size_t frames = 0;
    int64_t before = 0;
    uint8_t is_held;
    *held = 0;
    while (wdt_chain_next(chain, frame, time_us, &is_held) == WDT_CHAIN_FRAME) {
        CHECK(frames == 0 || *time_us == before + 1000);
        CHECK(is_held == (frames > 0)); /* the closed bin first, the empty ones behind it */
        before = *time_us;
        *held += is_held;
        frames++;
    }
    return frames;
}

static void test_defaults(void)
{
    wdt_chain_params params = wdt_chain_params_default();
    CHECK(params.version == 1 && params.bands == 8 && params.period_us == 20000);
    CHECK(params.motion_time_us == 250000 && params.max_gap_us == 1000000);
    CHECK(wdt_chain_params_rule(&params) == NULL);
    CHECK(offsetof(wdt_chain_params, frame_bins) == 5 * sizeof(uint32_t)); /* a blob's record is copied into it */
}

static void test_rules(void)
{
    const uint32_t bad[][5] = {
        {0, 8, 20000, 250000, 1000000},          {2, 8, 20000, 250000, 1000000},
        {1, 0, 20000, 250000, 1000000},          {1, 1025, 20000, 250000, 1000000},
        {1, UINT32_MAX, 20000, 250000, 1000000}, {1, 8, 99, 250000, 1000000},
        {1, 8, 0, 250000, 1000000},              {1, 8, 10000001, 250000, 1000000},
        {1, 8, 20000, 0, 1000000},               {1, 8, 20000, 200000001, 1000000},
        {1, 8, 20000, 250000, 0},                {1, 8, 20000, 250000, 200000001},
        {1, 8, 100, 250000, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wdt_chain_params params = {0};
        memcpy(&params, bad[i], sizeof bad[i]);
        wdt_chain *chain = NULL;
        CHECK(wdt_chain_params_rule(&params) != NULL);
        CHECK(wdt_chain_bytes(&params, 1, 64) == 0);
        CHECK(wdt_chain_init(memory, sizeof memory, &params, 1, 64, NULL, &chain) == WDT_CHAIN_E_PARAMS);
        CHECK(chain == NULL);
    }
    const uint32_t edge[5] = {1, 1024, 100, 1000000, 1000000}; /* 10,000 periods exactly */
    wdt_chain_params params;
    memcpy(&params, edge, sizeof edge);
    CHECK(wdt_chain_params_rule(&params) == NULL);
}

/* A count of parts that no chain has reads and writes no part beyond the last. */
static void test_too_many_parts(void)
{
    wdt_chain_params params = {.version = 2, .period_us = 1000, .max_gap_us = 5000, .frame_bins = 1};
    for (uint32_t p = 0; p < WDT_CHAIN_MAX_PARTS; p++) {
        params.part[p] = (wdt_chain_part){.kind = WDT_PART_LEVEL, .bands = 2};
    }
    const uint32_t counts[] = {WDT_CHAIN_MAX_PARTS, WDT_CHAIN_MAX_PARTS + 1, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        params.n_parts = counts[i];
        CHECK((wdt_chain_params_rule(&params) == NULL) == (counts[i] == WDT_CHAIN_MAX_PARTS));
        CHECK(wdt_chain_features(&params) == 2 * WDT_CHAIN_MAX_PARTS);
        CHECK(!wdt_chain_needs_phase(&params));
        CHECK((wdt_chain_bytes(&params, 1, 4) > 0) == (counts[i] == WDT_CHAIN_MAX_PARTS));
    }
}

static void test_refused_shapes_and_memory(void)
{
    wdt_chain_params params = params_of(2);
    wdt_chain *chain = NULL;
    const uint32_t shapes[][2] = {{0, 4}, {1, 0}, {65, 4}, {1, 4097}, {UINT32_MAX, UINT32_MAX}, {1, UINT32_MAX}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        CHECK(wdt_chain_bytes(&params, shapes[i][0], shapes[i][1]) == 0);
        CHECK(wdt_chain_init(memory, sizeof memory, &params, shapes[i][0], shapes[i][1], NULL, &chain) ==
              WDT_CHAIN_E_SHAPE);
    }
    size_t bytes = wdt_chain_bytes(&params, 2, 4);
    CHECK(wdt_chain_init(memory, bytes - 1, &params, 2, 4, NULL, &chain) == WDT_CHAIN_E_MEMORY);
    CHECK(wdt_chain_init((char *)memory + 4, bytes, &params, 2, 4, NULL, &chain) == WDT_CHAIN_E_MEMORY);
    CHECK(wdt_chain_init(NULL, bytes, &params, 2, 4, NULL, &chain) == WDT_CHAIN_E_MEMORY);
    const int16_t pilots[4] = {-21, -7, 7, 21};
    CHECK(wdt_chain_init(memory, bytes, &params, 2, 4, pilots, &chain) == WDT_CHAIN_E_BANDS);
    params.bands = 5;
    CHECK(wdt_chain_init(memory, sizeof memory, &params, 2, 4, NULL, &chain) == WDT_CHAIN_E_BANDS);
    CHECK(chain == NULL);
    CHECK(wdt_chain_bytes(&params, 64, 4096) < 4u << 20);
}

/* A full transform of `size` columns from -size/2: how many columns each band gets, and who is left out. */
static void check_table(int size, uint32_t usable, int inner, int outer, const int *pilots, int n_pilots)
{
    int16_t index[256] = {0}, band[256];
    uint32_t sizes[8] = {0}, total = 0;
    for (int k = 0; k < size; k++) {
        index[k] = (int16_t)(k - size / 2);
    }
    CHECK(wdt_chain_assign_bands(index, (uint32_t)size, 8, band) == WDT_CHAIN_OK);
    for (int k = 0; k < size; k++) {
        int m = abs(index[k]), out = m < inner || m > outer;
        for (int i = 0; i < n_pilots; i++) {
            out |= m == pilots[i];
        }
        CHECK((band[k] < 0) == out);
        if (!out) {
            sizes[band[k]]++;
            total++;
        }
    }
    CHECK(total == usable);
    for (uint32_t b = 0; b < 8; b++) {
        CHECK(sizes[b] == usable / 8 + (b < usable % 8));
    }
}

static void test_bands(void)
{
    const int ht20[] = {7, 21}, ht40[] = {11, 25, 53}, vht80[] = {11, 39, 75, 103};
    check_table(64, 48, 1, 26, ht20, 2);
    check_table(128, 108, 2, 58, ht40, 3);
    check_table(256, 234, 2, 122, vht80, 4);

    int16_t band[6];
    const int16_t fft_order[6] = {0, 1, 2, 7, -2, -1}; /* bands follow the spectrum, not the columns */
    CHECK(wdt_chain_assign_bands(fft_order, 6, 2, band) == WDT_CHAIN_OK);
    CHECK(band[0] == -1 && band[1] == 1 && band[2] == 1 && band[3] == -1 && band[4] == 0 && band[5] == 0);
    const int16_t marked[4] = {WDT_CHAIN_UNUSED, 3, 3, 4}; /* equal indices stay in the order of the columns */
    CHECK(wdt_chain_assign_bands(marked, 4, 3, band) == WDT_CHAIN_OK);
    CHECK(band[0] == -1 && band[1] == 0 && band[2] == 1 && band[3] == 2);
    const int16_t wide[4] = {-500, 0, 7, INT16_MAX}; /* no table: all but the carrier */
    CHECK(wdt_chain_assign_bands(wide, 4, 3, band) == WDT_CHAIN_OK);
    CHECK(band[0] == 0 && band[1] == -1 && band[2] == 1 && band[3] == 2);
    CHECK(wdt_chain_assign_bands(NULL, 5, 2, band) == WDT_CHAIN_OK);
    CHECK(band[0] == 0 && band[2] == 0 && band[3] == 1 && band[4] == 1);
    CHECK(wdt_chain_assign_bands(NULL, 0, 1, band) == WDT_CHAIN_E_SHAPE);
    CHECK(wdt_chain_assign_bands(NULL, 4097, 1, band) == WDT_CHAIN_E_SHAPE);
    CHECK(wdt_chain_assign_bands(NULL, 5, 0, band) == WDT_CHAIN_E_PARAMS);
    CHECK(wdt_chain_assign_bands(NULL, 5, 6, band) == WDT_CHAIN_E_BANDS);
}

/* Two columns, two bands. {3, 4} has g = sqrt(12.5), so x = 0.6 and 0.8 times sqrt(2). */
static void test_frames_by_hand(void)
{
    wdt_chain_params params = params_of(2);
    wdt_chain *chain = make(&params, 1, 2, NULL);
    const float root2 = sqrtf(2.0f), alpha = 1.0f - expf(-1.0f);
    const float p[2] = {3, 4}, q[2] = {400, 300}; /* swapped, at another gain */
    float frame[4];
    int64_t time_us;
    size_t held;

    CHECK(wdt_chain_push(chain, 10, p) == WDT_CHAIN_OK);
    CHECK(drain(chain, frame, &time_us, &held) == 0);
    CHECK(wdt_chain_push(chain, 10, q) == WDT_CHAIN_OK); /* an equal time is not late */
    CHECK(drain(chain, frame, &time_us, &held) == 0);
    CHECK(wdt_chain_push(chain, 1010, p) == WDT_CHAIN_OK); /* the first instant of the second bin */
    CHECK(drain(chain, frame, &time_us, &held) == 1 && held == 0 && time_us == 1010);
    CHECK(near(frame[0], 0.7f * root2) && near(frame[1], 0.7f * root2)); /* the mean of both packets */
    CHECK(frame[2] == 0.0f && frame[3] == 0.0f);

    CHECK(wdt_chain_push(chain, 4500, q) == WDT_CHAIN_OK); /* bins 2 and 3 are empty */
    uint8_t is_held;
    CHECK(wdt_chain_next(chain, frame, &time_us, &is_held) == WDT_CHAIN_FRAME && !is_held && time_us == 2010);
    CHECK(near(frame[0], 0.6f * root2) && near(frame[1], 0.8f * root2));
    const float motion = alpha * 0.1f * root2;
    CHECK(near(frame[2], motion) && near(frame[3], motion));
    CHECK(wdt_chain_next(chain, frame, &time_us, &is_held) == WDT_CHAIN_FRAME && is_held && time_us == 3010);
    CHECK(near(frame[0], 0.6f * root2) && near(frame[2], motion * (1.0f - alpha)));
    CHECK(wdt_chain_push(chain, 4501, q) == WDT_CHAIN_E_UNDRAINED && wdt_chain_flush(chain) == WDT_CHAIN_E_UNDRAINED);
    CHECK(wdt_chain_next(chain, frame, &time_us, &is_held) == WDT_CHAIN_FRAME && is_held && time_us == 4010);
    CHECK(near(frame[2], motion * (1.0f - alpha) * (1.0f - alpha)));
    CHECK(wdt_chain_next(chain, frame, &time_us, &is_held) == WDT_CHAIN_NONE);

    CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK);
    CHECK(drain(chain, frame, &time_us, &held) == 1 && time_us == 5010);
    CHECK(near(frame[0], 0.8f * root2) && frame[2] > motion); /* 0.2 root2 from what it held */
    CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK && drain(chain, frame, &time_us, &held) == 0);
}

static void test_a_silence_ends_the_segment(void)
{
    wdt_chain_params params = params_of(2);
    wdt_chain *chain = make(&params, 1, 2, NULL);
    const float p[2] = {3, 4}, q[2] = {4, 3};
    float frame[4];
    int64_t time_us;
    size_t held;
    CHECK(wdt_chain_push(chain, 0, p) == WDT_CHAIN_OK);
    CHECK(wdt_chain_push(chain, 5000, p) == WDT_CHAIN_OK); /* max_gap exactly is not yet a gap */
    CHECK(drain(chain, frame, &time_us, &held) == 5 && held == 4);
    CHECK(wdt_chain_push(chain, 10001, q) == WDT_CHAIN_OK); /* one more is */
    CHECK(drain(chain, frame, &time_us, &held) == 1 && time_us == 6000);
    CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK);
    CHECK(drain(chain, frame, &time_us, &held) == 1 && time_us == 11001); /* bins count from the new packet */
    CHECK(frame[2] == 0.0f && frame[3] == 0.0f);                          /* and q is no motion from p */
}

/* What is no measurement, or older than the newest, leaves no trace but a count. */
static void test_skipped_and_late(void)
{
    wdt_chain_params params = params_of(2);
    wdt_chain *chain = make(&params, 2, 3, NULL);
    const float good[6] = {1, 2, 3, 4, 5, 6};
    const float bad[] = {NAN, INFINITY, -INFINITY, -1.0f, 1e30f};
    float frame[4], first[4];
    int64_t time_us;
    size_t held;
    CHECK(wdt_chain_push(chain, 5000, good) == WDT_CHAIN_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        float packet[6];
        memcpy(packet, good, sizeof packet);
        packet[4] = bad[i];
        CHECK(wdt_chain_push(chain, 9000, packet) == WDT_CHAIN_SKIPPED);
    }
    const float silent[6] = {1, 2, 3, 0, 0, 0}, tiny[6] = {1e-30f, 1e-30f, 1e-30f, 1, 1, 1};
    CHECK(wdt_chain_push(chain, 9000, silent) == WDT_CHAIN_SKIPPED);
    CHECK(wdt_chain_push(chain, 9000, tiny) == WDT_CHAIN_SKIPPED);
    CHECK(wdt_chain_push(chain, INT64_MAX, good) == WDT_CHAIN_SKIPPED);
    CHECK(wdt_chain_push(chain, INT64_MIN, good) == WDT_CHAIN_SKIPPED);
    CHECK(wdt_chain_push(chain, 4999, good) == WDT_CHAIN_LATE);
    CHECK(wdt_chain_push(chain, -WDT_CHAIN_MAX_TIME_US, good) == WDT_CHAIN_LATE);
    CHECK(drain(chain, frame, &time_us, &held) == 0);
    CHECK(wdt_chain_skipped(chain) == 9 && wdt_chain_late(chain) == 2);
    CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK && drain(chain, first, &time_us, &held) == 1 && time_us == 6000);

    chain = make(&params, 2, 3, NULL);
    CHECK(wdt_chain_push(chain, 0, good) == WDT_CHAIN_OK && wdt_chain_flush(chain) == WDT_CHAIN_OK);
    CHECK(drain(chain, frame, &time_us, &held) == 1);
    CHECK(memcmp(frame, first, sizeof frame) == 0);
}

/* From one end of time to the other, there is one frame at most for each packet and no overflow (UBSan watches). */
static void test_hostile_times(void)
{
    wdt_chain_params params = params_of(1);
    wdt_chain *chain = make(&params, 1, 1, NULL);
    const float p[1] = {1};
    const int64_t times[] = {-WDT_CHAIN_MAX_TIME_US, -1, 0, 1, WDT_CHAIN_MAX_TIME_US - 1, WDT_CHAIN_MAX_TIME_US};
    float frame[2];
    int64_t time_us;
    size_t held, frames = 0;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        CHECK(wdt_chain_push(chain, times[i], p) == WDT_CHAIN_OK);
        frames += drain(chain, frame, &time_us, &held);
    }
    CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK);
    frames += drain(chain, frame, &time_us, &held);
    CHECK(frames == 3 && time_us == WDT_CHAIN_MAX_TIME_US - 1 + 1000);

    params.period_us = 100, params.max_gap_us = 1000000; /* the most frames that one packet can make due */
    chain = make(&params, 1, 1, NULL);
    CHECK(wdt_chain_push(chain, 0, p) == WDT_CHAIN_OK && wdt_chain_push(chain, 1000000, p) == WDT_CHAIN_OK);
    uint8_t is_held;
    for (frames = 0; wdt_chain_next(chain, frame, &time_us, &is_held) == WDT_CHAIN_FRAME; frames++) {
        CHECK(frame[0] == 1.0f && frame[1] == 0.0f);
    }
    CHECK(frames == WDT_CHAIN_MAX_PERIODS && time_us == 1000000);
}

static void test_left_out_columns_are_not_read(void)
{
    wdt_chain_params params = params_of(2);
    const int16_t index[4] = {0, -1, 1, 7}; /* the carrier and a pilot */
    const float clean[4] = {0, 3, 4, 0}, dirty[4] = {NAN, 3, 4, -INFINITY};
    float frames[2][4];
    int64_t time_us;
    size_t held;
    for (int i = 0; i < 2; i++) {
        wdt_chain *chain = make(&params, 1, 4, index);
        CHECK(wdt_chain_push(chain, 0, i ? dirty : clean) == WDT_CHAIN_OK);
        CHECK(wdt_chain_flush(chain) == WDT_CHAIN_OK && drain(chain, frames[i], &time_us, &held) == 1);
    }
    CHECK(memcmp(frames[0], frames[1], sizeof frames[0]) == 0);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void) /* xorshift64: the same numbers on every machine */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Any bits as indices, times and amplitudes: bounded, finite frames whose times ascend. The sanitizers watch. */
static void test_random_bits(void)
{
    wdt_chain_params params = params_of(1);
    for (int round = 0; round < 300; round++) {
        uint32_t subcarriers = 1 + (uint32_t)(random_bits() % 9), antennas = 1 + (uint32_t)(random_bits() % 3);
        int16_t index[9];
        for (uint32_t k = 0; k < subcarriers; k++) {
            index[k] = (int16_t)(random_bits() >> (random_bits() % 2 ? 48 : 57)); /* any, or within the tables */
        }
        int16_t band[9];
        if (wdt_chain_assign_bands(index, subcarriers, params.bands, band) != WDT_CHAIN_OK) {
            continue;
        }
        wdt_chain *chain = make(&params, antennas, subcarriers, index);
        int64_t before = INT64_MIN, now = 0;
        for (int i = 0; i < 100; i++) {
            float amplitude[27];
            uint32_t bits = (uint32_t)random_bits();
            for (uint32_t k = 0; k < antennas * subcarriers; k++) {
                memcpy(&amplitude[k], &bits, sizeof bits);
                amplitude[k] = i % 4 ? (float)(bits % 200) : amplitude[k];
                bits = (uint32_t)random_bits();
            }
            now = i % 8 ? now + (int64_t)(random_bits() % 4000) - 200 : (int64_t)random_bits() >> (random_bits() % 64);
            wdt_chain_push(chain, now, amplitude);
            float frame[2];
            int64_t time_us;
            uint8_t held;
            size_t frames = 0;
            while (wdt_chain_next(chain, frame, &time_us, &held) == WDT_CHAIN_FRAME) {
                CHECK(time_us > before && ++frames <= 6);
                CHECK(frame[0] > 0.0f && frame[0] <= 3.001f); /* at most sqrt(K) */
                CHECK(frame[1] >= 0.0f && frame[1] <= 3.001f);
                before = time_us;
            }
            now = now > WDT_CHAIN_MAX_TIME_US || now < -WDT_CHAIN_MAX_TIME_US ? 0 : now;
        }
    }
}

static void test_amplitude(void)
{
    const int8_t iq8[6] = {3, -4, -128, -128, 0, 0};
    const float iq[6] = {3, -4, -128, -128, 0, 0};
    float from8[3], from32[3];
    wdt_chain_amplitude_iq8(iq8, 3, from8);
    wdt_chain_amplitude_iq(iq, 3, from32);
    CHECK(from8[0] == 5.0f && from8[1] == sqrtf(32768.0f) && from8[2] == 0.0f);
    CHECK(memcmp(from8, from32, sizeof from8) == 0);
}

int main(void)
{
    test_defaults();
    test_rules();
    test_too_many_parts();
    test_refused_shapes_and_memory();
    test_bands();
    test_frames_by_hand();
    test_a_silence_ends_the_segment();
    test_skipped_and_late();
    test_hostile_times();
    test_left_out_columns_are_not_read();
    test_random_bits();
    test_amplitude();
    return 0;
}
