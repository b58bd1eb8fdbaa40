/* A recording through the node's code: packets into the feature chain, frames into the C ABI, a classification and its
 * packet every so many frames. Prints "frame" (time, held, features), "logits" (time, values), "packet" (bytes).
 *
 * numbers: kind of packets (below), packets, columns, input_dim, window_len, n_classes, mode, half, frames from one
 * classification to the next, node_id. parts: blob, OFDM index of each column (int16), times (int64, microseconds),
 * packets [packets, columns] or, of frames, [packets, input_dim]. */
#include <string.h>

#include "input.h"
#include "memory.h"
#include "print.h"
#include "ruv_temporal.h"
#include "tasks.h"
#include "wdt_model.h"
#include "wdt_wire.h"

enum {
    AMPLITUDE = 0, /* float32 amplitudes */
    IQ8 = 1,       /* int8 pairs, imaginary part first, as an ESP32's driver gives them */
    FRAMES = 2     /* float32 frames: no chain */
};

enum { KIND, PACKETS, COLUMNS, INPUT_DIM, WINDOW_LEN, N_CLASSES, MODE, HALF, EVERY, NODE_ID };

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
    uint32_t best = 0;
    for (uint32_t c = 1; c < classes; c++) {
        best = logits[c] > logits[best] ? c : best;
    }
    uint32_t second = best == 0 ? 1 : 0;
    for (uint32_t c = 0; c < classes; c++) {
        second = c != best && logits[c] > logits[second] ? c : second;
    }
    const wdt_wire_classification result = {.n_classes = (uint16_t)classes, .node_id = (uint8_t)input.number[NODE_ID],
                                            .ts_us = (uint64_t)time_us, .seq = seq++, .argmax = (uint8_t)best,
                                            .top_logit = logits[best], .top1_minus_top2 = logits[best] - logits[second]};
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

static void take(const float *frame, int64_t time_us, uint8_t held)
{
    print_begin("frame");
    print_integer(time_us);
    print_integer(held);
    print_floats(frame, (size_t)input.number[INPUT_DIM]);
    print_end();
    require(ruv_temporal_push(ctx, frame), "ruv_temporal_push");
    if (++frames % (uint32_t)input.number[EVERY] == 0) {
        classify(time_us);
    }
}

static void take_due(wdt_chain *chain, float *frame)
{
    int64_t time_us;
    uint8_t held;
    while (wdt_chain_next(chain, frame, &time_us, &held) == WDT_CHAIN_FRAME) {
        take(frame, time_us, held);
    }
}

/* One packet, of amplitudes or I/Q, as this chain needs it; `room` [columns, 2]. */
static wdt_chain_status push_packet(wdt_chain *chain, int phase, int32_t packet, int64_t time_us, float *room)
{
    const int32_t columns = input.number[COLUMNS];
    if (input.number[KIND] == AMPLITUDE) {
        return wdt_chain_push(chain, time_us, (const float *)input_at(3) + packet * columns);
    }
    const int8_t *const iq = (const int8_t *)input_at(3) + 2 * packet * columns;
    if (!phase) {
        wdt_chain_amplitude_iq8(iq, (size_t)columns, room);
        return wdt_chain_push(chain, time_us, room);
    }
    for (int32_t k = 0; k < columns; k++) {
        room[2 * k] = iq[2 * k + 1];
        room[2 * k + 1] = iq[2 * k];
    }
    return wdt_chain_push_iq(chain, time_us, room);
}

static void run_packets(const int64_t *times)
{
    const wdt_chain_params *const params = &ruv_temporal_model(ctx)->chain;
    const uint32_t columns = (uint32_t)input.number[COLUMNS];
    const size_t bytes = wdt_chain_bytes(params, 1, columns);
    float *const frame = heap_take((size_t)wdt_chain_features(params) * sizeof *frame);
    float *const room = heap_take(2 * columns * sizeof *room);
    wdt_chain *chain;
    if (bytes == 0 ||
        wdt_chain_init(heap_take(bytes), bytes, params, 1, columns, input_at(1), &chain) != WDT_CHAIN_OK) {
        fail("wdt_chain_init", (int)bytes);
    }
    for (int32_t p = 0; p < input.number[PACKETS]; p++) {
        const wdt_chain_status status = push_packet(chain, wdt_chain_needs_phase(params), p, times[p], room);
        if (status > WDT_CHAIN_LATE) {
            fail("wdt_chain_push", (int)status);
        }
        take_due(chain, frame);
    }
    wdt_chain_flush(chain);
    take_due(chain, frame);
}

void recording(void)
{
    const int64_t *const times = input_at(2);
    open_model();
    if (input.number[KIND] != FRAMES) {
        run_packets(times);
    } else {
        for (int32_t p = 0; p < input.number[PACKETS]; p++) {
            take((const float *)input_at(3) + p * input.number[INPUT_DIM], times[p], 0);
        }
    }
    ruv_temporal_destroy(ctx);
}
