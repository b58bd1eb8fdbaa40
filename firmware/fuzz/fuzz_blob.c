/* A blob from anyone, through the node's C ABI: init refuses it, or frames go through it, some of them hostile too. */
#include "fuzz.h"
#include "ruv_temporal.h"
#include "wdt_model.h"

enum { MOST_BYTES = 1 << 20, MOST_FRAMES = 12, HEADER = WDT_RVNE_HEADER_BYTES, CRC = WDT_RVNE_CRC_BYTES };

/* Frames as a blob's own bytes would have them: the same for the same blob. */
static uint64_t noise;

static uint32_t draw(uint32_t below)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (uint32_t)(noise >> 32) % below;
}

static void draw_frame(float *frame, size_t n)
{
    static const uint32_t hostile[] = {0x7FC00000u, 0x7F800000u, 0xFF7FFFFFu, 0x00000001u, 0x5368D4A5u, 0xD3000000u};
    for (size_t j = 0; j < n; j++) {
        frame[j] = (float)draw(4001) / 1000.0f - 2.0f;
    }
    if (draw(4) == 0) {
        memcpy(&frame[draw((uint32_t)n)], &hostile[draw(6)], sizeof *hostile);
    }
}

/* A refused frame leaves what classify says as it was, to the bit. */
static void push(ruv_temporal_ctx_t *ctx, const float *frame, float *logits, float *before, uint32_t classes)
{
    const esp_err_t first = ruv_temporal_classify(ctx, before, classes);
    if (ruv_temporal_push(ctx, frame) != ESP_OK) {
        REQUIRE(ruv_temporal_classify(ctx, logits, classes) == first);
        REQUIRE(first != ESP_OK || memcmp(logits, before, classes * sizeof *logits) == 0);
    } else if (ruv_temporal_classify(ctx, logits, classes) == ESP_OK) {
        REQUIRE(all_finite(logits, classes));
    }
}

static void run(ruv_temporal_ctx_t *ctx, uint32_t features, uint32_t classes)
{
    float *const frame = block(features * sizeof *frame);
    float *const logits = block(classes * sizeof *logits), *const before = block(classes * sizeof *before);
    REQUIRE(ruv_temporal_classify(ctx, logits, classes) == ESP_ERR_INVALID_STATE);
    REQUIRE(ruv_temporal_classify(ctx, logits, classes + 1) == ESP_ERR_INVALID_ARG);
    for (int t = 0; t < 2 * MOST_FRAMES; t++) {
        draw_frame(frame, features);
        push(ctx, frame, logits, before, classes);
    }
    ruv_temporal_reset(ctx);
    REQUIRE(ruv_temporal_classify(ctx, logits, classes) == ESP_ERR_INVALID_STATE);
    free(frame);
    free(logits);
    free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t nothing;
    ruv_temporal_ctx_t *const none = (ruv_temporal_ctx_t *)(void *)&nothing, *ctx = none;
    wdt_rvne blob;
    wdt_model model;
    ruv_temporal_sizes_t sizes;
    uint32_t features = 16, classes = 4;
    noise = 0x9E3779B97F4A7C15u ^ (size >= CRC ? load_u32(data + size - CRC) : 0);
    if (wdt_rvne_parse(data, size, &blob) == WDT_OK) {
        classes = blob.header.n_classes;
        const char *why = NULL;
        const wdt_status status = wdt_model_init(&model, &blob, &why);
        REQUIRE((status == WDT_E_MODEL) == (why != NULL));
        features = status == WDT_OK ? (uint32_t)model.features : blob.header.input_dim;
    }
    const ruv_temporal_options_t options = {draw(2) ? RUV_TEMPORAL_SESSION : RUV_TEMPORAL_WINDOW, (uint8_t)draw(2)};
    const uint32_t frames = 1 + draw(MOST_FRAMES);
    const esp_err_t told = ruv_temporal_size(data, size, features, frames, classes, &options, &sizes);
    if (told == ESP_OK && sizes.total > MOST_BYTES) {
        return 0; /* a pooling of many frames: right, and slow */
    }
    REQUIRE(ruv_temporal_init_with(data, size, features, frames, classes, &options, &ctx) == told);
    REQUIRE((told == ESP_OK) == (ctx != none));
    if (told == ESP_OK) {
        run(ctx, features, classes);
        ruv_temporal_destroy(ctx);
    }
    return 0;
}

/* Makes the lengths add up, so that mutations get behind them: the records take what the weights leave. */
static size_t repair(uint8_t *data, size_t size)
{
    const size_t left = size - HEADER - CRC;
    const uint32_t weights = load_u32(data + 0x14);
    store_u32(data, WDT_RVNE_MAGIC);
    store_u16(data + 4, WDT_RVNE_VERSION);
    data[6] &= WDT_FLAG_FLOAT16 | WDT_FLAG_RECORDS | WDT_FLAG_INT8;
    if (data[6] & WDT_FLAG_INT8) {
        data[6] &= (uint8_t)~WDT_FLAG_FLOAT16;
    }
    data[7] = 0;
    if (data[6] & WDT_FLAG_RECORDS && weights <= left && left - weights >= 4) {
        store_u32(data + HEADER + weights, (uint32_t)(left - weights - 4));
        return size;
    }
    data[6] &= (uint8_t)~WDT_FLAG_RECORDS;
    store_u32(data + 0x14, (uint32_t)(left / 4 * 4));
    return HEADER + left / 4 * 4 + CRC;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size < HEADER + CRC || seed % 16 == 0) {
        return size;
    }
    if (seed / 16 % 8) {
        size = repair(data, size);
    }
    store_u32(data + size - CRC, wdt_crc32(0, data, size - CRC));
    return size;
}
