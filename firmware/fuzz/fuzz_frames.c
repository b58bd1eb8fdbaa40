/* Frames from anyone into the C ABI, over a small model: no float is too hostile, a refusal changes nothing, and a
 * decision makes a packet that is taken.
 *
 * An input is u8 options (bit 0 session, bit 1 float16 caches, then the window's length), and operations of a byte:
 * from 0xF8 on reset, from 0xF0 on nothing, else push of the FEATURES floats that follow; classify after a multiple of
 * 4. */
#include "fuzz.h"
#include "ruv_temporal.h"
#include "wdt_model.h"
#include "wdt_wire.h"

enum { FEATURES = 3, CLASSES = 2, LAYERS = 2, QUERIES = 2, DIM = 4 };
enum { WEIGHTS = LAYERS * 2 * FEATURES * DIM * (QUERIES + 1) + FEATURES * CLASSES };

/* A blob with weights between -1 and 1, made once. */
static const uint8_t *model(size_t *length)
{
    static _Alignas(8) uint8_t blob[WDT_RVNE_HEADER_BYTES + 4 * WEIGHTS + WDT_RVNE_CRC_BYTES];
    const wdt_rvne_header header = {0, FEATURES, QUERIES, 1, DIM, LAYERS, CLASSES, 4 * WEIGHTS};
    *length = sizeof blob;
    if (blob[0] == 0) {
        uint32_t state = 1;
        wdt_rvne_write_header(&header, blob);
        for (uint32_t j = 0; j < WEIGHTS; j++) {
            state = state * 1664525u + 1013904223u;
            const float weight = (float)(state >> 8) / 8388608.0f - 1.0f;
            uint32_t bits;
            memcpy(&bits, &weight, sizeof bits);
            store_u32(blob + WDT_RVNE_HEADER_BYTES + 4 * j, bits);
        }
        store_u32(blob + sizeof blob - 4, wdt_crc32(0, blob, sizeof blob - 4));
    }
    return blob;
}

/* Whether push says so at once; what overflows inside the model is found out later. */
static int is_hostile(const float *frame)
{
    int hostile = !all_finite(frame, FEATURES);
    for (int j = 0; j < FEATURES && !hostile; j++) {
        hostile = frame[j] > WDT_MAX_VALUE || frame[j] < -WDT_MAX_VALUE;
    }
    return hostile;
}

static void push(ruv_temporal_ctx_t *ctx, input *from, int session)
{
    float frame[FEATURES], before[CLASSES], logits[CLASSES];
    for (int j = 0; j < FEATURES; j++) {
        frame[j] = take_float(from);
    }
    const int hostile = is_hostile(frame), watched = hostile || session; /* else classify takes its time */
    const esp_err_t first = watched ? ruv_temporal_classify(ctx, before, CLASSES) : ESP_OK;
    const esp_err_t pushed = ruv_temporal_push(ctx, frame);
    REQUIRE(hostile ? pushed == ESP_ERR_INVALID_ARG : pushed == ESP_OK || (session && pushed == ESP_FAIL));
    if (pushed != ESP_OK) {
        REQUIRE(ruv_temporal_classify(ctx, logits, CLASSES) == first);
        REQUIRE(first != ESP_OK || memcmp(before, logits, sizeof logits) == 0);
    }
}

static void classify(ruv_temporal_ctx_t *ctx)
{
    float logits[CLASSES] = {1.0f, 2.0f};
    const esp_err_t answer = ruv_temporal_classify(ctx, logits, CLASSES);
    REQUIRE(answer == ESP_OK || answer == ESP_ERR_INVALID_STATE || answer == ESP_FAIL);
    REQUIRE(answer == ESP_OK ? all_finite(logits, CLASSES) : logits[0] == 1.0f && logits[1] == 2.0f);
    uint8_t packet[WDT_WIRE_CLASSIFICATION_BYTES];
    wdt_wire_classification decided = wdt_wire_decide(logits, CLASSES);
    wdt_wire_write_classification(&decided, packet);
    REQUIRE(wdt_wire_parse_classification(packet, sizeof packet, &decided, NULL) == WDT_WIRE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, size};
    size_t length;
    const uint8_t *const blob = model(&length);
    const uint32_t choice = take_number(&from, 1);
    const ruv_temporal_options_t options = {choice & 1u ? RUV_TEMPORAL_SESSION : RUV_TEMPORAL_WINDOW, choice >> 1 & 1u};
    ruv_temporal_ctx_t *ctx = NULL;
    REQUIRE(ruv_temporal_init_with(blob, length, FEATURES, 1 + (choice >> 2) % 12, CLASSES, &options, &ctx) == ESP_OK);
    while (from.left > 0) {
        const uint32_t operation = take_number(&from, 1);
        if (operation >= 0xF8) {
            ruv_temporal_reset(ctx);
        } else if (operation < 0xF0) {
            push(ctx, &from, options.mode == RUV_TEMPORAL_SESSION);
        }
        if (operation % 4 == 0 || from.left == 0) {
            classify(ctx);
        }
    }
    ruv_temporal_destroy(ctx);
    return 0;
}
