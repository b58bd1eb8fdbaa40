/* A recording through the node's code: packets into the features, frames into the C ABI, a classification and its packet
 * every so many frames. Prints "frame" (features), "logits" (time of the newest packet, values), "packet" (bytes).
 *
 * numbers: kind of packets (below), packets, numbers of a packet, input_dim, window_len, n_classes, mode, half, frames
 * from one classification to the next, node_id, order of a buffer (temporal_features.h), 1 if its first
 * word is invalid. parts: blob, OFDM index of each
 * column (int16; of amplitudes), times (int64, microseconds), packets [packets, numbers]. */
#include "input.h"
#include "memory.h"
#include "print.h"
#include "ruv_temporal.h"
#include "tasks.h"
#include "temporal_features.h"
#include "wdt_model.h"
#include "wdt_wire.h"

enum {
    AMPLITUDE = 0, /* float32 amplitudes, which only the chain below temporal_features.h takes */
    BUFFER = 1,    /* int8 buffers of an ESP32's driver */
    FRAMES = 2     /* float32 frames: no features to make */
};

enum { KIND, PACKETS, VALUES, INPUT_DIM, WINDOW_LEN, N_CLASSES, MODE, HALF, EVERY, NODE_ID, ORDER, FIRST_WORD_INVALID };

static ruv_temporal_ctx_t *ctx;
static uint32_t frames, seq;

static void require(esp_err_t error, const char *what)
{
    if (error != ESP_OK) {
        fail(what, error);
    }
}

static void open_model(void)
{
    const int32_t *const n = input.number;
    const ruv_temporal_options_t options = {.mode = (ruv_temporal_mode_t)n[MODE], .half = (uint8_t)n[HALF]};
    require(ruv_temporal_init_with(input_at(0), input.part[0].length, (uint32_t)n[INPUT_DIM], (uint32_t)n[WINDOW_LEN],
                                   (uint32_t)n[N_CLASSES], &options, &ctx),
            "ruv_temporal_init_with");
}

/* The packet of these logits, as temporal_task.c sends it. */
static void print_packet(const float *logits, uint32_t classes, int64_t time_us)
{
    uint8_t bytes[WDT_WIRE_CLASSIFICATION_BYTES];
    wdt_wire_classification result = wdt_wire_decide(logits, classes);
    result.node_id = (uint8_t)input.number[NODE_ID];
    result.ts_us = (uint64_t)time_us;
    result.seq = seq++;
    wdt_wire_write_classification(&result, bytes);
    print_begin("packet");
    print_bytes(bytes, sizeof bytes);
    print_end();
}

static void classify(int64_t time_us)
{
    const uint32_t classes = (uint32_t)input.number[N_CLASSES];
    float logits[64];
    if (classes > sizeof logits / sizeof *logits) {
        fail("too many classes", (int)classes);
    }
    require(ruv_temporal_classify(ctx, logits, classes), "ruv_temporal_classify");
    print_begin("logits");
    print_integer(time_us);
    print_floats(logits, classes);
    print_end();
    print_packet(logits, classes, time_us);
}

static void take(const float *frame, int64_t time_us)
{
    print_begin("frame");
    print_floats(frame, (size_t)input.number[INPUT_DIM]);
    print_end();
    require(ruv_temporal_push(ctx, frame), "ruv_temporal_push");
    if (++frames % (uint32_t)input.number[EVERY] == 0) {
        classify(time_us);
    }
}

/* Either refuses a packet that is no measurement, or late, as it does on the host. */
static void run_buffers(const int64_t *times, float *frame)
{
    const int8_t *const csi = input_at(3);
    const size_t values = (size_t)input.number[VALUES];
    const temporal_features_layout_t layout = {.values = (uint16_t)values,
                                               .order = (temporal_features_order_t)input.number[ORDER],
                                               .first_word_invalid = (uint8_t)input.number[FIRST_WORD_INVALID]};
    const size_t bytes = temporal_features_bytes(ruv_temporal_model(ctx), &layout);
    temporal_features_t *features;
    require(temporal_features_init(heap_take(bytes), bytes, ruv_temporal_model(ctx), &layout, &features),
            "temporal_features_init");
    for (int32_t p = 0; p <= input.number[PACKETS]; p++) {
        const int ended = p == input.number[PACKETS];
        const esp_err_t error = ended ? temporal_features_flush(features)
                                      : temporal_features_push(features, csi + (size_t)p * values, values, times[p]);
        require(error == ESP_ERR_INVALID_RESPONSE ? ESP_OK : error, "temporal_features_push");
        while (temporal_features_next(features, frame) == ESP_OK) {
            take(frame, times[p - ended]);
        }
    }
}

static void run_amplitudes(const int64_t *times, float *frame)
{
    const wdt_chain_params *const params = &ruv_temporal_model(ctx)->chain;
    const float *const amplitudes = input_at(3);
    const uint32_t columns = (uint32_t)input.number[VALUES];
    const size_t bytes = wdt_chain_bytes(params, 1, columns);
    wdt_chain *chain;
    if (wdt_chain_init(heap_take(bytes), bytes, params, 1, columns, input_at(1), &chain) != WDT_CHAIN_OK) {
        fail("wdt_chain_init", (int)bytes);
    }
    for (int32_t p = 0; p <= input.number[PACKETS]; p++) {
        const int ended = p == input.number[PACKETS];
        const wdt_chain_status status =
            ended ? wdt_chain_flush(chain) : wdt_chain_push(chain, times[p], amplitudes + (uint32_t)p * columns);
        if (status > WDT_CHAIN_LATE) {
            fail("wdt_chain_push", (int)status);
        }
        int64_t time_us;
        uint8_t held;
        while (wdt_chain_next(chain, frame, &time_us, &held) == WDT_CHAIN_FRAME) {
            take(frame, times[p - ended]);
        }
    }
}

void recording(void)
{
    const int64_t *const times = input_at(2);
    open_model();
    float *const frame = heap_take((size_t)input.number[INPUT_DIM] * sizeof *frame);
    if (input.number[KIND] == BUFFER) {
        run_buffers(times, frame);
    } else if (input.number[KIND] == AMPLITUDE) {
        run_amplitudes(times, frame);
    } else {
        for (int32_t p = 0; p < input.number[PACKETS]; p++) {
            take((const float *)input_at(3) + p * input.number[VALUES], times[p]);
        }
    }
    ruv_temporal_destroy(ctx);
}
