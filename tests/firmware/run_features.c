/* The driver's buffers through temporal_features.c: writes the frames, or checks the refusals.
 *
 *   run_features BLOB FIRST_WORD_INVALID < packets > frames      a packet: t_us i64, values u32, that many int8
 *   run_features                                                 the unwrapped time
 *   run_features BLOB                                            the contract of temporal_features.h; prints the
 *                                                                bytes that an ESP32's buffers of 64 columns take */
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "temporal_features.h"
#include "wdt_model.h"

static _Alignas(8) uint8_t bytes[BLOB_MAX];
static float frame[256];

static void write_frames(temporal_features_t *features, const wdt_model *model)
{
    while (temporal_features_next(features, frame) == ESP_OK) {
        CHECK(fwrite(frame, sizeof *frame, (size_t)model->features, stdout) == (size_t)model->features);
    }
}

static void run(const wdt_model *model, int first_word_invalid)
{
    static int8_t csi[TEMPORAL_FEATURES_MAX_VALUES];
    temporal_features_t *features = NULL;
    temporal_features_layout_t layout;
    uint8_t *memory = NULL;
    int64_t t_us;
    uint32_t values;
    while (fread(&t_us, sizeof t_us, 1, stdin) == 1 && fread(&values, sizeof values, 1, stdin) == 1) {
        CHECK(values <= sizeof csi && fread(csi, 1, values, stdin) == values);
        if (features == NULL) {
            CHECK(temporal_features_layout_of(csi, values, first_word_invalid, &layout) == ESP_OK);
            const size_t needed = temporal_features_bytes(model, &layout);
            memory = malloc(needed); /* exactly: sanitizers see a byte too many */
            CHECK(memory != NULL);
            CHECK(temporal_features_init(memory, needed, model, &layout, &features) == ESP_OK);
        }
        const esp_err_t error = temporal_features_push(features, csi, values, t_us);
        CHECK(error == ESP_OK || error == ESP_ERR_INVALID_SIZE || error == ESP_ERR_INVALID_RESPONSE);
        write_frames(features, model);
    }
    CHECK(temporal_features_flush(features) == ESP_OK);
    write_frames(features, model);
    free(memory);
}

static void test_refusals(const wdt_model *model)
{
    static _Alignas(8) uint8_t memory[1 << 15];
    int8_t csi[384];
    temporal_features_layout_t layout = {128, TEMPORAL_FEATURES_FFT, 0}, told = {7, TEMPORAL_FEATURES_UNKNOWN, 7};
    temporal_features_t *features = NULL;
    for (int i = 0; i < 384; i++) {
        csi[i] = (int8_t)(i % 7 + 20); /* no silent guards */
    }
    CHECK(temporal_features_layout_of(NULL, 128, 0, &told) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_layout_of(csi, 128, 0, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_layout_of(csi, 0, 0, &told) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_layout_of(csi, 127, 0, &told) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_layout_of(csi, TEMPORAL_FEATURES_MAX_VALUES + 2, 0, &told) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_layout_of(csi, 128, 0, &told) == ESP_ERR_NOT_FOUND && told.values == 7);
    CHECK(temporal_features_layout_of(csi, 114, 1, &told) == ESP_OK);
    CHECK(told.values == 114 && told.order == TEMPORAL_FEATURES_UNKNOWN && told.first_word_invalid == 1);

    const size_t needed = temporal_features_bytes(model, &layout);
    CHECK(needed > 0 && needed < sizeof memory && needed % TEMPORAL_FEATURES_ALIGNMENT == 0);
    CHECK(temporal_features_init(NULL, needed, model, &layout, &features) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_init(memory + 4, needed, model, &layout, &features) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_init(memory, needed, NULL, &layout, &features) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_init(memory, needed, model, NULL, &features) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_init(memory, needed, model, &layout, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_init(memory, needed - 1, model, &layout, &features) == ESP_ERR_NO_MEM);
    wdt_model clash = *model;
    clash.features++;
    CHECK(temporal_features_bytes(&clash, &layout) == 0);
    CHECK(temporal_features_init(memory, needed, &clash, &layout, &features) == ESP_ERR_INVALID_SIZE);
    const temporal_features_layout_t none[] = {{114, TEMPORAL_FEATURES_FFT, 0},
                                               {127, TEMPORAL_FEATURES_UNKNOWN, 0},
                                               {0, TEMPORAL_FEATURES_UNKNOWN, 0},
                                               {128, (temporal_features_order_t)3, 0}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CHECK(temporal_features_bytes(model, &none[i]) == 0);
        CHECK(temporal_features_init(memory, sizeof memory, model, &none[i], &features) == ESP_ERR_INVALID_ARG);
    }
    const temporal_features_layout_t narrow = {4, TEMPORAL_FEATURES_UNKNOWN, 0}; /* fewer columns than bands */
    CHECK(temporal_features_init(memory, sizeof memory, model, &narrow, &features) == ESP_ERR_INVALID_SIZE);
    CHECK(features == NULL);

    CHECK(temporal_features_init(memory, needed, model, &layout, &features) == ESP_OK);
    CHECK(temporal_features_push(NULL, csi, 128, 0) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_push(features, NULL, 128, 0) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_push(features, csi, 384, 0) == ESP_ERR_INVALID_SIZE);
    CHECK(temporal_features_next(NULL, frame) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_next(features, NULL) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_flush(NULL) == ESP_ERR_INVALID_ARG);
    CHECK(temporal_features_next(features, frame) == ESP_ERR_NOT_FOUND);
    CHECK(temporal_features_push(features, csi, 128, 1000000) == ESP_OK);
    CHECK(temporal_features_push(features, csi, 128, 999999) == ESP_ERR_INVALID_RESPONSE); /* late */
    const int8_t silent[128] = {0};
    CHECK(temporal_features_push(features, silent, 128, 1000001) == ESP_ERR_INVALID_RESPONSE);
    CHECK(temporal_features_flush(features) == ESP_OK);
    CHECK(temporal_features_push(features, csi, 128, 2000000) == ESP_ERR_INVALID_STATE);
    CHECK(temporal_features_flush(features) == ESP_ERR_INVALID_STATE);
    printf("%zu\n", needed);
}

/* The WiFi's clock was `ahead_us` ahead of the other one when both began, and a buffer is handed over some time after it
 * came. Silences from nothing to three hours: as much time passes as by the WiFi's clock, and never backwards. */
static void test_time(int64_t ahead_us)
{
    static const int64_t second = 1000000;
    temporal_features_clock_t clock = {0};
    int64_t wifi_us = 7 * second + ahead_us, now_us = 7 * second;
    const int64_t first = temporal_features_time(&clock, now_us, (uint32_t)wifi_us);
    CHECK(first == now_us);
    for (int64_t gap_us = 0, n = 0; gap_us <= 3 * 3600 * second; gap_us += 29 * second + n % 7, n++) {
        const int64_t before = wifi_us;
        wifi_us += gap_us;
        now_us = wifi_us - ahead_us + n * 7919 % 200000; /* handed over up to 200 ms late */
        const int64_t t_us = temporal_features_time(&clock, now_us, (uint32_t)wifi_us);
        CHECK(t_us == first + wifi_us - (7 * second + ahead_us) && wifi_us >= before);
    }
    const int64_t newest = temporal_features_time(&clock, now_us, (uint32_t)wifi_us);
    CHECK(temporal_features_time(&clock, now_us, (uint32_t)(wifi_us - 300)) == newest - 300); /* a late packet is late */
    CHECK(temporal_features_time(&clock, now_us + second, 0x12345678u ^ (uint32_t)wifi_us) == now_us + second);
    CHECK(temporal_features_time(&clock, now_us + 2 * second, (0x12345678u ^ (uint32_t)wifi_us) + 1000000u) ==
          now_us + 2 * second); /* the WiFi's clock was set anew: from then on by the new one */
}

int main(int count, char **argument)
{
    if (count == 1) {
        static const int64_t ahead_us[] = {0, 12345, -6000000, INT32_MAX, INT32_MIN, (int64_t)1 << 40, UINT32_MAX};
        for (size_t n = 0; n < sizeof ahead_us / sizeof *ahead_us; n++) {
            test_time(ahead_us[n]);
        }
        return 0;
    }
    CHECK(count == 2 || count == 3);
    wdt_rvne blob;
    wdt_model model;
    CHECK(wdt_rvne_parse(bytes, read_blob(argument[1], bytes), &blob) == WDT_OK);
    CHECK(wdt_model_init(&model, &blob, NULL) == WDT_OK && model.features <= 256);
    if (count == 3) {
        run(&model, atoi(argument[2]));
    } else {
        test_refusals(&model);
    }
    return 0;
}
