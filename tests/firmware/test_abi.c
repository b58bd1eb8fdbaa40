/* Every row of ruv_temporal.h's contract by its error's name, on the reference blob: 16 features, 4 classes. Linked with
 * --wrap=malloc and --wrap=free, so that allocations can be counted and refused. */
#include <math.h>
#include <string.h>

#include "blob.h"
#include "ruv_temporal.h"
#include "wdt_model.h"

enum { F = 16, C = 4, WINDOW = 32 };

static _Alignas(8) uint8_t blob[BLOB_MAX], large[BLOB_MAX];
static size_t length;
static const ruv_temporal_options_t all_options[] = {
    {RUV_TEMPORAL_WINDOW, 0}, {RUV_TEMPORAL_WINDOW, 1}, {RUV_TEMPORAL_SESSION, 0}, {RUV_TEMPORAL_SESSION, 1}};
enum { OPTIONS = sizeof all_options / sizeof *all_options };

static size_t allocations, frees, asked;
static int refuse;

void *__real_malloc(size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size)
{
    allocations++;
    asked = size;
    return refuse ? NULL : __real_malloc(size);
}

void __wrap_free(void *memory)
{
    frees += memory != NULL;
    __real_free(memory);
}

static ruv_temporal_ctx_t *made(const ruv_temporal_options_t *options, uint32_t window)
{
    ruv_temporal_ctx_t *ctx = NULL;
    CHECK(ruv_temporal_init_with(blob, length, F, window, C, options, &ctx) == ESP_OK && ctx != NULL);
    return ctx;
}

static const float *frame_of(int t)
{
    static float frame[F];
    for (int f = 0; f < F; f++) {
        frame[f] = (float)((t * t * 31 + f * 17 + t) % 101) / 50.0f - 1.0f;
    }
    return frame;
}

/* ------------------------------------------------------------------------------------------------------------- init */

static ruv_temporal_ctx_t *const untouched = (ruv_temporal_ctx_t *)(void *)blob;

/* init, init_with and size refuse alike; out is untouched, and nothing stays allocated. */
static void refuses(const uint8_t *weights, size_t bytes, uint32_t input_dim, uint32_t window, uint32_t classes,
                    esp_err_t expected)
{
    for (int o = 0; o < OPTIONS; o++) {
        ruv_temporal_ctx_t *ctx = untouched;
        const size_t left = allocations - frees;
        CHECK(ruv_temporal_init_with(weights, bytes, input_dim, window, classes, &all_options[o], &ctx) == expected);
        CHECK(ruv_temporal_init(weights, bytes, input_dim, window, classes, &ctx) == expected);
        CHECK(ctx == untouched && (refuse || allocations - frees == left));
        ruv_temporal_sizes_t sizes = {.total = 7};
        if (!refuse) {
            CHECK(ruv_temporal_size(weights, bytes, input_dim, window, classes, &all_options[o], &sizes) == expected);
            CHECK(sizes.total == 7);
        }
    }
}

static void test_init_refuses(void)
{
    refuses(NULL, length, F, WINDOW, C, ESP_ERR_INVALID_ARG);
    refuses(blob, length, 0, WINDOW, C, ESP_ERR_INVALID_ARG);
    refuses(blob, length, F, 0, C, ESP_ERR_INVALID_ARG);
    refuses(blob, length, F, WINDOW, 0, ESP_ERR_INVALID_ARG);
    refuses(blob, length, F + 1, WINDOW, C, ESP_ERR_INVALID_ARG);
    refuses(blob, length, F, WINDOW, C + 1, ESP_ERR_INVALID_ARG);
    refuses(blob, length - 1, F, WINDOW, C, ESP_ERR_INVALID_ARG);
    memcpy(large + 2, blob, length); /* complete, but at an odd multiple of 2 */
    refuses(large + 2, length, F, WINDOW, C, ESP_ERR_INVALID_ARG);
    refuse = 1;
    refuses(blob, length, F, WINDOW, C, ESP_ERR_NO_MEM);
    refuse = 0;

    const ruv_temporal_options_t options = ruv_temporal_options_default(), unknown = {(ruv_temporal_mode_t)2, 0};
    ruv_temporal_ctx_t *ctx = untouched;
    ruv_temporal_sizes_t sizes;
    CHECK(ruv_temporal_init(blob, length, F, WINDOW, C, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(ruv_temporal_init_with(blob, length, F, WINDOW, C, &options, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(ruv_temporal_init_with(blob, length, F, WINDOW, C, NULL, &ctx) == ESP_ERR_INVALID_ARG);
    CHECK(ruv_temporal_init_with(blob, length, F, WINDOW, C, &unknown, &ctx) == ESP_ERR_INVALID_ARG);
    CHECK(ruv_temporal_size(blob, length, F, WINDOW, C, NULL, &sizes) == ESP_ERR_INVALID_ARG);
    CHECK(ruv_temporal_size(blob, length, F, WINDOW, C, &options, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(ctx == untouched);
    CHECK(options.mode == RUV_TEMPORAL_WINDOW && options.half == 0);
}

/* A window of any length is refused for want of memory, and no size wraps round to a small one. */
static void test_sizes_of_long_windows(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        size_t before = 0;
        for (uint64_t window = 1; window <= UINT32_MAX; window = 2 * window + 1) {
            ruv_temporal_sizes_t sizes = {0};
            const esp_err_t error =
                ruv_temporal_size(blob, length, F, (uint32_t)window, C, &all_options[o], &sizes);
            CHECK(error == ESP_OK || (error == ESP_ERR_NO_MEM && sizeof(size_t) == 4));
            CHECK(error != ESP_OK || (sizes.total > before && sizes.total > window));
            before = sizes.total;
            CHECK(error == ESP_ERR_NO_MEM || window < UINT32_MAX || sizeof(size_t) > 4);
        }
    }
}

static void test_one_allocation_of_the_stated_size(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        float logits[C];
        ruv_temporal_sizes_t sizes;
        allocations = frees = 0;
        CHECK(ruv_temporal_size(blob, length, F, WINDOW, C, &all_options[o], &sizes) == ESP_OK && allocations == 0);
        CHECK(sizes.total == sizes.context + sizes.window + sizes.streams + sizes.logits);
        CHECK((sizes.window > 0) == (all_options[o].mode == RUV_TEMPORAL_WINDOW));
        ruv_temporal_ctx_t *const ctx = made(&all_options[o], WINDOW);
        CHECK(allocations == 1 && asked == sizes.total);
        for (int t = 0; t < 3 * WINDOW; t++) {
            CHECK(ruv_temporal_push(ctx, frame_of(t)) == ESP_OK);
            CHECK(ruv_temporal_classify(ctx, logits, C) == ESP_OK);
        }
        ruv_temporal_reset(ctx);
        CHECK(allocations == 1 && frees == 0);
        ruv_temporal_destroy(ctx);
        CHECK(frees == 1);
    }
    ruv_temporal_destroy(NULL);
    ruv_temporal_reset(NULL);
    CHECK(ruv_temporal_model(NULL) == NULL);
}

/* The default mode of the reference blob at a window of 256: the working set of the contract. */
static void test_the_working_set_is_below_64_kb(void)
{
    const ruv_temporal_options_t options = ruv_temporal_options_default();
    ruv_temporal_sizes_t sizes;
    CHECK(ruv_temporal_size(blob, length, F, 256, C, &options, &sizes) == ESP_OK && sizes.total < 65536);
}

/* Half the numbers, and the same besides. */
static void test_float16_caches_are_smaller(void)
{
    for (int o = 0; o < OPTIONS; o += 2) {
        ruv_temporal_sizes_t full, half;
        CHECK(ruv_temporal_size(blob, length, F, 1024, C, &all_options[o], &full) == ESP_OK);
        CHECK(ruv_temporal_size(blob, length, F, 1024, C, &all_options[o + 1], &half) == ESP_OK);
        CHECK(half.streams < full.streams * 6 / 10 && half.window == full.window);
    }
}

/* ---------------------------------------------------------------------------------------------------- push, classify */

static void test_calls_refuse(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        ruv_temporal_ctx_t *const ctx = made(&all_options[o], WINDOW);
        float logits[C + 1] = {7.0f, 7.0f, 7.0f, 7.0f, 7.0f};
        CHECK(ruv_temporal_classify(ctx, logits, C) == ESP_ERR_INVALID_STATE);
        CHECK(ruv_temporal_push(NULL, frame_of(0)) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_push(ctx, NULL) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_classify(ctx, logits, C) == ESP_ERR_INVALID_STATE);
        CHECK(ruv_temporal_push(ctx, frame_of(0)) == ESP_OK);
        CHECK(ruv_temporal_classify(NULL, logits, C) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_classify(ctx, NULL, C) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_classify(ctx, logits, C - 1) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_classify(ctx, logits, C + 1) == ESP_ERR_INVALID_ARG);
        CHECK(ruv_temporal_classify(ctx, logits, 0) == ESP_ERR_INVALID_ARG);
        for (int c = 0; c <= C; c++) {
            CHECK(logits[c] == 7.0f);
        }
        CHECK(ruv_temporal_classify(ctx, logits, C) == ESP_OK);
        CHECK(logits[0] != 7.0f && logits[C] == 7.0f);
        ruv_temporal_reset(ctx);
        CHECK(ruv_temporal_classify(ctx, logits, C) == ESP_ERR_INVALID_STATE);
        CHECK(ruv_temporal_model(ctx)->features == F && ruv_temporal_model(ctx)->classes == C);
        ruv_temporal_destroy(ctx);
    }
}

/* Frames that are refused at push are as if they had not come, wherever they come. */
static void test_refused_frames_change_nothing(void)
{
    const float bad[] = {NAN, INFINITY, -INFINITY, 2e12f};
    for (int o = 0; o < OPTIONS; o++) {
        ruv_temporal_ctx_t *const ctx = made(&all_options[o], 7), *const twin = made(&all_options[o], 7);
        for (int t = 0; t < 40; t++) {
            float frame[F], logits[2][C];
            memcpy(frame, frame_of(t), sizeof frame);
            frame[t % F] = bad[t % 4];
            CHECK(ruv_temporal_push(ctx, frame) == ESP_ERR_INVALID_ARG);
            CHECK(ruv_temporal_push(ctx, frame_of(t)) == ESP_OK && ruv_temporal_push(twin, frame_of(t)) == ESP_OK);
            CHECK(ruv_temporal_classify(ctx, logits[0], C) == ESP_OK);
            CHECK(ruv_temporal_classify(twin, logits[1], C) == ESP_OK);
            CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
        }
        ruv_temporal_destroy(ctx);
        ruv_temporal_destroy(twin);
    }
}

/* A blob of 2 features whose second layer sees x + 100 * the mean of the candidates: 1000 alone is beyond a float16
 * cache, and amid zeros it is not. So one stream of a session can take a frame that the other refuses. */
static void overflow_at(size_t bytes, int at, int window, int *refusals)
{
    static const float zero[2] = {0.0f, 0.5f}, high[2] = {1000.0f, 0.0f};
    const ruv_temporal_options_t session = {RUV_TEMPORAL_SESSION, 1};
    ruv_temporal_ctx_t *ctx, *twin;
    CHECK(ruv_temporal_init_with(large, bytes, 2, (uint32_t)window, 2, &session, &ctx) == ESP_OK);
    CHECK(ruv_temporal_init_with(large, bytes, 2, (uint32_t)window, 2, &session, &twin) == ESP_OK);
    int same = 1;
    for (int t = 0; t < 4 * window && same; t++) {
        float logits[2][2] = {{0}};
        if (t == at) {
            const esp_err_t error = ruv_temporal_push(ctx, high);
            CHECK(error == ESP_OK || error == ESP_FAIL);
            same = error == ESP_FAIL;
            *refusals += same;
        }
        const esp_err_t state = t > 0 ? ESP_OK : ESP_ERR_INVALID_STATE;
        CHECK(!same || ruv_temporal_classify(ctx, logits[0], 2) == state);
        CHECK(ruv_temporal_classify(twin, logits[1], 2) == state);
        CHECK(!same || memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
        CHECK(ruv_temporal_push(ctx, zero) == ESP_OK && ruv_temporal_push(twin, zero) == ESP_OK);
    }
    ruv_temporal_destroy(ctx);
    ruv_temporal_destroy(twin);
}

static void test_session_keeps_a_frame_in_both_streams_or_in_none(const char *path)
{
    const size_t bytes = read_blob(path, large);
    for (int window = 8; window < 12; window++) {
        int refusals = 0;
        for (int at = 0; at < 4 * window; at++) {
            overflow_at(bytes, at, window, &refusals);
        }
        CHECK(refusals >= 6); /* alone at the start, and where a stream starts over: every half window */
    }
}

/* The same frame in a window: taken, and refused at classify until it has left. */
static void test_window_refuses_while_an_overflow_is_in_it(const char *path)
{
    static const float zero[2] = {0.0f, 0.5f}, high[2] = {1e12f, 1e12f};
    const size_t bytes = read_blob(path, large);
    const ruv_temporal_options_t window = {RUV_TEMPORAL_WINDOW, 0};
    ruv_temporal_ctx_t *ctx;
    float logits[2] = {7.0f, 7.0f};
    CHECK(ruv_temporal_init_with(large, bytes, 2, 5, 2, &window, &ctx) == ESP_OK);
    CHECK(ruv_temporal_push(ctx, high) == ESP_OK);
    for (int t = 0; t < 5; t++) {
        CHECK(ruv_temporal_classify(ctx, logits, 2) == ESP_FAIL && logits[0] == 7.0f && logits[1] == 7.0f);
        CHECK(ruv_temporal_push(ctx, zero) == ESP_OK);
    }
    CHECK(ruv_temporal_classify(ctx, logits, 2) == ESP_OK && logits[0] != 7.0f);
    ruv_temporal_destroy(ctx);
}

/* ------------------------------------------------------------------------------------------------ a larger partition */

static void test_blob_bytes(const char *with_records)
{
    for (int which = 0; which < 2; which++) {
        memset(large, 0xFF, sizeof large); /* erased flash */
        CHECK(ruv_temporal_blob_bytes(large, sizeof large) == 0);
        const size_t bytes = which ? read_blob(with_records, large) : length;
        if (!which) {
            memcpy(large, blob, length);
        }
        CHECK(ruv_temporal_blob_bytes(large, sizeof large) == bytes);
        CHECK(ruv_temporal_blob_bytes(large, bytes) == bytes);
        for (size_t left = 1; left <= bytes; left += left < 64 || bytes - left < 64 ? 1 : 61) {
            const size_t available = bytes - left;
            uint8_t *const cut = __real_malloc(available > 0 ? available : 1); /* sanitizers see a byte too many */
            memcpy(cut, large, available);
            CHECK(ruv_temporal_blob_bytes(cut, available) == 0);
            __real_free(cut);
        }
        memset(large + 0x14, 0xFF, 4); /* weights_len */
        CHECK(ruv_temporal_blob_bytes(large, sizeof large) == 0);
    }
    CHECK(ruv_temporal_blob_bytes(NULL, 100) == 0);
}

int main(int count, char **argument)
{
    CHECK(count == 4); /* the reference blob, one that overflows, one with records */
    length = read_blob(argument[1], blob);
    test_init_refuses();
    test_sizes_of_long_windows();
    test_one_allocation_of_the_stated_size();
    test_the_working_set_is_below_64_kb();
    test_float16_caches_are_smaller();
    test_calls_refuse();
    test_refused_frames_change_nothing();
    test_session_keeps_a_frame_in_both_streams_or_in_none(argument[2]);
    test_window_refuses_while_an_overflow_is_in_it(argument[2]);
    test_blob_bytes(argument[3]);
    return 0;
}
