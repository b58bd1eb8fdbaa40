/* Model and stream on memory of exactly the stated sizes, with every optional part, and with hostile records.
 * Whether the numbers are right is tested from Python, against a float64 reference. */
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

static void put_tensor(size_t count)
{
    for (size_t j = 0; j < count; j++) {
        const float x = (float)draw(2001) / 1000.0f - 1.0f;
        put(&x, sizeof x);
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

static void record(uint16_t tag, int words, const uint32_t *values, size_t floats)
{
    const size_t start = begin_record(tag);
    if (words > 0) {
        put_words(words, values);
    }
    put_tensor(floats);
    end_record(start);
}

static void seal(void)
{
    const uint32_t crc = wdt_crc32(0, bytes, length);
    put(&crc, sizeof crc);
}

/* A model with every record; returns where the records begin. */
static size_t make(uint32_t pooling, uint32_t frames)
{
    const uint32_t P = pooling == WDT_POOL_MEAN_SPREAD ? 2 * D : D;
    const uint32_t floats = LAYERS * 2 * D * HEAD * (HQ + HKV) + P * CLASSES;
    const wdt_rvne_header header = {.flags = WDT_FLAG_RECORDS, .input_dim = D, .n_q_heads = HQ, .n_kv_heads = HKV,
                                    .head_dim = HEAD, .n_layers = LAYERS, .n_classes = CLASSES,
                                    .weights_len = floats * 4};
    wdt_rvne_write_header(&header, bytes);
    length = WDT_RVNE_HEADER_BYTES;
    put_tensor(floats);
    const size_t start = length + 4;
    length = start;
    record(WDT_RECORD_pattern, 9, (const uint32_t[]){0, 4, 3, 1, 1, 1, WDT_NORM_RMS, 1, 0}, 0);
    record(WDT_RECORD_pooling, 2, (const uint32_t[]){pooling, frames}, 0);
    record(WDT_RECORD_feature_scale, 0, NULL, 2 * FEATURES);
    record(WDT_RECORD_input_projection, 1, (const uint32_t[]){FEATURES}, FEATURES * D + D);
    record(WDT_RECORD_feed_forward, 2, (const uint32_t[]){HIDDEN, WDT_ACT_SILU}, LAYERS * 2 * D * HIDDEN);
    record(WDT_RECORD_embedding_projection, 3, (const uint32_t[]){P, INNER, EMBED},
           P * INNER + INNER + INNER * EMBED + EMBED);
    wdt_chain_params chain = wdt_chain_params_default();
    chain.bands = FEATURES / 2;
    record(WDT_RECORD_feature_chain, offsetof(wdt_chain_params, frame_bins) / 4, &chain.version, 0);
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
    const char *why = NULL;
    int ran = 0;
    if (wdt_rvne_parse(exact, length, &blob) == WDT_OK && wdt_model_init(&model, &blob, &why) == WDT_OK &&
        wdt_stream_bytes(&model, 10, half) < 1 << 22) {
        void *memory = malloc(wdt_stream_bytes(&model, 10, half));
        float *frame = malloc((size_t)model.features * sizeof *frame);
        float *logits = malloc((size_t)model.classes * sizeof *logits);
        float *embedding = malloc((size_t)model.embedding_dim * sizeof *embedding);
        wdt_stream stream;
        CHECK(wdt_stream_init(&stream, &model, 10, half, memory) == WDT_OK);
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

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    const int sets = wdt_instruction_sets(names);
    CHECK(wdt_stream_init(NULL, &(wdt_model){.layers = 1, .head = wdt_head_default()}, 0, 0, NULL) == WDT_E_CONFIG);
    for (uint32_t pooling = WDT_POOL_MEAN; pooling <= WDT_POOL_MEAN_SPREAD; pooling++) {
        for (int half = 0; half < 2; half++) {
            make(pooling, pooling == WDT_POOL_LAST_N ? 4 : 0);
            CHECK(run_copy(half));
        }
    }
    int ran = 0;
    for (int round = 0; round < 50000; round++) {
        CHECK(wdt_use_instruction_set(names[round % sets]) == WDT_OK);
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
