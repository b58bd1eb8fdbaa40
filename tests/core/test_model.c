/* Model and stream on memory of exactly the stated sizes, with every optional part, and with hostile records.
 * Whether the numbers are right is tested from Python, against a float64 reference. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "draw.h"
#include "wdt_kernels.h"
#include "wdt_model.h"

enum { D = 3, HQ = 4, HKV = 2, HEAD = 2, LAYERS = 2, CLASSES = 3, FEATURES = 6, HIDDEN = 7, INNER = 4, EMBED = 6 };

/* A blob under construction. */
static uint8_t bytes[8192];
static size_t length;

static void put(const void *data, size_t size)
{
    memcpy(bytes + length, data, size);
    length += size;
}

static void put_words(int count, const uint32_t *words)
{
    put(words, (size_t)count * sizeof *words);
}

static int dtype; /* of the blob under construction: WDT_FLOAT32 or WDT_INT8 */

static void put_floats(size_t count)
{
    for (size_t j = 0; j < count; j++) {
        const float x = (float)draw(2001) / 1000.0f - 1.0f;
        put(&x, sizeof x);
    }
}

/* `tensors` of `count` numbers each, in the dtype */
static void put_tensors(size_t tensors, size_t count)
{
    if (dtype == WDT_FLOAT32) {
        put_floats(tensors * count);
        return;
    }
    for (size_t t = 0; t < tensors; t++) {
        const float scale = (float)draw(1001) / 128e3f;
        put(&scale, sizeof scale);
        for (size_t j = 0; j < (count + 3) / 4 * 4; j++) {
            const int8_t number = (int8_t)(j < count ? (int)draw(256) - 128 : 0);
            put(&number, sizeof number);
        }
    }
}

static size_t begin_record(uint16_t tag)
{
    const uint16_t head[4] = {tag, 1, 0, 0};
    put(head, sizeof head);
    return length;
}

static void end_record(size_t start)
{
    const uint32_t size = (uint32_t)(length - start);
    memcpy(bytes + start - 4, &size, sizeof size);
}

/* A record of words, then `tensors` of `count` numbers, then biases. */
static void record(uint16_t tag, int words, const uint32_t *values, size_t tensors, size_t count, size_t biases)
{
    const size_t start = begin_record(tag);
    if (words > 0) {
        put_words(words, values);
    }
    put_tensors(tensors, count);
    put_tensors(biases > 0, biases);
    end_record(start);
}

static void seal(void)
{
    const uint32_t crc = wdt_crc32(0, bytes, length);
    put(&crc, sizeof crc);
}

static void put_weights(uint32_t P)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        put_tensors(1, D * HEAD * HQ);
        put_tensors(2, D * HEAD * HKV);
        put_tensors(1, D * HEAD * HQ);
    }
    put_tensors(1, P * CLASSES);
}

/* A model with every record; returns where the records begin. */
static size_t make(uint32_t pooling, uint32_t frames)
{
    const uint32_t P = pooling == WDT_POOL_MEAN_SPREAD ? 2 * D : D;
    length = WDT_RVNE_HEADER_BYTES;
    put_weights(P);
    const wdt_rvne_header header = {.flags = (uint8_t)(WDT_FLAG_RECORDS | (dtype == WDT_INT8 ? WDT_FLAG_INT8 : 0)),
                                    .input_dim = D, .n_q_heads = HQ, .n_kv_heads = HKV, .head_dim = HEAD, .n_layers = LAYERS,
                                    .n_classes = CLASSES,
                                    .weights_len = (uint32_t)(length - WDT_RVNE_HEADER_BYTES)};
    wdt_rvne_write_header(&header, bytes);
    const size_t start = length + 4;
    length = start;
    record(WDT_RECORD_pattern, 9, (const uint32_t[]){0, 4, 3, 1, 1, 1, WDT_NORM_RMS, 1, 0}, 0, 0, 0);
    record(WDT_RECORD_pooling, 2, (const uint32_t[]){pooling, frames}, 0, 0, 0);
    const size_t scales = begin_record(WDT_RECORD_feature_scale);
    put_floats(2 * FEATURES);
    end_record(scales);
    record(WDT_RECORD_input_projection, 1, (const uint32_t[]){FEATURES}, 1, FEATURES * D, D);
    record(WDT_RECORD_feed_forward, 2, (const uint32_t[]){HIDDEN, WDT_ACT_SILU}, LAYERS * 2, D * HIDDEN, 0);
    const size_t embedding = begin_record(WDT_RECORD_embedding_projection);
    put_words(3, (const uint32_t[]){P, INNER, EMBED});
    put_tensors(1, P * INNER);
    put_tensors(1, INNER);
    put_tensors(1, INNER * EMBED);
    put_tensors(1, EMBED);
    end_record(embedding);
    wdt_chain_params chain = wdt_chain_params_default();
    chain.bands = FEATURES / 2;
    record(WDT_RECORD_feature_chain, offsetof(wdt_chain_params, frame_bins) / 4, &chain.version, 0, 0, 0);
    const uint32_t records_len = (uint32_t)(length - start);
    memcpy(bytes + start - 4, &records_len, sizeof records_len);
    seal();
    return start;
}

/* Loads an exact copy of the blob; if it is a model whose stream is small, runs frames through it. 1 if it ran. */
static int run_copy(int half)
{
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL);
    memcpy(exact, bytes, length);
    wdt_rvne blob;
    wdt_model model;
    const wdt_cache_config config = {.capacity = 10, .form = half ? WDT_CACHE_HALF : 0};
    const char *why = NULL;
    int ran = 0;
    if (wdt_rvne_parse(exact, length, &blob) == WDT_OK && wdt_model_init(&model, &blob, &why) == WDT_OK &&
        wdt_stream_bytes(&model, &config) < 1 << 22) {
        void *memory = malloc(wdt_stream_bytes(&model, &config));
        float *frame = malloc((size_t)model.features * sizeof *frame);
        float *logits = malloc((size_t)model.classes * sizeof *logits);
        float *embedding = malloc((size_t)model.embedding_dim * sizeof *embedding);
        wdt_stream stream;
        CHECK(wdt_stream_init(&stream, &model, &config, memory) == WDT_OK);
        for (int round = 0; round < 2; round++, wdt_stream_reset(&stream)) {
            int taken = 0;
            for (int t = 0; t < 14; t++) {
                for (int32_t f = 0; f < model.features; f++) {
                    frame[f] = ((float)draw(2001) / 1000.0f - 1.0f) * (t == 5 ? 1e30f : 1.0f);
                }
                const wdt_status status = wdt_stream_push(&stream, frame, logits, embedding);
                CHECK(status == WDT_OK || status == WDT_E_FULL || status == WDT_E_NON_FINITE ||
                      status == WDT_E_HALF_RANGE);
                taken += status == WDT_OK;
                CHECK(stream.length == taken && stream.caches[model.layers - 1].length == taken);
            }
        }
        free(memory), free(frame), free(logits), free(embedding);
        ran = 1;
    }
    free(exact);
    return ran;
}

/* Of an int8 blob's first tensor: a scale that is no scale, one that would give weights that are too large, and padding
 * that is not zero. */
static void tensors_of_int8_are_checked(void)
{
    static const float refused[] = {-1e-30f, 7813.0f, INFINITY, -INFINITY, NAN}, taken[] = {0.0f, 1e-44f, 7812.0f};
    for (size_t s = 0; s < sizeof refused / sizeof *refused; s++) {
        make(WDT_POOL_MEAN, 0);
        memcpy(bytes + WDT_RVNE_HEADER_BYTES, &refused[s], sizeof *refused);
        length -= 4, seal();
        CHECK(!run_copy(0));
    }
    for (size_t s = 0; s < sizeof taken / sizeof *taken; s++) {
        make(WDT_POOL_MEAN, 0);
        memcpy(bytes + WDT_RVNE_HEADER_BYTES, &taken[s], sizeof *taken);
        length -= 4, seal();
        CHECK(run_copy(0));
    }
    const size_t records = make(WDT_POOL_MEAN, 0);
    _Static_assert(D * CLASSES % 4 == 1, "Wc, the last of the weights, has three bytes of padding");
    for (size_t back = 1; back <= 4; back++) {
        make(WDT_POOL_MEAN, 0);
        bytes[records - 4 - back] = 1;
        length -= 4, seal();
        CHECK(run_copy(0) == (back == 4));
    }
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    const int sets = wdt_instruction_sets(names);
    const wdt_model small = {.layers = 1, .head = wdt_head_default()};
    CHECK(wdt_stream_init(NULL, &small, &(wdt_cache_config){0}, NULL) == WDT_E_CONFIG);
    CHECK(wdt_stream_init(NULL, &small, &(wdt_cache_config){.capacity = 1, .policy = &wdt_h2o_compact}, NULL) ==
          WDT_E_CONFIG);
    for (uint32_t pooling = WDT_POOL_MEAN; pooling <= WDT_POOL_MEAN_SPREAD; pooling++) {
        for (int half = 0; half < 2; half++) {
            for (dtype = WDT_FLOAT32; dtype <= WDT_INT8; dtype += WDT_INT8) {
                make(pooling, pooling == WDT_POOL_LAST_N ? 4 : 0);
                CHECK(run_copy(half));
            }
        }
    }
    dtype = WDT_INT8;
    tensors_of_int8_are_checked();
    int ran = 0;
    for (int round = 0; round < 50000; round++) {
        CHECK(wdt_use_instruction_set(names[round % sets]) == WDT_OK);
        dtype = draw(2) ? WDT_INT8 : WDT_FLOAT32;
        const size_t records = make(draw(4), draw(8));
        for (uint32_t flips = 1 + draw(2); flips > 0; flips--) {
            const size_t at = draw(2) ? records + draw((uint32_t)(length - 4 - records)) : 8 + draw(16);
            bytes[at] = (uint8_t)draw(256);
        }
        length -= 4;
        seal();
        ran += run_copy((int)draw(2));
    }
    CHECK(ran > 0 && ran < 50000);
    return 0;
}
