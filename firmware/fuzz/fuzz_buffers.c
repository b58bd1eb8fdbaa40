/* The WiFi driver's buffers, as the node's features take them: their layout, and the way into a chain of anyone's.
 *
 * An input is a chain's words, u16 values of a buffer, u8 layout (bit 7: told by the first buffer; else the order, and
 * bit 6: the first word is invalid), and buffers of that many int8, each behind a u16 of time since the last. */
#include "chain_words.h"
#include "temporal_features.h"
#include "wdt_model.h"

enum { MOST_FRAMES = 512, TOLD = 0x80, FIRST_WORD_INVALID = 0x40 };

/* Returns how many frames there were. */
static size_t drain(temporal_features_t *features, float *frame, size_t count)
{
    esp_err_t answer;
    size_t frames = 0;
    while ((answer = temporal_features_next(features, frame)) == ESP_OK) {
        REQUIRE(all_finite(frame, count));
        frames++;
    }
    REQUIRE(answer == ESP_ERR_NOT_FOUND);
    return frames;
}

static void run(temporal_features_t *features, const wdt_model *model, input *from, size_t values)
{
    const size_t count = (size_t)model->features;
    int8_t *const csi = block(values);
    float *const frame = block(count * sizeof *frame);
    int64_t t_us = 0;
    for (size_t frames = 0; from->left > 0 && frames < MOST_FRAMES;) {
        t_us += 16 * (int64_t)take_number(from, 2);
        take(from, csi, values);
        REQUIRE(temporal_features_push(features, csi, values + 2, t_us) == ESP_ERR_INVALID_SIZE);
        const esp_err_t answer = temporal_features_push(features, csi, values, t_us);
        REQUIRE(answer == ESP_OK || answer == ESP_ERR_INVALID_RESPONSE);
        frames += drain(features, frame, count);
    }
    REQUIRE(temporal_features_flush(features) == ESP_OK);
    drain(features, frame, count);
    free(csi);
    free(frame);
}

/* The layout that the input states, or that the first buffer shows; 0 where it shows none. */
static int take_layout(input *from, temporal_features_layout_t *layout)
{
    const size_t values = take_number(from, 2);
    const uint32_t stated = take_number(from, 1);
    const int first_word_invalid = (stated & FIRST_WORD_INVALID) != 0;
    if (stated & TOLD) {
        int8_t *const csi = block(values);
        input behind = {from->at + (from->left > 2 ? 2 : 0), from->left > 2 ? from->left - 2 : 0};
        take(&behind, csi, values);
        const esp_err_t answer = temporal_features_layout_of(csi, values, first_word_invalid, layout);
        free(csi);
        REQUIRE(answer == ESP_OK || answer == ESP_ERR_INVALID_ARG || answer == ESP_ERR_NOT_FOUND);
        return answer == ESP_OK;
    }
    const temporal_features_layout_t as_stated = {(uint16_t)values, (temporal_features_order_t)(stated % 4),
                                                  (uint8_t)first_word_invalid};
    *layout = as_stated;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, size};
    wdt_model model;
    memset(&model, 0, sizeof model);
    model.chain = take_params(&from);
    temporal_features_layout_t layout;
    if (wdt_chain_params_rule(&model.chain) != NULL || !take_layout(&from, &layout)) {
        return 0; /* no model has such a chain */
    }
    model.features = (int32_t)wdt_chain_features(&model.chain);
    const size_t bytes = temporal_features_bytes(&model, &layout);
    if (bytes > MOST_CHAIN_BYTES) {
        return 0;
    }
    void *const memory = block(bytes);
    temporal_features_t *features = NULL;
    const esp_err_t answer = temporal_features_init(memory, bytes, &model, &layout, &features);
    REQUIRE((answer == ESP_OK) == (features != NULL) && (answer != ESP_OK || bytes > 0));
    REQUIRE(answer == ESP_OK || answer == ESP_ERR_INVALID_ARG || answer == ESP_ERR_INVALID_SIZE);
    if (answer == ESP_OK && is_quick(&model.chain)) {
        run(features, &model, &from, layout.values);
    }
    free(memory);
    return 0;
}
