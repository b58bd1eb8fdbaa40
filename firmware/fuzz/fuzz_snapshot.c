/* A stream's state from anyone (wdt_streams.h): refused, or frames go through the stream, which ends, answers with
 * finite numbers or refuses, and is saved and loaded again.
 *
 * An input is u8 policy (and from bit 2 on: float16 caches, pooling), u8 capacity, u8 window, u8 block_size, u8
 * landmark_blocks, u8 frames that are pushed before the state is saved, and changes of its bytes: u16 place, u8 how
 * many, and as many bytes. Without a change, the loaded stream goes on with the same bits. */
#include "fuzz.h"
#include "wdt_streams.h"

enum { FEATURES = 2, CLASSES = 2, DIM = 1, QUERIES = 2, FRAMES_AFTER = 50, MOST_AT_ONCE = 32 };
enum { PATTERN_WORDS = 10, POOLING_WORDS = 2, RECORDS = 2 * 8 + 4 * (PATTERN_WORDS + POOLING_WORDS) };
enum { MOST_WEIGHTS = 2 * FEATURES * DIM * (QUERIES + 1) + 2 * FEATURES * CLASSES };

static uint64_t noise;

static float draw_float(void) /* between -1 and 1 */
{
    noise = noise * 6364136223846793005u + 1442695040888963407u;
    return (float)(noise >> 40) / 8388608.0f - 1.0f;
}

static void store_words(uint8_t *at, const uint32_t *words, size_t count)
{
    for (size_t w = 0; w < count; w++) {
        store_u32(at + 4 * w, words[w]);
    }
}

/* A model with this window, block size and pooling over weights of ours, global tokens 0 and 5. */
static void make_model(wdt_model *model, uint32_t window, uint32_t block_size, uint32_t pooling)
{
    static _Alignas(8) uint8_t bytes[WDT_RVNE_HEADER_BYTES + 4 * MOST_WEIGHTS + 4 + RECORDS + WDT_RVNE_CRC_BYTES];
    const uint32_t pooled = pooling == WDT_POOL_MEAN_SPREAD ? 2 * FEATURES : FEATURES;
    const uint32_t weights = 2 * FEATURES * DIM * (QUERIES + 1) + pooled * CLASSES;
    const wdt_rvne_header header = {WDT_FLAG_RECORDS, FEATURES, QUERIES, 1, DIM, 1, CLASSES, 4 * weights};
    const uint32_t records[] = {RECORDS,
                                WDT_RECORD_pattern | WDT_RECORD_CRITICAL << 16, 4 * PATTERN_WORDS,
                                0, window, block_size, 1, 1, 1, WDT_NORM_RMS, 2, 0, 5,
                                WDT_RECORD_pooling | WDT_RECORD_CRITICAL << 16, 4 * POOLING_WORDS,
                                pooling, pooling == WDT_POOL_LAST_N ? 4 : 0};
    uint8_t *at = bytes + WDT_RVNE_HEADER_BYTES;
    wdt_rvne blob;
    wdt_rvne_write_header(&header, bytes);
    noise = 1;
    for (uint32_t j = 0; j < weights; j++, at += 4) {
        const float weight = draw_float();
        memcpy(at, &weight, sizeof weight);
    }
    store_words(at, records, sizeof records / sizeof *records);
    const size_t length = WDT_RVNE_HEADER_BYTES + 4 * weights + sizeof records;
    store_u32(bytes + length, wdt_crc32(0, bytes, length));
    REQUIRE(wdt_rvne_parse(bytes, length + WDT_RVNE_CRC_BYTES, &blob) == WDT_OK);
    REQUIRE(wdt_model_init(model, &blob, NULL) == WDT_OK);
}

/* In memory that does not begin as zeros. */
static void *lay_out(const wdt_model *model, const wdt_cache_config *config, wdt_stream *stream)
{
    const size_t bytes = wdt_stream_state_bytes(model, config);
    void *const memory = block(bytes);
    memset(memory, 0xA5, bytes);
    REQUIRE(wdt_stream_init_state(stream, model, config, memory) == WDT_OK);
    return memory;
}

static wdt_status push(wdt_stream *stream, float *answers, void *scratch)
{
    const float frame[FEATURES] = {draw_float(), draw_float()};
    wdt_push push = {stream, frame, answers, answers + CLASSES, WDT_OK};
    wdt_streams_push(stream->model, &push, 1, scratch);
    REQUIRE(push.status != WDT_OK || all_finite(answers, CLASSES + (size_t)stream->model->embedding_dim));
    return push.status;
}

/* What was pushed for `one` goes on for `other`, if nothing was changed with the same bits. */
static void go_on(wdt_stream *one, wdt_stream *other, int changed, void *scratch)
{
    float answers[CLASSES + 2 * FEATURES] = {0}, others[CLASSES + 2 * FEATURES] = {0};
    for (int t = 0; t < FRAMES_AFTER; t++) {
        const uint64_t before = noise;
        const wdt_status status = push(other, others, scratch);
        if (!changed) {
            noise = before;
            REQUIRE(push(one, answers, scratch) == status && memcmp(answers, others, sizeof answers) == 0);
        }
    }
}

/* Writes the changes that the input has into the state; 1 if a byte is another one now. */
static int change(input *from, uint8_t *state, size_t bytes)
{
    int changed = 0;
    while (from->left > 0) {
        const size_t place = take_number(from, 2) % bytes, count = take_number(from, 1) % MOST_AT_ONCE;
        uint8_t into[MOST_AT_ONCE];
        take(from, into, count);
        const size_t there = count < bytes - place ? count : bytes - place;
        changed |= memcmp(state + place, into, there) != 0;
        memcpy(state + place, into, there);
    }
    return changed;
}

static void run(const wdt_model *model, const wdt_cache_config *config, int frames, input *from)
{
    wdt_stream one, other;
    void *const memory = lay_out(model, config, &one), *const another = lay_out(model, config, &other);
    void *const scratch = block(wdt_streams_scratch_bytes(model));
    const size_t bytes = wdt_stream_saved_bytes(model, config);
    uint8_t *const state = block(bytes);
    float answers[CLASSES + 2 * FEATURES];
    for (int t = 0; t < frames; t++) {
        push(&one, answers, scratch);
    }
    wdt_stream_save(&one, config, state);
    const int changed = change(from, state, bytes);
    const wdt_status status = wdt_stream_load(&other, config, state);
    REQUIRE(status == WDT_OK || (changed && (status == WDT_E_CONFIG || status == WDT_E_NON_FINITE)));
    if (status == WDT_OK) {
        go_on(&one, &other, changed, scratch);
        wdt_stream_save(&other, config, state);
        const wdt_status again = wdt_stream_load(&other, config, state);
        REQUIRE(again == WDT_OK || (changed && again == WDT_E_CONFIG)); /* more frames by now than any stream has */
    }
    free(memory), free(another), free(scratch), free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const wdt_policy *const policies[] = {&wdt_refuse, &wdt_sliding, &wdt_heavy_hitter, &wdt_heavy_hitter};
    input from = {data, size};
    const uint32_t choice = take_number(&from, 1), capacity = take_number(&from, 1) % 12;
    const uint32_t window = take_number(&from, 1) % 12, block_size = take_number(&from, 1) % 5;
    wdt_model model;
    make_model(&model, window, 1 + block_size, choice >> 3 & 3u);
    const wdt_cache_config config = {.capacity = 1 + (ptrdiff_t)capacity,
                                     .policy = policies[choice & 3u],
                                     .landmark_blocks = 1 + (ptrdiff_t)take_number(&from, 1) % 4,
                                     .form = choice >> 2 & 1u};
    run(&model, &config, (int)take_number(&from, 1) % 64, &from);
    return 0;
}
